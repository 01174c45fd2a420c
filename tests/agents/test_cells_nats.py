"""What cells cost beside torch's own cross-entropy, and slopes beside finite differences."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from groundling.agents import cells_nats as module

CELLS = 3
SIZES = {
    "kinds, colours, sizes": (4, 3, 2),
    "kinds alone": (5,),
    "colours that are all alike": (3, 1, 2),
    "kinds that are all alike": (1, 3),
    "nothing to be told": (1, 1),
}


def arguments(sizes, N=5, core=4, hidden=6):
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.double)
    S = sum(sizes) * CELLS - len(sizes) * CELLS + sum(size - 1 for size in sizes[1:]) * sizes[0]
    shapes = [(N, core), (hidden, core), (hidden,), (S, hidden), (S,)]
    learned = [draw(*shape).requires_grad_() for shape in shapes]
    cells = torch.stack(
        [torch.randint(size, (N, CELLS), generator=generator) for size in sizes], -1
    )
    weights = torch.rand(sizes[0], generator=generator, dtype=torch.double)
    return learned, (cells.to(torch.uint8), weights, sizes)


def cells_nats(state, weight, bias, scores_weight, scores_bias, *rest) -> Tensor:
    """Of tensors side by side, as they are differentiated."""
    return module.cells_nats(state, (weight, bias), (scores_weight, scores_bias), *rest)


def plainly(state, weight, bias, scores_weight, scores_bias, cells, weights, sizes) -> Tensor:
    """One channel after another, the first category's score written out."""
    scores = F.linear(F.linear(state, weight, bias).relu(), scores_weight, scores_bias)
    cells, N = cells.long(), len(state)
    nats, first = torch.zeros(N, CELLS, dtype=state.dtype), 0
    links = scores[:, (sum(sizes) - len(sizes)) * CELLS :]
    for channel, size in enumerate(sizes):
        score = scores[:, first : first + (size - 1) * CELLS].view(N, size - 1, CELLS)
        first += (size - 1) * CELLS
        if channel:
            link, links = links.split(
                [(size - 1) * sizes[0], links.shape[1] - (size - 1) * sizes[0]], 1
            )
            link = link.view(N, size - 1, sizes[0])
            given = [link[n, :, cells[n, :, 0]] for n in range(N)]
            score = score + torch.stack(given) if N else score
        score = torch.cat([score.new_zeros(N, 1, CELLS), score], 1)
        nats = nats + F.cross_entropy(score, cells[..., channel], reduction="none")
    return (nats * weights[cells[..., 0]]).mean(-1)


@pytest.mark.parametrize("rows", [1, 2, 5, 1024])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_as_by_cross_entropies_with_all_gradients(monkeypatch, sizes, rows) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    learned, rest = arguments(sizes)
    upstream = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0], dtype=torch.double)
    found, expected = cells_nats(*learned, *rest), plainly(*learned, *rest)
    assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, learned, upstream),
        torch.autograd.grad(expected, learned, upstream, materialize_grads=True),
        strict=True,
    ):
        assert_close(one, other)


def test_gradients_agree_with_finite_differences() -> None:
    learned, rest = arguments((4, 3, 2))
    assert torch.autograd.gradcheck(lambda *some: cells_nats(*some, *rest), learned)


def test_the_backward_pass_may_be_gone_through_twice() -> None:
    learned, rest = arguments((4, 3, 2))
    nats = cells_nats(*learned, *rest).sum()
    for once, again in zip(
        torch.autograd.grad(nats, learned, retain_graph=True),
        torch.autograd.grad(nats, learned),
        strict=True,
    ):
        assert torch.equal(once, again)


def test_of_no_rows_there_is_nothing_to_be_learned() -> None:
    learned, rest = arguments((4, 3, 2), N=0)
    nats = cells_nats(*learned, *rest)
    assert nats.shape == (0,)
    assert all((part == 0).all() for part in torch.autograd.grad(nats.sum(), learned))


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_however_certain_and_wrong_nats_and_slopes_are_finite(scale) -> None:
    learned, rest = arguments((4, 3, 2))
    learned = [part.detach().float().requires_grad_() for part in learned]
    with torch.no_grad():
        learned[-1].mul_(scale)
    nats = cells_nats(*learned, *rest)
    found = torch.autograd.grad(nats.sum(), learned)
    assert nats.max() > scale / 100
    assert all(torch.isfinite(part).all() for part in (nats, *found))
