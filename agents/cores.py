"""The agent's memory: a recurrent core that forgets everything when an episode begins."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from groundling.agents.layers import Derived, product
from groundling.agents.scan import Trace, lstm_scan, transposed_copy

FORGET_BIAS = 3.0
"""Forget gates start at 0.95: half of what is in a cell is still there after 14 rows, and gradients
reach as far back (Gers et al. 2000 on why the gate should start open)."""


class CoreState(NamedTuple):
    """What the LSTM carries from row to row. Leading dimensions are [B] or, in outputs, [T, B]."""

    hidden: Tensor
    """[..., core_size] float."""
    cell: Tensor
    """[..., core_size] float."""

    @property
    def belief(self) -> Tensor:
        """b = (h, c), [..., 2 · core_size]: everything the agent carries out of the past."""
        return torch.cat([self.hidden, self.cell], dim=-1)

    def detach(self) -> "CoreState":
        """The same numbers, cut from the graph."""
        return CoreState(self.hidden.detach(), self.cell.detach())


class LSTMCore(nn.Module):
    """An LSTM (Hochreiter & Schmidhuber 1997) whose state is zeroed *before* a first observation
    is read.

    The features' share of the gates is one matrix product for all rows; only the recurrent share is
    computed row by row (`agents.scan`). `nn.LSTM` cannot zero its state between rows, and called
    one row at a time it is many times slower on a CPU.

    Args:
        feature_size: of the first part of the input: what the sensors made of the observation.
        flag_size: of the rest: previous action (one-hot) and reward.
        core_size: of the hidden state, and of the cell.
    """

    def __init__(self, feature_size: int, flag_size: int, core_size: int) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.core_size = core_size
        self.from_input = nn.Linear(feature_size + flag_size, 4 * core_size)
        self.from_hidden = nn.Linear(core_size, 4 * core_size, bias=False)
        self.recurrent, self.transposed = Derived(), Derived()
        features, flags = self.from_input.weight.split([feature_size, flag_size], dim=1)
        with torch.no_grad():
            nn.init.normal_(features, std=feature_size**-0.5)
            # One flag stands alone against all features: as faint as theirs, its column would tell
            # the core next to nothing of what was just done.
            nn.init.normal_(flags, std=0.5)
            nn.init.zeros_(self.from_input.bias)
            self.from_input.bias[core_size : 2 * core_size] = FORGET_BIAS
            for gate in self.from_hidden.weight.chunk(4):
                nn.init.orthogonal_(gate)

    def initial_state(self, batch: int) -> CoreState:
        """Zeros, [batch, core_size] each."""
        zeros = self.from_input.weight.new_zeros(batch, self.core_size)
        return CoreState(zeros, zeros)

    def trace(self, rows: int, batch: int) -> Trace:
        """An empty trace for so many rows."""
        flags = self.from_input.in_features - self.feature_size + 1
        return Trace(self.from_input.weight.new_empty(rows, batch, 4 * self.core_size), flags)

    def _recurrent(self) -> Tensor:
        """[4 · core_size, flag_size + 1 + core_size]: from flags, 1 and the hidden state."""
        flags, bias = self.from_input.weight[:, self.feature_size :], self.from_input.bias
        return torch.cat([flags, bias.unsqueeze(1), self.from_hidden.weight], 1)

    def forward(
        self,
        features: Tensor,
        flags: Tensor,
        is_first: Tensor,
        state: CoreState,
        trace: Trace | None = None,
    ) -> CoreState:
        """Reads T rows.

        Args:
            features: [T, B, feature_size].
            flags: [T, B, flag_size].
            is_first: [T, B] bool; the state is zeroed before such a row is consumed.
            state: [B, core_size] each, as it was before row 0.
            trace: see `Agent.unroll`.

        Returns:
            The states after each row, [T, B, core_size] each.
        """
        keep = (~is_first).to(features.dtype).unsqueeze(-1)
        weight = self.recurrent(self._recurrent)
        known = trace is not None and trace.full
        transposed = None if known else self.transposed(lambda: transposed_copy(weight))
        if trace is not None and known:
            assert trace.gates.shape[:2] == is_first.shape, "the trace is of other rows"
        shares = product(
            features,
            self.from_input.weight[:, : self.feature_size],
            unread=known,
            out=None if trace is None or known else trace.coming(len(features)),
        )
        # What the bias is multiplied with.
        flags = torch.cat([flags, torch.ones_like(keep)], -1)
        hiddens, cells = lstm_scan(
            shares, flags, keep, state.hidden, state.cell, weight, transposed, trace
        )
        return CoreState(hiddens, cells)
