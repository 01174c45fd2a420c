"""Questions, beliefs and observations are of one moment; only whole rooms are asked about; nothing
is walked twice."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from groundling.agents.agent import Rows
from groundling.agents.config import AgentConfig, GlimpseConfig
from groundling.agents.cores import CoreState
from groundling.envs.errors import UserError
from groundling.envs.questions import NOT_SEEN, Questions
from groundling.envs.rooms.options import RoomsOptions
from groundling.evaluation import examples as module
from groundling.evaluation.examples import (
    Examples,
    Interview,
    Walk,
    collect_examples,
    through_rooms,
)
from groundling.evaluation.observed import ObservationCode
from groundling.evaluation.protocol import ProbeSettings
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.run import make_agent
from groundling.training.seeds import Purpose

CPU = torch.device("cpu")
B, EPISODE = 3, 4


class Clock:
    """A world, and a reader of it, in which everything tells the step and the environment."""

    def __init__(self) -> None:
        self.step = -1
        self.output = self

    def rows(self, steps: int) -> Iterator[Rows]:
        for self.step in range(steps):
            is_first = torch.full((B,), self.step % EPISODE == 0)
            observation = {"step": torch.full((B,), self.step)}
            action = torch.zeros(B, dtype=torch.int64)
            self.row = Rows(observation, is_first, action, torch.zeros(B))
            yield self.row

    def ask(self, generator: np.random.Generator) -> Questions:
        world = np.repeat(np.arange(B), 2)  # Two of each environment.
        told = np.stack([np.full(2 * B, self.step), world], axis=1)
        nothing = np.zeros(2 * B, np.int64)
        answer = np.tile([1, 2], B)  # As often one as the other: balancing drops none.
        return Questions(world, nothing, told, told, answer, nothing == 0, nothing + NOT_SEEN)

    @property
    def told(self) -> torch.Tensor:
        return torch.tensor([[self.step, environment] for environment in range(B)])

    @property
    def state(self) -> CoreState:
        return CoreState(self.told, self.told)

    @property
    def features(self) -> torch.Tensor:
        return self.told


def interview_of(clock: Clock, every: int) -> Interview:
    return Interview(
        clock,  # type: ignore[arg-type]
        {"a": clock},  # type: ignore[dict-item]
        ObservationCode(spaces.Dict({"step": spaces.Discrete(200)}), spaces.Discrete(2)),
        ProbeSettings(ask_every=every, remembered=3),
        seed=70,
        generator=np.random.default_rng(0),
    )


def interviewed(every: int, steps: int = 40) -> Examples:
    clock = Clock()
    interview = interview_of(clock, every)
    for row in clock.rows(steps):
        interview.attend(row, np.ones(B, np.bool_))
    return interview.examples()


@pytest.mark.parametrize("every", [1, 3])
def test_a_question_is_put_to_what_was_there_at_its_own_step_and_environment(every: int) -> None:
    examples = interviewed(every)
    questions = examples.questions
    moments = len(examples.rooms) // B
    assert moments == 40 if every == 1 else 5 < moments < 30
    assert len(questions) == 2 * B * moments
    step, environment = questions.arguments.T
    for part in (examples.memories["a"].belief[:, :2], examples.memories["a"].features):
        assert part[questions.world].tolist() == questions.arguments.tolist()
    assert (examples.rooms[questions.world, 0] == 70 + environment).all()
    assert (examples.rooms[questions.world, 1] == step // EPISODE).all()


def test_the_last_observations_end_with_the_present_one_and_begin_with_the_episode() -> None:
    examples = interviewed(every=1)
    steps = examples.observed[:, :, 0].int() - 1  # A byte of 0 is nothing.
    for moment, seen in enumerate(steps.tolist()):
        step = moment // B
        first = step - step % EPISODE
        expected = [earlier if earlier >= first else -1 for earlier in (step - 2, step - 1, step)]
        assert seen == expected


@pytest.mark.parametrize(("rooms", "rows"), [(1, 4), (3, 4), (4, 8), (6, 8), (7, 12)])
def test_walks_end_with_the_last_room_that_was_wanted(rooms: int, rows: int) -> None:
    progress: list[float] = []

    def advance(done: float, note: str = "") -> None:
        progress.append(done)

    steps = [
        int(row.observation["step"][0])
        for row, wanted in through_rooms(Clock().rows(100), rooms, advance)
        if wanted.all()
    ]
    assert steps == list(range(rows))
    assert progress == sorted(progress)
    assert progress[-1] == rooms


@pytest.mark.parametrize(("rooms", "steps"), [(3, [3, 2, 7]), (5, [5, 7, 7]), (7, [14, 7, 7])])
def test_rooms_that_end_at_different_times_are_all_whole(rooms: int, steps: list[int]) -> None:
    """Three are entered in step 0, one in step 2, two in step 3 (none is preferred), one in 5."""
    starts = [{0, 3, 5, 14}, {0, 2, 3, 7, 16}, {0, 7, 9}]

    def rows() -> Iterator[Rows]:
        for step in range(30):
            is_first = torch.tensor([step in some for some in starts])
            yield Rows({}, is_first, torch.zeros(B, dtype=torch.int64), torch.zeros(B))

    seen = [wanted.tolist() for _, wanted in through_rooms(rows(), rooms, lambda *_: None)]
    assert np.array(seen).sum(axis=0).tolist() == steps
    assert len(seen) == max(steps)


def test_only_wanted_rooms_are_asked_about() -> None:
    clock = Clock()
    interview = interview_of(clock, every=1)
    for row in clock.rows(8):
        interview.attend(row, np.arange(B) != 1)
    questions = interview.examples().questions
    assert set(questions.arguments[:, 1].tolist()) == {0, 2}
    assert set(questions.arguments[:, 0].tolist()) == set(range(8))


ROOMS = RoomsOptions(size=3, objects=2, shapes=3, colours=2, view_size=3, episode_length=16)
CONFIG = TrainConfig(env=EnvironmentConfig(rooms=ROOMS))
TINY = ProbeSettings(walker="explorer", ask_every=4, remembered=2)


def collected(
    *seeds: int, purpose: Purpose = "probe-test", kept: Path | None = None, **settings: object
) -> Examples:
    agents = {str(seed): make_agent(dataclasses.replace(CONFIG, seed=seed), CPU) for seed in seeds}
    chosen = dataclasses.replace(TINY, **settings)  # type: ignore[arg-type]
    walk = Walk(CONFIG.env, purpose, 64, chosen)
    return collect_examples(agents, walk, device=CPU, kept=kept, shown=False)


def same(one: Examples, other: Examples) -> bool:
    arrays = list(zip(vars(one.questions).values(), vars(other.questions).values(), strict=True))
    return (
        all(np.array_equal(*pair) for pair in arrays)
        and all(one.dtype == other.dtype for one, other in arrays)
        and np.array_equal(one.rooms, other.rooms)
        and torch.equal(one.observed, other.observed)
        and np.array_equal(one.oracle, other.oracle)  # type: ignore[arg-type]
    )


def test_agents_are_asked_the_same_questions_at_the_same_moments() -> None:
    both, alone = collected(0, 1), collected(1)
    assert same(both, alone)
    assert torch.equal(both.memories["1"].belief, alone.memories["1"].belief)
    assert not torch.equal(both.memories["0"].belief, both.memories["1"].belief)


def test_purposes_meet_different_rooms() -> None:
    train, test = (collected(0, purpose=name).rooms for name in ("probe-train", "probe-test"))
    assert not set(map(tuple, train.tolist())) & set(map(tuple, test.tolist()))


def test_nothing_is_walked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[list[str]] = []
    collect = module._collect

    def counted(agents, *rest):  # type: ignore[no-untyped-def]
        walks.append(list(agents))
        return collect(agents, *rest)

    monkeypatch.setattr(module, "_collect", counted)
    first = collected(0, kept=tmp_path)
    again = collected(0, kept=tmp_path)
    assert walks == [["0"]]
    assert same(first, again)
    assert torch.equal(first.memories["0"].belief, again.memories["0"].belief)
    # Another agent is taken along the same walk; what is known of the first is not made again.
    both = collected(0, 1, kept=tmp_path)
    assert walks == [["0"], ["0", "1"]]
    assert same(first, both)
    assert torch.equal(both.memories["1"].belief, collected(1).memories["1"].belief)
    # Whatever decides the data is in the name.
    collected(0, kept=tmp_path, ask_every=3)
    collected(0, kept=tmp_path, seed=1)
    collected(0, kept=tmp_path, purpose="probe-train")
    collected(0, kept=tmp_path, walker="agent")
    assert len(walks) == 6 + 1  # and one that was not kept


def test_a_walk_of_the_agents_own_is_another_one_for_another_agent(tmp_path: Path) -> None:
    one, other = (collected(seed, kept=tmp_path, walker="agent") for seed in (0, 1))
    assert not torch.equal(one.observed, other.observed)


def test_a_random_walk_is_the_same_for_all_agents_and_no_explorers() -> None:
    one, other = (collected(seed, walker="random") for seed in (0, 1))
    assert same(one, other)
    assert not torch.equal(one.observed, collected(0).observed)
    assert same(one, collected(0, walker="random"))
    assert not same(one, collected(0, walker="random", seed=1))


def test_without_a_wish_the_explorer_walks_or_chance_where_there_is_none() -> None:
    for wish in (None, "explorer", "random", "agent"):
        settings = ProbeSettings(walker=wish)  # type: ignore[arg-type]
        assert settings.in_world(has_explorer=True).walker == (wish or "explorer")
        assert settings.in_world(has_explorer=False).walker == (wish or "random")


def test_a_world_of_which_everything_is_known_before_cannot_be_probed() -> None:
    config = TrainConfig(env=EnvironmentConfig(id="MiniGrid-Empty-5x5-v0"))
    settings = dataclasses.replace(TINY, walker="random")
    with pytest.raises(UserError, match=r"MiniGrid-Empty-5x5-v0 no question had different answers"):
        collect_examples(
            {"agent": make_agent(config, CPU)},
            Walk(config.env, "probe-train", 4, settings),
            device=CPU,
            shown=False,
        )


def attending(seed: int, policy: str = "learned") -> TrainConfig:
    glimpse = GlimpseConfig(size=1, scales=1, policy=policy)  # type: ignore[arg-type]
    agent = AgentConfig(core_size=16, attention="foveal", glimpse=glimpse)
    return dataclasses.replace(CONFIG, seed=seed, agent=agent)


def test_of_agents_with_attention_the_first_ones_glimpses_are_kept() -> None:
    scripted, random = (make_agent(attending(0, policy), CPU) for policy in ("centre", "random"))
    walk = Walk(CONFIG.env, "probe-test", 64, TINY)
    centre, away = (
        collect_examples(agents, walk, device=CPU, shown=False).observed
        for agents in (
            {"one": scripted, "other": random},
            {"other": random, "one": scripted},
        )
    )
    environment = make_environment(CONFIG.env, num_envs=1)
    parts = len(environment.single_observation_space)  # type: ignore[arg-type]
    environment.close()
    # A cell of three channels, the other parts (a number each), a corner, and the action.
    assert centre.shape[1:] == (2, 3 + (parts - 1) + 2 + 1)
    corner = centre[:, -1, -3:-1]
    assert len(corner.unique(dim=0)) == 1
    assert len(away[:, -1, -3:-1].unique(dim=0)) > 1


def test_a_walk_of_who_walks_or_attends_is_another_one_for_everybody_else() -> None:
    walk = Walk(CONFIG.env, "probe-test", 64, TINY)
    own = dataclasses.replace(walk, settings=dataclasses.replace(TINY, walker="agent"))
    plain = [make_agent(dataclasses.replace(CONFIG, seed=seed), CPU) for seed in (0, 1)]
    assert len({walk.name(agent) for agent in plain}) == 1
    assert len({own.name(agent) for agent in plain}) == 2
    looks = [attending(0, "random"), attending(0, "centre"), attending(0), attending(1)]
    assert len({walk.name(make_agent(config, CPU)) for config in looks}) == 4
