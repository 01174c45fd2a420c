"""What a user may choose about a room.

Light to import: the command line builds its help from these fields, so nothing here may import
gymnasium, numba or torch.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

from groundling.envs.options import Options, check_choice, check_integer, refuse
from groundling.envs.vocabulary import COLOURS, NUMBERS, SHAPES, SIZES

Layout = Literal["single", "l_shape", "two_rooms", "four_rooms", "corridor"]
Task = Literal["explore", "go_to"]
TASKS: dict[str, Task] = {"Groundling/Explore-v0": "explore", "Groundling/GoTo-v0": "go_to"}
"""What earns reward in the environment of an id."""
Combinations = Literal["all", "familiar"]

SMALLEST_ROOM, LARGEST_ROOM = 3, 25
LARGEST_GRID = (LARGEST_ROOM + 2) ** 2  # cells, walls counted: what 4 KiB hold of one house
LONGEST_CORRIDOR = 8
FEWEST_PIXELS, MOST_PIXELS = 4, 16
SIDES = 4
MARGIN = 1
LONGEST_EPISODE = 2**15 - 1  # steps are counted in int16
LARGEST_COUNT = len(NUMBERS) - 1
CELLS_PER_OBJECT = 3


@dataclass(frozen=True)
class RoomsOptions(Options):
    """One kind of room and the episodes in it.

    Raises ValueError, in one line that names the field, when a room of this kind cannot be built.
    """

    layout: Layout = "single"
    """Floor plan: a room, one without a random quadrant, two rooms, two by two, or a corridor's."""
    size: int | tuple[int, int] = 5
    """Interior side length of a room in cells, walls not counted (3 to 25), or a range of it."""
    corridor_rooms: int = 4
    """Rooms along the corridor (2 to 8), where that is the layout."""
    doors: bool = False
    """Put doors into the doorways, closed at first; the action "interact" moves the one ahead."""
    objects: int | tuple[int, int] = 3
    """Objects in the house: exactly so many, or a range; at most 20 and a third of the cells."""
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
    view_pixels: int = 0
    """Pixels along a cell (4 to 16) of a view that is an image; 0: the view is codes of cells."""
    compass: bool = True
    """Whether the agent observes the direction it faces."""
    wall_colours: bool = False
    """Paint each side's outer wall in a colour of its own: landmarks, where there is no compass."""
    task: Task = "explore"
    """What earns reward: every object (explore), or the one that the instruction means (go_to)."""
    relations: bool = True
    """Whether instructions also tell an object by what is near it (go_to)."""
    shuffled: bool = False
    """Control: the object to go to is drawn without regard to the instruction (go_to)."""
    episode_length: int = 64
    """Steps after which an episode is truncated."""
    stagger: bool = False
    """Start first episodes at seeded random phases, so that a batch does not end in lock-step."""

    def __post_init__(self) -> None:
        """Check every field against what a room can be."""
        for name in ("size", "objects", "shapes", "colours"):
            if isinstance(getattr(self, name), list):  # as JSON gives them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("doors", "wall_colours", "relations", "shuffled", "compass", "stagger"):
            if not isinstance(getattr(self, name), bool):
                refuse(name, getattr(self, name), "True or False")
        self._check_house()
        self._check_things()
        check_integer("view_size", self.view_size, 3, 2 * max(self.shape) + 1, " for this house")
        if self.view_size % 2 == 0:
            refuse("view_size", self.view_size, "an odd number, so that the agent is in the centre")
        if type(self.view_pixels) is not int or self.view_pixels != 0:
            rest = ", or 0 for no image"
            check_integer("view_pixels", self.view_pixels, FEWEST_PIXELS, MOST_PIXELS, rest)
        check_integer("episode_length", self.episode_length, 1, LONGEST_EPISODE)
        self._check_task()

    def _check_house(self) -> None:
        check_choice("layout", self.layout, get_args(Layout))
        check_integer("corridor_rooms", self.corridor_rooms, 2, LONGEST_CORRIDOR)
        _check_range("size", self.size, SMALLEST_ROOM, LARGEST_ROOM)
        rows, columns = self.grid_shape
        if rows * columns > LARGEST_GRID:
            expected = f"a house of at most {LARGEST_GRID} cells, walls counted"
            refuse("size", self.size, f"{expected} (this {self.layout} has {rows} × {columns})")
        if self.doors and not self.doorways:
            refuse("doors", self.doors, f"False for layout={self.layout!r}, which has no doorways")

    def _check_things(self) -> None:
        _check_range("objects", self.objects, 1, self.most_objects, f" in {self.cells} cells")
        _check_names("shapes", self.shapes, SHAPES)
        _check_names("colours", self.colours, COLOURS)
        check_choice("combinations", self.combinations, get_args(Combinations))
        check_integer("sizes", self.sizes, 1, len(SIZES))
        if self.wall_colours and len(self.colour_names) < SIDES:
            refuse("wall_colours", True, f"at least {SIDES} colours, one for each side")

    def _check_task(self) -> None:
        check_choice("task", self.task, get_args(Task))
        if self.task != "go_to":
            return
        if len(self.shape_names) * len(self.colour_names) * self.sizes < 2:
            refuse("task", self.task, "at least two kinds of object, or no instruction tells")
        if self.episode_length < self.longest_way:
            expected = f"at least {self.longest_way}, so that every object can be reached in time"
            refuse("episode_length", self.episode_length, expected)

    @property
    def size_range(self) -> tuple[int, int]:
        """Give the smallest and the largest side length of a room."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def fewest_objects(self) -> int:
        """Give the smallest number of objects that a house may hold."""
        return self.objects[0] if isinstance(self.objects, tuple) else self.objects

    @property
    def most_objects_drawn(self) -> int:
        """Give the largest number of objects that a house may hold."""
        return self.objects[1] if isinstance(self.objects, tuple) else self.objects

    @property
    def rooms_down_and_across(self) -> tuple[int, int]:
        """Give how many rooms lie below, and how many beside each other; a corridor is no room."""
        across = {"two_rooms": 2, "four_rooms": 2, "corridor": self.corridor_rooms}
        return 2 if self.layout == "four_rooms" else 1, across.get(self.layout, 1)

    @property
    def doorways(self) -> int:
        """Give the number of doorways."""
        return {"two_rooms": 1, "four_rooms": 4, "corridor": self.corridor_rooms}.get(
            self.layout, 0
        )

    @property
    def cells(self) -> int:
        """Give the number of the rooms' cells, objects included, in the smallest house."""
        (down, across), smallest = self.rooms_down_and_across, self.size_range[0]
        missing = (smallest // 2) ** 2 if self.layout == "l_shape" else 0
        return down * across * smallest**2 - missing

    @property
    def most_objects(self) -> int:
        """Give the largest number of objects that fit so that all stay reachable.

        A third of the cells that are not beside a doorway always fits (`layout.py` says how); the
        vocabulary counts to twenty.
        """
        sides = 1 if self.layout == "corridor" else 2  # nothing is counted on the corridor's side
        return min((self.cells - sides * self.doorways) // CELLS_PER_OBJECT, LARGEST_COUNT)

    @property
    def longest_way(self) -> int:
        """Give a number of steps that is enough to reach any object from anywhere.

        A shortest path enters no cell twice, turns at most once in each and twice at its start, and
        opens every door at most once.
        """
        rows, columns = self.shape
        free = rows * columns
        if self.layout in ("single", "l_shape"):
            free = self.size_range[1] ** 2
        return 2 * free + 2 + self.doorways * self.doors

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
    def shape(self) -> tuple[int, int]:
        """Give rows and columns of the largest house, outer walls not counted."""
        (down, across), largest = self.rooms_down_and_across, self.size_range[1]
        hall = 2 if self.layout == "corridor" else 0  # itself, and the wall before it
        return down * (largest + 1) - 1 + hall, across * (largest + 1) - 1

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Give rows and columns of the largest house with its outer walls.

        One ring of wall is enough: sight ends at walls, so no view ever reads beyond it.
        """
        rows, columns = self.shape
        return rows + 2 * MARGIN, columns + 2 * MARGIN


def _check_range(name: str, value: object, low: int, high: int, where: str = "") -> None:
    """Check an integer, or a smallest and a largest one."""
    if not isinstance(value, tuple):
        check_integer(name, value, low, high, where)
        return
    whole = all(isinstance(end, int) and not isinstance(end, bool) for end in value)
    if len(value) != 2 or not whole or not low <= value[0] <= value[1] <= high:
        refuse(name, value, f"two integers from {low} to {high}{where}, the smaller one first")


def _check_names(name: str, value: object, known: tuple[str, ...]) -> None:
    if not isinstance(value, tuple):
        check_integer(name, value, 1, len(known), ", or names")
        return
    for word in value:
        if word not in known:
            nearest = get_close_matches(str(word), known, n=1, cutoff=0.0)[0]
            refuse(name, word, f"one of {', '.join(known)} (did you mean {nearest}?)")
    if not value or len(set(value)) < len(value):
        refuse(name, value, "at least one name, none of them twice")
