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


class Candidates(NamedTuple):
    """The M = (T + 1) · B views of an unroll of B environments, row by row, by how they look.

    What looks the same has the same embedding, and is scored once: a sensor is a function of what
    it reads.
    """

    keys: Tensor
    """[D, feature_size]: what is made of the embedding (`CPCHead.key`) of each of D looks."""
    look: Tensor
    """[M] int64 in [0, D): equal for views that are equal in every part of the raw observation. Of
    filler it says nothing: that is no candidate, unless there is nothing else."""
    counts: Tensor
    """[D, B] float32: how many views of each environment look so."""

    def number_false(self, true: Tensor) -> Tensor:
        """How many false futures there are in each environment where these views, [N] int64, are
        true: [N, B] float32."""
        return self.counts.sum(0) - self.counts[self.look[true]]


class Scores(NamedTuple):
    """What a prediction says of the candidates."""

    true: Tensor
    """[N]: logit of the one that is the true future."""
    false: Tensor
    """[N, D]: logits of the looks of false futures; of all others -∞."""


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

    def scores(self, queries: Tensor, true: Tensor, views: Candidates) -> Scores:
        """Of N predictions.

        Args:
            queries: [N, feature_size]: what is made of the states that predict (`query`).
            true: [N] int64 in [0, M): the view that is it.
            views: the candidates.
        """
        queries, look = queries * self.scale, views.look[true]
        own = (queries * F.embedding(look, views.keys)).sum(-1) + self.bias
        false = torch.addmm(self.bias, queries, views.keys.t())
        # Unseen by autograd: the same product, and rounded alike, so that among equals none ranks
        # first; and what scores -∞ has a gradient of 0 as it is.
        scores, mine = false.detach(), look.unsqueeze(1)
        own.detach().copy_(scores.gather(1, mine).squeeze(1))
        scores.scatter_(1, mine, -math.inf)
        return Scores(own, false)


def candidates(keys: Tensor, observation: Observation, absent: Tensor | None = None) -> Candidates:
    """All views of an unroll: keys [T + 1, B, F], leaves [T + 1, B, *shape], and which of them are
    filler, [T + 1, B] (None: none)."""
    T1, B = keys.shape[:2]
    leaves = [leaf.reshape(T1 * B, -1) for leaf in observation.values() if leaf.numel()]
    words = torch.cat([_words(leaf) for leaf in leaves], 1)
    views = torch.arange(T1 * B, device=words.device)
    if absent is not None and not absent.all():  # Of filler alone nothing is asked.
        views = views[~absent.flatten()]
    looks, found = torch.unique(_fingerprint(words[views]), return_inverse=True)
    look = found.new_zeros(T1 * B).index_put_((views,), found)
    first = views.new_full((len(looks),), T1 * B).scatter_reduce_(0, found, views, "amin")
    once = keys.new_ones(len(views), dtype=torch.float32)
    counts = once.new_zeros(len(looks), B)
    counts.index_put_((found, views % B), once, accumulate=True)
    return Candidates(keys.flatten(0, 1)[first], look, counts)


def group_sizes(batch: int) -> list[int]:
    """How many environments are told apart together: as few groups as there can be, and alike."""
    number = math.ceil(batch / TOGETHER)
    return [batch // number + (one < batch % number) for one in range(number)]


def _words(numbers: Tensor) -> Tensor:
    """[M, N] of any type as words of eight bytes, [M, words] int64, equal where the numbers are."""
    if numbers.is_floating_point():
        numbers = numbers + 0.0  # -0.0 + 0.0 is 0.0
    bytes_ = numbers.contiguous().view(torch.uint8)
    padded = F.pad(bytes_, (0, -bytes_.shape[1] % 8))
    return padded.view(torch.int64)


def _fingerprint(words: Tensor) -> Tensor:
    """[M, D] int64 → [M] int64: a sum over words, each mixed by a product with a number of its own.
    Two rows that differ have the same with a chance of 10⁻⁹ at the most; a sort of whole rows takes
    many times as long."""
    generator = torch.Generator().manual_seed(words.shape[1])
    drawn = torch.randint(-(2**63), 2**63 - 1, (2, words.shape[1]), generator=generator)
    first, second = (drawn | 1).to(words.device)  # Odd: modulo 2⁶⁴ nothing is lost.
    mixed = words * first
    # A product carries a difference upwards only: what differs in high bits has to come down, or it
    # would be lost in a sum. (A shift of a negative number brings ones down.)
    mixed = mixed ^ ((mixed >> 32) & 0xFFFFFFFF)
    fingerprints: Tensor = (mixed * second).sum(1)
    return fingerprints


def binary_contrast(scores: Scores, true: Tensor, views: Candidates) -> Tensor:
    """The paper's loss: one binary question for the true future, and as many for the false ones.

    The false ones weigh as much as the true one together, a half of it those from the true one's
    own environment: the same room at another time is what memory must tell apart.

    Args:
        scores: of N predictions.
        true: [N] int64 in [0, M): the view that is the true future.
        views: the candidates.

    Returns:
        [N] nats.
    """
    # By environment: a sum over those few tells one's own room from the others.
    nats = F.softplus(scores.false) @ views.counts.to(scores.false.dtype)
    number = views.number_false(true).to(nats.dtype)
    own = (true % views.counts.shape[1]).unsqueeze(1)
    others = [part.scatter(1, own, 0.0).sum(1) for part in (nats, number)]
    same = [part.gather(1, own).squeeze(1) for part in (nats, number)]
    false = same[0] / same[1].clamp(min=1) + others[0] / others[1].clamp(min=1)
    return F.softplus(-scores.true) + 0.5 * false


def infonce(scores: Scores, true: Tensor, views: Candidates) -> Tensor:
    """-log of the true future's share among it and all false ones (van den Oord et al. 2018).

    Arguments and result as in `binary_contrast`.
    """
    false = scores.false + views.counts.sum(1).log()
    among = torch.cat([scores.true.unsqueeze(1), false], 1)
    return among.logsumexp(1) - scores.true


@torch.no_grad()
def ranked_first(scores: Scores) -> Tensor:
    """Whether the true future scores higher than all candidates that look different, [N] bool."""
    return scores.true > scores.false.amax(1)
