"""CPC|A's head: tells the true future from others (Guo et al. 2018, arXiv 1811.06407).

Every view of an unroll of up to `TOGETHER` environments is a candidate for every prediction of
theirs: the same room at other times and other rooms at the same moment are among them, and these
are the hard ones. Candidates that look exactly like the true future are left out. In symbolic
worlds many do, and punishing the agent for them would make contrast look weak for a trivial reason.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.config import AgentConfig
from groundling.agents.layers import linear, rectified
from groundling.agents.sensors import Observation

TOGETHER = 16
"""Environments whose views are told apart from each other. All of a large batch would cost its
square, in time and in memory, and say little more: what is hard lies in one's own room."""

SAME_SIZE = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of so many bytes."""


class Candidates(NamedTuple):
    """The M = (T + 1) · B views of an unroll of B environments, row by row."""

    keys: Tensor
    """[M, feature_size]: their embeddings."""
    look: Tensor
    """[M] int64: a fingerprint, equal for views that are equal in every part of the raw
    observation."""
    absent: Tensor
    """[M] bool: no view at all, but filler; never a candidate."""
    batch: int
    """B: candidate m is of environment m modulo B."""

    def false(self, true: Tensor) -> Tensor:
        """Which candidates are none of the true ones, [N] int64, and do not look like it: [N, M]
        bool."""
        return (self.look != self.look[true].unsqueeze(1)) & ~self.absent


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
    look = _fingerprint(torch.cat([_whole(leaf, T1 * B) for leaf in observation.values()], 1))
    if absent is None:
        absent = torch.zeros(T1, B, dtype=torch.bool, device=features.device)
    return Candidates(features.flatten(0, 1), look, absent.flatten(), B)


def group_sizes(batch: int) -> list[int]:
    """How many environments are told apart together: as few groups as there can be, and alike."""
    number = math.ceil(batch / TOGETHER)
    return [batch // number + (one < batch % number) for one in range(number)]


def _whole(leaf: Tensor, rows: int) -> Tensor:
    """A leaf as whole numbers, [rows, numbers] int64, that are equal where its numbers are."""
    flat = leaf.reshape(rows, -1)
    if flat.is_floating_point():
        flat = (flat + 0.0).view(SAME_SIZE[flat.element_size()])  # -0.0 + 0.0 is 0.0
    return flat.long()


def _fingerprint(numbers: Tensor) -> Tensor:
    """[M, D] int64 → [M] int64: a sum with random weights, modulo 2⁶⁴. Two rows that differ have
    the same with a chance of about 10⁻¹²; a sort of whole rows takes many times as long."""
    generator = torch.Generator().manual_seed(numbers.shape[1])
    drawn = torch.randint(-(2**63), 2**63 - 1, (numbers.shape[1],), generator=generator)
    return (numbers * drawn.to(numbers.device)).sum(1)


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
    found = F.softplus(-_own(scores, true))
    false = views.false(true).to(scores.dtype)
    # By environment: a sum over those few tells one's own room from the others.
    nats, number = (
        part.unflatten(1, (-1, views.batch)).sum(1) for part in (F.softplus(scores) * false, false)
    )
    own = true % views.batch
    others = [part.scatter(1, own.unsqueeze(1), 0.0).sum(1) for part in (nats, number)]
    same = _own(nats, own) / _own(number, own).clamp(min=1)
    loss: Tensor = found + 0.5 * (same + others[0] / others[1].clamp(min=1))
    return loss


def infonce(scores: Tensor, true: Tensor, views: Candidates) -> Tensor:
    """-log of the true future's share among all distinct candidates (van den Oord et al. 2018).

    Arguments and result as in `binary_contrast`.
    """
    own = _own(scores, true)
    false = scores.masked_fill(~views.false(true), -math.inf)
    among = false.scatter(1, true.unsqueeze(1), own.unsqueeze(1))
    return among.logsumexp(1) - own


@torch.no_grad()
def ranked_first(scores: Tensor, true: Tensor, views: Candidates) -> Tensor:
    """Whether the true future scores higher than all candidates that look different, [N] bool."""
    false = scores.masked_fill(~views.false(true), -math.inf)
    found: Tensor = _own(scores, true) > false.amax(1)
    return found


def _own(scores: Tensor, true: Tensor) -> Tensor:
    """Of each row, [N, M], the number at its own place, [N]."""
    return scores.gather(1, true.unsqueeze(1)).squeeze(1)
