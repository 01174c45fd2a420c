"""The recurrence's hand-written gradient is the gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from groundling.agents import scan


def lstm_scan(inputs: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """The scan, of a copy of the inputs: it overwrites them."""
    return scan.lstm_scan(inputs * 1.0, *rest)


def random_arguments(T: int = 5, B: int = 3, H: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.double, generator=generator, requires_grad=True)

    keep = (torch.rand(T, B, 1, generator=generator) > 0.3).double()
    return [draw(T, B, 4 * H), keep, draw(B, H), draw(B, H), draw(4 * H, H)]


def test_gradient_agrees_with_finite_differences_across_resets() -> None:
    assert torch.autograd.gradcheck(lstm_scan, random_arguments())


def test_where_nothing_is_zeroed_nothing_need_be_kept_apart() -> None:
    inputs, keep, *rest = random_arguments()
    assert torch.autograd.gradcheck(
        lambda *some: lstm_scan(some[0], None, *some[1:]), (inputs, *rest)
    )
    never = lstm_scan(inputs, torch.ones_like(keep), *rest)
    for one, other in zip(lstm_scan(inputs, None, *rest), never, strict=True):
        assert torch.equal(one, other)


def test_row_by_row_it_is_what_the_paper_says() -> None:
    inputs, keep, hidden, cell, weight = random_arguments()
    hiddens, cells = lstm_scan(inputs, keep, hidden, cell, weight)
    for t, (row, kept) in enumerate(zip(inputs, keep, strict=True)):
        gates = row + (hidden * kept) @ weight.t()
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


def test_nothing_flows_back_across_a_reset() -> None:
    inputs, keep, hidden, cell, weight = random_arguments()
    keep[2] = 0.0
    hiddens, cells = lstm_scan(inputs, keep, hidden, cell, weight)
    (hiddens[2:].sum() + cells[2:].sum()).backward()
    assert inputs.grad is not None
    assert (inputs.grad[:2] == 0).all()
    assert (inputs.grad[2:] != 0).any()
    assert hidden.grad is not None
    assert (hidden.grad == 0).all()
