"""What a user may choose about digits among clutter. Light to import, like the rooms' options."""

from dataclasses import dataclass
from typing import Literal, get_args

from groundling.envs.options import Options, check_choice, check_integer, refuse

DIGITS = "Groundling/ClutteredDigits-v0"
"""The environment's id."""

Split = Literal["train", "test", "all"]

FOLDS = 5
LARGEST_CANVAS = 512
SMALLEST_DIGIT = 4
MOST_CLUTTER = 100
LONGEST_EPISODE = 1000


@dataclass(frozen=True)
class DigitsOptions(Options):
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
        check_integer("canvas", self.canvas, SMALLEST_DIGIT, LARGEST_CANVAS)
        check_integer(
            "digit_size", self.digit_size, SMALLEST_DIGIT, self.canvas, ", that of the canvas"
        )
        check_integer("clutter", self.clutter, 0, MOST_CLUTTER)
        check_integer("clutter_size", self.clutter_size, 1, self.digit_size, ", that of the digit")
        check_integer("glimpses", self.glimpses, 1, LONGEST_EPISODE)
        check_integer("fold", self.fold, 0, FOLDS - 1)
        check_choice("split", self.split, get_args(Split))
        for name, other in (("images", "labels"), ("labels", "images")):
            value, beside = getattr(self, name), getattr(self, other)
            if not isinstance(value, str):
                refuse(name, value, "the path of an IDX file")
            if not value and beside:
                refuse(name, value, f"an IDX file, too, beside {other}={beside!r}")
