"""What a user may choose about digits among clutter. Light to import, like the rooms' options."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

from groundling.envs.errors import UserError

DIGITS = "Groundling/ClutteredDigits-v0"
"""The environment's id."""

Split = Literal["train", "test", "all"]

FOLDS = 5
LARGEST_CANVAS = 512
SMALLEST_DIGIT = 4
MOST_CLUTTER = 100
LONGEST_EPISODE = 1000


@dataclass(frozen=True)
class DigitsOptions:
    """One kind of canvas and the episodes in front of it.

    Raises ValueError, in one line that names the field, when there is no such canvas.
    """

    canvas: int = 60
    """Side length of the canvas in pixels (up to 512)."""
    clutter: int = 4
    """Pieces of clutter on the canvas, cut from other digits (0 to 100)."""
    clutter_size: int = 8
    """Side length of a piece of clutter in pixels, at most that of the digit."""
    digit_size: int = 28
    """Side length in pixels to which digits are resized (4 up to the canvas)."""
    glimpses: int = 8
    """Steps of an episode; the action of the last one names the digit."""
    fold: int = 0
    """Which of the five folds of the images is the test's (0 to 4)."""
    split: Split = "train"
    """Whose images are shown, and cut for clutter: train (four folds), test (one), or all."""
    images: str = ""
    """IDX file of images such as MNIST's, plain or .gz; none: scikit-learn's digits."""
    labels: str = ""
    """IDX file of their labels."""

    def __post_init__(self) -> None:
        """Check every field against what a canvas can be."""
        self._check_integer("canvas", SMALLEST_DIGIT, LARGEST_CANVAS)
        self._check_integer("digit_size", SMALLEST_DIGIT, self.canvas, ", that of the canvas")
        self._check_integer("clutter", 0, MOST_CLUTTER)
        self._check_integer("clutter_size", 1, self.digit_size, ", that of the digit")
        self._check_integer("glimpses", 1, LONGEST_EPISODE)
        self._check_integer("fold", 0, FOLDS - 1)
        if self.split not in get_args(Split):
            self._refuse("split", f"one of {', '.join(get_args(Split))}")
        for name, other in (("images", "labels"), ("labels", "images")):
            if not isinstance(getattr(self, name), str):
                self._refuse(name, "the path of an IDX file")
            if not getattr(self, name) and getattr(self, other):
                self._refuse(name, f"an IDX file, too, beside {other}={getattr(self, other)!r}")

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Self:
        """Build options from keyword arguments, as `gymnasium.make` passes them on.

        Raises ValueError for a keyword that is no option, naming the nearest one.
        """
        known = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in known:
                nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
                expected = f"one of {', '.join(known)} (did you mean {nearest}?)"
                raise UserError(f"unknown option {name!r}, expected {expected}")
        return cls(**keywords)

    def _check_integer(self, name: str, low: int, high: int, why: str = "") -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self._refuse(name, f"an integer from {low} to {high}{why}")

    def _refuse(self, name: str, expected: str) -> None:
        raise UserError(f"{name}={getattr(self, name)!r}, expected {expected}")
