"""Every space of the sensors' table reaches its sensor, with any leading dimensions."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch.testing import assert_close

from groundling.agents.config import AgentConfig
from groundling.agents.sensors import (
    Category,
    Cells,
    Image,
    Numbers,
    Sensors,
    Tokens,
    leaf_arrays,
    leaf_sensor,
    leaf_spaces,
)
from groundling.envs.errors import UserError

CONFIG = AgentConfig(core_size=8, feature_size=6, sensor_size=7, embedding_size=5)


def integers(shape, highest, kind=np.uint8):
    return spaces.Box(0, np.full(shape, highest, kind), dtype=kind)


def screen(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


TABLE = {
    "cells": (integers((5, 5, 3), 9), Cells, 7),
    "cells, wide and of int64": (integers((2, 4, 1), 254, np.int64), Cells, 7),
    "screen": (screen(84, 84, 3), Image, 7),
    "grey screen of floats": (spaces.Box(0.0, 255.0, (40, 60, 1), np.float32), Image, 7),
    "small image": (screen(7, 7, 3), Image, 7),
    "image of medium size": (screen(35, 80, 4), Image, 7),
    "tokens": (integers((6,), 40, np.int64), Tokens, 6 * 5),
    "choices": (spaces.MultiDiscrete([3, 7, 2]), Tokens, 3 * 5),
    "choices from a start": (spaces.MultiDiscrete([3, 7], start=[4, -2]), Tokens, 2 * 5),
    "table of choices": (spaces.MultiDiscrete([[3, 7], [2, 2], [4, 9]]), Tokens, 6 * 5),
    "category": (spaces.Discrete(4), Category, 5),
    "category from a start": (spaces.Discrete(4, start=-2), Category, 5),
    "switches": (spaces.MultiBinary(5), Numbers, 7),
    "table of switches": (spaces.MultiBinary([2, 3]), Numbers, 7),
    "number": (spaces.Box(-1, 1, (), np.float32), Numbers, 7),
    "numbers": (spaces.Box(-np.inf, np.inf, (4,), np.float64), Numbers, 7),
    "matrix": (spaces.Box(-1, 1, (3, 2), np.float32), Numbers, 7),
    "box of numbers": (spaces.Box(-1, 1, (2, 3, 4), np.float32), Numbers, 7),
    "large integers": (integers((4,), 1000, np.int64), Numbers, 7),
    "signed integers": (spaces.Box(-3, 3, (4,), np.int64), Numbers, 7),
    "whole number": (spaces.Box(0, 9, (), np.int64), Numbers, 7),
}
EVERY_SPACE = pytest.mark.parametrize(
    ("space", "kind", "size"), list(TABLE.values()), ids=list(TABLE)
)


def sample(space, *leading, seed=0):
    """Random observations as a tensor [*leading, *leaf shape]."""
    batched = batch_space(space, int(np.prod(leading)))
    batched.seed(seed)
    array = np.asarray(batched.sample())
    return torch.from_numpy(array.reshape(*leading, *space.shape))


@EVERY_SPACE
def test_each_space_gets_the_sensor_it_asks_for(space, kind, size):
    sensor = leaf_sensor(space, CONFIG)
    assert type(sensor) is kind
    assert sensor.size == size


@EVERY_SPACE
def test_sensors_take_any_leading_dimensions_and_read_row_by_row(space, kind, size):
    torch.manual_seed(0)
    sensor = leaf_sensor(space, CONFIG)
    rows = sample(space, 3, 2)
    with torch.no_grad():
        features = sensor(rows)
        assert features.shape == (3, 2, size)
        assert features.dtype == torch.float32
        for t in range(3):
            assert_close(sensor(rows[t]), features[t])
            for b in range(2):
                assert_close(sensor(rows[t, b : b + 1])[0], features[t, b])


@EVERY_SPACE
def test_different_observations_give_different_features(space, kind, size):
    torch.manual_seed(0)
    sensor = leaf_sensor(space, CONFIG)
    rows = sample(space, 20).unique(dim=0)
    assert len(rows) > 1
    with torch.no_grad():
        assert len(sensor(rows).unique(dim=0)) > 1


@EVERY_SPACE
def test_the_bounds_of_a_space_can_be_read(space, kind, size):
    if isinstance(space, spaces.Box):
        bounds = [np.clip(space.low, -9, 9), np.minimum(space.high, 1e3).astype(space.dtype)]
    elif isinstance(space, spaces.Discrete):
        bounds = [space.start, space.start + space.n - 1]
    elif isinstance(space, spaces.MultiDiscrete):
        bounds = [space.start, space.start + space.nvec - 1]
    else:
        bounds = [np.zeros(space.shape), np.ones(space.shape)]
    rows = torch.from_numpy(np.stack([np.asarray(bound) for bound in bounds]))
    assert torch.isfinite(leaf_sensor(space, CONFIG)(rows)).all()


def test_embeddings_of_cells_are_shared_across_cells_and_not_across_channels():
    sensor = Cells(integers((3, 3, 2), 4), CONFIG)
    assert [table.num_embeddings for table in sensor.embeddings] == [5, 5]
    cells = torch.zeros(1, 3, 3, 2, dtype=torch.uint8)
    cells[0, 0, 0] = cells[0, 2, 1] = torch.tensor([3, 1])
    embedded = sensor.embed(cells)[0]
    assert embedded.shape == (3, 3, 2 * 5)
    assert torch.equal(embedded[0, 0], embedded[2, 1])
    assert not torch.equal(embedded[0, 0], embedded[1, 1])
    assert torch.equal(embedded[0, 0, :5], sensor.embeddings[0].weight[3])
    assert torch.equal(embedded[0, 0, 5:], sensor.embeddings[1].weight[1])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64])
@pytest.mark.parametrize(("highest", "folds"), [((4, 3, 1), True), ((9, 4, 0), False)])
def test_cells_are_read_as_the_perceptron_reads_their_embeddings(highest, folds, kind):
    torch.manual_seed(0)
    high = np.broadcast_to(np.array(highest, kind), (2, 3, 3))
    space = spaces.Box(0, high, dtype=kind)
    sensor = Cells(space, CONFIG)
    assert sensor.folds == folds
    views = sample(space, 4, 2)
    features, expected = sensor(views), sensor.perceptron(sensor.embed(views).flatten(-3))
    assert_close(features, expected)
    gradients = [
        torch.autograd.grad(read.square().sum(), list(sensor.parameters()))
        for read in (features, expected)
    ]
    for found, wanted in zip(*gradients, strict=True):
        assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_each_channel_of_cells_has_as_many_categories_as_its_space_says():
    high = np.broadcast_to(np.array([10, 6, 1], np.uint8), (3, 3, 3))
    sensor = Cells(spaces.Box(0, high, dtype=np.uint8), CONFIG)
    assert [table.num_embeddings for table in sensor.embeddings] == [11, 7, 2]


def test_images_are_read_as_pixels_between_zero_and_one_with_channels_first():
    torch.manual_seed(0)
    sensor = Image(screen(9, 12, 3), CONFIG)
    image = sample(screen(9, 12, 3), 4)
    by_hand = sensor.convolutions(image.permute(0, 3, 1, 2) / 255)
    with torch.no_grad():
        assert_close(sensor(image), sensor.perceptron(by_hand))


def test_an_image_too_small_for_convolutions_is_refused():
    with pytest.raises(UserError, match=r"image of shape \(6, 84, 3\) is too small"):
        leaf_sensor(screen(6, 84, 3), CONFIG)


def test_padding_is_embedded_as_nothing():
    sensor = leaf_sensor(integers((3,), 9, np.int64), CONFIG)
    embedded = sensor(torch.tensor([[4, 0, 0]])).reshape(3, 5)
    assert embedded[0].abs().sum() > 0
    assert embedded[1:].abs().sum() == 0


def test_tokens_keep_their_places_and_share_their_table():
    sensor = leaf_sensor(spaces.MultiDiscrete([4, 4], start=[0, 10]), CONFIG)
    embedded = sensor(torch.tensor([[2, 13]])).reshape(2, 5)
    assert torch.equal(embedded, sensor.table.weight[[2, 3]])


NESTED = spaces.Dict(
    {
        "image": screen(7, 7, 3),
        "self": spaces.Dict({"pose": spaces.Box(-1, 1, (3,)), "key.held": spaces.Discrete(2)}),
        "type": spaces.Discrete(3),
        "keys": spaces.MultiBinary(2),
    }
)


def test_leaves_of_nested_dicts_have_joined_names():
    expected = {"image", "self/pose", "self/key.held", "type", "keys"}
    assert leaf_spaces(NESTED).keys() == expected
    assert leaf_arrays(NESTED.sample()).keys() == expected
    assert leaf_spaces(spaces.Discrete(3)).keys() == {"observation"}
    assert leaf_arrays(np.int64(2))["observation"].shape == ()


def test_all_leaves_of_a_nested_dict_reach_the_features():
    torch.manual_seed(0)
    sensors = Sensors(NESTED, CONFIG)
    rows = {name: sample(leaf, 3, 2) for name, leaf in leaf_spaces(NESTED).items()}
    with torch.no_grad():
        features = sensors(rows)
        assert features.shape == (3, 2, 6)
        for name, leaf in leaf_spaces(NESTED).items():
            other = rows | {name: sample(leaf, 3, 2, seed=1)}
            assert (sensors(other) != features).any(), name


def test_the_order_of_leaves_does_not_matter():
    sensors = Sensors(NESTED, CONFIG)
    rows = {name: sample(leaf, 2) for name, leaf in leaf_spaces(NESTED).items()}
    turned = dict(reversed(rows.items()))
    assert torch.equal(sensors(rows), sensors(turned))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Graph(spaces.Discrete(2), None),
        spaces.OneOf([spaces.Discrete(2)]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_a_space_no_sensor_reads_is_refused_by_the_name_of_its_leaf(space):
    kind = type(space).__name__
    with pytest.raises(UserError, match=f"observation 'observation' is a {kind} space"):
        leaf_spaces(space)
    nested = spaces.Dict({"fine": spaces.Discrete(2), "a": spaces.Dict({"b": space})})
    with pytest.raises(UserError, match=f"observation 'a/b' is a {kind} space; expected Box"):
        Sensors(nested, CONFIG)
