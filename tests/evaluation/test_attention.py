"""Attention is found where it was planted, nowhere else, and told of a real run."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from groundling.agents.agent import Agent, Rows
from groundling.agents.config import AgentConfig
from groundling.agents.cores import CoreState
from groundling.agents.probe import Probe
from groundling.agents.sensors import Cells
from groundling.envs.questions import Questions
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.world import FIRST_SHAPE, WHAT
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.attention import AttentionSettings, inspect_attention, look
from groundling.evaluation.attention_measures import (
    answers_hang_on,
    differences,
    on_things,
    shares_of_cells,
    steps_back,
    within,
)
from groundling.evaluation.attention_pictures import draw_maps
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.finding import Finding
from groundling.evaluation.pasts import Pasts, Window, collect_pasts
from groundling.evaluation.probing import load_probe, probe_run
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.sensitivity import answer, chosen_action, sensitivity, value
from groundling.evaluation.walks import Reader, at_random, walk
from groundling.training.config import EnvironmentConfig, OnlineProbeConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.loop import train
from groundling.training.run import RunDirectory, load_agent

CPU = torch.device("cpu")
T, S, V, KINDS = 4, 400, 3, 7
SPACE = spaces.Dict({"view": spaces.Box(0, KINDS - 1, (V, V, 2), np.uint8)})
SIZES = AgentConfig(core_size=32, feature_size=32, sensor_size=64, embedding_size=8)
PNG = b"\x89PNG\r\n\x1a\n"


def make(seed: int = 0) -> Agent:
    return Agent(SPACE, spaces.Discrete(3), SIZES, seed=seed).eval().requires_grad_(False)


def pasts_of(agent: Agent) -> Pasts:
    """A thing in one cell of five, wherever it is."""
    generator = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    there = torch.rand(T, S, V, V, generator=generator) < 0.2
    kind = torch.where(there, integers(FIRST_SHAPE, KINDS, T, S, V, V), integers(1, 3, T, S, V, V))
    view = torch.stack([kind, torch.where(there, integers(1, 4, T, S, V, V), 0)], -1)
    is_first = torch.zeros(T, S, dtype=torch.bool)
    is_first[0] = True
    rows = Rows({"view": view}, is_first, integers(0, 3, T, S), torch.zeros(T, S))
    return Pasts(rows, {AGENT: agent.initial_state(S)}, np.arange(S) // 2)


def some_of(rows: Rows, some: slice) -> Rows:
    return rows.map(lambda part: part[:, some])


def looked_at(agent: Agent) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Sensitivities of the value, where things are, and rooms."""
    past = pasts_of(agent)
    found = look(agent, AGENT, [past], [value], "view")
    return found, past.rows.observation["view"][-1, ..., WHAT].numpy() >= FIRST_SHAPE, past.room


def first_layer(agent: Agent) -> torch.Tensor:
    """What the perceptron reads, [sensor size, V, V, 2 · embedding size]."""
    cells = agent.sensors.leaf("view")
    assert isinstance(cells, Cells)
    return cells.perceptron[0].weight.view(-1, V, V, 2 * 8)  # type: ignore[union-attr, operator]


def test_a_value_that_depends_on_one_cell_has_it_all_there() -> None:
    agent = make()
    read = first_layer(agent)
    kept = read[:, 1, 2].clone()
    read.zero_()
    read[:, 1, 2] = kept
    found, *_ = looked_at(agent)
    assert found.shape == (T, S, V, V)
    mean = shares_of_cells(found).mean(0)
    assert mean[1, 2] == pytest.approx(1.0)
    assert mean.sum() == pytest.approx(1.0)


def test_a_core_that_keeps_the_last_view_alone_hangs_on_0_steps_back() -> None:
    agent = make()
    agent.core.from_hidden.weight.zero_()
    gates = agent.core.from_input.weight.view(4, 32, -1)
    gates[1] = 0
    agent.core.from_input.bias.view(4, -1)[1] = -60.0  # What was in the cell is gone.
    found, *_ = looked_at(agent)
    assert steps_back(found).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-9)
    assert within(steps_back(found).tolist()) == 0
    usual = steps_back(looked_at(make())[0])
    assert usual[0] < 0.7
    assert usual.sum() == pytest.approx(1.0)


def test_looking_some_at_a_time_is_looking_at_all_at_once() -> None:
    agent = make()
    generator = torch.Generator().manual_seed(1)
    state = CoreState(*torch.randn(2, S, SIZES.core_size, generator=generator))
    every = pasts_of(agent)
    every.rows.is_first.zero_()
    rows, start = some_of(every.rows, slice(50)), CoreState(*(part[:50] for part in state))
    parts, expected = [], []
    decisions = (value, chosen_action, value)
    cuts = (slice(0, 30), slice(30, 31), slice(31, 50))
    for some, decision in zip(cuts, decisions, strict=True):
        before = {"one": CoreState(*(part[some] for part in state))}
        parts.append(Pasts(some_of(every.rows, some), before, every.room[some]))
        expected.append(sensitivity(agent, rows, start, decision)[:, some])
    found = look(agent, "one", parts, decisions, "view")
    torch.testing.assert_close(found, torch.cat(expected, 1))


def test_an_untrained_agent_sees_no_more_in_a_thing_and_one_driven_by_things_does() -> None:
    found, things, room = looked_at(make())
    control = on_things(shares_of_cells(found), things, room)
    low, high = control["interval"]
    assert low <= 1.0 <= high
    assert high - low < 0.1
    agent = make()
    cells = agent.sensors.leaf("view")
    assert isinstance(cells, Cells)
    kinds = cells.embeddings[0].weight
    kinds[:FIRST_SHAPE, 0], kinds[FIRST_SHAPE:, 0] = -2.0, 2.0
    read = first_layer(agent)
    read *= 0.3
    for cell in range(V * V):  # A unit for each cell that is silent unless a thing is there.
        read[cell] = 0
        read[cell, cell // V, cell % V, 0] = 1.5
    found, things, room = looked_at(agent)
    driven = on_things(shares_of_cells(found), things, room)
    assert driven["ratio"] > 1.5
    assert driven["interval"][0] > 1.4


def test_the_same_cell_is_compared_so_that_nearness_explains_nothing() -> None:
    """Near cells count five times as much, and most things are near."""
    generator = np.random.default_rng(0)
    near = np.array([[0, 0], [1, 1]])
    maps = np.where(near, 5.0, 1.0) * np.ones((2000, 2, 2))
    things = generator.random(maps.shape) < np.where(near, 0.8, 0.1)
    assert maps[things].mean() / maps[~things].mean() > 2
    found = on_things(maps, things, np.arange(2000) // 4)
    assert found["ratio"] == pytest.approx(1.0)
    assert found["interval"] == pytest.approx([1.0, 1.0])
    maps[things] *= 1.5
    assert on_things(maps, things, np.arange(2000))["ratio"] == pytest.approx(1.5)


def test_where_nothing_can_be_compared_nothing_is_told() -> None:
    everywhere = np.ones((10, 2, 2), np.bool_)
    for things in (everywhere, ~everywhere):
        found = on_things(np.ones((10, 2, 2)), things, np.arange(10))
        assert found == {"ratio": None, "interval": None}


def test_an_interval_counts_rooms_and_not_moments() -> None:
    generator = np.random.default_rng(0)
    by_room = generator.lognormal(size=(40, 1, 1)) * np.ones((40, 2, 2))
    things = np.zeros((40, 2, 2), np.bool_)
    things[::2, 0] = things[1::2, 1] = True
    once = on_things(by_room, things, np.arange(40))["interval"]
    often = np.repeat(np.arange(40), 25)
    again = on_things(by_room[often], things[often], often)["interval"]
    assert again == pytest.approx(once)


def test_differences_by_hand() -> None:
    one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    both = (one + other) / 2
    found = differences(np.stack([one, other]), np.stack([one, one]), np.array([4, 9]))
    assert found == pytest.approx({"same moment": 0.5, "mean maps": 1 - 0.5**0.5, "halves": 1.0})
    same = differences(np.stack([both, both]), np.stack([both, both]), np.array([4, 6]))
    assert same == pytest.approx({"same moment": 0.0, "mean maps": 0.0, "halves": 0.0})


def test_within_by_hand() -> None:
    assert within([0.5, 0.3, 0.1, 0.1]) == 2
    assert within([1.0, 0.0]) == 0
    assert within([0.0, 0.0, 1.0]) == 2


def test_answers_that_hang_on_what_showed_the_thing_by_hand() -> None:
    shown = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.bool_)
    found = torch.zeros(4, 4, 1, 1)
    found[:, 0, 0, 0] = torch.tensor([0.0, 0.9, 0.0, 0.1])
    found[:, 1, 0, 0] = torch.tensor([0.5, 0.0, 0.3, 0.2])
    found[:, 2:, 0, 0] = 0.25
    told = answers_hang_on(found, shown, np.array([5, 5, 7, 7]))
    assert told["questions"] == 4
    assert told["asked"] == pytest.approx((0.9 + 0.3 + 0.25 + 0.25) / 4)
    assert told["other"] == pytest.approx((0.5 + 0.0 + 0.25 + 0.25) / 4)
    assert told["ratio"] == pytest.approx(1.7 / 1.0)
    assert told["interval"] == pytest.approx([1.0, 1.2 / 0.5])  # Of either room alone.
    assert told["rows"] == pytest.approx(5 / 16)
    around = {"-2": 0.5, "-1": 0.25 / 3, "0": 0.425, "1": 0.175, "2": 0.2, "3": 0.25}
    assert told["around"]["asked"] == pytest.approx(around, abs=1e-6)
    around = {"-2": 0.0, "-1": 0.55, "0": 0.125, "1": 0.225, "2": 0.7 / 3, "3": 0.25}
    assert told["around"]["other"] == pytest.approx(around, abs=1e-6)
    assert told["steps"] == pytest.approx([0.2, 0.2, 0.35, 0.25])


def test_the_gradient_of_an_answer_is_its_slope() -> None:
    torch.manual_seed(0)
    agent = make().double()
    probe = Probe("lstm", belief_size=64, num_words=9, length=5, size=16).double().eval()
    probe.standardise(torch.randn(50, 64, dtype=torch.float64))
    tokens = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 0]])
    decision = answer(probe, tokens, torch.tensor([3, 8]))
    rows, state = some_of(pasts_of(agent).rows, slice(2)), agent.initial_state(2)
    belief = torch.cat([part[-1] for part in agent.unroll(rows, state).core], -1)
    expected = torch.log_softmax(probe(belief, tokens), -1)[[0, 1], [3, 8]]
    torch.testing.assert_close(decision(agent, agent.unroll(rows, state)), expected)
    found = sensitivity(agent, rows, state, decision)
    cells = agent.sensors.leaf("view")
    assert isinstance(cells, Cells)
    cells.folds = False  # Each cell is embedded by itself, and can be moved.

    def moved(channel: int, axis: int, by: float) -> torch.Tensor:
        nudge = torch.zeros(T, 2, V, V, 8, dtype=torch.float64)
        nudge[1, :, 2, 1, axis] = by
        handle = cells.embeddings[channel].register_forward_hook(lambda _, __, out: out + nudge)
        made = decision(agent, agent.unroll(rows, state))
        handle.remove()
        return made

    slopes = [
        (moved(channel, axis, 1e-6) - moved(channel, axis, -1e-6)) / 2e-6
        for channel in range(2)
        for axis in range(8)
    ]
    torch.testing.assert_close(
        found[1, :, 2, 1], torch.stack(slopes).norm(dim=0), rtol=1e-4, atol=1e-9
    )


CONFIG = TrainConfig(
    frames=512,
    env=EnvironmentConfig(
        num_envs=16,
        rooms=RoomsOptions(size=4, objects=3, shapes=4, colours=3, view_size=3, episode_length=32),
    ),
    agent=AgentConfig(core_size=64, feature_size=32, sensor_size=64, embedding_size=8),
    probe=OnlineProbeConfig(online=False),
)
SETTINGS = AttentionSettings(rooms=40, steps=12, draw_every=3)


@pytest.fixture(scope="module", autouse=True)
def few_rooms_at_once() -> Iterator[None]:
    """So that walking through more of them takes not so long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groundling.evaluation.pasts.ROOMS_AT_ONCE", 32)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = train(CONFIG, tmp_path_factory.mktemp("runs") / "run", show_progress=False)
    settings = ProbeSettings(
        rooms=64,
        validation_rooms=16,
        test_rooms=4,
        size=64,
        batch=8,
        passes=3,
        decoders=("mlp",),
        controls="none",
    )
    probe_run(run.path, settings, keep=False, show_progress=False)
    return run


@pytest.fixture(scope="module")
def agent(run: RunDirectory) -> Agent:
    return load_agent(run.path)[0]


@pytest.fixture(scope="module")
def probe(run: RunDirectory, agent: Agent) -> Probe:
    probe = load_probe(run, agent, len(VOCABULARY))
    assert probe is not None
    return probe


def collect(
    agent: Agent, probe: Probe | None, settings: AttentionSettings
) -> tuple[list[Pasts], list[tuple[Pasts, Questions]]]:
    numbers = dataclasses.asdict(settings)
    return collect_pasts({AGENT: agent}, CONFIG.env, probe, **numbers, device=CPU, shown=False)


@pytest.fixture(scope="module")
def collected(agent: Agent, probe: Probe) -> tuple[list[Pasts], list[tuple[Pasts, Questions]]]:
    return collect(agent, probe, SETTINGS)


def test_steps_never_cross_the_beginning_of_an_episode(agent: Agent) -> None:
    pasts, asked = collect(agent, None, dataclasses.replace(SETTINGS, draw_every=1))
    assert not asked
    for past in pasts:
        assert past.rows.is_first.shape == (12, len(past.room))
        assert not past.rows.is_first[1:].any()
    assert 32 <= max(past.room.max() for past in pasts) < 64  # More than are walked at once.


def test_the_past_leads_to_the_present(agent: Agent) -> None:
    world = make_environment(CONFIG.env, num_envs=3)
    reader = Reader(agent, 3)
    window = Window({AGENT: reader}, 5)
    choose = at_random(world, np.random.default_rng(0))
    rows = walk(world, seed=0, choose=choose, readers=(reader,))
    for step, row in zip(range(9), rows, strict=False):
        window.note(row)
        if step < 4:
            continue
        found = window.pasts(np.array([2, 0]))
        assert found.room.tolist() == [2, 0]
        assert torch.equal(found.rows.observation["view"][-1], row.observation["view"][[2, 0]])
        core = agent.unroll(found.rows, found.before[AGENT]).core
        torch.testing.assert_close(core.cell[-1], reader.state.cell[[2, 0]])
    assert window.age.tolist() == [8, 8, 8]
    world.close()


def test_questions_are_about_what_was_seen_and_is_out_of_view(
    agent: Agent, probe: Probe, collected: Any
) -> None:
    _, asked = collected
    assert sum(len(questions) for _, questions in asked) > 8
    for past, questions in asked:
        core = agent.unroll(past.rows, past.before[AGENT]).core
        belief = CoreState(core.hidden[-1], core.cell[-1]).belief
        words = probe(belief, torch.from_numpy(questions.tokens)).argmax(-1).numpy()
        assert (words == questions.answer).all()
        view = past.rows.observation["view"].numpy()
        shapes = questions.arguments[:, 0]
        for one, shape in enumerate(shapes):
            here = view[:, one, ..., WHAT] == shape + FIRST_SHAPE
            last = np.flatnonzero(here.any((-2, -1))).max()
            assert 11 - last == questions.steps_since_seen[one] > 0
            colour = view[last, one][here[last]][0, 1]
            assert questions.answer_text(one) == CONFIG.env.rooms.colour_names[colour - 1]
        # Each is the other's control.
        assert (past.room[::2] == past.room[1::2]).all()
        assert (questions.world[::2] == questions.world[1::2]).all()
        assert (shapes[::2] != shapes[1::2]).all()
        assert len(np.unique(past.room)) == len(past.room) // 2


def test_episodes_that_are_too_short_are_told(agent: Agent) -> None:
    with pytest.raises(ValueError, match="steps is 33"):
        collect(agent, None, dataclasses.replace(SETTINGS, rooms=4, steps=33))


def check(finding: Finding) -> None:
    assert all(picture.startswith(PNG) for picture in finding.pictures.values())
    assert {len(line) for line in finding.table} == {3}
    json.dumps(finding.numbers, allow_nan=False)


def test_a_run_from_its_directory_to_a_finding(
    run: RunDirectory,
    agent: Agent,
    probe: Probe,
    collected: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[Any] = []

    def measure(*arguments: Any) -> dict[str, Any]:
        measured.extend(arguments)
        return answers_hang_on(*arguments)

    monkeypatch.setattr("groundling.evaluation.attention.answers_hang_on", measure)
    finding = inspect_attention(run.path, SETTINGS, show_progress=False)
    check(finding)
    assert set(finding.pictures) == {"maps", "steps"}
    numbers = finding.numbers
    for name in (AGENT, UNTRAINED):
        for decided in ("value", "policy"):
            assert np.sum(numbers["maps"][name][decided]) == pytest.approx(1.0)
            assert np.sum(numbers["steps"][name][decided]) == pytest.approx(1.0)
            low, high = numbers["things"][name][decided]["interval"]
            assert low <= numbers["things"][name][decided]["ratio"] <= high
    assert numbers["steps"][AGENT] != numbers["steps"][UNTRAINED]
    assert numbers["answer"]["questions"] > 8
    assert any("answer" in line[0] for line in finding.table)
    # One question at a time, each from its own past.
    found, shown, room = measured
    asked = [(past, qs, one) for past, qs in collected[1] for one in range(len(qs))]
    assert room.tolist() == [past.room[one] for past, _, one in asked]
    for place, (past, questions, one) in enumerate(asked):
        only = slice(one, one + 1)
        tokens, word = map(torch.from_numpy, (questions.tokens[only], questions.answer[only]))
        state = CoreState(*(part[only] for part in past.before[AGENT]))
        expected = sensitivity(agent, some_of(past.rows, only), state, answer(probe, tokens, word))
        torch.testing.assert_close(found[:, place], expected[:, 0])
        last_seen = np.flatnonzero(shown[:, place]).max()
        assert 11 - last_seen == questions.steps_since_seen[one]


class Meadow(gymnasium.Env):  # type: ignore[type-arg]
    """A world of cells that is none of our rooms; or, barren, without any."""

    action_space = spaces.Discrete(3)

    def __init__(self, barren: bool = False) -> None:
        field = spaces.Box(0, 4, (3, 4, 2), np.uint8)
        sky = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Dict({"sky": sky} | ({} if barren else {"field": field}))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(1 << 30)))
        self.left = 20
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return self.observation_space.sample(), float(action), self.left == 0, False, {}


gymnasium.register("Meadow-v0", Meadow)


def test_other_worlds_made_of_cells_get_maps_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        frames=80,
        env=EnvironmentConfig(id="Meadow-v0", num_envs=4),
        agent=SIZES,
        probe=OnlineProbeConfig(online=False),
    )
    run = train(config, tmp_path / "run", show_progress=False)
    finding = inspect_attention(run.path, SETTINGS, show_progress=False)
    check(finding)
    assert set(finding.pictures) == {"maps", "steps"}
    assert np.shape(finding.numbers["maps"][AGENT]["value"]) == (3, 4)
    assert "things" not in finding.numbers
    assert "answer" not in finding.numbers
    barren = dataclasses.replace(config.env, options={"barren": True})
    config = dataclasses.replace(config, env=barren)
    run = train(config, tmp_path / "barren", show_progress=False)
    monkeypatch.delattr("groundling.evaluation.attention.collect_pasts")  # Told before a walk.
    with pytest.raises(ValueError, match="no 'view' made of cells"):
        inspect_attention(run.path, SETTINGS, show_progress=False)


def test_telling_moments_come_with_their_views() -> None:
    generator = np.random.default_rng(0)
    view = np.ones((30, 3, 3, 3), np.uint8)
    view[:, 0, 0] = (FIRST_SHAPE, 1, 1)
    maps = {name: generator.random((30, 3, 3)) for name in ("value", "policy")}
    options = RoomsOptions(size=4, shapes=4, colours=3, view_size=3)
    assert draw_maps(maps, view, options).startswith(PNG)  # Fewer different views than places.
    assert draw_maps(maps, view, None).startswith(PNG)
