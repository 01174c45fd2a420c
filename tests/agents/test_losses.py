"""Actor-critic losses: values worked out by hand, and gradients where they belong."""

import math

import torch
from torch.testing import assert_close

from groundling.agents.losses import (
    baseline_loss,
    mean_where,
    negative_entropy_loss,
    policy_gradient_loss,
)


def test_policy_gradient_loss_is_minus_advantage_times_log_probability():
    loss = policy_gradient_loss(torch.tensor([[-2.0, -1.0]]), torch.tensor([[3.0, -4.0]]))
    assert loss.tolist() == [[6.0, -4.0]]


def test_no_gradient_flows_through_advantages():
    advantages = torch.ones(1, 2, requires_grad=True)
    log_probs = torch.full((1, 2), -1.0, requires_grad=True)
    policy_gradient_loss(log_probs, advantages).sum().backward()
    assert advantages.grad is None
    assert log_probs.grad is not None


def test_baseline_loss_is_half_the_squared_error():
    loss = baseline_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 2.5]]))
    assert loss.tolist() == [[4.5, 0.125]]


def test_the_baseline_moves_to_its_target_and_the_target_stays():
    baselines = torch.tensor([[1.0, 2.0]], requires_grad=True)
    targets = torch.tensor([[4.0, 2.5]], requires_grad=True)
    baseline_loss(baselines, targets).sum().backward()
    assert_close(baselines.grad, torch.tensor([[-3.0, -0.5]]))
    assert targets.grad is None


def test_minimising_negative_entropy_raises_entropy():
    entropy = torch.tensor([[0.5, -1.0]], requires_grad=True)
    loss = negative_entropy_loss(entropy)
    assert loss.tolist() == [[-0.5, 1.0]]
    loss.sum().backward()
    assert entropy.grad.tolist() == [[-1.0, -1.0]]


def test_a_mean_is_that_of_what_the_mask_lets_through():
    values = torch.tensor([[1.0, 2.0], [4.0, math.nan]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    mean = mean_where(values, mask).value
    mean.backward()
    assert mean.item() == 2.5
    assert values.grad.tolist() == [[0.5, 0.0], [0.5, 0.0]]
    assert mean_where(values[:1], None).value.item() == 1.5


def test_a_mean_over_nothing_is_zero_and_teaches_nothing():
    values = torch.ones(2, 3, requires_grad=True)
    mean = mean_where(values, torch.zeros(2, 3, dtype=torch.bool)).value
    mean.backward()
    assert mean.item() == 0.0
    assert not values.grad.any()
