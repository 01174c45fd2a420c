"""The nine types of question and the words they are asked and answered in (Das et al. 2020,
section 4)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import QUESTION_LENGTH, UNUSED
from groundling.envs.vocabulary import ANSWERS, NUMBERS, VOCABULARY

# The two properties a question can name, or ask for: rows of `kinds` and `totals` below.
SHAPE, COLOUR = 0, 1

# Families share a template up to the property, a set of answers and a rule of answerability.
ATTRIBUTE, EXISTENCE, COUNT, COMPARISON, NEAR = range(5)


class QuestionType(NamedTuple):
    """What all questions of a type have in common."""

    name: str
    family: int
    asked: int
    """The property that the first argument names."""
    template: str


TYPES = (
    QuestionType("attribute_colour", ATTRIBUTE, SHAPE, "what is the colour of the {} ?"),
    QuestionType("attribute_shape", ATTRIBUTE, COLOUR, "what shape is the {} object ?"),
    QuestionType("existence", EXISTENCE, SHAPE, "is there a {} ?"),
    QuestionType("count_shape", COUNT, SHAPE, "how many {} objects are there ?"),
    QuestionType("count_colour", COUNT, COLOUR, "how many {} objects are there ?"),
    QuestionType("comparison_shape", COMPARISON, SHAPE, "are there more {} than {} objects ?"),
    QuestionType("comparison_colour", COMPARISON, COLOUR, "are there more {} than {} objects ?"),
    QuestionType("near_colour", NEAR, SHAPE, "what is the colour of the {} near the {} ?"),
    QuestionType("near_shape", NEAR, COLOUR, "what shape is the {} object near the {} ?"),
)

QUESTION_TYPES = tuple(question_type.name for question_type in TYPES)
"""Names of the nine types, in the order in which `Questions.type` counts them."""


class Language(NamedTuple):
    """Every question and every answer of a preset, written down."""

    tokens: NDArray[np.int64]
    """[types, M, M, QUESTION_LENGTH]: the words of a type with these two arguments. UNUSED, being
    -1, is an index too: it finds the last row, where questions of one argument are kept."""
    answers: NDArray[np.int64]
    """[types, M]: the word of an answer's code."""


@lru_cache(maxsize=16)
def language_of(shapes: tuple[str, ...], colours: tuple[str, ...]) -> Language:
    """Write down every question and answer of a preset: a table beats formatting millions."""
    names = (shapes, colours)
    size = max(len(shapes), len(colours), len(NUMBERS))
    tokens = np.zeros((len(TYPES), size, size, QUESTION_LENGTH), np.int64)
    answers = np.zeros((len(TYPES), size), np.int64)
    for number, (_, family, asked, template) in enumerate(TYPES):
        named_second = {NEAR: shapes, COMPARISON: names[asked]}.get(family)
        seconds = list(enumerate(named_second)) if named_second else [(UNUSED, "")]
        for first, first_name in enumerate(names[asked]):
            for second, second_name in seconds:
                text = template.format(first_name, second_name)
                tokens[number, first, second] = VOCABULARY.encode(text, QUESTION_LENGTH)
        given = {EXISTENCE: ANSWERS, COMPARISON: ANSWERS, COUNT: NUMBERS}
        words = given.get(family, names[1 - asked])
        answers[number, : len(words)] = [VOCABULARY.index(word) for word in words]
    return Language(tokens, answers)
