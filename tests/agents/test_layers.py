"""Signals keep their size through layers that were never trained."""

import pytest
import torch
from torch import nn

from groundling.agents.layers import linear, rectified


def size(signal):
    return signal.square().mean().sqrt().item()


@pytest.mark.parametrize(("inputs", "outputs"), [(432, 256), (256, 256), (4, 512)])
def test_rectified_layers_pass_on_as_much_as_comes_in(inputs, outputs):
    layers = nn.Sequential(rectified(inputs, outputs), rectified(outputs, 256), rectified(256, 256))
    signal = torch.randn(4000, inputs, generator=torch.Generator().manual_seed(0))
    assert size(layers(signal)) == pytest.approx(1.0, rel=0.25)


@pytest.mark.parametrize("gain", [0.01, 1.0])
def test_a_linear_layer_stretches_by_its_gain_and_adds_nothing(gain):
    layer = linear(256, 300, gain=gain)
    assert size(layer(torch.randn(500, 256))) == pytest.approx(gain, rel=0.1)
    assert not layer(torch.zeros(1, 256)).any()
