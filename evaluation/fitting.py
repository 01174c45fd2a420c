"""All fits of a probe's table: side by side in processes, each kept when it is done."""

import dataclasses
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from torch.multiprocessing import TimeoutError as NotYet

from groundling.agents.probe import DecoderName
from groundling.envs.questions import Questions
from groundling.evaluation.controls import AGENT, Row, answers_by_type, lesson_of, reading_of
from groundling.evaluation.decoding import Fit, Lessons, updates_of
from groundling.evaluation.examples import Examples
from groundling.evaluation.observed import ObservationCode
from groundling.evaluation.protocol import ProbeSettings, digest
from groundling.evaluation.scores import Answers
from groundling.training.checkpoint import load_checkpoint, save_checkpoint
from groundling.training.progress import progress


@dataclass(frozen=True)
class Answered:
    """What a fitted decoder answered."""

    answers: Mapping[str, Answers]
    """By the name of the set of rooms it was scored on."""
    probe: dict[str, torch.Tensor] | None
    """The decoder's weights, of the agent's own row."""


@dataclass(frozen=True)
class Bench:
    """Everything a fit needs. Sent to every process once."""

    train: Examples
    validation: Examples
    scored: Mapping[str, Examples]
    """By name."""
    code: ObservationCode
    num_words: int
    settings: ProbeSettings
    device: torch.device

    def updates_of(self, row: Row) -> int:
        """How many updates a row's fit takes, at the most."""
        taught = lesson_of(row, self.train, self._known_answers)
        return updates_of(len(np.unique(taught.world)), self.settings)

    def questions_of(self, row: Row, examples: Examples) -> Questions:
        """What a row is scored on: everything, also what it was never taught."""
        if row.lesson == "familiar":
            return examples.questions
        return lesson_of(row, examples, self._known_answers)

    def answer(self, row: Row, advance: Callable[[], None] = lambda: None) -> Answered:
        """Fits a row's decoder and lets it answer everything that is scored."""
        fit = Fit(
            self._lessons(row, self.train),
            self._lessons(row, self.validation),
            row.decoder,
            self.num_words,
            self.settings,
        )
        probe = fit.run(advance)
        answers = {
            name: Answers(
                *Lessons(
                    self.questions_of(row, examples), self._reading(row, examples), self.device
                ).score(probe)
            )
            for name, examples in self.scored.items()
        }
        is_agent = row.name == AGENT
        return Answered(answers, dict(probe.cpu().state_dict()) if is_agent else None)

    def _lessons(self, row: Row, examples: Examples) -> Lessons:
        questions = lesson_of(row, examples, self._known_answers)
        return Lessons(questions, self._reading(row, examples), self.device)

    def _reading(self, row: Row, examples: Examples) -> Any:
        return reading_of(row, examples, self.code, self.settings.seed, self.device)

    @cached_property
    def _known_answers(self) -> dict[int, Any]:
        return answers_by_type(self.train.questions)


LONGEST_FIRST: tuple[DecoderName, ...] = ("lstm", "mlp", "linear")
"""Decoders by how long a fit takes."""


def answer_rows(
    bench: Bench,
    rows: Sequence[Row],
    *,
    data: Callable[[Row], str],
    kept: Path | None = None,
    workers: int = 1,
    shown: bool = True,
) -> dict[str, Answered]:
    """Fits every row that is not kept yet.

    Args:
        bench: what they are fitted to.
        rows: of the table.
        data: for each row a name that is equal for equal data.
        kept: the directory where fits are looked for, and kept; None: nowhere.
        workers: processes that fit side by side; 1 is this one.
        shown: whether to show progress.

    Returns:
        What was answered, by the name of the row.
    """
    files = {row.name: _file(kept, data(row), row, bench.settings) for row in rows}
    done = {name: _load(file) for name, file in files.items() if file and file.exists()}
    missing = [row for row in rows if row.name not in done]
    for name, answered in _fit_all(bench, missing, workers, shown):
        done[name] = answered
        if file := files[name]:
            _save(file, answered)
    return {row.name: done[row.name] for row in rows}


def _file(kept: Path | None, data: str, row: Row, settings: ProbeSettings) -> Path | None:
    if kept is None:
        return None
    content = {"data": data, "row": dataclasses.asdict(row)} | settings.fitted
    return kept / f"fit-{digest(content)}.pt"


def _save(file: Path, answered: Answered) -> None:
    answers = {
        name: {"words": torch.from_numpy(one.words), "log_right": torch.from_numpy(one.log_right)}
        for name, one in answered.answers.items()
        if one.log_right is not None
    }
    save_checkpoint(file, {"answers": answers, "probe": answered.probe})


def _load(file: Path) -> Answered:
    content = load_checkpoint(file)
    answers = {
        name: Answers(one["words"].numpy(), one["log_right"].numpy())
        for name, one in content["answers"].items()
    }
    return Answered(answers, content["probe"])


def _fit_all(
    bench: Bench, rows: Sequence[Row], workers: int, shown: bool
) -> Iterator[tuple[str, Answered]]:
    if not rows:
        return
    total = sum(bench.updates_of(row) for row in rows)
    with progress(f"decoders of {len(rows)} rows", total, shown=shown) as advance:
        if min(workers, len(rows)) > 1:
            yield from _side_by_side(bench, rows, min(workers, len(rows)), advance)
        else:
            yield from _one_by_one(bench, rows, advance)


def _one_by_one(
    bench: Bench, rows: Sequence[Row], advance: Callable[..., None]
) -> Iterator[tuple[str, Answered]]:
    finished = 0
    for row in rows:
        updates = 0

        def count() -> None:
            nonlocal updates
            updates += 1
            advance(finished + updates, row.name)  # noqa: B023

        answered = bench.answer(row, count)
        finished += bench.updates_of(row)  # Passes that were not needed count as made.
        yield row.name, answered


def _side_by_side(
    bench: Bench, rows: Sequence[Row], workers: int, advance: Callable[..., None]
) -> Iterator[tuple[str, Answered]]:
    # Threads and the locks they hold do not survive a fork.
    context = torch.multiprocessing.get_context("spawn")
    made = context.Value("q", 0)
    # The longest first, so that in the end no process waits long for another.
    longest_first = sorted(rows, key=lambda row: LONGEST_FIRST.index(row.decoder))
    with context.Pool(workers, _begin_work, (bench, made)) as pool:
        answered = pool.imap_unordered(_work, longest_first)
        for _ in rows:
            while True:
                try:
                    name, result = answered.next(timeout=0.5)
                    break
                except NotYet:
                    advance(made.value)
            advance(made.value, name)
            yield name, result


_bench: Bench
_made: Any


def _begin_work(bench: Bench, made: Any) -> None:
    global _bench, _made
    # Ctrl-C is the parent's affair: it ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _bench, _made = bench, made


def _work(row: Row) -> tuple[str, Answered]:
    def count() -> None:
        with _made.get_lock():
            _made.value += 1

    return row.name, _bench.answer(row, count)
