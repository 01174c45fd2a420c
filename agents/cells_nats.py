"""What cells cost, and how that changes with what generates them, as one differentiable operation.

The slope of a categorical's nats is known as soon as the nats are: the probabilities, less one for
the category that is there. It is written over the scores, some rows at a time while a core's cache
still holds them, and the backward pass is left with products. Rows lie innermost: a sum over
few categories is then a sum of long rows, which takes a fraction of the time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 1024
"""Rows whose scores are turned into slopes at once on a processor: few enough for its cache, and
enough for fast products. A GPU takes all."""


class _CellsNats(torch.autograd.Function):
    """See `cells_nats`."""

    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        weight: Tensor,
        bias: Tensor,
        scores_weight: Tensor,
        scores_bias: Tensor,
        cells: Tensor,
        weights: Tensor,
        sizes: Sequence[int],
    ) -> Tensor:
        rows = len(state) if state.is_cuda else ROWS
        nats, hiddens, slopes = [], [], []
        for some, there in zip(state.split(rows), cells.split(rows), strict=True):
            hidden = (weight @ some.t()).add_(bias.unsqueeze(1)).relu_()
            scores = (scores_weight @ hidden).add_(scores_bias.unsqueeze(1))
            nats.append(_nats(scores, there.permute(2, 1, 0).contiguous().long(), weights, sizes))
            hiddens.append(hidden)
            slopes.append(scores)
        ctx.save_for_backward(state, weight, scores_weight, *hiddens, *slopes)
        return torch.cat(nats)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, scores_weight, *kept = ctx.saved_tensors
        hiddens, slopes = kept[: len(kept) // 2], kept[len(kept) // 2 :]
        of_state = torch.empty_like(state)
        of_weight, of_scores_weight = torch.zeros_like(weight), torch.zeros_like(scores_weight)
        of_bias, of_scores_bias = (made.new_zeros(len(made)) for made in (weight, scores_weight))
        rectified = torch.ops.aten.threshold_backward.grad_input
        first = 0
        for hidden, slope in zip(hiddens, slopes, strict=True):
            some = slice(first, first := first + hidden.shape[1])
            # Rows weigh differently. A hidden layer is multiplied by that faster than its scores.
            of_scores_weight.addmm_(slope, (hidden * grad[some]).t())
            of_scores_bias.addmv_(slope, grad[some])
            of_hidden = (scores_weight.t() @ slope).mul_(grad[some])
            rectified(of_hidden, hidden, 0, grad_input=of_hidden)
            of_weight.addmm_(of_hidden, state[some])
            of_bias += of_hidden.sum(1)
            torch.mm(of_hidden.t(), weight, out=of_state[some])
        return of_state, of_weight, of_bias, of_scores_weight, of_scores_bias, None, None, None


def _nats(scores: Tensor, cells: Tensor, weights: Tensor, sizes: Sequence[int]) -> Tensor:
    """Nats of these rows, [N].

    Args:
        scores: [S, N], as `cells_nats` makes them; their slopes are written over them.
        cells: [channels, cells, N] int64.
        weights: as in `cells_nats`.
        sizes: likewise.
    """
    kinds, (number, rows) = cells[0], cells.shape[1:]
    scored = [size - 1 for size in sizes]
    own, links = scores.split([sum(scored) * number, sum(scored[1:]) * sizes[0]])
    own, links = own.unflatten(0, (-1, number)), links.view(sum(scored[1:]), sizes[0] * rows)
    linked = own[scored[0] :]
    # An index of both kind and row takes two thirds of the time of one along the kinds.
    at = (kinds * rows + torch.arange(rows, device=kinds.device)).flatten()
    linked += links.index_select(1, at).view_as(linked)
    each = (weights / number).to(scores.dtype)
    weight = each.index_select(0, kinds.flatten()).view_as(kinds)
    nats = torch.zeros_like(weight)
    # The first category's score is 0, which is not among them: what is there then adds nothing.
    true, pulls = (cells - 1).clamp_(min=0).unsqueeze(1), (-weight * (cells > 0)).unsqueeze(1)
    for score, category, pull in zip(own.split(scored), true, pulls, strict=True):
        if not len(score):
            continue  # Of a single category there is nothing to be told.
        nats += score.gather(0, category).mul_(pull)[0]
        highest = score.amax(0).clamp_(min=0)
        score.sub_(highest).exp_()
        total = score.sum(0).add_(torch.exp(-highest))
        score.mul_(weight / total).scatter_add_(0, category, pull)
        nats += total.log_().add_(highest).mul_(weight)
    links.zero_().index_add_(1, at, linked.flatten(1))
    return nats.sum(0)


def cells_nats(
    state: Tensor,
    hidden: tuple[Tensor, Tensor],
    scores: tuple[Tensor, Tensor],
    cells: Tensor,
    weights: Tensor,
    sizes: Sequence[int],
) -> Tensor:
    """Weighted mean over cells of the nats of all channels, [N], by a rectified hidden layer.

    Scores are those of all categories but a channel's first one, by how much they exceed the score
    of that: a categorical has one number less than it has categories. What is generated this way is
    SimCore's view (Gregor et al. 2019, arXiv 1906.09237; `agents.cells_decoder`).

    Args:
        state: [N, core_size].
        hidden: weight [H, core_size] and bias [H] of the hidden layer.
        scores: weight [S, H] and bias [S] of what makes scores of it. For each channel in turn its
            categories but the first, each in all cells; then for each but the first channel its
            categories but the first, each given all kinds.
            S = Σ (size - 1) · cells + Σ' (size - 1) · kinds.
        cells: [N, cells, channels] integers from 0 on; a category of the first channel is a kind.
        weights: [kinds]: of a cell that holds this kind; no gradient flows to them.
        sizes: how many categories each channel has.
    """
    nats: Tensor = _CellsNats.apply(  # type: ignore[no-untyped-call]
        state, *hidden, *scores, cells, weights, sizes
    )
    return nats
