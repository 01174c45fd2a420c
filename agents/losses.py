"""Actor-critic losses: pure functions, [T, B] in and [T, B] out. Whoever sums them weighs them."""

from typing import NamedTuple

from torch import Tensor


class Mean(NamedTuple):
    """A mean that knows of how many: what several learners need to make one mean of theirs."""

    value: Tensor
    """Scalar; 0 if it is of none."""
    number: Tensor | int
    """Of how many; a tensor is a scalar."""


def mean_where(values: Tensor, mask: Tensor | None) -> Mean:
    """Mean of [T, B]: of all, or of those where the mask is set (0 if it is nowhere)."""
    if mask is None:
        return Mean(values.mean(), values.numel())
    chosen = values[mask]
    return Mean(chosen.sum() / max(len(chosen), 1), len(chosen))


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """-A_t log π(a_t), [T, B]; no gradient through the advantages (Williams 1992)."""
    return -advantages.detach() * log_probs


def baseline_loss(baselines: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of the baseline, [T, B]; no gradient through the targets."""
    return 0.5 * (targets.detach() - baselines).square()


def negative_entropy_loss(entropy: Tensor) -> Tensor:
    """-H(π), [T, B], from entropies in nats: minimising it keeps the policy open."""
    return -entropy
