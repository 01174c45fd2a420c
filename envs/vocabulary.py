"""The closed list of words that agents and probes read and write.

One list serves every preset, so a word keeps its id when shapes or colours are added to a room, and
a probe trained on one preset can be read beside another. Light to import: the command line shows
these words in its help.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

SHAPES = (
    "key",
    "ball",
    "box",
    "lamp",
    "chair",
    "book",
    "cup",
    "clock",
    "table",
    "hat",
    "boat",
    "bed",
    "bottle",
    "guitar",
    "teddy",
    "basket",
    "candle",
    "plant",
    "rocket",
    "shoe",
    "train",
    "wardrobe",
    "mirror",
    "vase",
)
"""Nouns an object's shape can have. A preset takes the first few or names its own; the first eight
are everyday things that are easy to tell apart in a drawing."""

COLOURS = (
    "red",
    "green",
    "blue",
    "yellow",
    "purple",
    "orange",
    "white",
    "brown",
    "pink",
    "cyan",
    "black",
    "magenta",
)
"""Adjectives an object's colour can have."""

SIZES = ("small", "large")
"""Adjectives an object's size can have."""

NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
)
"""Counts, in order: `NUMBERS[n]` is the word for n."""

ANSWERS = ("no", "yes")
"""Answers to yes-or-no questions, in the order of False and True."""

TEMPLATE_WORDS = (
    "?",
    "a",
    "are",
    "colour",
    "find",
    "go",
    "how",
    "is",
    "many",
    "more",
    "near",
    "object",
    "objects",
    "of",
    "shape",
    "than",
    "the",
    "there",
    "to",
    "what",
)
"""The words of questions and instructions that name no property of an object."""

PADDING = 0
"""The id that fills a text up to its fixed length. It stands for no word."""


@dataclass(frozen=True)
class Vocabulary:
    """A closed list of words. Word i of `words` has id i + 1; id 0 is padding.

    Texts are lower-case words separated by blanks; "?" is a word of its own.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a list in which a word could not be told from another or from a separator."""
        if len(set(self.words)) != len(self.words):
            raise ValueError("a vocabulary must not hold the same word twice")
        for word in self.words:
            if word.split() != [word]:
                raise ValueError(f"{word!r} cannot be a word: it is empty or holds a blank")

    def __len__(self) -> int:
        """Give the number of ids, padding included: the rows an embedding table needs."""
        return len(self.words) + 1

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: position for position, word in enumerate(self.words, start=PADDING + 1)}

    def index(self, word: str) -> int:
        """Give the id of a word, from 1 to len(words).

        Raises ValueError, naming the nearest known word, if the word is not in the list.
        """
        if word in self._ids:
            return self._ids[word]
        nearest = get_close_matches(word, self.words, n=1, cutoff=0.0)
        hint = f"; the nearest known word is {nearest[0]!r}" if nearest else ""
        raise ValueError(f"unknown word {word!r}{hint}")

    def encode(self, text: str, length: int) -> list[int]:
        """Give the ids of a text's words, padded with 0 to `length`.

        Raises ValueError for an unknown word and for a text of more than `length` words.
        """
        ids = [self.index(word) for word in text.split()]
        if len(ids) > length:
            raise ValueError(f"{text!r} has {len(ids)} words, expected at most {length}")
        return ids + [PADDING] * (length - len(ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of a sequence of ids, skipping padding.

        Raises ValueError for an id outside 0 … len(words).
        """
        known = []
        for position in ids:
            if not 0 <= position < len(self):
                raise ValueError(f"no word has id {position}, expected 0 to {len(self.words)}")
            if position != PADDING:
                known.append(self.words[position - 1])
        return " ".join(known)


VOCABULARY = Vocabulary(SHAPES + COLOURS + SIZES + NUMBERS + ANSWERS + TEMPLATE_WORDS)
"""Every word of groundling's own worlds, the same for all presets."""
