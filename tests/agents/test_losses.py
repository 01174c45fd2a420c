"""Actor-critic losses: values worked out by hand, and gradients where they belong."""

import math

import pytest
import torch
from torch.testing import assert_close

from groundling.agents.losses import (
    action_log_probs,
    baseline_loss,
    negative_entropy_loss,
    policy_gradient_loss,
)

# One row, two environments: π = (1/4, 3/4) and (1/2, 1/2).
LOGITS = [[[0.0, math.log(3.0)], [5.0, 5.0]]]


def logits():
    return torch.tensor(LOGITS, requires_grad=True)


def test_log_probabilities_are_those_of_the_actions_taken():
    expected = torch.tensor([[0.75, 0.5]]).log()
    assert_close(action_log_probs(logits(), torch.tensor([[1, 0]])), expected)
    expected = torch.tensor([[0.25, 0.5]]).log()
    assert_close(action_log_probs(logits(), torch.tensor([[0, 1]])), expected)


def test_policy_gradient_loss_is_minus_advantage_times_log_probability():
    loss = policy_gradient_loss(torch.tensor([[-2.0, -1.0]]), torch.tensor([[3.0, -4.0]]))
    assert loss.tolist() == [[6.0, -4.0]]


def test_policy_gradient_is_that_of_reinforce():
    scores = logits()
    log_probs = action_log_probs(scores, torch.tensor([[1, 0]]))
    policy_gradient_loss(log_probs, torch.tensor([[2.0, -1.0]])).sum().backward()
    # A (π - one-hot of the action), derived on paper.
    expected = torch.tensor([[[2 * 0.25, 2 * (0.75 - 1)], [-1 * (0.5 - 1), -1 * 0.5]]])
    assert_close(scores.grad, expected)


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


def test_negative_entropy_is_in_nats_and_never_positive():
    expected = [0.25 * math.log(0.25) + 0.75 * math.log(0.75), -math.log(2.0)]
    assert negative_entropy_loss(logits())[0].tolist() == pytest.approx(expected)


def test_minimising_negative_entropy_opens_the_policy():
    scores = logits()
    negative_entropy_loss(scores).sum().backward()
    closed = torch.softmax(scores, -1)[0, 0]
    opened = torch.softmax(scores - 0.1 * scores.grad, -1)[0, 0]
    assert (opened - 0.5).abs().max() < (closed - 0.5).abs().max()


def test_certain_policies_have_finite_losses():
    scores = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    negative_entropy_loss(scores).sum().backward()
    assert torch.isfinite(scores.grad).all()
