"""Canvases with a digit among clutter: compiled drawing, and what there is to know of them.

Mnih et al. 2014, *Recurrent Models of Visual Attention* (arXiv 1406.6247), section 4.1: a digit of
28 × 28 pixels anywhere on a canvas of 60 × 60, and four pieces of 8 × 8 of other digits.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from groundling.envs.digits.images import CLASSES, images_of, side_of
from groundling.envs.digits.options import DigitsOptions
from groundling.envs.episodes import Seeds, number_episodes
from groundling.envs.rooms.rng import Integer, below, mix

PICTURE = 480
"""Side of a picture in pixels, or a little less; of a larger canvas, its own."""


class Canvases:
    """B canvases, one for each episode that is under way.

    Raises UserError if the images cannot be had.
    """

    def __init__(self, number: int, options: DigitsOptions) -> None:
        self.options = options
        self.data = images_of(options)
        self._side = side_of(options)
        self.seed = np.zeros(number, np.int64)
        self.episode = np.zeros(number, np.int64)
        """Counted from 0 under that seed."""
        self.elapsed = np.zeros(number, np.int64)
        """Steps taken in this episode."""
        self.seeded = np.zeros(number, np.bool_)
        self.pixels = np.zeros((number, options.canvas, options.canvas), np.uint8)
        """[B, canvas, canvas]: 0 is background, 255 ink."""
        self.digit = np.zeros(number, np.int64)
        """[B]: which image of the data set is shown."""
        self.corner = np.zeros((number, 2), np.int64)
        """[B, 2]: row and column of its top left pixel."""

    def reset(
        self, asked: Seeds, chosen: NDArray[np.bool_], generator: np.random.Generator
    ) -> None:
        """Begin an episode on the chosen canvases; see `episodes.number_episodes`."""
        number_episodes(
            self.seed,
            self.episode,
            self.seeded,
            asked=asked,
            chosen=chosen,
            generator=generator,
        )
        self.begin(chosen)

    def begin(self, chosen: NDArray[np.bool_]) -> None:
        """Begin the episode that is numbered on each chosen canvas, at its first step."""
        self.elapsed[chosen] = 0
        self.draw(chosen)

    def draw(self, chosen: NDArray[np.bool_]) -> None:
        """Draw the chosen canvases as seed and episode say."""
        draw_canvases(
            self.pixels,
            self.digit,
            self.corner,
            self.data.pixels,
            self._side,
            self.seed,
            self.episode,
            self.options.clutter,
            self.options.clutter_size,
            chosen,
        )

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Count a step: rewards [B], and whether the episodes are over [B].

        The action (a digit, [B]) of an episode's last step earns 1 if it is the label. Raises
        ValueError, and counts nothing, if an action is not 0 … 9.
        """
        if ((actions < 0) | (actions >= CLASSES)).any():
            raise ValueError("an action is not in 0 … 9")
        self.elapsed += 1
        over = self.elapsed == self.options.glimpses
        return np.where(over & (actions == self.label), 1.0, 0.0), over

    @property
    def label(self) -> NDArray[np.int64]:
        """[B]: the digit that is shown, 0 to 9."""
        return self.data.label[self.digit]

    @property
    def target(self) -> NDArray[np.float32]:
        """[B, 2]: row and column of the digit's centre; -1 is the canvas's top or left edge, 1 its
        bottom or right edge."""
        centre = self.corner + self.options.digit_size / 2
        return (2.0 * centre / self.options.canvas - 1.0).astype(np.float32)

    def about(self) -> dict[str, NDArray[Any]]:
        """What a step tells beside the observation, in new arrays: `label`, `target`, `digit`."""
        return {"label": self.label, "target": self.target, "digit": self.digit.copy()}

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays that determine everything else."""
        return {"seed": self.seed, "episode": self.episode, "elapsed": self.elapsed}

    def picture(self, row: int) -> NDArray[np.uint8]:
        """One canvas large enough to be looked at, uint8 [height, width, 3]."""
        scale = max(1, PICTURE // self.options.canvas)
        large = self.pixels[row].repeat(scale, axis=0).repeat(scale, axis=1)
        return np.repeat(large[..., None], 3, axis=2)


@numba.njit(cache=True)
def draw_canvases(
    canvases: NDArray[np.uint8],
    digits: NDArray[np.int64],
    corners: NDArray[np.int64],
    images: NDArray[np.uint8],
    side: NDArray[np.int64],
    seeds: NDArray[np.int64],
    episodes: NDArray[np.int64],
    pieces: int,
    piece: int,
    chosen: NDArray[np.bool_],
) -> None:
    """Draw a digit and clutter on the chosen canvases, in place.

    Args:
        canvases: [B, C, C], written.
        digits: [B], which image is shown, written.
        corners: [B, 2], its row and column, written.
        images: [N, S, S], the data set.
        side: [n] at least 2, which of them may be shown and cut up.
        seeds: [B], of the rows.
        episodes: [B], their numbers; what is drawn depends on the two alone.
        pieces: of clutter.
        piece: side length of each.
        chosen: [B].
    """
    free, size = canvases.shape[1], images.shape[1]
    for row in range(len(canvases)):
        if not chosen[row]:
            continue
        state = mix(seeds[row], episodes[row])
        canvas = canvases[row]
        canvas[:] = 0
        # The digit is drawn first: where it is and what it is are the same with any clutter.
        shown, state = below(state, len(side))
        top, state = below(state, free - size + 1)
        left, state = below(state, free - size + 1)
        digits[row] = side[shown]
        corners[row, 0], corners[row, 1] = top, left
        _overlay(canvas, top, left, images[side[shown]])
        for _ in range(pieces):
            other, state = below(state, len(side) - 1)
            other += other >= shown  # One of the others.
            cut_top, state = below(state, size - piece + 1)
            cut_left, state = below(state, size - piece + 1)
            top, state = below(state, free - piece + 1)
            left, state = below(state, free - piece + 1)
            cut = images[side[other], cut_top : cut_top + piece, cut_left : cut_left + piece]
            _overlay(canvas, top, left, cut)


@numba.njit(cache=True)
def _overlay(
    canvas: NDArray[np.uint8], top: Integer, left: Integer, patch: NDArray[np.uint8]
) -> None:
    """Lay a patch over a canvas: of each pixel the brighter one is seen."""
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            canvas[top + i, left + j] = max(canvas[top + i, left + j], patch[i, j])


def compile_kernels() -> None:
    """Compile the drawing and leave the machine code in numba's cache: see `rooms.vector`."""
    images, side = np.zeros((2, 1, 1), np.uint8), np.arange(2)
    images.setflags(write=False)  # As a data set's are, which makes them of another type.
    one, corner = np.zeros(1, np.int64), np.zeros((1, 2), np.int64)
    chosen = np.ones(1, np.bool_)
    draw_canvases(np.zeros((1, 1, 1), np.uint8), one, corner, images, side, one, one, 0, 1, chosen)
