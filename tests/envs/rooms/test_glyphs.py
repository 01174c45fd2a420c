"""Whether a person can tell the words of the vocabulary apart in a picture."""

from itertools import combinations

import numpy as np
import pytest

from groundling.envs.rooms.glyphs import GLYPHS, PALETTE, glyph, mixed
from groundling.envs.rooms.render import NEVER_SEEN, SEEN_EARLIER
from groundling.envs.rooms.tiles import FLOOR_COLOURS, SHADE
from groundling.envs.vocabulary import COLOURS, SHAPES


def lab(colour):
    """CIE L*a*b* (D65) of an sRGB colour in 0 … 255."""
    share = np.array(colour) / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1.0, 1.089])  # no colour here is near black
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one, other):
    """CIE 1976: some 2.3 are just noticeable side by side."""
    return np.linalg.norm(lab(one) - lab(other))


def test_every_word_has_a_picture_and_a_colour():
    assert set(GLYPHS) == set(SHAPES)
    assert set(PALETTE) == set(COLOURS)


@pytest.mark.parametrize(("darkness", "least"), [(0.0, 34), (SEEN_EARLIER, 20), (NEVER_SEEN, 11)])
def test_colours_can_be_told_apart_in_any_light(darkness, least):
    shaded = {name: mixed(colour, SHADE, darkness) for name, colour in PALETTE.items()}
    for one, other in combinations(shaded, 2):
        assert distance(shaded[one], shaded[other]) > least, (one, other)


@pytest.mark.parametrize("pixels", [20, 34])
def test_shapes_can_be_told_apart(pixels):
    pictures = {}
    for shape in SHAPES:
        on_floor = glyph(shape, "red", pixels).copy()
        ground = np.full((pixels, pixels, 3), FLOOR_COLOURS[0], float)
        alpha = np.array(on_floor, float)[..., 3:] / 255
        pictures[shape] = np.array(on_floor, float)[..., :3] * alpha + ground * (1 - alpha)
    for one, other in combinations(SHAPES, 2):
        assert np.abs(pictures[one] - pictures[other]).mean() > 16, (one, other)


def test_every_shape_shows_its_colour():
    for shape in SHAPES:
        for name, colour in PALETTE.items():
            picture = np.array(glyph(shape, name, 34), int)
            opaque = picture[picture[..., 3] > 200][:, :3]
            near = np.abs(opaque - colour).sum(axis=1) < 30
            assert near.mean() > 0.15, (shape, name)
