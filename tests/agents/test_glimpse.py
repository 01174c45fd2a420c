"""Glimpses against loops over single places: where they lie, what they hold, what never enters."""

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from groundling.agents.config import AgentConfig
from groundling.agents.glimpse import (
    OUTSIDE,
    Binding,
    CellsGlimpse,
    Fovea,
    ImageGlimpse,
    Unbinding,
)
from groundling.agents.locations import Tiles

CONFIG = AgentConfig(core_size=8, feature_size=6, sensor_size=7, embedding_size=5)
EDGES = (-1.0, 0.0, 1.0)


def corner_slowly(fovea, k, coordinates):
    """Row and column of the k-th patch's first place, from one pair of coordinates."""
    sides, reach = (fovea.height, fovea.width), fovea.size * 2**k / 2
    # In float32, as the agent's coordinates are: what lies between two places must fall alike.
    one, two = np.float32(1.0), np.float32(2.0)
    centres = (
        (np.float32(x) + one) / two * np.float32(side)
        for x, side in zip(coordinates, sides, strict=True)
    )
    return [math.floor(centre - np.float32(reach) + np.float32(0.5)) for centre in centres]


def blocks_slowly(fovea, k, grid, coordinates):
    """Of the k-th patch, row by row, what stands in each place: a list of cells, None beyond the
    border."""
    top, left = corner_slowly(fovea, k, coordinates)
    block = 2**k
    for i in range(fovea.size):
        for j in range(fovea.size):
            cells = []
            for row in range(top + i * block, top + (i + 1) * block):
                for column in range(left + j * block, left + (j + 1) * block):
                    inside = 0 <= row < fovea.height and 0 <= column < fovea.width
                    cells.append(grid[row][column] if inside else None)
            yield i, j, cells


@st.composite
def foveas(draw, longest=9):
    """A fovea of any size and scales, over a grid of any sides, larger or smaller than it."""
    return Fovea(
        draw(st.integers(1, longest)),
        draw(st.integers(1, longest)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
    )


coordinate = st.one_of(st.sampled_from([*EDGES, -0.5, 0.5, 2 / 3]), st.floats(-1.0, 1.0, width=32))
leading = st.sampled_from([(), (1,), (3,), (2, 3)])


@st.composite
def looks(draw):
    """A fovea, grids [..., H, W, C] below 256 and coordinates [..., 2]."""
    fovea, dims = draw(foveas()), draw(leading)
    shape = (*dims, fovea.height, fovea.width, draw(st.integers(1, 3)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    grid = torch.from_numpy(random.integers(0, 256, shape, dtype=np.uint8))
    count = math.prod(dims)
    pairs = draw(st.lists(st.tuples(coordinate, coordinate), min_size=count, max_size=count))
    return fovea, grid, torch.tensor(pairs, dtype=torch.float32).reshape(*dims, 2)


def one_by_one(grid, coordinates):
    """(grid, coordinates) of each element of the leading dimensions, as plain lists."""
    flat = grid.reshape(-1, *grid.shape[-3:]).tolist()
    return zip(flat, coordinates.reshape(-1, 2).tolist(), strict=True)


@given(looks())
@settings(max_examples=80)
def test_a_glimpse_of_cells_reads_what_a_loop_over_single_cells_reads(drawn):
    fovea, grid, coordinates = drawn
    channels = grid.shape[-1]
    read = fovea.cells(grid, coordinates)
    assert read.dtype == torch.int16
    assert read.shape == (*coordinates.shape[:-1], fovea.read, channels)
    for given_cells, (view, where) in zip(
        read.reshape(-1, fovea.read, channels).tolist(), one_by_one(grid, coordinates), strict=True
    ):
        expected = [
            [OUTSIDE] * channels if cell is None else cell
            for k in range(fovea.scales)
            for _, _, cells in blocks_slowly(fovea, k, view, where)
            for cell in cells
        ]
        assert given_cells == expected


@given(looks())
@settings(max_examples=80)
def test_a_glimpse_of_an_image_is_what_a_loop_over_single_pixels_averages_and_rounds(drawn):
    fovea, image, coordinates = drawn
    channels, size = image.shape[-1], fovea.size
    glimpse = fovea.pixels(image, coordinates)
    assert glimpse.dtype == torch.uint8
    assert glimpse.shape == (*coordinates.shape[:-1], size, size, fovea.scales * channels)
    flat = glimpse.reshape(-1, size, size, fovea.scales * channels).tolist()
    for seen, (view, where) in zip(flat, one_by_one(image, coordinates), strict=True):
        for k in range(fovea.scales):
            for i, j, pixels in blocks_slowly(fovea, k, view, where):
                for c in range(channels):
                    total = sum(0 if pixel is None else pixel[c] for pixel in pixels)
                    assert seen[i][j][k * channels + c] == round(total / 4**k)


@given(looks())
@settings(max_examples=60)
def test_sensed_is_the_part_of_the_finest_patch_that_lies_within_the_view(drawn):
    fovea, _, coordinates = drawn
    coordinates = coordinates.reshape(-1, 2)
    sensed = fovea.sensed(coordinates)
    assert sensed.dtype == np.bool_
    assert sensed.shape == (len(coordinates), fovea.height, fovea.width)
    for mask, where in zip(sensed, coordinates.tolist(), strict=True):
        top, left = corner_slowly(fovea, 0, where)
        for row in range(fovea.height):
            for column in range(fovea.width):
                covered = 0 <= row - top < fovea.size and 0 <= column - left < fovea.size
                assert mask[row, column] == covered


def test_patches_lie_where_they_were_drawn_by_hand():
    """Five rows of six columns, two patches of 3 × 3 and 6 × 6, in the middle and at a corner."""
    fovea = Fovea(5, 6, 3, 2)
    corners = fovea.corners(torch.tensor([[0.0, 0.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]))
    assert corners[0].tolist() == [[1, 2], [0, 0]]
    assert corners[1].tolist() == [[-1, -1], [-3, -3]]
    assert corners[2].tolist() == [[4, 5], [2, 3]]
    assert corners[3].tolist() == [[-1, 5], [-3, 3]]
    row = torch.arange(30).reshape(5, 6, 1)
    sharp = fovea.cells(row, torch.tensor([1.0, 1.0]))[:9, 0].reshape(3, 3)
    assert sharp.tolist() == [[29, OUTSIDE, OUTSIDE], [OUTSIDE] * 3, [OUTSIDE] * 3]


def test_an_image_is_rounded_to_the_nearest_and_dark_beyond_the_border():
    fovea = Fovea(2, 2, 1, 2)  # one pixel, and the mean of four around the same centre
    image = torch.tensor([[200, 101], [100, 1]], dtype=torch.uint8).reshape(2, 2, 1)
    middle = fovea.pixels(image, torch.tensor([0.0, 0.0]))
    corner = fovea.pixels(image, torch.tensor([-1.0, -1.0]))
    assert middle.flatten().tolist() == [1, 100]  # 402 / 4 = 100.5 is rounded to the even one
    assert corner.flatten().tolist() == [200, 50]  # three of four lie outside


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("sides", [(7, 7), (6, 9), (3, 3), (8, 4)])
def test_the_tiles_hold_every_place_of_the_view_once_and_overhang_at_two_borders_alone(size, sides):
    height, width = sides
    tiles, fovea = Tiles(height, width, size), Fovea(height, width, size, 1)
    coordinates = tiles.coordinates(torch.arange(tiles.outputs))
    assert (fovea.sensed(coordinates).sum(0) == 1).all()
    corners = fovea.corners(coordinates)[:, 0].reshape(tiles.rows, tiles.columns, 2)
    for i in range(tiles.rows):
        for j in range(tiles.columns):
            assert corners[i, j].tolist() == [i * size, j * size]
    grid = (
        torch.arange(height * width).reshape(height, width, 1).expand(len(coordinates), -1, -1, -1)
    )
    cells = fovea.cells(grid, coordinates)
    beyond = tiles.rows * tiles.columns * size**2 - height * width
    assert (cells == OUTSIDE).sum() == beyond
    assert sorted(cells[cells != OUTSIDE].tolist()) == list(range(height * width))


HIGH = np.zeros((6, 5, 2), np.uint8) + np.array([6, 3], np.uint8)
CELLS = spaces.Box(0, HIGH, dtype=np.uint8)


def cells_glimpse(scales=3, size=2, instructed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fovea = Fovea(6, 5, size, scales)
        return CellsGlimpse(CELLS, fovea, CONFIG, instructed)


def random_cells(*dims, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, [7, 4], (*dims, 6, 5, 2), dtype=np.uint8))


def random_places(*dims, seed=0):
    return torch.rand(*dims, 2, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0


@given(leading, st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=40)
def test_a_coarse_place_is_the_average_of_its_cells_embeddings_and_zeros_beyond_the_border(
    dims, scales, size, seed
):
    sensor = cells_glimpse(scales, size)
    grid, coordinates = random_cells(*dims, seed=seed), random_places(*dims, seed=seed)
    with torch.no_grad():
        embedded = sensor.embed(sensor.fovea.cells(grid, coordinates))
    assert embedded.shape == (*dims, scales * size, size, 2 * CONFIG.embedding_size)
    tables = [table.weight.detach() for table in sensor.embeddings]
    flat = embedded.reshape(-1, scales * size, size, 2 * CONFIG.embedding_size)
    for seen, (view, where) in zip(flat, one_by_one(grid, coordinates), strict=True):
        for k in range(scales):
            for i, j, cells in blocks_slowly(sensor.fovea, k, view, where):
                expected = torch.zeros(2 * CONFIG.embedding_size)
                for cell in cells:
                    if cell is not None:
                        parts = zip(tables, cell, strict=True)
                        expected += torch.cat([table[code] for table, code in parts]) / 4**k
                assert_close(seen[k * size + i, j], expected)


def test_a_glimpse_network_grows_with_the_sides_of_the_view_and_not_with_its_area():
    highest = np.zeros((400, 300, 2), np.uint8) + np.array([6, 3], np.uint8)
    space = spaces.Box(0, highest, dtype=np.uint8)
    small, large = (
        {name: weight.shape for name, weight in sensor.state_dict().items()}
        for sensor in (cells_glimpse(), CellsGlimpse(space, Fovea(400, 300, 2, 3), CONFIG))
    )
    assert large.pop("perceptron.rows.weight") == (3 * 400, CONFIG.sensor_size)
    assert large.pop("perceptron.columns.weight") == (3 * 300, CONFIG.sensor_size)
    del small["perceptron.rows.weight"], small["perceptron.columns.weight"]
    assert small == large


def read_slowly(sensor, embedded, location):
    """What a sensor makes of one glimpse: [scales · size, size, D], [2] → [size of features]."""
    binding, fovea = sensor.perceptron, sensor.fovea
    total = binding.what.bias.clone()
    for k in range(fovea.scales):
        block = 2**k
        for i, j in itertools.product(range(fovea.size), repeat=2):
            # The middle of the place, in cells of the view.
            corner = corner_slowly(fovea, k, location.tolist())
            row = min(max(corner[0] + i * block + block // 2, 0), fovea.height - 1)
            column = min(max(corner[1] + j * block + block // 2, 0), fovea.width - 1)
            what = binding.what.weight @ embedded[k * fovea.size + i, j]
            where = binding.rows.weight[k * fovea.height + row]
            where = where * binding.columns.weight[k * fovea.width + column]
            total += what * where
    return total.relu()


@given(leading, st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_what_a_place_holds_is_multiplied_by_where_it_lies(dims, scales, size, seed):
    sensor = cells_glimpse(scales, size)
    grid, coordinates = random_cells(*dims, seed=seed), random_places(*dims, seed=seed)
    cells = sensor.fovea.cells(grid, coordinates)
    with torch.no_grad():
        features = sensor(cells, None, coordinates)
        assert features.shape == (*dims, CONFIG.sensor_size)
        embedded = sensor.embed(cells).view(-1, scales * size, size, 2 * CONFIG.embedding_size)
        flat = features.view(-1, CONFIG.sensor_size), embedded, coordinates.view(-1, 2)
        for found, what, where in zip(*flat, strict=True):
            assert_close(found, read_slowly(sensor, what, where), atol=1e-4, rtol=1e-4)


def test_a_thing_is_known_by_its_place_in_the_view_wherever_the_glimpse_lies():
    """The same cell through two overlapping glimpses, in another corner of each, adds the same."""
    sensor = cells_glimpse(scales=1, size=3)
    grid = random_cells(1)
    changed = grid.clone()
    changed[0, 2, 2, 0] = (grid[0, 2, 2, 0] + 1) % 7
    sensor.perceptron.what.bias.data += 1e3  # Nothing is cut off by the ReLU.
    added = []
    for location in ([[-0.5, -0.4]], [[0.0, 0.2]]):
        coordinates = torch.tensor(location)
        before, after = (
            sensor(sensor.fovea.cells(view, coordinates), None, coordinates)
            for view in (grid, changed)
        )
        added.append(after - before)
    assert (added[0] != 0).any()
    assert_close(added[0], added[1], atol=1e-3, rtol=1e-3)


def test_a_glimpse_may_be_read_without_saying_where_it_was_taken():
    sensor = cells_glimpse()
    cells = sensor.fovea.cells(random_cells(3), random_places(3))
    assert_close(sensor(cells), sensor(cells, None, torch.zeros(3, 2)))


def test_what_is_bound_is_as_large_as_what_it_was_made_of():
    torch.manual_seed(0)
    fovea = Fovea(9, 9, 3, 2)
    binding = Binding(fovea, inputs=16, size=2_000)
    embedded = torch.randn(200, 6, 3, 16)
    with torch.no_grad():
        bound = binding(embedded, random_places(200))
    assert bound.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.05)


def test_what_is_told_of_a_place_of_the_view_is_the_same_in_every_glimpse_that_shows_it():
    torch.manual_seed(0)
    fovea = Fovea(7, 7, 3, 1)
    unbinding = Unbinding(fovea, inputs=6, size=4)
    hidden = torch.randn(2, 6)
    left, right = torch.tensor([[0.0, -0.3]] * 2), torch.tensor([[0.0, 0.0]] * 2)
    assert ((fovea.corners(right) - fovea.corners(left))[:, 0] == torch.tensor([0, 1])).all()
    one, two = (unbinding(hidden, where).view(2, 3, 3, 4) for where in (left, right))
    assert_close(one[:, :, 1:], two[:, :, :-1])
    assert (one[:, :, :-1] != two[:, :, :-1]).any(-1).all()


def test_what_is_told_is_as_large_as_what_it_is_told_from():
    torch.manual_seed(0)
    unbinding = Unbinding(Fovea(9, 9, 3, 2), inputs=2_000, size=16)
    with torch.no_grad():
        told = unbinding(torch.randn(100, 2_000), random_places(100))
    assert told.shape == (100, 18, 16)
    assert told.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.05)


def test_an_instruction_gates_every_place_of_a_glimpse():
    sensor = cells_glimpse(instructed=4)
    where = random_places(3)
    cells = sensor.fovea.cells(random_cells(3), where)
    instruction = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    gated = sensor.embed(cells) * (1.0 + sensor.gate(instruction))[:, None, None, :]
    assert_close(sensor(cells, instruction, where), sensor.perceptron(gated, where))
    silent = sensor(cells, torch.zeros(3, 4), where)
    assert_close(silent, sensor.perceptron(sensor.embed(cells), where))


def test_an_image_glimpse_is_read_in_full_and_between_0_and_1():
    fovea = Fovea(20, 30, 4, 3)
    sensor = ImageGlimpse(2, fovea, CONFIG)
    image = torch.randint(256, (2, 3, 20, 30, 2), dtype=torch.uint8)
    glimpse = fovea.pixels(image, random_places(2, 3))
    features = sensor(glimpse)
    assert features.shape == (2, 3, CONFIG.sensor_size)
    assert_close(features, sensor.perceptron(glimpse.reshape(2, 3, -1) / 255.0))
