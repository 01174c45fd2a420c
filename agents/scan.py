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


class Trace:
    """What an LSTM computes of T rows of B environments: all that its backward pass reads.

    It fills up as rows are walked. Whoever reads the same rows again with the same weights may hand
    over the full trace instead of computing them again.

    Args:
        gates: [T, B, 4 · H], to be filled.

    Attributes:
        gates: between 0 and 1, the candidates between -1 and 1; of rows not walked yet, whatever
            is there.
        hiddens: [T + 1, B, H]: the hidden state before row 0, and after each row.
        cells: [T + 1, B, H]: likewise.
        walked: how many rows it holds.
    """

    def __init__(self, gates: Tensor) -> None:
        T, B, width = gates.shape
        self.gates = gates
        # Each by itself: whoever keeps a state of the one does not keep the other.
        self.hiddens = gates.new_empty(T + 1, B, width // GATES)
        self.cells = torch.empty_like(self.hiddens)
        self.walked = 0

    def coming(self, rows: int) -> Tensor:
        """[rows, B, 4 · H]: where the input's share of the next rows' gates goes."""
        assert self.walked + rows <= len(self.gates), "a trace is as long as what is walked"
        return self.gates[self.walked : self.walked + rows]

    @property
    def full(self) -> bool:
        """Nothing is left to be computed."""
        return self.walked == len(self.gates)

    def walk(
        self, rows: int, keep: Tensor | None, hidden: Tensor, cell: Tensor, transposed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes the next rows, in whose gates the input's share stands already; for the other
        arguments and the result see `lstm_scan`."""
        if self.walked == 0:
            self.hiddens[0], self.cells[0] = hidden, cell
        first, H = self.walked, hidden.shape[-1]
        for t in range(rows):
            if keep is not None:
                hidden, cell = hidden * keep[t], cell * keep[t]
            gates = self.gates[self.walked].addmm_(hidden, transposed)
            gates[:, : CANDIDATE * H].sigmoid_()
            gates[:, CANDIDATE * H : READ * H].tanh_()
            gates[:, READ * H :].sigmoid_()
            write, forget, candidate, read = gates.chunk(GATES, dim=-1)
            self.walked += 1
            cell = torch.mul(cell, forget, out=self.cells[self.walked]).addcmul_(write, candidate)
            hidden = torch.mul(read, torch.tanh(cell), out=self.hiddens[self.walked])
        after = slice(first + 1, self.walked + 1)
        return self.hiddens[after], self.cells[after]


class LSTMScan(torch.autograd.Function):
    """Runs the LSTM's recurrence; see `lstm_scan`."""

    @staticmethod
    def forward(  # noqa: D102  (torch calls it)
        ctx: Any,
        inputs: Tensor,
        keep: Tensor | None,
        hidden: Tensor,
        cell: Tensor,
        weight: Tensor,
        transposed: Tensor,
        trace: Trace | None,
    ) -> tuple[Tensor, Tensor]:
        if trace is None:
            # Not marked as overwritten, which views may not be: nobody reads them after this, and
            # whoever kept them for a backward pass of his own is told so by their version.
            trace = Trace(inputs)
            trace.walk(len(inputs), keep, hidden, cell, transposed)
        assert trace.full, "with gradients a trace holds all rows, or there is none"
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(trace.gates, trace.hiddens, trace.cells, keep, weight)
        return trace.hiddens[1:], trace.cells[1:]

    @staticmethod
    @once_differentiable
    def backward(  # noqa: D102  (torch calls it)
        ctx: Any, grad_hiddens: Tensor | None, grad_cells: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gates, hiddens, cells, keep, weight = ctx.saved_tensors
        T, (B, H) = len(gates), hiddens.shape[1:]
        rows = min(T, BLOCK // (B * H) + 1) if B else 1
        through_read, squashed = gates.new_empty(2, rows, B, H)
        grad_gates = torch.empty_like(gates)
        grad_hidden, grad_cell = gates.new_zeros(2, B, H)
        for t in reversed(range(T)):
            if t == T - 1 or t % rows == rows - 1:
                some = slice(t - t % rows, t + 1)
                torch.tanh(cells[1:][some], out=squashed[: len(gates[some])])
                kept = _kept(cells[some], keep, some)
                _slopes(gates[some], kept, squashed, grad_gates[some], through_read)
            if grad_hiddens is not None:
                grad_hidden += grad_hiddens[t]
            if grad_cells is not None:
                grad_cell += grad_cells[t]
            grad_cell.addcmul_(grad_hidden, through_read[t % rows])
            row = grad_gates[t].unflatten(-1, (GATES, H))
            row[:, :READ].mul_(grad_cell.unsqueeze(1))
            row[:, READ].mul_(grad_hidden)
            torch.mm(grad_gates[t], weight, out=grad_hidden)
            grad_cell.mul_(gates[t, :, FORGET * H : CANDIDATE * H])
            if keep is not None:
                grad_hidden.mul_(keep[t])
                grad_cell.mul_(keep[t])
        kept = _kept(hiddens[:-1], keep, slice(None)).flatten(0, 1)
        # This way round a product of many rows is faster.
        grad_weight = (kept.t() @ grad_gates.flatten(0, 1)).t()
        return grad_gates, None, grad_hidden, grad_cell, grad_weight, None, None


def _kept(states: Tensor, keep: Tensor | None, some: slice) -> Tensor:
    """What is left of states before these rows."""
    return states if keep is None else states * keep[some]


def _slopes(
    gates: Tensor, kept: Tensor, squashed: Tensor, through: Tensor, through_read: Tensor
) -> None:
    """Slopes that the backward pass multiplies by, of some rows.

    Args:
        gates: [rows, B, 4 · H].
        kept: [rows, B, H]: cells before these rows, what was zeroed zero.
        squashed: [at least rows, B, H]: tanh of the cells after them.
        through: [rows, B, 4 · H]; written: of the cell with respect to the inputs of the first
            three gates, and of the hidden state with respect to the input of the read gate.
        through_read: like `squashed`; written: of the hidden state with respect to the cell.
    """
    write, forget, candidate, read = gates.chunk(GATES, dim=-1)
    of_write, of_forget, of_candidate, of_read = through.chunk(GATES, dim=-1)
    squashed, through_read = squashed[: len(gates)], through_read[: len(gates)]
    sigmoid = torch.ops.aten.sigmoid_backward.grad_input
    tanh = torch.ops.aten.tanh_backward.grad_input
    sigmoid(candidate, write, grad_input=of_write)
    sigmoid(kept, forget, grad_input=of_forget)
    tanh(write, candidate, grad_input=of_candidate)
    sigmoid(squashed, read, grad_input=of_read)
    tanh(read, squashed, grad_input=through_read)


def transposed_copy(weight: Tensor) -> Tensor:
    """What a few rows are multiplied with half as fast again as with the matrix read sideways."""
    return weight.detach().t().contiguous()


def lstm_scan(
    inputs: Tensor,
    keep: Tensor | None,
    hidden: Tensor,
    cell: Tensor,
    weight: Tensor,
    transposed: Tensor | None = None,
    trace: Trace | None = None,
) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber's recurrence with forget gates (Gers et al. 2000), row by row.

    Args:
        inputs: [T, B, 4 · H]: the input's share of the gates, bias included, in the order write,
            forget, candidate, read. Overwritten.
        keep: [T, B, 1]: 0 where the state is zeroed before row t is read, else 1; None: it never
            is.
        hidden: [B, H]: before row 0.
        cell: [B, H]: before row 0.
        weight: [4 · H, H]: from the hidden state to the gates.
        transposed: `transposed_copy` of it, if there is one already.
        trace: of these very rows, if they were walked before: then `inputs` is not read, but its
            gradient is what it would have been. Or, without gradients, one that they are added to:
            `inputs` is then what it has `coming`.

    Returns:
        Hidden states and cells after each row, [T, B, H] each; not to be written to, as the
        backward pass reads them.
    """
    transposed = transposed_copy(weight) if transposed is None else transposed
    if not torch.is_grad_enabled():
        trace = Trace(inputs) if trace is None else trace
        if trace.full:
            return trace.hiddens[1:], trace.cells[1:]
        assert inputs.data_ptr() == trace.coming(len(inputs)).data_ptr(), "these rows are next"
        return trace.walk(len(inputs), keep, hidden, cell, transposed)
    hiddens, cells = LSTMScan.apply(  # type: ignore[no-untyped-call]
        inputs, keep, hidden, cell, weight, transposed, trace
    )
    return hiddens, cells
