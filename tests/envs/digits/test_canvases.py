import subprocess
import sys

import numpy as np
import pytest

from groundling.envs.digits.canvases import Canvases
from groundling.envs.digits.images import images_of, side_of
from groundling.envs.digits.options import DigitsOptions

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15


def drawn(number=64, seed=0, **keywords):
    """Canvases of seeds seed, seed + 1, …, episode 0."""
    canvases = Canvases(number, DigitsOptions(**keywords))
    canvases.reset(seed, np.ones(number, bool), np.random.default_rng(0))
    return canvases


class Draws:
    """splitmix64 in Python's own integers: the draws of one episode."""

    def __init__(self, seed, episode):
        self.state = self.scramble(self.scramble(seed + GOLDEN) ^ (episode * GOLDEN % WORD))

    @staticmethod
    def scramble(value):
        value %= WORD
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WORD
        return value ^ (value >> 31)

    def below(self, n):
        self.state = (self.state + GOLDEN) % WORD
        return (self.scramble(self.state) >> 32) * n >> 32


def slowly(options, seed, episode):
    """A canvas, the image shown and its corner, drawn pixel by pixel."""
    draws, side = Draws(seed, episode), side_of(options).tolist()
    pixels = images_of(options).pixels
    canvas = [[0] * options.canvas for _ in range(options.canvas)]

    def lay(patch, top, left):
        for i, line in enumerate(patch.tolist()):
            for j, value in enumerate(line):
                canvas[top + i][left + j] = max(canvas[top + i][left + j], value)

    shown = draws.below(len(side))
    corner = [draws.below(options.canvas - options.digit_size + 1) for _ in range(2)]
    lay(pixels[side[shown]], *corner)
    size = options.clutter_size
    for _ in range(options.clutter):
        others = [image for place, image in enumerate(side) if place != shown]
        other = others[draws.below(len(others))]
        top, left = (draws.below(options.digit_size - size + 1) for _ in range(2))
        place = [draws.below(options.canvas - size + 1) for _ in range(2)]
        lay(pixels[other][top : top + size, left : left + size], *place)
    return canvas, side[shown], corner


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"canvas": 100, "clutter": 9, "split": "test", "fold": 2},
        {"canvas": 28, "clutter_size": 28, "clutter": 1, "split": "all"},
        {"digit_size": 17, "clutter": 0},
    ],
)
def test_a_slow_painter_paints_the_same(keywords):
    canvases = drawn(4, seed=2**63 - 9, **keywords)
    canvases.episode[:] = [0, 1, 2, 2**40]
    canvases.draw(np.ones(4, bool))
    for row in range(4):
        seed, episode = int(canvases.seed[row]), int(canvases.episode[row])
        canvas, digit, corner = slowly(canvases.options, seed, episode)
        assert canvases.pixels[row].tolist() == canvas
        assert canvases.digit[row] == digit
        assert canvases.corner[row].tolist() == corner


def test_only_chosen_canvases_are_drawn():
    canvases = drawn(6)
    before, chosen = canvases.pixels.copy(), np.arange(6) % 3 == 1
    canvases.episode += 1
    canvases.draw(chosen)
    changed = (canvases.pixels != before).any(axis=(1, 2))
    np.testing.assert_array_equal(changed, chosen)


@pytest.mark.parametrize("fold", [0, 3])
def test_train_and_test_share_neither_digits_nor_clutter(shades, fold):
    """Each image has its own shade, so that a canvas tells of which images it is made."""
    shown = {}
    for split in ("train", "test", "all"):
        canvases = drawn(400, fold=fold, split=split, **shades)
        shown[split] = set(np.unique(canvases.pixels)) - {0}
        assert shown[split] <= set(1 + side_of(canvases.options))
    assert not shown["train"] & shown["test"]
    assert shown["train"] | shown["test"] == shown["all"] == set(range(1, 201))


def test_clutter_is_cut_from_other_images_than_the_one_shown(shades):
    canvases = drawn(2000, **shades | {"clutter": 12, "split": "test", "clutter_size": 6})
    where = canvases.pixels == 1 + canvases.digit[:, None, None]
    rows, columns = np.indices((20, 20))
    for row, (top, left) in enumerate(canvases.corner):
        inside = (rows - top) // 6 + (columns - left) // 6 == 0
        assert not (where[row] & ~inside).any()


def test_every_image_and_place_comes_up_as_often_as_any_other(shades):
    canvases = drawn(20_000, **shades | {"split": "all", "clutter": 0})
    counts = np.bincount(canvases.digit, minlength=200)
    assert abs(counts - 100).max() < 5 * 10  # Poisson: standard deviation 10.
    for side in range(2):
        places = np.bincount(canvases.corner[:, side], minlength=15)
        assert len(places) == 15
        assert abs(places - 20_000 / 15).max() < 5 * 37


def test_digits_and_clutter_reach_every_edge(shades):
    alone = drawn(3000, **shades | {"clutter": 0}).pixels.max(axis=0)
    for edge in (alone[0], alone[-1], alone[:, 0], alone[:, -1]):
        assert edge.any()
    many = {"clutter": 100, "clutter_size": 1}
    assert drawn(300, **shades | many).pixels.max(axis=0).min() > 0


def test_the_same_digit_lies_at_the_same_place_in_any_clutter():
    plain, cluttered = drawn(clutter=0), drawn(clutter=7)
    np.testing.assert_array_equal(plain.digit, cluttered.digit)
    np.testing.assert_array_equal(plain.corner, cluttered.corner)
    assert (cluttered.pixels >= plain.pixels).all()
    assert (cluttered.pixels > plain.pixels).any(axis=(1, 2)).all()


def test_the_target_is_the_middle_of_the_digit():
    canvases = drawn(100, clutter=0, canvas=100, digit_size=20)
    canvases.corner[:3] = [[0, 0], [80, 80], [40, 0]]
    expected = [[-0.8, -0.8], [0.8, 0.8], [0.0, -0.8]]
    np.testing.assert_allclose(canvases.target[:3], expected, atol=1e-7)
    assert canvases.target.dtype == np.float32
    for (row, column), pixels in list(zip(canvases.target, canvases.pixels, strict=True))[3:]:
        middle = (row + 1) * 50, (column + 1) * 50
        inside = [slice(round(at) - 10, round(at) + 10) for at in middle]
        assert pixels[tuple(inside)].sum() == pixels.sum() > 0


def test_a_picture_is_the_canvas_enlarged():
    canvases = drawn(2)
    picture = canvases.picture(1)
    assert picture.shape == (480, 480, 3)
    np.testing.assert_array_equal(picture[3::8, 5::8], canvases.pixels[1][..., None].repeat(3, 2))
    assert drawn(1, canvas=500).picture(0).shape == (500, 500, 3)


def test_compiling_leaves_nothing_to_compile():
    code = """
import numpy as np
from groundling.envs.digits import canvases
canvases.compile_kernels()
compiled = len(canvases.draw_canvases.signatures)
drawn = canvases.Canvases(2, canvases.DigitsOptions())
drawn.reset(0, np.ones(2, np.bool_), np.random.default_rng(0))
print(compiled, len(canvases.draw_canvases.signatures))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1", "1"]
