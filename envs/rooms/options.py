"""What a user may choose about a room.

Light to import: the command line builds its help from these fields, so nothing here may import
gymnasium, numba or torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, get_args

from groundling.envs.errors import UserError
from groundling.envs.vocabulary import COLOURS, NUMBERS, SHAPES, SIZES

Layout = Literal["single", "l_shape"]
Combinations = Literal["all", "familiar"]

SMALLEST_ROOM, LARGEST_ROOM = 3, 25
LONGEST_EPISODE = 2**15 - 1  # steps are counted in int16
LARGEST_COUNT = len(NUMBERS) - 1
CELLS_PER_OBJECT = 3


@dataclass(frozen=True)
class RoomsOptions:
    """One kind of room and the episodes in it.

    Raises ValueError, in one line that names the field, when a room of this kind cannot be built.
    """

    layout: Layout = "single"
    """Floor plan: a square, or a square without one random quadrant."""
    size: int = 5
    """Interior side length in cells, walls not counted (3 to 25)."""
    objects: int = 3
    """Objects in every room: exactly so many, at most 20 and a third of the interior cells."""
    shapes: int | tuple[str, ...] = 8
    """Shapes objects may have: names, or how many of the vocabulary's first."""
    colours: int | tuple[str, ...] = 6
    """Colours objects may have: names, or how many of the vocabulary's first."""
    combinations: Combinations = "all"
    """Kinds that objects may have: all, or the familiar ones, without the held-out quarter."""
    sizes: int = 1
    """Sizes objects may have: 1 (all small) or 2 (small and large)."""
    view_size: int = 5
    """Side length of the agent's square view in cells, itself at the bottom centre (odd)."""
    compass: bool = True
    """Whether the agent observes the direction it faces."""
    episode_length: int = 64
    """Steps after which an episode is truncated."""
    stagger: bool = False
    """Start first episodes at seeded random phases, so that a batch does not end in lock-step."""

    def __post_init__(self) -> None:
        """Check every field against what a room can be."""
        for name in ("shapes", "colours"):
            if isinstance(getattr(self, name), list):  # as JSON gives them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_choice("layout", self.layout, get_args(Layout))
        _check_integer("size", self.size, SMALLEST_ROOM, LARGEST_ROOM)
        _check_integer("objects", self.objects, 1, self.most_objects, f" in {self.cells} cells")
        _check_names("shapes", self.shapes, SHAPES)
        _check_names("colours", self.colours, COLOURS)
        _check_choice("combinations", self.combinations, get_args(Combinations))
        _check_integer("sizes", self.sizes, 1, len(SIZES))
        _check_integer("view_size", self.view_size, 3, 2 * self.size + 1, f" for size={self.size}")
        if self.view_size % 2 == 0:
            _refuse(
                "view_size", self.view_size, "an odd number, so that the agent is in the centre"
            )
        _check_integer("episode_length", self.episode_length, 1, LONGEST_EPISODE)
        for name in ("compass", "stagger"):
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "True or False")

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> "RoomsOptions":
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

    @property
    def fewest_objects(self) -> int:
        """Give the smallest number of objects that a house may hold."""
        return self.objects

    @property
    def most_objects_drawn(self) -> int:
        """Give the largest number of objects that a house may hold."""
        return self.objects

    @property
    def cells(self) -> int:
        """Give the number of interior cells, objects included."""
        missing = (self.size // 2) ** 2 if self.layout == "l_shape" else 0
        return self.size**2 - missing

    @property
    def most_objects(self) -> int:
        """Give the largest number of objects that fit so that all stay reachable.

        A third of the cells always fits (`layout.py` says how); the vocabulary counts to twenty.
        """
        return min(self.cells // CELLS_PER_OBJECT, LARGEST_COUNT)

    @property
    def shape_names(self) -> tuple[str, ...]:
        """Give the shapes' names, in the order of their codes."""
        return SHAPES[: self.shapes] if isinstance(self.shapes, int) else self.shapes

    @property
    def colour_names(self) -> tuple[str, ...]:
        """Give the colours' names, in the order of their codes."""
        return COLOURS[: self.colours] if isinstance(self.colours, int) else self.colours

    @property
    def size_names(self) -> tuple[str, ...]:
        """Give the sizes' names, in the order of their codes."""
        return SIZES[: self.sizes]

    @property
    def margin(self) -> int:
        """Give the cells of wall around the interior: a view from its edge stays in the grid."""
        return self.view_size - 1

    @property
    def grid_size(self) -> int:
        """Give the side length of the padded grid, in cells."""
        return self.size + 2 * self.margin


def _refuse(name: str, value: object, expected: str) -> None:
    raise UserError(f"{name}={value!r}, expected {expected}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        _refuse(name, value, f"one of {', '.join(choices)}")


def _check_integer(name: str, value: object, low: int, high: int, where: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _refuse(name, value, f"an integer from {low} to {high}{where}")


def _check_names(name: str, value: object, known: tuple[str, ...]) -> None:
    if not isinstance(value, tuple):
        _check_integer(name, value, 1, len(known), ", or names")
        return
    for word in value:
        if word not in known:
            nearest = get_close_matches(str(word), known, n=1, cutoff=0.0)[0]
            _refuse(name, word, f"one of {', '.join(known)} (did you mean {nearest}?)")
    if not value or len(set(value)) < len(value):
        _refuse(name, value, "at least one name, none of them twice")
