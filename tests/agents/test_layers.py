"""Signals keep their size through layers that were never trained."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from groundling.agents.layers import Constant, Derived, linear, product, rectified, unchanging


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


@pytest.mark.parametrize("unread", [False, True])
def test_a_product_is_a_linear_layer_whether_or_not_it_is_computed(unread):
    features, slope = torch.randn(2, 3, 5, requires_grad=True), torch.randn(2, 3, 7)
    layer = nn.Linear(5, 7, bias=False)
    expected = layer(features)
    wanted = torch.autograd.grad(expected, [features, layer.weight], slope)
    outputs = product(features, layer.weight, unread=unread)
    found = torch.autograd.grad(outputs, [features, layer.weight], slope)
    assert outputs.isnan().all() if unread else torch.allclose(outputs, expected, atol=1e-6)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


def test_a_product_writes_where_it_is_told_to():
    features, layer, out = torch.randn(2, 3, 5), nn.Linear(5, 7, bias=False), torch.zeros(2, 3, 7)
    with torch.no_grad():
        told = product(features, layer.weight, out=out)
        assert told.data_ptr() == out.data_ptr()
        assert_close(out, layer(features))
    with pytest.raises(AssertionError, match="with gradients"):
        product(features, layer.weight, out=out)


def test_a_constant_is_sent_to_a_device_once():
    constant = Constant(torch.tensor([1, 2]))
    there = constant.on("meta")
    assert there.is_meta
    assert constant.on(torch.device("meta")) is there
    assert constant.on("cpu").tolist() == [1, 2]


class Doubled(nn.Module):
    """Reads twice its weight, and counts how often that was made."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.derived = Derived()
        self.made = 0

    def forward(self):
        def make():
            self.made += 1
            return 2.0 * self.weight

        return self.derived(make)


def adam(module):
    module.weight.grad = torch.ones(2)
    torch.optim.Adam(module.parameters(), lr=0.5, fused=True).step()


def test_what_is_made_of_weights_is_made_once_while_they_do_not_change():
    module = nn.Sequential(Doubled())
    with torch.no_grad():
        for made in (1, 2):
            with unchanging(module):
                assert module[0]() is module[0]()
                assert torch.equal(module[0](), 2.0 * module[0].weight)
            assert module[0].made == made
            adam(module[0])
        assert torch.equal(module[0](), 2.0 * module[0].weight)
        assert list(module.state_dict()) == ["0.weight"]


def test_it_is_a_part_of_every_graph():
    module = Doubled()
    with unchanging(module):
        with torch.no_grad():
            module()
        for _ in range(2):
            module.weight.grad = None
            module().sum().backward()
            assert module.weight.grad.tolist() == [2.0, 2.0]
