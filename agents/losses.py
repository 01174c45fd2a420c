"""Actor-critic losses: pure functions, [T, B] in and [T, B] out. Whoever sums them weighs them."""

import torch
from torch import Tensor


def action_log_probs(policy_logits: Tensor, actions: Tensor) -> Tensor:
    """log π(a_t), [T, B], from logits [T, B, actions] and actions [T, B] int64."""
    log_probs = torch.log_softmax(policy_logits, dim=-1)
    return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """-A_t log π(a_t), [T, B]; no gradient through the advantages (Williams 1992)."""
    return -advantages.detach() * log_probs


def baseline_loss(baselines: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of the baseline, [T, B]; no gradient through the targets."""
    return 0.5 * (targets.detach() - baselines).square()


def negative_entropy_loss(policy_logits: Tensor) -> Tensor:
    """-H(π), [T, B] in nats, from logits [T, B, actions]: minimising it keeps the policy open."""
    log_probs = torch.log_softmax(policy_logits, dim=-1)
    return (log_probs.exp() * log_probs).sum(-1)
