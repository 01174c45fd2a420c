"""`RoomsOptions` as the kernels read them: numbers and arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.vocabulary import VOCABULARY


class Rules(NamedTuple):
    """Integers only. Which kinds there are is told by `absent_kinds`, in which words by `words_of`.

    They are arguments because numba's cache does not notice a global that changed.
    """

    l_shape: int
    down: int
    across: int
    corridor: int
    smallest: int
    largest: int
    doors: int
    wall_colours: int
    fewest: int
    most: int
    sizes: int
    go_to: int
    relations: int
    shuffled: int
    episode_length: int
    stagger: int


def rules_of(options: RoomsOptions) -> Rules:
    """Give the options in the form the kernels read."""
    down, across = options.rooms_down_and_across
    smallest, largest = options.size_range
    return Rules(
        l_shape=int(options.layout == "l_shape"),
        down=down,
        across=across,
        corridor=int(options.layout == "corridor"),
        smallest=smallest,
        largest=largest,
        doors=int(options.doors),
        wall_colours=int(options.wall_colours),
        fewest=options.fewest_objects,
        most=options.most_objects_drawn,
        sizes=options.sizes,
        go_to=int(options.task == "go_to"),
        relations=int(options.relations),
        shuffled=int(options.shuffled),
        episode_length=options.episode_length,
        stagger=int(options.stagger),
    )


def absent_kinds(options: RoomsOptions) -> NDArray[np.bool_]:
    """Give [shapes, colours]: no object of these rooms has this combination."""
    table = held_out(len(options.shape_names), len(options.colour_names))
    return table & (options.combinations == "familiar")


TEMPLATE = ("go", "to", "find", "the", "near", "object")
"""The words of instructions that name no property, in the order of `words_of`."""


def words_of(options: RoomsOptions) -> NDArray[np.uint8]:
    """Give the ids of the words of instructions: TEMPLATE, then sizes, colours and shapes."""
    words = (*TEMPLATE, *options.size_names, *options.colour_names, *options.shape_names)
    return np.array([VOCABULARY.index(word) for word in words], np.uint8)
