"""The action-conditional simulator: what the agent expects to see, k steps ahead, without looking.

From the belief b_t = (h_t, c_t) a recurrent net sets out, s⁰ = h_t, and is fed the actions a_t …
a_{t+k-1} (with attention the pairs (a, l) of action and location), never an observation; s^k is
what it makes of x_{t+k} (Das et al. 2020, figure 2). Both heads, SimCore's and CPC|A's, read the
same states from the same starts at the same horizons.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from groundling.agents.actions import Actions, DiscreteActions
from groundling.agents.cores import FORGET_BIAS, CoreState
from groundling.agents.scan import lstm_scan


class Overshoot(NamedTuple):
    """Which futures are predicted: S start rows, K horizons, and which pairs exist."""

    starts: Tensor
    """[S] int64: rows the simulator sets out from."""
    horizons: Tensor
    """[K] int64, ascending, from 1 on."""
    targets: Tensor
    """[K, S] int64: starts + horizons, the rows that are predicted."""
    valid: Tensor
    """[K, S, B] bool: no episode begins between a start (exclusive) and its target (inclusive)."""


class Simulator(nn.Module):
    """An LSTM that starts from a belief and is driven by actions alone.

    Args:
        actions: what the agent can do.
        core_size: of the agent's core, whose state it starts from.
        sees_actions: the ablation: without, it only counts steps.
        looks: whether the agent decides where to look, too.
    """

    def __init__(
        self, actions: Actions, core_size: int, *, sees_actions: bool = True, looks: bool = False
    ) -> None:
        super().__init__()
        self.sees_actions = sees_actions
        self.actions = actions
        # Each action's share of the gates.
        self.from_action: nn.Embedding | nn.Linear = (
            nn.Embedding(actions.width, 4 * core_size)
            if isinstance(actions, DiscreteActions)
            else nn.Linear(actions.width, 4 * core_size)
        )
        self.from_location = nn.Linear(2, 4 * core_size, bias=False) if looks else None
        self.from_hidden = nn.Linear(core_size, 4 * core_size, bias=False)
        nn.init.normal_(self.from_action.weight, std=0.5)  # As loud as in the core.
        for gate in self.from_hidden.weight.chunk(4):
            nn.init.orthogonal_(gate)
        with torch.no_grad():
            if isinstance(self.from_action, nn.Linear):
                nn.init.zeros_(self.from_action.bias)
                self.from_action.bias[core_size : 2 * core_size] = FORGET_BIAS
            else:  # No bias of its own: exactly one of its rows is chosen.
                self.from_action.weight[:, core_size : 2 * core_size] += FORGET_BIAS

    def forward(
        self, belief: CoreState, actions: Tensor, locations: Tensor | None = None
    ) -> Tensor:
        """Imagines.

        Args:
            belief: [N, core_size] each, at the start.
            actions: [K, N, *action shape]: a_t … a_{t+K-1}.
            locations: [K, N, 2]: coordinates of l_t … l_{t+K-1}, with attention.

        Returns:
            s¹ … s^K, [K, N, core_size].
        """
        fed = actions if self.sees_actions else torch.zeros_like(actions)
        flags = [self.actions.encode(fed).to(belief.hidden.dtype)]
        if isinstance(self.from_action, nn.Linear):
            weights = [self.from_action.weight, self.from_action.bias.unsqueeze(1)]
            flags.append(flags[0].new_ones(*flags[0].shape[:-1], 1))
        else:
            weights = [self.from_action.weight.t()]
        if self.from_location is not None:
            assert locations is not None
            weights.append(self.from_location.weight)
            flags.append(locations)
        states, _ = lstm_scan(
            None,
            torch.cat(flags, -1),
            None,
            belief.hidden,
            belief.cell,
            torch.cat([*weights, self.from_hidden.weight], 1),
        )
        return states

    def overshoot(
        self, core: CoreState, actions: Tensor, plan: Overshoot, locations: Tensor | None = None
    ) -> Tensor:
        """The states of a plan's starts and horizons.

        Args:
            core: the agent's states, [T + 1, B, core_size] each.
            actions: [T, B, *action shape]: a_t, what was done at row t.
            plan: which of them.
            locations: [T, B, 2]: coordinates of l_t, which was decided at row t; with attention.

        Returns:
            [K, S, B, core_size]: s^k of each start, where k is the plan's k-th horizon.
        """
        S, B = len(plan.starts), actions.shape[1]
        start = CoreState(
            core.hidden[plan.starts].flatten(0, 1), core.cell[plan.starts].flatten(0, 1)
        )
        ahead = torch.arange(int(plan.horizons[-1]), device=actions.device)
        fed = plan.starts + ahead.unsqueeze(1)  # [longest, S]
        states: Tensor = self(
            start,
            actions[fed].flatten(1, 2),
            None if locations is None else locations[fed].flatten(1, 2),
        )
        if len(plan.horizons) < len(states):
            # s^k stands at index k - 1: the first action leads to s¹.
            states = states[plan.horizons - 1]
        return cast(Tensor, states.unflatten(1, (S, B)))


def plan_overshoot(
    is_first: Tensor, *, starts: int, horizons: int, limit: int, generator: torch.Generator
) -> Overshoot:
    """Draws which futures of an unroll are predicted.

    Args:
        is_first: [T + 1, B] bool.
        starts: how many rows, at most.
        horizons: how many horizons, at most.
        limit: the longest horizon; shortened where the unroll is shorter.
        generator: draws, on the CPU.
    """
    T = len(is_first) - 1
    limit = min(limit, T)
    device = is_first.device
    last_start = T - limit
    chosen = torch.randperm(last_start + 1, generator=generator)[:starts].sort().values.to(device)
    lengths = torch.randperm(limit, generator=generator)[:horizons].sort().values.to(device) + 1
    targets = chosen + lengths.unsqueeze(1)
    # Episodes begun up to and including each row; equal counts mean that none began in between.
    begun = is_first.cumsum(0)
    return Overshoot(chosen, lengths, targets, begun[targets] == begun[chosen])
