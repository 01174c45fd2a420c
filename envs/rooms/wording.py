"""The types of question and the words they are asked and answered in (after Das et al. 2020,
section 4).

The first nine are the paper's. The others speak of sizes and are asked where objects have two.
"""

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.questions import QUESTION_LENGTH, UNUSED
from groundling.envs.vocabulary import ANSWERS, NUMBERS, VOCABULARY

# The properties a question can name, or ask for: rows of `Contents.kinds` and `Contents.totals`. A
# shape and a size together are one property, with the value shape × sizes + size; so are a colour
# and a size.
SHAPE, COLOUR, SIZE, SHAPE_AND_SIZE, COLOUR_AND_SIZE = range(5)

# Families share a set of answers and a rule of answerability.
ATTRIBUTE, EXISTENCE, COUNT, COMPARISON, NEAR = range(5)


class Form(NamedTuple):
    """What the kernels know of a type of question: integers only."""

    family: int
    asked: int
    """The property that the first argument names."""
    told: int = UNUSED
    """The property that the answer names, if it names one."""


class QuestionType(NamedTuple):
    """What all questions of a type have in common."""

    name: str
    form: Form
    template: str


COLOUR_OF, SHAPE_OF = "what is the colour of the {} ?", "what shape is the {} object ?"
IS_THERE, HOW_MANY = "is there a {} ?", "how many {} objects are there ?"
ARE_THERE_MORE = "are there more {} than {} objects ?"

TYPES = (
    QuestionType("attribute_colour", Form(ATTRIBUTE, SHAPE, COLOUR), COLOUR_OF),
    QuestionType("attribute_shape", Form(ATTRIBUTE, COLOUR, SHAPE), SHAPE_OF),
    QuestionType("existence", Form(EXISTENCE, SHAPE), IS_THERE),
    QuestionType("count_shape", Form(COUNT, SHAPE), HOW_MANY),
    QuestionType("count_colour", Form(COUNT, COLOUR), HOW_MANY),
    QuestionType("comparison_shape", Form(COMPARISON, SHAPE), ARE_THERE_MORE),
    QuestionType("comparison_colour", Form(COMPARISON, COLOUR), ARE_THERE_MORE),
    QuestionType(
        "near_colour", Form(NEAR, SHAPE, COLOUR), "what is the colour of the {} near the {} ?"
    ),
    QuestionType(
        "near_shape", Form(NEAR, COLOUR, SHAPE), "what shape is the {} object near the {} ?"
    ),
    QuestionType("attribute_size", Form(ATTRIBUTE, SHAPE, SIZE), "how large is the {} ?"),
    QuestionType("attribute_colour_sized", Form(ATTRIBUTE, SHAPE_AND_SIZE, COLOUR), COLOUR_OF),
    QuestionType("attribute_shape_sized", Form(ATTRIBUTE, COLOUR_AND_SIZE, SHAPE), SHAPE_OF),
    QuestionType("existence_sized", Form(EXISTENCE, SHAPE_AND_SIZE), IS_THERE),
    QuestionType("count_size", Form(COUNT, SIZE), HOW_MANY),
)

QUESTION_TYPES = tuple(question_type.name for question_type in TYPES)
"""Names of the types, in the order in which `Questions.type` counts them."""

FORMS = np.array([question_type.form for question_type in TYPES])
"""[types, 3]: every type's `Form`."""


def values_of(
    shapes: tuple[str, ...], colours: tuple[str, ...], sizes: tuple[str, ...]
) -> NDArray[np.int64]:
    """Give [5] how many values each property has."""
    return np.array([len(names) for names in _names_of(shapes, colours, sizes)])


def _names_of(
    shapes: tuple[str, ...], colours: tuple[str, ...], sizes: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Give the words for every value of each property."""
    with_size = [
        tuple(f"{size} {name}" for name in names for size in sizes) for names in (shapes, colours)
    ]
    return [shapes, colours, sizes, *with_size]


@numba.njit(cache=True)
def is_asked(form: Form, values: NDArray[np.int64]) -> bool:
    """Tell whether a type is asked in rooms whose properties have these numbers of values [5].

    Not if the answer were always the same, or if one size were spoken of. What stands beside the
    only ball is never a ball: near questions need three shapes.
    """
    if form.asked >= SIZE and values[SIZE] < 2:
        return False
    if form.family == ATTRIBUTE:
        return bool(values[form.told] > 1)
    if form.family == NEAR:
        return bool(values[SHAPE] > 2 and values[COLOUR] > 1)
    return bool(values[form.asked] > 1)


class Language(NamedTuple):
    """Every question and every answer of a preset, written down."""

    tokens: NDArray[np.int64]
    """[types, M, M, QUESTION_LENGTH]: the words of a type with these two arguments; 0 where there
    is no such question. UNUSED, being -1, is an index too: it finds the last row, where questions
    of one argument are kept."""
    answers: NDArray[np.int64]
    """[types, M]: the word of an answer's code."""


@lru_cache(maxsize=16)
def language_of(
    shapes: tuple[str, ...], colours: tuple[str, ...], sizes: tuple[str, ...]
) -> Language:
    """Write down every question and answer of a preset: a table beats formatting millions."""
    names, values = _names_of(shapes, colours, sizes), values_of(shapes, colours, sizes)
    size = max(len(NUMBERS), *values)
    tokens = np.zeros((len(TYPES), size, size, QUESTION_LENGTH), np.int64)
    answers = np.zeros((len(TYPES), size), np.int64)
    for number, (_, form, template) in enumerate(TYPES):
        given = {EXISTENCE: ANSWERS, COMPARISON: ANSWERS, COUNT: NUMBERS}
        words = given.get(form.family, names[form.told])
        answers[number, : len(words)] = [VOCABULARY.index(word) for word in words]
        if not is_asked(form, values):
            continue
        named_second = {NEAR: shapes, COMPARISON: names[form.asked]}.get(form.family)
        seconds = list(enumerate(named_second)) if named_second else [(UNUSED, "")]
        for first, first_name in enumerate(names[form.asked]):
            for second, second_name in seconds:
                text = template.format(first_name, second_name)
                tokens[number, first, second] = VOCABULARY.encode(text, QUESTION_LENGTH)
    return Language(tokens, answers)
