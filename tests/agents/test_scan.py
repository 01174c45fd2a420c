"""The recurrence's hand-written gradient is the gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from groundling.agents import scan

FLAGS = 2


def lstm_scan(shares: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    """The scan, of a copy of the shares: it overwrites them."""
    return scan.lstm_scan(None if shares is None else shares * 1.0, *rest)


def random_arguments(T: int = 5, B: int = 3, H: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, learned: bool = True) -> Tensor:
        drawn = torch.randn(*shape, dtype=torch.double, generator=generator)
        return drawn.requires_grad_(learned)

    keep = (torch.rand(T, B, 1, generator=generator) > 0.3).double()
    flags = draw(T, B, FLAGS, learned=False)
    return [
        draw(T, B, 4 * H),
        flags,
        keep,
        draw(B, H),
        draw(B, H),
        draw(4 * H, FLAGS + H),
    ]


def test_gradient_agrees_with_finite_differences_across_resets() -> None:
    assert torch.autograd.gradcheck(lstm_scan, random_arguments())


def test_where_nothing_is_zeroed_nothing_need_be_kept_apart() -> None:
    shares, flags, keep, *rest = random_arguments()
    assert torch.autograd.gradcheck(
        lambda *some: lstm_scan(*some[:2], None, *some[2:]), (shares, flags, *rest)
    )
    never = lstm_scan(shares, flags, torch.ones_like(keep), *rest)
    for one, other in zip(lstm_scan(shares, flags, None, *rest), never, strict=True):
        assert torch.equal(one, other)


def test_where_there_are_no_features_there_is_nothing_to_share() -> None:
    shares, flags, *rest = random_arguments()
    assert torch.autograd.gradcheck(
        lambda *some: lstm_scan(None, flags, rest[0], *some), tuple(rest[1:])
    )
    silent = lstm_scan(torch.zeros_like(shares), flags, *rest)
    for one, other in zip(lstm_scan(None, flags, *rest), silent, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("kind", ["shares", "nothing shared", "a trace", "a lasting trace"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_however_many_rows_slopes_are_made_of_at_once_gradients_are_the_same(
    monkeypatch, rows, kind
) -> None:
    shares, *rest = random_arguments()
    arguments = [None if kind == "nothing shared" else shares, *rest]
    learned = [part for part in arguments if part is not None and part.requires_grad]

    def gradients() -> tuple[Tensor, ...]:
        trace = None
        if "trace" in kind:
            flags, keep, *state, weight = (part.detach() for part in rest)
            trace = scan.Trace(shares.detach().clone(), FLAGS)
            trace.walk(True, flags, keep, *state, scan.transposed_copy(weight))
            trace.lasts = "lasting" in kind
        hiddens, cells = lstm_scan(*arguments, None, trace)
        return torch.autograd.grad(hiddens.square().sum() + cells.square().sum(), learned)

    at_once = gradients()
    B, H = rest[2].shape
    monkeypatch.setattr(scan, "BLOCK", (rows - 1) * B * H)
    for one, other in zip(gradients(), at_once, strict=True):
        assert_close(one, other)


def test_of_no_rows_there_is_nothing_to_be_learned() -> None:
    shares, flags, _, hidden, cell, weight = random_arguments()
    hiddens, _ = lstm_scan(shares[:0], flags[:0], None, hidden, cell, weight)
    (of_weight,) = torch.autograd.grad(hiddens.sum() + 0 * weight.sum(), [weight])
    assert hiddens.shape == (0, *hidden.shape)
    assert (of_weight == 0).all()


def test_row_by_row_it_is_what_the_paper_says() -> None:
    shares, flags, keep, hidden, cell, weight = random_arguments()
    hiddens, cells = lstm_scan(shares, flags, keep, hidden, cell, weight)
    for t, (row, given, kept) in enumerate(zip(shares, flags, keep, strict=True)):
        gates = row + given @ weight[:, :FLAGS].t() + (hidden * kept) @ weight[:, FLAGS:].t()
        write, forget, candidate, read = gates.chunk(4, -1)
        cell = cell * kept * forget.sigmoid() + write.sigmoid() * candidate.tanh()
        hidden = read.sigmoid() * cell.tanh()
        assert_close(hiddens[t], hidden)
        assert_close(cells[t], cell)


def test_without_gradients_the_states_are_the_same_to_the_last_bit() -> None:
    arguments = [argument.float() for argument in random_arguments(H=24)]
    learned_from = lstm_scan(*arguments)
    with torch.no_grad():
        walked = lstm_scan(*arguments)
    for learned, forward_only in zip(learned_from, walked, strict=True):
        assert learned.requires_grad
        assert torch.equal(learned, forward_only)


def test_a_backward_pass_may_be_gone_through_twice_unless_it_spends_a_trace() -> None:
    arguments = random_arguments()
    learned = [argument for argument in arguments if argument.requires_grad]

    def gradients(hiddens: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(hiddens.sum(), learned, retain_graph=True)

    hiddens, _ = lstm_scan(*arguments)
    for once, again in zip(gradients(hiddens), gradients(hiddens), strict=True):
        assert torch.equal(once, again)

    shares, flags, keep, hidden, cell, weight = arguments
    for lasts in (True, False):
        trace = scan.Trace(shares.detach().clone(), FLAGS)
        trace.walk(True, flags, keep, hidden.detach(), cell.detach(), scan.transposed_copy(weight))
        trace.lasts = lasts
        traced, _ = scan.lstm_scan(*arguments, None, trace)
        for once, other in zip(gradients(traced), gradients(hiddens), strict=True):
            assert torch.equal(once, other)
        assert trace.full == lasts
        if lasts:
            for again, other in zip(gradients(traced), gradients(hiddens), strict=True):
                assert torch.equal(again, other)
        else:
            with pytest.raises(RuntimeError, match="inplace operation"):
                gradients(traced)


def test_nothing_flows_back_across_a_reset() -> None:
    shares, flags, keep, hidden, cell, weight = random_arguments()
    keep[2] = 0.0
    hiddens, cells = lstm_scan(shares, flags, keep, hidden, cell, weight)
    (hiddens[2:].sum() + cells[2:].sum()).backward()
    assert shares.grad is not None
    assert (shares.grad[:2] == 0).all()
    assert (shares.grad[2:] != 0).any()
    assert hidden.grad is not None
    assert (hidden.grad == 0).all()
