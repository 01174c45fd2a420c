"""Tasks, doors and the view once more, slowly, from their definitions: the kernels' oracle.

Written on whole grids of Python objects, without tables, padding arithmetic or numba.
"""

import math
from fractions import Fraction
from functools import cache

import numpy as np

from groundling.envs.rooms.world import COLUMN, DOORWAY, FLOOR, NEVER, ROW, SIZE, WALL, WHAT, World

AHEAD = {0: (0, 1), 1: (1, 0), 2: (0, -1), 3: (-1, 0)}


class ReferenceRoom:
    """One room of a world, copied, that is stepped by hand."""

    def __init__(self, world: World, room: int, *, doors: bool = False):
        self.doors = doors
        self.cells = world.cells[room].copy()
        count = world.object_count[room]
        self.objects = [(int(o[ROW]), int(o[COLUMN])) for o in world.objects[room, :count]]
        target = int(world.target[room])
        self.target = self.objects[target] if target >= 0 else None
        self.over = False
        self.unreached = {
            place
            for place, reached in zip(self.objects, world.reached[room, :count], strict=True)
            if not reached
        }
        self.row, self.column, self.direction = (int(number) for number in world.agent[room])
        self.elapsed = int(world.elapsed[room])
        self.seen_at = np.full(self.cells.shape[:2], NEVER)

    def step(self, action: int) -> float:
        """Act, and give the reward."""
        self.elapsed += 1
        if action in (0, 1):
            self.direction = (self.direction + (1 if action == 1 else -1)) % 4
        place = self.row + AHEAD[self.direction][0], self.column + AHEAD[self.direction][1]
        if action == 3 and self.doors and self.is_door(place):
            self.cells[place][WHAT] = WALL + FLOOR - self.cells[place][WHAT]
        if action != 2:
            return 0.0
        if self.target and place in self.objects:
            self.over = True
            return float(place == self.target)
        if self.cells[place][WHAT] == FLOOR:
            self.row, self.column = place
        if place not in self.unreached:
            return 0.0
        self.unreached.discard(place)
        if not self.unreached:
            self.unreached = set(self.objects)
        return 1.0

    def is_door(self, place: tuple[int, int]) -> bool:
        """Whether a cell is a doorway. (A small object is marked alike, and is no floor.)"""
        return self.cells[place][SIZE] == DOORWAY and self.cells[place][WHAT] in (FLOOR, WALL)

    def look(self, V: int, sensed: np.ndarray | None = None) -> np.ndarray:
        """Give the view, uint8 [V, V, 3], and note what was seen: all, or of `sensed` [V, V]."""
        ahead = AHEAD[self.direction]
        right = AHEAD[(self.direction + 1) % 4]

        def place(forward: int, aside: int) -> tuple[int, int]:
            return (
                self.row + forward * ahead[0] + aside * right[0],
                self.column + forward * ahead[1] + aside * right[1],
            )

        @cache
        def is_seen(forward: int, aside: int) -> bool:
            distance = max(abs(forward), abs(aside))
            if distance == 0:
                return True
            nearer = Fraction(distance - 1, distance)
            crossing = (forward * nearer, aside * nearer)
            parents = {
                (math.floor(crossing[0]), math.floor(crossing[1])),
                (math.ceil(crossing[0]), math.ceil(crossing[1])),
            }
            return any(
                is_seen(*parent) and self.cells[place(*parent)][WHAT] != WALL for parent in parents
            )

        view = np.zeros((V, V, 3), np.uint8)
        for view_row in range(V):
            for view_column in range(V):
                forward, aside = V - 1 - view_row, view_column - V // 2
                if is_seen(forward, aside):
                    view[view_row, view_column] = self.cells[place(forward, aside)]
                    if sensed is None or sensed[view_row, view_column]:
                        self.seen_at[place(forward, aside)] = self.elapsed
        return view
