"""Situations that a memory is sorted by are found, and none in one that holds nothing."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from groundling.agents.agent import Agent, AgentOutput, Rows
from groundling.agents.config import AgentConfig
from groundling.agents.cores import CoreState
from groundling.envs.rooms.options import MARGIN, RoomsOptions
from groundling.envs.rooms.world import FIRST_SHAPE, WHAT
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.drawings import (
    CATEGORIES,
    NOTHING,
    NOTHING_COLOUR,
    OTHERS,
    Panel,
    classes_of,
    scatter_panels,
)
from groundling.evaluation.states import (
    ACTION,
    CHANCE,
    HEADING,
    IN_VIEW,
    LEFT,
    QUARTER,
    STEP,
    VALUE,
    Situation,
    States,
    StatesSettings,
    agreement,
    agreements,
    collect_states,
    components_for,
    inspect_states,
    labels_of,
    neighbours_elsewhere,
    principal_components,
    situations_now,
    standardised,
    tsne,
)
from groundling.evaluation.walks import Reader, at_random, by_explorer, walk
from groundling.training.config import EnvironmentConfig, OnlineProbeConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.loop import train
from groundling.training.run import RunDirectory

CPU = torch.device("cpu")
PNG = b"\x89PNG\r\n\x1a\n"
CONFIG = TrainConfig(
    frames=512,
    agent=AgentConfig(core_size=32, feature_size=16, sensor_size=32, embedding_size=4),
    env=EnvironmentConfig(
        rooms=RoomsOptions(size=5, objects=4, shapes=3, colours=3, view_size=3, episode_length=16)
    ),
)
FEW = StatesSettings(moments=90, draw_every=4, environments=8)


def test_a_planted_situation_is_found_and_noise_finds_nothing() -> None:
    generator = np.random.default_rng(0)
    heading, room = generator.integers(0, 4, 600), generator.integers(0, 100, 600)
    noise = torch.from_numpy(generator.normal(size=(2, 600, 12))).float()
    planted = torch.cat([2 * F.one_hot(torch.from_numpy(heading)), 0.3 * noise[0]], dim=1)
    planted[:, 4:] *= 1000  # Another scale of some numbers must not matter.
    situations = {"heading": Situation(heading, ("east", "south", "west", "north"))}
    states = States(situations, room, {AGENT: planted, UNTRAINED: noise[1]})
    found = agreements(states, StatesSettings())["heading"]
    assert list(found) == [AGENT, UNTRAINED, CHANCE]
    assert found[AGENT]["share"] > 0.9
    assert abs(found[UNTRAINED]["share"] - 0.25) < 0.03
    assert abs(found[CHANCE]["share"] - 0.25) < 0.03
    for one in found.values():
        low, high = one["interval"]
        assert low < one["share"] < high


def test_knowing_the_room_explains_nothing() -> None:
    generator = np.random.default_rng(1)
    room = np.repeat(np.arange(300), 4)
    code = torch.from_numpy(generator.normal(size=(300, 20))).float()[torch.from_numpy(room)]
    belief = code + 0.01 * torch.from_numpy(generator.normal(size=code.shape)).float()
    always = generator.integers(0, 4, 300)[room]  # The same all through an episode.
    near = neighbours_elsewhere(belief, room, 5)
    assert abs(agreement(near, always, room)["share"] - 0.25) < 0.06
    assert (room[near] != room[:, None]).all()


def test_neighbours_and_agreement_against_a_slow_reference() -> None:
    generator = np.random.default_rng(2)
    room, classes = generator.integers(0, 5, 40), generator.integers(0, 3, 40)
    belief = torch.from_numpy(generator.normal(size=(40, 6))).float()
    same = []
    near = neighbours_elsewhere(belief, room, 4)
    for one in range(40):
        others = [other for other in range(40) if room[other] != room[one]]
        others.sort(key=lambda other, one=one: float((belief[other] - belief[one]).norm()))
        assert near[one].tolist() == others[:4]
        same += [classes[other] == classes[one] for other in others[:4]]
    assert agreement(near, classes, room)["share"] == pytest.approx(np.mean(same))
    # Nobody has more neighbours than there are moments elsewhere.
    assert neighbours_elsewhere(belief, np.arange(40) // 30, 99).shape == (40, 10)


def test_a_planted_direction_is_the_first_component() -> None:
    generator = np.random.default_rng(3)
    along = generator.normal(size=500)
    direction = generator.normal(size=20)
    direction /= np.linalg.norm(direction)
    belief = 7 + 6 * along[:, None] * direction + generator.normal(size=(500, 20))
    places, shares = principal_components(torch.from_numpy(belief))
    assert places.shape == (500, 2)
    assert abs(np.corrcoef(places[:, 0], along)[0, 1]) > 0.98
    assert shares[0] == pytest.approx(37 / 56, abs=0.04)
    assert shares.sum() == pytest.approx(1)
    assert places.var(0)[0] == pytest.approx(shares[0] * belief.var(0).sum())
    assert components_for(np.array([0.5, 0.3, 0.15, 0.05])) == 3
    assert components_for(np.array([0.95, 0.05])) == 1


def test_beliefs_are_standardised_number_by_number() -> None:
    belief = torch.tensor([[1.0, 500.0, 3.0], [3.0, 100.0, 3.0]])
    assert standardised(belief).tolist() == [[-1, 1, 0], [1, -1, 0]]


def test_many_ordered_values_make_four_classes_and_few_are_their_own() -> None:
    steps = np.random.default_rng(4).permutation(80)
    many = Situation(steps)
    assert not many.few
    np.testing.assert_array_equal(many.classes, steps // 20)
    few = Situation(np.array([1, 3, 2, 3]))
    assert few.few
    assert few.classes.tolist() == [1, 3, 2, 3]
    assert Situation(np.arange(9), tuple("abcdefghi")).few


@pytest.mark.parametrize("layout", ["single", "l_shape"])
def test_situations_against_a_slow_reference(layout: str) -> None:
    config = EnvironmentConfig(
        rooms=dataclasses.replace(CONFIG.env.rooms, layout=layout, view_size=5)
    )
    environment = make_environment(config, num_envs=8)
    world = environment.unwrapped
    agent = make_agent(config)
    reader, labels = Reader(agent, 8), labels_of(environment, agent)
    explore, stray = by_explorer(environment), at_random(environment, np.random.default_rng(5))
    mixed = np.random.default_rng(6)
    rows = walk(
        environment,
        seed=0,
        choose=lambda: np.where(mixed.random(8) < 0.7, explore(), stray()),
        readers=(reader,),
    )
    kinds, lefts = set(), set()
    for _, row in zip(range(60), rows, strict=False):
        elapsed = world.world.elapsed.astype(np.int64)
        found = situations_now(environment, reader, elapsed)
        assert list(found) == [HEADING, QUARTER, IN_VIEW, LEFT, STEP, VALUE]
        np.testing.assert_array_equal(found[VALUE], reader.output.baseline.numpy())
        state = world.get_state()
        for room in range(8):
            heading = labels[HEADING][found[HEADING][room]]
            assert heading == ("east", "south", "west", "north")[state["agent"][room, 2]]
            down, right = state["agent"][room, :2] - MARGIN
            expected = ("south" if down > 2 else "north") + (" east" if right > 2 else " west")
            assert labels[QUARTER][found[QUARTER][room]] == expected
            reached = state["reached"][room, : state["object_count"][room]]
            assert found[LEFT][room] == np.sum(~reached) > 0
            in_view = labels[IN_VIEW][found[IN_VIEW][room]]
            assert in_view in nearest_by_eye(row.observation["view"][room].numpy(), world.rooms)
            kinds.add(in_view)
            lefts.add(int(found[LEFT][room]))
    environment.close()
    assert kinds == {NOTHING, *world.rooms.shape_names}
    assert lefts == {1, 2, 3, 4}


def nearest_by_eye(view: np.ndarray, options: RoomsOptions) -> set[str]:
    """The shapes of the nearest things in an agent's view, which it has from its last row."""
    found: dict[int, set[str]] = {}
    for row, column in np.ndindex(view.shape[:2]):
        if view[row, column, WHAT] >= FIRST_SHAPE:
            name = options.shape_names[view[row, column, WHAT] - FIRST_SHAPE]
            far = (len(view) - 1 - row) ** 2 + (len(view) // 2 - column) ** 2
            found.setdefault(far, set()).add(name)
    return found[min(found)] if found else {NOTHING}


def make_agent(config: EnvironmentConfig, kind: type[Agent] = Agent) -> Agent:
    world = make_environment(config, num_envs=1)
    world.close()
    return kind(world.single_observation_space, world.single_action_space, CONFIG.agent, seed=0)


class Clock(Agent):
    """Remembers where it looks now, and how many steps it has read in this episode."""

    def step(self, row: Rows, state: CoreState) -> tuple[AgentOutput, CoreState]:
        output, after = super().step(row, state)
        hidden = torch.zeros_like(after.hidden)
        hidden[:, 0] = row.observation["direction"]
        hidden[:, 1] = torch.where(row.is_first, 0.0, state.hidden[:, 1] + 1)
        return output, CoreState(hidden, hidden)


def test_beliefs_and_situations_are_of_the_same_moments_of_many_rooms() -> None:
    agents = {AGENT: make_agent(CONFIG.env, Clock), UNTRAINED: make_agent(CONFIG.env)}
    states = collect_states(agents, CONFIG.env, FEW, device=CPU, shown=False)
    assert list(states.beliefs) == [AGENT, UNTRAINED]
    belief = states.beliefs[AGENT].numpy()
    assert len(belief) == len(states.room) == len(states.beliefs[UNTRAINED]) == FEW.moments
    step = states.situations[STEP].values
    np.testing.assert_array_equal(belief[:, 0], states.situations[HEADING].values)
    np.testing.assert_array_equal(belief[:, 1], step)
    assert set(step) > set(range(1, 15))
    # 8 side by side, three episodes of each; of one there may be no moment.
    assert set(states.room) <= set(range(24))
    assert len(set(states.room)) > 20
    pairs = set(zip(states.room.tolist(), step.tolist(), strict=True))
    assert len(pairs) == FEW.moments  # No moment twice.
    # Moments of a room are drawn now and then: 4 of 16 steps, on average.
    assert 2.5 < FEW.moments / len(set(states.room)) < 5.5


def test_the_same_seed_gives_the_same_landscape() -> None:
    agents = {AGENT: make_agent(CONFIG.env)}

    def found(seed: int) -> tuple[States, np.ndarray]:
        settings = dataclasses.replace(FEW, moments=40, seed=seed)
        states = collect_states(agents, CONFIG.env, settings, device=CPU, shown=False)
        return states, tsne(states.beliefs[AGENT], settings)

    (once, places), (again, same), (other, _) = found(0), found(0), found(1)
    assert places.shape == (40, 2)
    np.testing.assert_array_equal(places, same)
    np.testing.assert_array_equal(once.room, again.room)
    assert torch.equal(once.beliefs[AGENT], again.beliefs[AGENT])
    assert not torch.equal(once.beliefs[AGENT], other.beliefs[AGENT])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train(CONFIG, tmp_path_factory.mktemp("runs") / "run", show_progress=False)


def test_a_run_is_inspected_beside_what_it_was_before_training(run: RunDirectory) -> None:
    found = inspect_states(run.path, FEW, show_progress=False)
    assert list(found.pictures) == ["tsne", "pca"]
    assert all(picture.startswith(PNG) for picture in found.pictures.values())
    assert found.pictures["tsne"] != found.pictures["pca"]
    assert found.table[0][1:] == [AGENT, UNTRAINED, CHANCE]
    situations = [HEADING, QUARTER, IN_VIEW, LEFT, STEP, VALUE]
    assert [line[0] for line in found.table[1:-1]] == situations
    assert {len(line) for line in found.table} == {4}
    assert all(0 <= float(line[1][:4]) <= 1 for line in found.table[1:-1])
    numbers = json.loads(json.dumps(found.numbers))
    assert numbers["moments"] == FEW.moments
    assert numbers["agreement"][HEADING][AGENT] != numbers["agreement"][HEADING][UNTRAINED]
    assert list(numbers["components"]) == [AGENT, UNTRAINED]
    assert f"90 moments of {numbers['rooms']} episodes" in found.says


def test_any_other_world_is_inspected_too(tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG,
        env=EnvironmentConfig(id="CartPole-v1"),
        probe=OnlineProbeConfig(online=False),
    )
    run = train(config, tmp_path / "run", show_progress=False)
    found = inspect_states(run.path, FEW, show_progress=False)
    assert [line[0] for line in found.table[1:-1]] == [STEP, VALUE, ACTION]
    assert all(picture.startswith(PNG) for picture in found.pictures.values())


def test_what_is_missing_is_told(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    too_few = dataclasses.replace(FEW, moments=1)
    with pytest.raises(ValueError, match="moments is 1; expected enough"):
        inspect_states(run.path, too_few, show_progress=False)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    # Told before the walk, which would find too few moments.
    with pytest.raises(ValueError, match=r'pip install "groundling\[eval\]"'):
        inspect_states(run.path, too_few, show_progress=False)


def test_every_dot_has_one_colour_and_rare_classes_share_one() -> None:
    labels = (NOTHING, *(f"thing {number}" for number in range(12)))
    # Thing 3 is never seen; of the others the higher numbers are seen more often.
    values = np.repeat(np.arange(13), [50, 1, 1, 1, 0, *range(2, 10)])
    classes = classes_of(Panel("things", "", values, labels))
    assert np.sum([mask for _, _, mask in classes], axis=0).tolist() == [1] * len(values)
    names = [name for name, *_ in classes]
    assert names == ["thing 0", *(f"thing {one}" for one in range(4, 12)), OTHERS, NOTHING]
    assert [colour for _, colour, _ in classes[:9]] == list(CATEGORIES)
    assert classes[-1][1] == NOTHING_COLOUR
    ordered = classes_of(Panel("left", "", np.array([3, 1, 3])))
    assert [name for name, *_ in ordered] == ["1", "3"]
    assert [mask.tolist() for *_, mask in ordered] == [[False, True, False], [True, False, True]]
    assert scatter_panels(np.eye(3, 2), [Panel("one", "", np.arange(3))]).startswith(PNG)
