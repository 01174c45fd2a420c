"""Post-hoc probing: what a frozen agent's memory can answer, beside what needs no memory at all.

The agent is frozen and taken through rooms it never met. At random moments all rooms are asked
questions; the beliefs of that moment, the questions and the true answers are the data of decoders.
Rooms for fitting, for stopping and for scoring are distinct. Every row of the table answers the
same questions about the same moments of the same walks; `evaluation/controls.py` says which rows
there are. Rooms walked and decoders fitted are kept in `probe/kept`, so that an interrupted probe
goes on where it stopped.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.agent import Agent
from groundling.agents.probe import Probe
from groundling.envs.errors import UserError
from groundling.envs.questions import QuestionSource
from groundling.evaluation.controls import (
    AGENT,
    CONTROL_TASK,
    FAMILIAR,
    MAJORITY,
    ORACLE,
    QUESTION_ONLY,
    UNTRAINED,
    Row,
    majority_answers,
    rows_of,
)
from groundling.evaluation.decoding import make_probe
from groundling.evaluation.examples import Examples, Walk, collect_examples
from groundling.evaluation.figures import probe_overview
from groundling.evaluation.fitting import Answered, Bench, answer_rows
from groundling.evaluation.observed import ObservationCode
from groundling.evaluation.protocol import ProbeSettings, digest, weights_digest
from groundling.evaluation.scores import (
    Answers,
    accuracy_by_age,
    accuracy_by_time,
    asked_by_room,
    right_by_room,
    score_types,
)
from groundling.evaluation.walks import has_explorer
from groundling.training.checkpoint import load_checkpoint, save_checkpoint
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import Environment, make_environment
from groundling.training.run import (
    RunDirectory,
    load_agent,
    resolve_device,
    write_bytes,
    write_text,
)
from groundling.training.seeds import Purpose

TEST, NOVEL = "test", "novel"


def probe_run(
    run_dir: Path | str,
    settings: ProbeSettings | None = None,
    *,
    others: Sequence[Path | str] = (),
    frames: int | None = None,
    device: str = "cpu",
    workers: int = 1,
    keep: bool = True,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Questions a run's frozen agent; writes `probe/results.json`, `.png`, and the fitted decoder.

    Of an earlier snapshot, only `probe/results-FRAMES.json` and `.png`.

    Args:
        run_dir: of the run.
        settings: the protocol's, unless given.
        others: further runs in the same world, each a row beside the agent.
        frames: the snapshot after so many frames instead of the latest checkpoint.
        device: where to compute.
        workers: processes that fit decoders side by side. With more than one, a script that calls
            this needs the usual `if __name__ == "__main__"`.
        keep: keep what was walked and fitted in `probe/kept` (the protocol's rooms take about a
            gigabyte), and use what is there.
        show_progress: a live display on stderr.

    Returns:
        What was written: settings, number of questions, and scores per row and question type (see
        `evaluation.scores.score_types`), by steps since seen and by time in the episode; with all
        controls also the control task and what is known of held-out combinations. "left_out" says
        in sentences what could not be had in this world.

    Raises:
        ValueError: a directory is no trained run or cannot be written, its world cannot be asked
            questions, or another run's world is another one.
    """
    run = RunDirectory(run_dir)
    run.read_config()  # What is no run gets no directory of its own.
    run.make(run.probe)  # Hours later would be a bad time to learn that it cannot be written.
    settings = settings or ProbeSettings()
    sitting = _Sitting(run, settings, others, frames, resolve_device(device), show_progress)
    settings = sitting.settings
    kept = run.probe / "kept" if keep else None
    bench = sitting.collect(kept)
    rows = rows_of(settings, sitting.others, has_held_out=_has_held_out(bench))
    answered = answer_rows(
        bench, rows, data=sitting.data_of, kept=kept, workers=workers, shown=show_progress
    )
    if frames is None and (weights := answered[AGENT].probe):
        _save_probe(run, weights, settings)
    results = sitting.about() | _tables(bench, rows, answered, sitting.types)
    results["left_out"] = _left_out(results, sitting.types, sitting.config.env.id)
    save_checkpoint(run.by_room(frames), _by_room(bench, rows, answered, sitting.types))
    write_text(run.results(frames), json.dumps(results, indent=2) + "\n")
    write_bytes(run.picture(frames), probe_overview(results))
    return results


class _Sitting:
    """Agents, and the rooms they are taken through."""

    def __init__(
        self,
        run: RunDirectory,
        settings: ProbeSettings,
        others: Sequence[Path | str],
        frames: int | None,
        device: torch.device,
        shown: bool,
    ) -> None:
        self.run, self.device, self.shown = run, device, shown
        agent, self.config = load_agent(run.path, device=str(device), frames=frames)
        environment, source = _questioned(self.config)
        self.settings = settings.in_world(has_explorer=has_explorer(environment))
        self.types, self.num_words = source.question_types, len(source.vocabulary)
        self.code = ObservationCode(
            environment.single_observation_space, environment.single_action_space, agent.attention
        )
        self.checkpoint = run.checkpoint if frames is None else run.snapshot(frames)
        self.agents: dict[str, Agent] = {AGENT: agent}
        for other in others:
            self.agents[_name_of(other, self.agents)] = self._load_other(other)
        self.others = tuple(self.agents)[1:]
        if settings.controls != "none":
            self.agents[UNTRAINED], _ = load_agent(run.path, device=str(device), untrained=True)

    def _load_other(self, path: Path | str) -> Agent:
        agent, config = load_agent(path, device=str(self.device))
        if _world(config) != _world(self.config):
            raise UserError(
                f"{path} was trained in another world than {self.run.path}; expected the same, so "
                "that both can be asked about the same rooms"
            )
        return agent

    def collect(self, kept: Path | None) -> Bench:
        """Walks through all rooms."""
        amounts: dict[Purpose, int] = {
            "probe-train": self.settings.rooms,
            "probe-validation": self.settings.validation_rooms,
            "probe-test": self.settings.test_rooms,
        }
        walks = {
            purpose: Walk(self.config.env, purpose, rooms, self.settings)
            for purpose, rooms in amounts.items()
        }
        if self.settings.controls == "all" and (novel := self.config.env.with_novel_combinations):
            rooms = self.settings.test_rooms
            walks["probe-novel"] = Walk(novel, "probe-novel", rooms, self.settings)
        sets = {
            purpose: collect_examples(
                self.agents, walk, device=self.device, kept=kept, shown=self.shown
            )
            for purpose, walk in walks.items()
        }
        check_splits(sets)
        leader = self.agents[AGENT]
        self.rooms = digest([walk.name(leader) for walk in walks.values()])
        train, validation = sets.pop("probe-train"), sets.pop("probe-validation")
        scored = {TEST: sets["probe-test"]}
        if "probe-novel" in sets:
            scored[NOVEL] = sets["probe-novel"]
        self.asked = {"fitted": len(train.questions), "scored": len(scored[TEST].questions)}
        return Bench(
            train, validation, scored, self.code, self.num_words, self.settings, self.device
        )

    def data_of(self, row: Row) -> str:
        """A name of everything that a row's decoder is fitted to and scored on."""
        return digest([self.rooms, weights_digest(self.agents[row.agent])])

    def about(self) -> dict[str, Any]:
        """Where the results come from."""
        checkpoint = load_checkpoint(self.checkpoint)
        return {
            "run": str(self.run.path),
            "frames": checkpoint["frames"],
            "seconds": checkpoint["seconds"],
            "settings": dataclasses.asdict(self.settings),
            "rooms": self.rooms,
            "questions": self.asked,
            "measured": time.strftime("%Y-%m-%d"),
        }


def check_splits(sets: Mapping[Any, Examples]) -> None:
    """Looks whether rooms for fitting, stopping and scoring are distinct.

    Raises:
        RuntimeError: two sets share a room; every number from them would be worthless.
    """
    met: dict[tuple[int, ...], Any] = {}
    for name, examples in sets.items():
        for room in np.unique(examples.rooms, axis=0).tolist():
            if met.setdefault(tuple(room), name) != name:
                raise RuntimeError(
                    f"{met[tuple(room)]} and {name} share the room of seed {room[0]}, episode "
                    f"{room[1]}; expected distinct ones"
                )


def _name_of(path: Path | str, taken: Mapping[str, Any]) -> str:
    """A name for another run, as short as it can be."""
    name = Path(path).resolve().name
    return name if name not in taken else str(path)


def _world(config: TrainConfig) -> EnvironmentConfig:
    return dataclasses.replace(config.env, num_envs=1)


def _has_held_out(bench: Bench) -> bool:
    return bool(bench.train.questions.held_out.any())


def _tables(
    bench: Bench, rows: Sequence[Row], answered: Mapping[str, Answered], types: Sequence[str]
) -> dict[str, Any]:
    """Everything that is said about the answers."""
    test = bench.scored[TEST]
    questions, room = test.questions, _room_of(test)
    table = {
        row.name: answered[row.name].answers[TEST] for row in rows if row.lesson == "questions"
    }
    table[MAJORITY] = Answers(majority_answers(bench.train.questions, questions))
    if test.oracle is not None:
        table[ORACLE] = Answers(test.oracle)
    alone = table.get(QUESTION_ONLY)
    return {
        "rows": {
            name: score_types(questions, answers, types, room, alone)
            for name, answers in table.items()
        },
        "steps_since_seen": {
            name: accuracy_by_age(questions, answers, types) for name, answers in table.items()
        },
        "time_in_episode": {
            name: accuracy_by_time(questions, answers, types) for name, answers in table.items()
        },
        "control_task": _control_task(bench, rows, answered, types),
        "held_out": _held_out(bench, answered, types),
    }


def _left_out(results: Mapping[str, Any], types: Sequence[str], world: str) -> list[str]:
    """What is not in the tables, and why."""
    said = []
    if results["settings"]["walker"] == "random":
        said.append(f"{world} has no scripted explorer: the rooms were walked at random.")
    if ORACLE not in results["rows"]:
        said.append(f"No {ORACLE}: {world} does not tell what an ideal observer would answer.")
    unasked = [kind.replace("_", " ") for kind in types if kind not in results["rows"][AGENT]]
    if unasked:
        said.append(
            f"Not asked: {', '.join(unasked)}. Their answers never differ, or nothing settles them."
        )
    return said


def _control_task(
    bench: Bench, rows: Sequence[Row], answered: Mapping[str, Answered], types: Sequence[str]
) -> dict[str, float] | None:
    """How many arbitrary answers the agent's decoder got right, by question type."""
    row = next((row for row in rows if row.name == CONTROL_TASK), None)
    if row is None:
        return None
    questions = bench.questions_of(row, bench.scored[TEST])
    scores = score_types(
        questions, answered[row.name].answers[TEST], types, _room_of(bench.scored[TEST])
    )
    return {kind: score["answerable"] for kind, score in scores.items()}


def _held_out(
    bench: Bench, answered: Mapping[str, Answered], types: Sequence[str]
) -> dict[str, Any] | None:
    """What is known of combinations the decoder was never asked about.

    With rooms that hold them, only the decoder never met the question (strength 1); an agent that
    was trained without them, and its decoder, never met the object either (strength 2).
    """
    if NOVEL in bench.scored:
        name, row, strength = NOVEL, AGENT, 2
    elif FAMILIAR in answered:
        name, row, strength = TEST, FAMILIAR, 1
    else:
        return None
    examples, answers = bench.scored[name], answered[row].answers[name]
    table: dict[str, Any] = {"strength": strength}
    for label, chosen in (
        ("familiar", ~examples.questions.held_out),
        ("held_out", examples.questions.held_out),
    ):
        some = Answers(answers.words[chosen])
        scores = score_types(examples.questions[chosen], some, types, _room_of(examples)[chosen])
        table[label] = {kind: score["answerable"] for kind, score in scores.items()}
    # Of types that ask about no combination there is nothing to compare.
    asked_of_both = [kind for kind in table["familiar"] if kind in table["held_out"]]
    for label in ("familiar", "held_out"):
        table[label] = {kind: table[label][kind] for kind in asked_of_both}
    return table


def _room_of(examples: Examples) -> NDArray[np.int64]:
    """For each question the number of its room, from 0 without gaps, [N]."""
    _, room = np.unique(examples.rooms, axis=0, return_inverse=True)
    return np.asarray(room.ravel()[examples.questions.world])


def _by_room(
    bench: Bench, rows: Sequence[Row], answered: Mapping[str, Answered], types: Sequence[str]
) -> dict[str, Any]:
    """Right answers by room, for comparisons that draw rooms again."""
    test = bench.scored[TEST]
    questions, room, rooms = test.questions, _room_of(test), len(np.unique(test.rooms, axis=0))
    right = {
        row.name: right_by_room(questions, answered[row.name].answers[TEST], types, room, rooms)
        for row in rows
        if row.lesson == "questions"
    }
    return {
        "types": list(types),
        "asked": torch.from_numpy(asked_by_room(questions, types, room, rooms)),
        "right": {name: torch.from_numpy(counts) for name, counts in right.items()},
    }


def _questioned(config: TrainConfig) -> tuple[Environment, QuestionSource]:
    """The configured world, closed already, and as one that can be asked."""
    environment = make_environment(config.env, num_envs=1)
    source = environment.unwrapped
    environment.close()
    if not isinstance(source, QuestionSource):
        raise UserError(
            f"{config.env.id} answers no questions; expected an environment that implements "
            "groundling.envs.questions.QuestionSource"
        )
    return environment, source


def _save_probe(
    run: RunDirectory, weights: Mapping[str, torch.Tensor], settings: ProbeSettings
) -> None:
    """Writes the fitted decoder beside the results, to be asked again (`groundling watch`)."""
    save_checkpoint(
        run.decoder,
        {
            "probe": dict(weights),
            "settings": {"decoder": settings.decoders[0], "size": settings.size},
        },
    )


def load_probe(run: RunDirectory, agent: Agent, num_words: int) -> Probe | None:
    """The decoder that `probe_run` fitted to this run, or None if it was not probed yet."""
    if not run.decoder.exists():
        return None
    state = load_checkpoint(run.decoder)
    decoder, size = state["settings"]["decoder"], state["settings"]["size"]
    probe = make_probe(decoder, 2 * agent.core.core_size, num_words, size)
    probe.load_state_dict(state["probe"])
    return probe.eval()
