"""Networks that see a whole image at once."""

import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.testing import assert_close

from groundling.agents.config import AgentConfig
from groundling.agents.convolutional import OneConvolution, PooledConvolutions
from groundling.agents.sensors import Sensors
from groundling.envs.errors import UserError

BOTH = pytest.mark.parametrize("kind", [OneConvolution, PooledConvolutions])
MODULE = "groundling.agents.convolutional"


def image(*shape):
    return spaces.Box(0, 255, shape, "uint8")


@BOTH
@pytest.mark.parametrize("shape", [(60, 60, 1), (100, 100, 1), (33, 50, 3)])
def test_leading_dimensions_are_free(kind, shape):
    sensor = kind(image(*shape), AgentConfig(sensor_size=7))
    pixels = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    seen = sensor(pixels)
    assert sensor.size == 7
    assert seen.shape == (2, 3, 7)
    assert_close(sensor(pixels[1]), seen[1])
    assert_close(sensor(pixels[1, 2]), seen[1, 2])
    assert (seen[0] != seen[1]).any()
    # Channels first, and 255 is one.
    one = pixels[0, 2].movedim(-1, 0)[None] / 255.0
    assert_close(sensor.dense(sensor.layers(one))[0], seen[0, 2])


@BOTH
def test_an_agent_takes_them_by_name(kind):
    config = AgentConfig(sensors={"observation": f"{MODULE}:{kind.__name__}"})
    sensors = Sensors(image(60, 60, 1), config)
    assert type(sensors.leaf("observation")) is kind


def test_one_convolution_is_that_of_the_paper():
    sensor = OneConvolution(image(60, 60, 1), AgentConfig(sensor_size=256))
    shapes = {name: tuple(weights.shape) for name, weights in sensor.named_parameters()}
    assert shapes == {
        "layers.0.weight": (8, 1, 10, 10),
        "layers.0.bias": (8,),
        "dense.0.weight": (256, 8 * 11 * 11),
        "dense.0.bias": (256,),
    }
    (filters,) = (layer for layer in sensor.layers if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        filters.weight.zero_()
        filters.weight[3, 0, 2, 9] = 1.0
        filters.bias.zero_()
        pixels = torch.randint(0, 256, (60, 60, 1), dtype=torch.uint8)
        seen = sensor.layers(pixels.movedim(-1, 0)[None] / 255.0).view(8, 11, 11)
    assert_close(seen[3], pixels[2:53:5, 9:60:5, 0] / 255.0)


def test_pooled_convolutions_see_the_same_wherever_it_lies():
    """Eight pixels further on is one further on in the feature maps, and nothing else changes."""
    sensor = PooledConvolutions(image(64, 64, 1), AgentConfig())
    blank = torch.zeros(2, 1, 64, 64)
    blank[0, 0, 24:32, 24:32] = blank[1, 0, 32:40, 24:32] = torch.rand(8, 8)
    with torch.no_grad():
        maps = sensor.layers(blank).view(2, 64, 8, 8)
    assert_close(maps[0, :, 1:6], maps[1, :, 2:7])
    assert (maps[0] != maps[1]).any()


@BOTH
def test_signals_pass_at_their_size(kind):
    """Neither white noise nor its layers' outputs grow or shrink by more than a factor of 3."""
    torch.manual_seed(0)
    sensor = kind(image(60, 60, 1), AgentConfig())
    noise = torch.rand(16, 60, 60, 1) * 255
    with torch.no_grad():
        size = (noise / 255).square().mean().sqrt() / sensor(noise).square().mean().sqrt()
    assert 1 / 3 < size < 3


@BOTH
def test_weights_all_learn(kind):
    sensor = kind(image(40, 40, 2), AgentConfig(sensor_size=5))
    sensor(torch.randint(0, 256, (4, 40, 40, 2))).square().sum().backward()
    assert all(weights.grad.abs().sum() > 0 for weights in sensor.parameters())


@BOTH
@pytest.mark.parametrize(
    ("space", "said"),
    [
        (image(60, 7, 1), r"Box \(60, 7, 1\)"),
        (spaces.Box(-1, 1, (4,)), r"Box \(4,\)"),
        (spaces.Discrete(3), r"Discrete \(\)"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(kind, space, said):
    with pytest.raises(UserError, match=rf"^{kind.__name__} reads images; .*, not {said}$"):
        kind(space, AgentConfig())
