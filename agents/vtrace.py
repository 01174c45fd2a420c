"""V-trace: off-policy corrected values and advantages (Espeholt et al. 2018, arXiv 1802.01561)."""

from typing import NamedTuple

import torch
from torch import Tensor


class VTrace(NamedTuple):
    """Targets, without gradient."""

    values: Tensor
    """[T, B]: v_t, what the baseline of row t should say."""
    advantages: Tensor
    """[T, B]: the policy gradient's weights, the clipped ratio of the policies included."""


@torch.no_grad()
def vtrace(
    log_rhos: Tensor,
    discounts: Tensor,
    rewards: Tensor,
    baselines: Tensor,
    *,
    lambda_: float,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
) -> VTrace:
    """Computes equation (1) of the paper by its recursion (Remark 1), with the λ of Remark 2.

    An episode's end inside the unroll is a discount of 0; the value of what a truncation cut off
    belongs into the reward of its step. On-policy, the advantages are those of generalised
    advantage estimation (Schulman et al. 2016) with the same λ.

    Args:
        log_rhos: [T, B]: log π(a_t) - log μ(a_t).
        discounts: [T, B] in [0, 1].
        rewards: [T, B].
        baselines: [T + 1, B]: V(x_t); the last row bootstraps.
        lambda_: in [0, 1].
        clip_rho: the paper's ρ̄, which also clips the policy gradient's ratio.
        clip_c: the paper's c̄.
    """
    rhos = log_rhos.exp()
    clipped_rhos = rhos.clamp(max=clip_rho)
    cs = lambda_ * rhos.clamp(max=clip_c)
    v_t, v_tp1 = baselines[:-1], baselines[1:]
    deltas = clipped_rhos * (rewards + discounts * v_tp1 - v_t)
    corrections = torch.zeros_like(baselines)  # v_t - V(x_t); nothing is known beyond the last row
    for t in reversed(range(len(deltas))):
        corrections[t] = deltas[t] + discounts[t] * cs[t] * corrections[t + 1]
    q_t = rewards + discounts * (v_tp1 + lambda_ * corrections[1:])
    return VTrace(v_t + corrections[:-1], clipped_rhos * (q_t - v_t))
