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
    """What an LSTM computes of T rows of B environments, for others and for its backward pass.

    It fills up as rows are walked. Whoever reads the same rows again with the same weights may hand
    over the full trace instead of computing them again.

    Args:
        gates: [T, B, 4 · H], to be filled.
        flags: G, how many numbers of the input are fed beside the hidden state.

    Attributes:
        gates: between 0 and 1, the candidates between -1 and 1; of rows not walked yet, and of a
            spent trace, whatever is there.
        inputs: [T, B, G + H]: flags, and the hidden state before each row, zero where it is zeroed.
        hiddens: [T, B, H]: the hidden state after each row.
        cells: [T + 1, B, H]: the cell before row 0, and after each row.
        walked: how many rows it holds.
        lasts: the backward pass leaves the gates as they are, and may be gone through again.
            Otherwise the gradient of the features' share, if anybody asks for it, is written over
            them: there is less memory to be waited for.
        spent: they were written over: the trace is of no more use.
    """

    def __init__(self, gates: Tensor, flags: int) -> None:
        T, B, width = gates.shape
        self.gates = gates
        self.inputs = gates.new_empty(T, B, flags + width // GATES)
        # Each by itself: whoever keeps a state of the one does not keep the other.
        self.hiddens = gates.new_empty(T, B, width // GATES)
        self.cells = gates.new_empty(T + 1, B, width // GATES)
        self.walked = 0
        self.lasts, self.spent = False, False

    def coming(self, rows: int) -> Tensor:
        """[rows, B, 4 · H]: where the features' share of the next rows' gates goes."""
        assert self.walked + rows <= len(self.gates), "a trace is as long as what is walked"
        return self.gates[self.walked : self.walked + rows]

    @property
    def full(self) -> bool:
        """Nothing is left to be computed; what was is still there."""
        return self.walked == len(self.gates) and not self.spent

    def walk(
        self,
        shared: bool,
        flags: Tensor,
        keep: Tensor | None,
        hidden: Tensor,
        cell: Tensor,
        transposed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Computes the next rows, in whose gates the features' share stands already if it is
        `shared`; for the other arguments and the result see `lstm_scan`."""
        if self.walked == 0:
            self.cells[0] = cell
        first = self.walked
        for t in range(len(flags)):
            if keep is not None:
                hidden, cell = hidden * keep[t], cell * keep[t]
            inputs = torch.cat([flags[t], hidden], -1, out=self.inputs[self.walked])
            gates = self.gates[self.walked]
            if shared:
                gates.addmm_(inputs, transposed)
            else:
                torch.mm(inputs, transposed, out=gates)
            write, forget, candidate, read = gates.chunk(GATES, dim=-1)
            gates[:, : CANDIDATE * hidden.shape[-1]].sigmoid_()
            candidate.tanh_()
            read.sigmoid_()
            cell = torch.mul(cell, forget, out=self.cells[self.walked + 1])
            cell.addcmul_(write, candidate)
            hidden = torch.mul(read, torch.tanh(cell), out=self.hiddens[self.walked])
            self.walked += 1
        return self.hiddens[first : self.walked], self.cells[first + 1 : self.walked + 1]


class LSTMScan(torch.autograd.Function):
    """Runs the LSTM's recurrence; see `lstm_scan`."""

    @staticmethod
    def forward(  # noqa: D102  (torch calls it)
        ctx: Any,
        shares: Tensor | None,
        flags: Tensor,
        keep: Tensor | None,
        hidden: Tensor,
        cell: Tensor,
        weight: Tensor,
        transposed: Tensor | None,
        trace: Trace | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.spends = None if trace is None or trace.lasts else trace
        if trace is None:
            # Not marked as overwritten, which views may not be: nobody reads them after this, and
            # whoever kept them for a backward pass of his own is told so by their version.
            trace = _walked(shares, flags, keep, hidden, cell, transposed)
        assert trace.full, "with gradients a trace holds all rows, or there is none"
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(trace.gates, trace.inputs, trace.cells, keep, weight)
        # Views: what is returned itself becomes part of the graph.
        return trace.hiddens[:], trace.cells[1:]

    @staticmethod
    @once_differentiable
    def backward(  # noqa: D102  (torch calls it)
        ctx: Any, grad_hiddens: Tensor | None, grad_cells: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gates, inputs, cells, keep, weight = ctx.saved_tensors
        T, (B, H) = len(gates), cells.shape[1:]
        rows = max(1, min(T, BLOCK // (B * H) + 1)) if B else 1
        slopes = _Slopes(gates.new_empty(4, rows, B, H))
        shares = None
        if not ctx.needs_input_grad[0]:
            spare = gates.new_empty(rows, B, GATES * H)  # Nobody asks for them all.
        elif ctx.spends is None:
            shares = torch.empty_like(gates)
        else:
            shares, ctx.spends.spent = gates, True
        grad_hidden, grad_cell = gates.new_zeros(2, B, H)
        # This way round a product of many rows is faster.
        grad_weight = gates.new_zeros(inputs.shape[-1], GATES * H)
        for first in reversed(range(0, T, rows)):
            some = slice(first, min(first + rows, T))
            kept = cells[some] if keep is None else cells[some] * keep[some]
            through = spare[: len(kept)] if shares is None else shares[some]
            slopes.make(gates[some], kept, cells[1:][some], through)
            for t in reversed(range(T)[some]):
                if grad_hiddens is not None:
                    grad_hidden += grad_hiddens[t]
                if grad_cells is not None:
                    grad_cell += grad_cells[t]
                i = t - first
                grad_cell.addcmul_(grad_hidden, slopes.read[i])
                row = through[i].unflatten(-1, (GATES, H))
                row[:, :CANDIDATE].mul_(grad_cell.unsqueeze(1))
                torch.mul(slopes.candidate[i], grad_cell, out=row[:, CANDIDATE])
                row[:, READ].mul_(grad_hidden)
                torch.mm(through[i], weight[:, -H:], out=grad_hidden)
                grad_cell.mul_(slopes.forget[i])
                if keep is not None:
                    grad_hidden.mul_(keep[t])
                    grad_cell.mul_(keep[t])
            if shares is None:
                grad_weight.addmm_(inputs[some].flatten(0, 1).t(), through.flatten(0, 1))
        if shares is not None:
            torch.mm(inputs.flatten(0, 1).t(), shares.flatten(0, 1), out=grad_weight)
        return shares, None, None, grad_hidden, grad_cell, grad_weight.t(), None, None


class _Slopes:
    """Slopes that the backward pass multiplies by, of some rows at a time.

    Args:
        spare: [4, rows, B, H]: where to keep them.

    Attributes:
        read: [rows, B, H]: of the hidden state with respect to the cell.
        forget: [rows, B, H]: of the cell with respect to the one before, the gate itself.
        candidate: [rows, B, H]: of the cell with respect to the candidates' inputs.
    """

    def __init__(self, spare: Tensor) -> None:
        self.read, self.candidate, self._squashed, self._forget = spare
        self.forget = self._forget

    def make(self, gates: Tensor, kept: Tensor, cells: Tensor, through: Tensor) -> None:
        """Makes those of these rows.

        Args:
            gates: [at most rows, B, 4 · H].
            kept: [as many, B, H]: cells before these rows, what was zeroed zero.
            cells: [as many, B, H]: after them.
            through: [as many, B, 4 · H], perhaps the gates themselves; written: of the cell with
                respect to the inputs of the first two gates, and of the hidden state with respect
                to the input of the read gate. (The candidates' slopes would be in the way.)
        """
        write, forget, candidate, read = gates.chunk(GATES, dim=-1)
        of_write, of_forget, _, of_read = through.chunk(GATES, dim=-1)
        spare = (self.read, self.candidate, self._squashed, self._forget)
        through_read, of_candidate, squashed, spare_forget = (part[: len(gates)] for part in spare)
        sigmoid = torch.ops.aten.sigmoid_backward.grad_input
        tanh = torch.ops.aten.tanh_backward.grad_input
        torch.tanh(cells, out=squashed)
        tanh(read, squashed, grad_input=through_read)
        sigmoid(squashed, read, grad_input=of_read)
        over = through.data_ptr() == gates.data_ptr()
        self.forget = spare_forget.copy_(forget) if over else forget
        sigmoid(kept, forget, grad_input=of_forget)
        tanh(write, candidate, grad_input=of_candidate)
        sigmoid(candidate, write, grad_input=of_write)


def transposed_copy(weight: Tensor) -> Tensor:
    """What a few rows are multiplied with half as fast again as with the matrix read sideways."""
    return weight.detach().t().contiguous()


def _walked(shares: Tensor | None, flags: Tensor, *rest: Any) -> Trace:
    """The trace of rows that are walked at once; arguments as of `Trace.walk`, but for the
    features' share itself instead of whether there is one."""
    T, B, G = flags.shape
    width = rest[-1].shape[-1]
    trace = Trace(flags.new_empty(T, B, width) if shares is None else shares, G)
    trace.walk(shares is not None, flags, *rest)
    return trace


def lstm_scan(
    shares: Tensor | None,
    flags: Tensor,
    keep: Tensor | None,
    hidden: Tensor,
    cell: Tensor,
    weight: Tensor,
    transposed: Tensor | None = None,
    trace: Trace | None = None,
) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber's recurrence with forget gates (Gers et al. 2000), row by row.

    Args:
        shares: [T, B, 4 · H]: what features have to say to the gates, in the order write, forget,
            candidate, read; None: nothing. Overwritten.
        flags: [T, B, G]: the rest of the input: few numbers, that are fed beside the hidden state
            and to which no gradient flows; a bias is one that is always 1.
        keep: [T, B, 1]: 0 where the state is zeroed before row t is read, else 1; None: it never
            is.
        hidden: [B, H]: before row 0.
        cell: [B, H]: before row 0.
        weight: [4 · H, G + H]: from flags and hidden state to the gates.
        transposed: `transposed_copy` of it, if there is one already.
        trace: of these very rows, if they were walked before: then `shares` are not read, but their
            gradient is what it would have been. Or, without gradients, one that they are added to:
            `shares` are then what it has `coming`.

    Returns:
        Hidden states and cells after each row, [T, B, H] each; not to be written to, as others and
        the backward pass read them.
    """
    assert not flags.requires_grad
    if transposed is None and (trace is None or not trace.full):
        transposed = transposed_copy(weight)
    if torch.is_grad_enabled():
        hiddens, cells = LSTMScan.apply(  # type: ignore[no-untyped-call]
            shares, flags, keep, hidden, cell, weight, transposed, trace
        )
        return hiddens, cells
    if trace is None:
        trace = _walked(shares, flags, keep, hidden, cell, transposed)
    if trace.full:
        return trace.hiddens, trace.cells[1:]
    coming = trace.coming(len(flags)).data_ptr()
    assert shares is None or shares.data_ptr() == coming, "these rows are next"
    assert transposed is not None
    return trace.walk(shares is not None, flags, keep, hidden, cell, transposed)
