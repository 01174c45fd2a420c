"""CPC|A's head: tells the true future from others (Guo et al. 2018, arXiv 1811.06407).

Every view of the unroll is a candidate for every prediction: the same room at other times and other
rooms at the same moment are among them, and these are the hard ones. Candidates that look exactly
like the true future are left out. In symbolic worlds many do, and punishing the agent for them
would make contrast look weak for a trivial reason.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.config import AgentConfig
from groundling.agents.layers import linear, rectified
from groundling.agents.sensors import Observation


class Candidates(NamedTuple):
    """The M = (T + 1) · B views of an unroll, row by row."""

    keys: Tensor
    """[M, feature_size]: their embeddings."""
    environment: Tensor
    """[M] int64."""
    look: Tensor
    """[M] int64: equal for views that are equal in every part of the raw observation."""
    absent: Tensor
    """[M] bool: no view at all, but filler; never a candidate."""


class CPCHead(nn.Module):
    """Scores candidates for the future by a product of learned maps of state and embedding."""

    def __init__(self, config: AgentConfig) -> None:
        super().__init__()
        self.query = nn.Sequential(
            rectified(config.core_size, config.sensor_size),
            linear(config.sensor_size, config.feature_size),
        )
        self.key = linear(config.feature_size, config.feature_size)
        self.bias = nn.Parameter(torch.zeros(()))
        self.scale = 1.0 / math.sqrt(config.feature_size)

    def scores(self, states: Tensor, keys: Tensor) -> Tensor:
        """[N, core_size] and [M, feature_size] → [N, M]."""
        products: Tensor = self.query(states) @ self.key(keys).t()
        return products * self.scale + self.bias


def candidates(
    features: Tensor, observation: Observation, absent: Tensor | None = None
) -> Candidates:
    """All views of an unroll: features [T + 1, B, F], leaves [T + 1, B, *shape], and which of them
    are filler, [T + 1, B] (None: none)."""
    T1, B = features.shape[:2]
    raw = torch.cat([leaf.reshape(T1 * B, -1).double() for leaf in observation.values()], dim=1)
    _, look = torch.unique(raw, dim=0, return_inverse=True)
    environment = torch.arange(B, device=features.device).repeat(T1)
    if absent is None:
        absent = torch.zeros(T1, B, dtype=torch.bool, device=features.device)
    return Candidates(features.flatten(0, 1), environment, look, absent.flatten())


def binary_contrast(scores: Tensor, true: Tensor, views: Candidates) -> Tensor:
    """The paper's loss: one binary question for the true future, and as many for the false ones.

    The false ones weigh as much as the true one together, a half of it those from the true one's
    own environment: the same room at another time is what memory must tell apart.

    Args:
        scores: [N, M] logits.
        true: [N] int64 in [0, M): the candidate that is the true future.
        views: the candidates.

    Returns:
        [N] nats.
    """
    found = F.softplus(-scores.gather(1, true.unsqueeze(1)).squeeze(1))
    false = (views.look != views.look[true].unsqueeze(1)) & ~views.absent
    same_room = views.environment == views.environment[true].unsqueeze(1)
    wrong = F.softplus(scores)
    return found + 0.5 * (
        _masked_mean(wrong, false & same_room) + _masked_mean(wrong, false & ~same_room)
    )


def infonce(scores: Tensor, true: Tensor, views: Candidates) -> Tensor:
    """-log of the true future's share among all distinct candidates (van den Oord et al. 2018).

    Arguments and result as in `binary_contrast`.
    """
    return F.cross_entropy(_without_twins(scores, true, views), true, reduction="none")


def ranked_first(scores: Tensor, true: Tensor, views: Candidates) -> Tensor:
    """Whether the true future scores highest among all candidates that look different, [N] bool."""
    return _without_twins(scores, true, views).argmax(1) == true


def _without_twins(scores: Tensor, true: Tensor, views: Candidates) -> Tensor:
    """Scores with -∞ for candidates that look like the true one but are another, or are none."""
    twins = (views.look == views.look[true].unsqueeze(1)) | views.absent
    twins[torch.arange(len(true), device=true.device), true] = False
    return scores.masked_fill(twins, -math.inf)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row where the mask is set (0 where it is nowhere set), [N]."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)
