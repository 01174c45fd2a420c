"""Questions about what an agent has walked through, as batched records, and who can ask them.

An environment that implements `QuestionSource` can be asked what is true of its worlds; nothing
else about it needs to be known in order to probe an agent's memory of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from groundling.envs.vocabulary import VOCABULARY, Vocabulary

QUESTION_LENGTH = 12
"""Words a question has room for, the question mark included; shorter ones are padded with 0."""

UNUSED = -1
"""In `Questions.arguments`: this type of question has no such argument."""

NOT_SEEN = -1
"""In `Questions.steps_since_seen`: the answer rests on no object that was sensed."""

NOT_TOLD = -1
"""In `Questions.elapsed`: the source does not tell the time."""

RAREST = 0.02
"""Answers that are a smaller share of their group than this are dropped by `balance`."""


@dataclass(frozen=True, eq=False)
class Questions:
    """N questions with their true answers (question types after Das et al. 2020, section 4).

    A source need not know of the fields that have a default. Raises ValueError if the arrays are
    not equally long.
    """

    world: NDArray[np.int64]
    """[N]: index of the environment the question is about."""
    type: NDArray[np.int64]
    """[N]: index into the source's `question_types`."""
    arguments: NDArray[np.int64]
    """[N, 2]: what the question is about, as indices of the source's own; UNUSED where there is
    no such argument. For grouping only: everything a decoder may read is in `tokens`."""
    tokens: NDArray[np.int64]
    """[N, QUESTION_LENGTH]: word ids, padded with 0."""
    answer: NDArray[np.int64]
    """[N]: word id of the one-word answer."""
    answerable: NDArray[np.bool_]
    """[N]: every world consistent with what the agent has sensed gives this answer."""
    steps_since_seen: NDArray[np.int64]
    """[N]: steps since the stalest object that the answer rests on was sensed, or NOT_SEEN."""
    held_out: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """[N]: the question asks about a held-out combination: its referent or its landmark is of one.
    Left out: no question does."""
    elapsed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """[N]: steps since the episode began. A staggered first episode begins at its phase, not at 0.
    Left out: NOT_TOLD."""

    def __post_init__(self) -> None:
        """Fill in what was left out. Refuse arrays of different lengths."""
        for name, value in (("held_out", False), ("elapsed", NOT_TOLD)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self), value))
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the arrays of Questions must be equally long, got {lengths}")

    def __len__(self) -> int:
        """Give the number of questions."""
        return len(self.world)

    def __getitem__(self, selection: slice | NDArray[np.bool_] | NDArray[np.intp]) -> "Questions":
        """Give the questions that a slice, a mask [N] or an array of indices selects."""
        return Questions(
            **{field.name: getattr(self, field.name)[selection] for field in fields(self)}
        )

    def text(self, position: int, vocabulary: Vocabulary = VOCABULARY) -> str:
        """Give one question in words."""
        return vocabulary.decode(self.tokens[position])

    def answer_text(self, position: int, vocabulary: Vocabulary = VOCABULARY) -> str:
        """Give the true answer to one question as a word."""
        return vocabulary.decode(self.answer[position : position + 1])


def tokens_of(text: str, vocabulary: Vocabulary = VOCABULARY) -> list[int]:
    """Give the word ids of a typed question, padded; capitals and a blank before "?" are free.

    Raises ValueError, naming the nearest known word, for a word that is not known, and for a text
    that is too long.
    """
    return vocabulary.encode(text.lower().replace("?", " ?"), QUESTION_LENGTH)


def concatenate(parts: Sequence[Questions]) -> Questions:
    """Join questions in the order given; `world` is kept as it is in each part.

    Raises ValueError if there are no parts.
    """
    return Questions(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Questions)
        }
    )


@runtime_checkable
class QuestionSource(Protocol):
    """An environment, usually a vector environment, that can be asked about its present worlds."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of questions and answers."""

    @property
    def question_types(self) -> tuple[str, ...]:
        """Names of the question types; `Questions.type` counts in them."""

    def ask(self, generator: np.random.Generator) -> Questions:
        """Draw questions about the worlds as they now stand; changes nothing but the generator."""


@runtime_checkable
class AttendedSource(QuestionSource, Protocol):
    """A source that can be told what its agents sensed of what it showed them.

    Else all of an observation counts as sensed, whatever the agent made of it. Answerability, steps
    since seen, maps and the oracle follow what was sensed.
    """

    attended: bool
    """False at first. Set before `reset`, True says that `attend` is going to be called: then the
    environment itself notes nothing as sensed. A new episode has sensed nothing."""

    def attend(self, sensed: NDArray[np.bool_]) -> None:
        """Note what the agents sensed of their present observations, before questions about them.

        Called once for an observation; calling again adds to it. Cells that were not sensed, or are
        out of sight, keep the age they had.

        Args:
            sensed: bool [B, H, W] of the present `view`: the cells, or the pixels of an image, that
                the agent sensed; a cell that is drawn in several pixels only counts with them all.

        Raises ValueError for another shape or dtype, and if `attended` is False.
        """


@runtime_checkable
class TypedQuestions(QuestionSource, Protocol):
    """A source that understands questions somebody types."""

    def typed_question(self, text: str) -> Questions:
        """Give a question in words about each world that admits it, at most once for each.

        Raises ValueError, saying what would be understood, if it cannot be asked.
        """


@runtime_checkable
class Oracle(QuestionSource, Protocol):
    """A source that knows what could be known: an upper bound for what any memory can answer."""

    def guess(self, questions: Questions, generator: np.random.Generator) -> NDArray[np.int64]:
        """Give what an ideal observer of the sensed cells answers, word ids [N].

        The questions are about the worlds as they now stand, and their answers are going to be
        balanced. Changes nothing but the generator.
        """


def balance(
    questions: Questions, generator: np.random.Generator, rarest: float = RAREST
) -> Questions:
    """Thin questions until all answers are equally frequent inside each (type, answerable) group.

    Answers that make up less than a share `rarest` (0 to 1) of their group are dropped first: three
    objects of one shape in a room of three are too rare to thin everything else down to. A group
    left with a single answer can be answered blind and is dropped whole. The rest keeps its order.

    Groups are pooled over arguments. Where shapes and colours are drawn independently and alike,
    renaming them changes no probability, so P(answer | type, argument, answerable) is the same for
    every argument, and pooling makes it flat for each while keeping far more questions than
    balancing every argument by itself would. This needs a source, and behaviour that decides what
    is sensed, without favourites among shapes and colours.

    Raises ValueError if `rarest` is outside 0 … 1.
    """
    if not 0 <= rarest <= 1:
        raise ValueError(f"rarest must be a share between 0 and 1, got {rarest}")
    if not len(questions):
        return questions
    # A cell is one answer of one group; `cell` [N] is each question's, the rest are per cell [C].
    keys = np.stack([questions.type, questions.answerable, questions.answer], axis=1)
    cells, cell, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    _, group = np.unique(cells[:, :2], axis=0, return_inverse=True)
    frequent = count >= rarest * np.bincount(group, weights=count)[group]
    smallest = np.full(len(cells), len(questions))
    np.minimum.at(smallest, group[frequent], count[frequent])
    varied = np.bincount(group[frequent], minlength=len(cells)) > 1
    quota = np.where(frequent & varied[group], smallest[group], 0)

    shuffled = generator.permutation(len(questions))
    by_cell = shuffled[np.argsort(cell[shuffled], kind="stable")]
    rank = np.arange(len(questions)) - np.repeat(np.cumsum(count) - count, count)
    return questions[np.sort(by_cell[rank < quota[cell[by_cell]]])]
