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

BLOCK = 65_536
"""Numbers of a gate, over several rows, whose slopes are made at once: few enough for a core's
cache, and enough to make up for the calls."""


class LSTMScan(torch.autograd.Function):
    """Runs the LSTM's recurrence; see `lstm_scan`."""

    @staticmethod
    def forward(  # noqa: D102  (torch calls it)
        ctx: Any,
        inputs: Tensor,
        keep: Tensor,
        hidden: Tensor,
        cell: Tensor,
        weight: Tensor,
        transposed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        T, B, H = *inputs.shape[:2], hidden.shape[-1]
        gates = torch.empty_like(inputs)
        hiddens, cells = inputs.new_empty(T, B, H), inputs.new_empty(T, B, H)
        kept_hiddens, kept_cells = torch.empty_like(hiddens), torch.empty_like(cells)
        squashed = torch.empty_like(cells)  # tanh of each cell
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
        rows = min(T, BLOCK // (B * H) + 1) if B else 1
        slopes = [gates.new_empty(rows, B, H) for _ in range(GATES + 1)]
        grad_gates = torch.empty_like(gates)
        grad_hidden, grad_cell = gates.new_zeros(B, H), gates.new_zeros(B, H)
        for t in reversed(range(T)):
            if t == T - 1 or t % rows == rows - 1:
                first = t - t % rows
                some = slice(first, t + 1)
                _slopes(gates[some], kept_cells[some], squashed[some], slopes)
            write, forget, candidate, read, through_read = (slope[t % rows] for slope in slopes)
            grad_hidden += grad_hiddens[t]
            grad_cell += grad_cells[t]
            grad_cell.addcmul_(grad_hidden, through_read)
            row = grad_gates[t].chunk(GATES, dim=-1)
            torch.mul(grad_cell, write, out=row[WRITE])
            torch.mul(grad_cell, forget, out=row[FORGET])
            torch.mul(grad_cell, candidate, out=row[CANDIDATE])
            torch.mul(grad_hidden, read, out=row[READ])
            torch.mm(grad_gates[t], weight, out=grad_hidden).mul_(keep[t])
            grad_cell.mul_(gates[t].chunk(GATES, dim=-1)[FORGET]).mul_(keep[t])
        grad_weight = grad_gates.flatten(0, 1).t() @ kept_hiddens.flatten(0, 1)
        return grad_gates, None, grad_hidden, grad_cell, grad_weight, None


def _slopes(gates: Tensor, kept_cells: Tensor, squashed: Tensor, out: list[Tensor]) -> None:
    """Slopes that the backward pass multiplies by, of some rows.

    Into `out`, [rows, B, H] each: of the cell with respect to the inputs of the first three gates,
    of the hidden state with respect to the input of the read gate, and with respect to the cell.
    """
    write, forget, candidate, read = gates.chunk(GATES, dim=-1)
    of_write, of_forget, of_candidate, of_read, through_read = (one[: len(gates)] for one in out)
    sigmoid = torch.ops.aten.sigmoid_backward.grad_input
    tanh = torch.ops.aten.tanh_backward.grad_input
    sigmoid(candidate, write, grad_input=of_write)
    sigmoid(kept_cells, forget, grad_input=of_forget)
    tanh(write, candidate, grad_input=of_candidate)
    sigmoid(squashed, read, grad_input=of_read)
    tanh(read, squashed, grad_input=through_read)


def transposed_copy(weight: Tensor) -> Tensor:
    """What a few rows are multiplied with half as fast again as with the matrix read sideways."""
    return weight.detach().t().contiguous()


def lstm_scan(
    inputs: Tensor,
    keep: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weight: Tensor,
    transposed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber's recurrence with forget gates (Gers et al. 2000), row by row.

    Args:
        inputs: [T, B, 4 · H]: the input's share of the gates, bias included, in the order write,
            forget, candidate, read.
        keep: [T, B, 1]: 0 where the state is zeroed before row t is read, else 1.
        hidden: [B, H]: before row 0.
        cell: [B, H]: before row 0.
        weight: [4 · H, H]: from the hidden state to the gates.
        transposed: `transposed_copy` of it, if there is one already.

    Returns:
        Hidden states and cells after each row, [T, B, H] each.
    """
    transposed = transposed_copy(weight) if transposed is None else transposed
    if not torch.is_grad_enabled():
        return _forward_only(inputs, keep, hidden, cell, transposed)
    hiddens, cells = LSTMScan.apply(  # type: ignore[no-untyped-call]
        inputs, keep, hidden, cell, weight, transposed
    )
    return hiddens, cells


def _forward_only(
    inputs: Tensor, keep: Tensor, hidden: Tensor, cell: Tensor, transposed: Tensor
) -> tuple[Tensor, Tensor]:
    """`LSTMScan.forward` to the last bit, with nothing kept for a backward pass."""
    H, states = hidden.shape[-1], []
    for row, kept in zip(inputs, keep, strict=True):
        gates = torch.addmm(row, hidden * kept, transposed)
        gates[:, : CANDIDATE * H].sigmoid_()
        gates[:, CANDIDATE * H : READ * H].tanh_()
        gates[:, READ * H :].sigmoid_()
        write, forget, candidate, read = gates.chunk(GATES, dim=-1)
        cell = (cell * kept).mul_(forget).addcmul_(write, candidate)
        hidden = read * torch.tanh(cell)
        states.append((hidden, cell))
    hiddens, cells = zip(*states, strict=True)
    return torch.stack(hiddens), torch.stack(cells)
