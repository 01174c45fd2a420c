"""The recurrent part of an LSTM over many rows, with resets, as one differentiable operation.

Autograd through a loop of small operations spends most of its time on bookkeeping, and adds up a
gradient of the whole recurrent matrix at every row. Here the backward pass walks the rows once for
the gates alone; the matrix gets its gradient from all rows in a single product.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

GATES = 4
WRITE, FORGET, CANDIDATE, READ = range(GATES)
"""Order of the gates, as in `torch.nn.LSTM`."""


class LSTMScan(torch.autograd.Function):
    """Runs the LSTM's recurrence; see `lstm_scan`."""

    @staticmethod
    def forward(  # noqa: D102  (torch calls it)
        ctx: Any, inputs: Tensor, keep: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        T, B, H = *inputs.shape[:2], hidden.shape[-1]
        gates = torch.empty_like(inputs)
        hiddens, cells = inputs.new_empty(T, B, H), inputs.new_empty(T, B, H)
        kept_hiddens, kept_cells = torch.empty_like(hiddens), torch.empty_like(cells)
        squashed = torch.empty_like(cells)  # tanh of each cell
        transposed = weight.t()
        for t in range(T):
            torch.mul(hidden, keep[t], out=kept_hiddens[t])
            torch.mul(cell, keep[t], out=kept_cells[t])
            row = torch.addmm(inputs[t], kept_hiddens[t], transposed, out=gates[t])
            row[:, : CANDIDATE * H].sigmoid_()
            row[:, CANDIDATE * H : READ * H].tanh_()
            row[:, READ * H :].sigmoid_()
            write, forget, candidate, read = row.chunk(GATES, dim=-1)
            hidden, cell = hiddens[t], cells[t]
            torch.mul(kept_cells[t], forget, out=cell).addcmul_(write, candidate)
            torch.tanh(cell, out=squashed[t])
            torch.mul(read, squashed[t], out=hidden)
        ctx.save_for_backward(gates, keep, kept_hiddens, kept_cells, squashed, weight)
        return hiddens, cells

    @staticmethod
    @once_differentiable
    def backward(  # noqa: D102  (torch calls it)
        ctx: Any, grad_hiddens: Tensor, grad_cells: Tensor
    ) -> tuple[Tensor | None, ...]:
        gates, keep, kept_hiddens, kept_cells, squashed, weight = ctx.saved_tensors
        T, B, H = squashed.shape
        slopes, through_read = _slopes(gates, kept_cells, squashed)
        grad_gates = torch.empty_like(gates)
        grad_hidden, grad_cell = gates.new_zeros(B, H), gates.new_zeros(B, H)
        forgets = gates[..., FORGET * H : CANDIDATE * H]
        for t in reversed(range(T)):
            grad_hidden += grad_hiddens[t]
            grad_cell += grad_cells[t]
            grad_cell.addcmul_(grad_hidden, through_read[t])
            row, slope = grad_gates[t].view(B, GATES, H), slopes[t].view(B, GATES, H)
            torch.mul(grad_cell.unsqueeze(1), slope[:, :READ], out=row[:, :READ])
            torch.mul(grad_hidden, slope[:, READ], out=row[:, READ])
            torch.mm(grad_gates[t], weight, out=grad_hidden).mul_(keep[t])
            grad_cell.mul_(forgets[t]).mul_(keep[t])
        grad_weight = grad_gates.flatten(0, 1).t() @ kept_hiddens.flatten(0, 1)
        return grad_gates, None, grad_hidden, grad_cell, grad_weight


def _slopes(gates: Tensor, kept_cells: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes that the backward pass multiplies by, all rows at once.

    [T, B, 4 · H]: of the cell (for the read gate: of the hidden state) with respect to each gate's
    input; [T, B, H]: of the hidden state with respect to the cell.
    """
    write, forget, candidate, read = gates.chunk(GATES, dim=-1)
    slopes = torch.cat(
        [
            candidate * write * (1.0 - write),
            kept_cells * forget * (1.0 - forget),
            write * (1.0 - candidate.square()),
            squashed * read * (1.0 - read),
        ],
        dim=-1,
    )
    return slopes, read * (1.0 - squashed.square())


def lstm_scan(
    inputs: Tensor, keep: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber's recurrence with forget gates (Gers et al. 2000), row by row.

    Args:
        inputs: [T, B, 4 · H]: the input's share of the gates, bias included, in the order write,
            forget, candidate, read.
        keep: [T, B, 1]: 0 where the state is zeroed before row t is read, else 1.
        hidden: [B, H]: before row 0.
        cell: [B, H]: before row 0.
        weight: [4 · H, H]: from the hidden state to the gates.

    Returns:
        Hidden states and cells after each row, [T, B, H] each.
    """
    hiddens, cells = LSTMScan.apply(  # type: ignore[no-untyped-call]
        inputs, keep, hidden, cell, weight
    )
    return hiddens, cells
