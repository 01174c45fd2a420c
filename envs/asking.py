"""Asking many copies of an environment that can be asked questions one at a time.

A source that is a single environment speaks of its own world as world 0 (a house of several agents:
as worlds 0, 1, …, one for each possible agent). In a batch the worlds are numbered by row.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundling.envs.errors import UserError
from groundling.envs.questions import (
    AttendedSource,
    Oracle,
    Questions,
    QuestionSource,
    TypedQuestions,
    concatenate,
)
from groundling.envs.vocabulary import Vocabulary

Batch = TypeVar("Batch")


def source_of(environment: Any) -> Any | None:
    """The outermost of an environment and what its wrappers enclose that can be asked, or None."""
    while not isinstance(environment, QuestionSource):
        # PettingZoo's wrappers keep theirs under the same name as Gymnasium's.
        inner = environment.__dict__.get("env")
        if inner is None:
            return None
        environment = inner
    return environment


class Asks:
    """A batch that can be asked what its sources can be asked: a `QuestionSource`.

    It is mixed into a vector environment that knows its `sources` and `rows_per_source`.
    """

    sources: Sequence[Any]
    rows_per_source: int

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of questions and answers."""
        vocabulary: Vocabulary = self.sources[0].vocabulary
        return vocabulary

    @property
    def question_types(self) -> tuple[str, ...]:
        """Names of the question types."""
        return tuple(self.sources[0].question_types)

    def ask(self, generator: np.random.Generator) -> Questions:
        """Draw questions about every copy as it now stands."""
        return self._numbered([source.ask(generator) for source in self.sources])

    def _numbered(self, parts: Sequence[Questions]) -> Questions:
        for part in parts:
            if len(part) and not 0 <= part.world.min() <= part.world.max() < self.rows_per_source:
                raise UserError(
                    f"questions are about worlds {part.world.min()} to {part.world.max()}; "
                    f"expected 0 to {self.rows_per_source - 1} of a single environment"
                )
        return concatenate(
            [
                replace(part, world=part.world + copy * self.rows_per_source)
                for copy, part in enumerate(parts)
            ]
        )


class Understands(Asks):
    """A batch of sources that understand typed questions: `TypedQuestions`."""

    def typed_question(self, text: str) -> Questions:
        """Give a typed question about each world that admits it; raises ValueError."""
        return self._numbered([source.typed_question(text) for source in self.sources])


class Guesses(Asks):
    """A batch of sources that know what could be known: an `Oracle`."""

    def guess(self, questions: Questions, generator: np.random.Generator) -> NDArray[np.int64]:
        """Give what an ideal observer answers, word ids [N]."""
        answers = np.zeros(len(questions), np.int64)
        copies, worlds = np.divmod(questions.world, self.rows_per_source)
        for copy in np.unique(copies):
            chosen = copies == copy
            part = replace(questions[chosen], world=worlds[chosen])
            answers[chosen] = self.sources[copy].guess(part, generator)
        return answers


class Attends(Asks):
    """A batch of sources that can be told what their agents sensed: an `AttendedSource`."""

    @property
    def attended(self) -> bool:
        """Whether `attend` tells what the agents sensed; else all that they are shown counts."""
        return bool(self.sources[0].attended)

    @attended.setter
    def attended(self, attended: bool) -> None:
        for source in self.sources:
            source.attended = attended

    def attend(self, sensed: NDArray[np.bool_]) -> None:
        """Note what the agents of all rows sensed, [B, H, W]; raises ValueError."""
        rows = len(self.sources) * self.rows_per_source
        if len(sensed) != rows:
            raise ValueError(f"sensed has {len(sensed)} rows, expected {rows}")
        for source, part in zip(self.sources, np.split(sensed, len(self.sources)), strict=True):
            source.attend(part)


def able_to_answer(kind: type[Batch], source: Any | None) -> type[Batch]:
    """A vector environment's class, with what a source can be asked (None: nothing) mixed in, and
    whether it can be told what was sensed."""
    abilities = (
        (AttendedSource, Attends),
        (Oracle, Guesses),
        (TypedQuestions, Understands),
        (QuestionSource, Asks),
    )
    mixed = [mixin for protocol, mixin in abilities if isinstance(source, protocol)]
    return type(kind.__name__, (*mixed, kind), {}) if mixed else kind
