"""Questions about MiniGrid and BabyAI worlds: their words, their answers, and whether what the
agent has sensed settles them.

A question is about the keys, balls, boxes and doors of the grid as it is now, and the one the agent
carries, which is where the agent is. What a closed box holds is not there until the box is opened.

Answerable means: the same answer in all worlds that agree with this one in every sensed cell and
every wall, and make the question's own presupposition true ("the key" exists and is one). A sensed
cell is one that still holds what was seen there last; one that changed out of sight is not sensed.
MiniGrid fixes no number of things, so an unsensed cell may hold anything or nothing. From this
follows, type by type,

- attribute: the thing was sensed. Otherwise its property may be anything.
- existence: an instance was sensed, or, for a no, every cell was.
- count: every cell was sensed. Otherwise one more may stand in the next.
- near: thing and landmark were sensed. Rarely the thing alone is enough: when every cell left for
  the landmark gives the same answer.

The instruction tells something of the world, too ("go to the red ball"), and is not counted as
sensing. Kinds are not alike in these worlds (there may never be a door), so existence and counts of
each kind are types of their own: `groundling.envs.questions.balance` levels answers within a type.
Comparisons are not asked. Nothing here needs the package minigrid.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from groundling.envs.questions import NOT_SEEN, QUESTION_LENGTH, UNUSED, Questions
from groundling.envs.vocabulary import ANSWERS, NUMBERS, TEMPLATE_WORDS, Vocabulary

KINDS = ("key", "ball", "box", "door")
"""The things that questions are about: those that BabyAI's instructions speak of."""

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
"""The colours of things, in the order of MiniGrid's codes."""

NEAR_DISTANCE = 2
"""Things at most this far apart, in the Chebyshev distance, are near each other."""

# What missions say beside the words of questions.
_MISSION_WORDS = (
    ", "
    "after and at avoid behind end fetch from front get goal hallway in lava left matching "
    "maze must next on open opening pick put reach right room rooms square then traverse "
    "unlock up use you your"
)
VOCABULARY = Vocabulary(
    (*KINDS, *COLOURS, *NUMBERS, *ANSWERS, *TEMPLATE_WORDS, *_MISSION_WORDS.split())
)
"""Every word of the missions of MiniGrid and BabyAI, and of the questions about their worlds."""


class Thing(NamedTuple):
    """A key, ball, box or door of a world as it is now."""

    kind: str
    colour: str
    place: tuple[int, int]
    """Column and row."""
    age: int | None
    """Steps since it was sensed where it is; None: it was not."""


@dataclass(frozen=True)
class Scene:
    """What questions about one world are made of."""

    things: Sequence[Thing]
    unsensed: Sequence[tuple[int, int]]
    """Cells that may hold a thing, as far as what was sensed tells: column and row."""
    elapsed: int
    """Steps since the episode began."""


class Candidate(NamedTuple):
    """A question a world admits, with its true answer."""

    text: str
    answer: str
    arguments: tuple[int, int]
    judge: Callable[[], int | None]
    """Steps since what the answer rests on was sensed, or NOT_SEEN if it rests on no thing; None if
    what was sensed does not settle the question."""


def _number(kind: str, colour: str) -> int:
    """A number for a combination of kind and colour."""
    return KINDS.index(kind) * len(COLOURS) + COLOURS.index(colour)


def _seen(*things: Thing) -> int | None:
    """The age of the stalest of some things, None unless all were sensed."""
    ages = [thing.age for thing in things if thing.age is not None]
    return max(ages) if len(ages) == len(things) else None


_PROPERTIES = {
    "kind": (KINDS, "what is the colour of the {}", "colour"),
    "colour": (COLOURS, "what shape is the {} object", "kind"),
}
"""By the property that a question names: its values, how it asks, and the property it asks for."""


def _attributes(scene: Scene, named: str) -> Iterable[Candidate]:
    """Give "what is the colour of the key ?" for every thing that is the only one of its kind."""
    values, template, wanted = _PROPERTIES[named]
    for number, value in enumerate(values):
        of_it = [thing for thing in scene.things if getattr(thing, named) == value]
        if len(of_it) == 1:
            text = f"{template.format(value)} ?"
            answer = getattr(of_it[0], wanted)
            yield Candidate(text, answer, (number, UNUSED), partial(_seen, of_it[0]))


def _existence(scene: Scene, kind: str) -> Iterable[Candidate]:
    """Give "is there a red key ?" for every colour."""
    for colour in COLOURS:
        of_it = [thing for thing in scene.things if thing[:2] == (kind, colour)]
        judge = partial(_judge_existence, scene, of_it)
        number = _number(kind, colour)
        yield Candidate(
            f"is there a {colour} {kind} ?", ANSWERS[bool(of_it)], (number, UNUSED), judge
        )


def _judge_existence(scene: Scene, instances: Sequence[Thing]) -> int | None:
    ages = [thing.age for thing in instances if thing.age is not None]
    if ages:
        return min(ages)
    return None if scene.unsensed else NOT_SEEN


def _counts(scene: Scene, named: str, values: Sequence[str]) -> Iterable[Candidate]:
    """Give "how many red objects are there ?" for every value, as far as there are number words."""
    for number, value in enumerate(values):
        of_it = [thing for thing in scene.things if getattr(thing, named) == value]
        if len(of_it) < len(NUMBERS):
            judge = partial(_judge_count, scene, of_it)
            text, answer = f"how many {value} objects are there ?", NUMBERS[len(of_it)]
            yield Candidate(text, answer, (number, UNUSED), judge)


def _judge_count(scene: Scene, counted: Sequence[Thing]) -> int | None:
    if scene.unsensed:
        return None
    return _seen(*counted) if counted else NOT_SEEN


def _neighbours(scene: Scene, named: str) -> Iterable[Candidate]:
    """Give "what is the colour of the key near the red ball ?" for every landmark that is the only
    one of its kind and colour and has exactly one thing of that kind near it, itself not counted.
    """
    values, template, wanted = _PROPERTIES[named]
    combinations = [thing[:2] for thing in scene.things]
    for landmark in scene.things:
        if combinations.count(landmark[:2]) > 1:
            continue
        second = _number(landmark.kind, landmark.colour)
        nearby = [
            thing
            for thing in scene.things
            if thing is not landmark and _is_near(thing.place, landmark.place)
        ]
        for number, value in enumerate(values):
            of_it = [thing for thing in nearby if getattr(thing, named) == value]
            if len(of_it) == 1:
                text = f"{template.format(value)} near the {landmark.colour} {landmark.kind} ?"
                judge = partial(_judge_near, scene, named, of_it[0], landmark)
                yield Candidate(text, getattr(of_it[0], wanted), (number, second), judge)


def _is_near(place: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(place[0] - other[0]), abs(place[1] - other[1])) <= NEAR_DISTANCE


def _judge_near(scene: Scene, named: str, referent: Thing, landmark: Thing) -> int | None:
    if referent.age is None or landmark.age is not None:
        return _seen(referent, landmark)
    sensed = [
        thing
        for thing in scene.things
        if thing.age is not None and getattr(thing, named) == getattr(referent, named)
    ]
    for place in scene.unsensed:
        candidates = [thing for thing in sensed if _is_near(thing.place, place)]
        if not candidates:
            # The landmark would have to stand by an unsensed thing, which may be of any property.
            if any(other != place and _is_near(other, place) for other in scene.unsensed):
                return None
        elif len(candidates) == 1 and candidates[0][:2] != referent[:2]:
            return None
    return referent.age


class QuestionType(NamedTuple):
    """A name, and the questions of that type a world admits."""

    name: str
    candidates: Callable[[Scene], Iterable[Candidate]]


TYPES = (
    QuestionType("attribute_colour", partial(_attributes, named="kind")),
    QuestionType("attribute_shape", partial(_attributes, named="colour")),
    *(QuestionType(f"existence_{kind}", partial(_existence, kind=kind)) for kind in KINDS),
    *(
        QuestionType(f"count_{kind}", partial(_counts, named="kind", values=(kind,)))
        for kind in KINDS
    ),
    QuestionType("count_colour", partial(_counts, named="colour", values=COLOURS)),
    QuestionType("near_colour", partial(_neighbours, named="kind")),
    QuestionType("near_shape", partial(_neighbours, named="colour")),
)

QUESTION_TYPES = tuple(question_type.name for question_type in TYPES)
"""Names of the types, in the order in which `Questions.type` counts them."""


def sample_questions(scenes: Sequence[Scene], generator: np.random.Generator) -> Questions:
    """Draw one question of every type about every world, where the world admits one.

    First an answer is drawn among those the world can give, then a question with this answer. Yes
    and no are wanted equally often, and a world that cannot give the wanted one is not asked.

    Returns:
        At most 13 questions for each of B worlds, ordered by world and then by type.
    """
    drawn = [
        (world, number, candidate)
        for world, scene in enumerate(scenes)
        for number, question_type in enumerate(TYPES)
        for candidate in _draw(list(question_type.candidates(scene)), generator)
    ]
    steps = [candidate.judge() for _, _, candidate in drawn]
    return Questions(
        world=np.array([world for world, _, _ in drawn], np.int64),
        type=np.array([number for _, number, _ in drawn], np.int64),
        arguments=np.array([one.arguments for _, _, one in drawn], np.int64).reshape(-1, 2),
        tokens=np.array([_tokens(one.text) for _, _, one in drawn], np.int64).reshape(
            -1, QUESTION_LENGTH
        ),
        answer=np.array([VOCABULARY.index(one.answer) for _, _, one in drawn], np.int64),
        answerable=np.array([one is not None for one in steps], np.bool_),
        steps_since_seen=np.array([NOT_SEEN if one is None else one for one in steps], np.int64),
        elapsed=np.array([scenes[world].elapsed for world, _, _ in drawn], np.int64),
    )


def _draw(candidates: list[Candidate], generator: np.random.Generator) -> list[Candidate]:
    """One candidate, or none."""
    if not candidates:
        return []
    possible = sorted({candidate.answer for candidate in candidates})
    wanted = ANSWERS if possible[0] in ANSWERS else possible
    answer = wanted[generator.integers(len(wanted))]
    matching = [candidate for candidate in candidates if candidate.answer == answer]
    return [matching[generator.integers(len(matching))]] if matching else []


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[int, ...]:
    return tuple(VOCABULARY.encode(text, QUESTION_LENGTH))
