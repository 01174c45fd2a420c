"""The probe finds what is in a belief, finds nothing where there is nothing, and leaks nothing."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from groundling.envs.questions import NOT_SEEN, Questions
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.wording import QUESTION_TYPES
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.examples import Examples, ProbeSettings, collect_examples
from groundling.evaluation.probing import _Data as Data
from groundling.evaluation.probing import (
    accuracy_by_age,
    accuracy_by_type,
    fit_probe,
    majority_answers,
    probe_run,
)
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.run import make_agent

CPU = torch.device("cpu")
TINY = ProbeSettings(rooms=64, validation_rooms=32, test_rooms=32, ask_every=4, passes=1, size=32)


def config(**changes: object) -> TrainConfig:
    rooms = RoomsOptions(size=3, objects=2, shapes=3, colours=2, view_size=3, episode_length=16)
    return TrainConfig(frames=1024, env=EnvironmentConfig(rooms=rooms), **changes)  # type: ignore[arg-type]


def known_worlds(seed: int, rooms: int) -> Examples:
    """Beliefs that hold the true room: for each shape and colour, how many there are."""
    options = RoomsOptions(objects=3, shapes=4, colours=3)
    environment = RoomsVectorEnv(rooms, **dataclasses.asdict(options))
    environment.reset(seed=seed)
    counts = np.zeros((rooms, 4, 3), np.float32)
    objects = environment.world.objects
    for room in range(rooms):
        np.add.at(counts[room], (objects[room, :, 2], objects[room, :, 3]), 1.0)
    noise = np.random.default_rng(seed).normal(size=(rooms, 12)).astype(np.float32)
    beliefs = {"truth": torch.from_numpy(counts.reshape(rooms, 12)), "noise": torch.tensor(noise)}
    return Examples(beliefs, environment.ask(np.random.default_rng(seed)))


def accuracies(reads: str | None, passes: int) -> dict[str, float]:
    settings = ProbeSettings(passes=passes, size=128)
    train_set, validation, test = (
        known_worlds(10**6 * i, n) for i, n in enumerate([3000, 300, 600])
    )
    probe = fit_probe(
        train_set, validation, reads, len(VOCABULARY), settings, device=CPU, shown=False
    )
    answers = Data(test, reads, CPU).answered(probe)
    right = answers == test.questions.answer
    return {
        name: float(right[test.questions.type == index].mean())
        for index, name in enumerate(QUESTION_TYPES)
    }


@pytest.mark.slow
def test_a_belief_that_is_the_world_answers_every_question_that_needs_no_positions() -> None:
    known = accuracies("truth", passes=12)
    for name, accuracy in known.items():
        if not name.startswith("near"):
            assert accuracy > 0.95, (name, known)


@pytest.mark.slow
def test_a_belief_that_is_noise_answers_no_better_than_the_question_alone() -> None:
    noise, alone = accuracies("noise", passes=3), accuracies(None, passes=3)
    for name in ("attribute_colour", "attribute_shape"):
        assert noise[name] < alone[name] + 0.07, (noise, alone)


def test_agents_are_asked_the_same_questions_at_the_same_moments() -> None:
    agent = make_agent(config(), CPU)
    other = make_agent(config(seed=1), CPU)

    def collect(*names: str) -> Examples:
        agents = {name: {"a": agent, "b": other}[name] for name in names}
        return collect_examples(agents, config(), "probe-test", 64, TINY, device=CPU, shown=False)

    both, alone = collect("a", "b"), collect("b")
    assert torch.equal(both.beliefs["b"], alone.beliefs["b"])
    assert not torch.equal(both.beliefs["a"], both.beliefs["b"])
    assert np.array_equal(both.questions.tokens, alone.questions.tokens)
    assert np.array_equal(both.questions.answer, alone.questions.answer)


def test_purposes_meet_different_rooms() -> None:
    def tokens(purpose: str) -> np.ndarray:
        examples = collect_examples(
            {"a": make_agent(config(), CPU)},
            config(),
            purpose,  # type: ignore[arg-type]
            64,
            TINY,
            device=CPU,
            shown=False,
        )
        return examples.beliefs["a"].numpy()

    assert not np.isin(tokens("probe-train"), tokens("probe-test")).all(axis=1).any()


def test_accuracy_counts_right_answers_and_keeps_the_unanswerable_apart() -> None:
    questions = Questions(
        world=np.arange(4),
        type=np.array([0, 0, 0, 2]),
        arguments=np.zeros((4, 2), np.int64),
        tokens=np.zeros((4, 12), np.int64),
        answer=np.array([5, 6, 7, 8]),
        answerable=np.array([True, True, False, True]),
        steps_since_seen=np.zeros(4, np.int64),
    )
    table = accuracy_by_type(questions, np.array([5, 0, 7, 8]), QUESTION_TYPES)
    assert set(table) == {QUESTION_TYPES[0], QUESTION_TYPES[2]}
    assert table[QUESTION_TYPES[0]]["answerable"] == 0.5
    assert table[QUESTION_TYPES[0]]["all"] == pytest.approx(2 / 3)
    assert table[QUESTION_TYPES[2]]["answerable_questions"] == 1
    majority = majority_answers(questions, questions[np.array([0, 2, 3])])
    assert majority.tolist() == [5, 7, 8]


def test_accuracy_by_age_groups_what_rests_on_something_sensed() -> None:
    ages = np.array([0, 1, 3, 4, 40, NOT_SEEN, 3])
    questions = Questions(
        world=np.arange(7),
        type=np.array([0, 0, 0, 0, 0, 0, 0]),
        arguments=np.zeros((7, 2), np.int64),
        tokens=np.zeros((7, 12), np.int64),
        answer=np.ones(7, np.int64),
        answerable=np.array([True] * 6 + [False]),
        steps_since_seen=ages,
    )
    table = accuracy_by_age(questions, np.array([1, 1, 0, 1, 0, 1, 1]), QUESTION_TYPES)
    assert table == {QUESTION_TYPES[0]: {"0": 1.0, "1-3": 0.5, "4-7": 1.0, "16+": 0.0}}


def test_probing_a_run_leaves_results_and_the_agent_as_it_was(tmp_path: Path) -> None:
    run = train(config(), tmp_path / "run", show_progress=False)
    before = run.checkpoint.read_bytes()
    results = probe_run(run.path, TINY, show_progress=False)
    assert run.checkpoint.read_bytes() == before
    assert json.loads((run.probe / "results.json").read_text()) == results
    assert list(results["rows"]) == ["agent", "untrained agent", "question only", "majority"]
    assert results["frames"] == 1024
    assert probe_run(run.path, TINY, show_progress=False)["rows"] == results["rows"]


def test_a_world_without_questions_is_refused(tmp_path: Path) -> None:
    from groundling.training.config import OnlineProbeConfig

    settings = TrainConfig(
        frames=512,
        env=EnvironmentConfig(id="CartPole-v1"),
        probe=OnlineProbeConfig(online=False),
    )
    run = train(settings, tmp_path / "run", show_progress=False)
    with pytest.raises(ValueError, match="CartPole-v1 answers no questions"):
        probe_run(run.path, TINY, show_progress=False)
