"""Actor-critic losses: pure functions, [T, B] in and [T, B] out. Whoever sums them weighs them."""

from torch import Tensor


def mean_where(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of [T, B], a scalar: of all, or of those where the mask is set (0 if it is nowhere)."""
    if mask is None:
        return values.mean()
    chosen = values[mask]
    return chosen.sum() / max(len(chosen), 1)


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """-A_t log π(a_t), [T, B]; no gradient through the advantages (Williams 1992)."""
    return -advantages.detach() * log_probs


def baseline_loss(baselines: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of the baseline, [T, B]; no gradient through the targets."""
    return 0.5 * (targets.detach() - baselines).square()


def negative_entropy_loss(entropy: Tensor) -> Tensor:
    """-H(π), [T, B], from entropies in nats: minimising it keeps the policy open."""
    return -entropy
