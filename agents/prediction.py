"""The auxiliary loss: the simulator, a head, and what both are asked about an unroll.

SimCore and CPC|A set out from the same starts to the same horizons, and both may have a term for
horizon 0, the present view from the belief itself. They differ in the head alone; anything else
would confound their comparison.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor, nn

from groundling.agents.actions import Actions
from groundling.agents.attention import WHOLE, Attention
from groundling.agents.config import AgentConfig
from groundling.agents.cores import CoreState
from groundling.agents.cpc import (
    CPCHead,
    binary_contrast,
    candidates,
    group_sizes,
    infonce,
    ranked_first,
)
from groundling.agents.sensors import Observation, Sensors
from groundling.agents.simcore import SimCoreHead
from groundling.agents.simulation import Overshoot, Simulator, plan_overshoot
from groundling.envs.errors import UserError


class PredictionOutput(NamedTuple):
    """Losses to be weighed and summed, and what was measured on the way."""

    present: Tensor
    """Scalar: mean nats at horizon 0; 0 if it weighs nothing."""
    future: Tensor
    """Scalar: mean nats over all valid horizons from 1 on; 0 if there was none, or if it weighs
    nothing."""
    present_count: int
    """Of how many `present` is the mean."""
    future_count: Tensor
    """Scalar int64: of how many `future` is."""
    measured: dict[str, tuple[float, float]]
    """By name: a mean, and of how many."""


class Prediction(nn.Module):
    """Simulator and head.

    Args:
        space: of a single environment's observations.
        sensors: the agent's; used, not owned.
        actions: what the agent can do.
        config: of the agent.
        attention: the agent's, if it has one; used, not owned.

    Raises:
        UserError: the agent is to tell whole views apart, which it cannot read.
    """

    def __init__(
        self,
        space: gymnasium.Space[Any],
        sensors: Sensors,
        actions: Actions,
        config: AgentConfig,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        self.config = config.prediction
        self.whole: str | None = None
        if attention is not None and self.config.privileged:
            self.whole = attention.part
            if self.config.loss == "cpc":
                raise UserError(
                    "agent.prediction.privileged is True; expected False with loss cpc, as an "
                    "agent with attention has no sensor for the whole view"
                )
        self.simulator = Simulator(
            actions,
            config.core_size,
            sees_actions=config.prediction.actions,
            looks=attention is not None,
        )
        self.head: SimCoreHead | CPCHead = (
            SimCoreHead(space, sensors, config)
            if config.prediction.loss == "simcore"
            else CPCHead(config)
        )

    def forward(
        self,
        core: CoreState,
        features: Tensor,
        observation: Observation,
        is_first: Tensor,
        actions: Tensor,
        sensors: Sensors,
        *,
        location: Tensor | None = None,
        absent: Tensor | None = None,
        limit: int,
        generator: torch.Generator,
        total: Callable[[Tensor], Tensor] = lambda counts: counts,
    ) -> PredictionOutput:
        """Predicts an unroll's present and future.

        Args:
            core: the agent's states, [T + 1, B, core_size] each.
            features: [T + 1, B, feature_size].
            observation: {name: [T + 1, B, *leaf shape]}.
            is_first: [T + 1, B] bool; also of every absent row, and of the one after it.
            actions: [T, B, *action shape]: a_t, what was done at row t.
            sensors: the agent's.
            location: [T + 1, B, 2]: coordinates through which the rows were read, with attention.
            absent: [T + 1, B] bool: rows that are neither read nor predicted; None if none is.
            limit: the longest horizon.
            generator: draws starts and horizons, on the CPU.
            total: of counts of these environments makes counts of all, when several learners have
                some each. It is called as often whatever was seen.
        """
        if not self.config.reaches_agent:
            core, features = core.detach(), features.detach()
        # What weighs nothing need not be predicted: either term alone is cheaper than both.
        plan = plan_overshoot(
            is_first,
            starts=self.config.starts if self.config.weight else 0,
            horizons=self.config.horizons,
            limit=limit,
            generator=generator,
        )
        present = torch.arange(
            len(is_first) if self.config.present_weight else 0, device=is_first.device
        )
        # One pass of the head for the present of all rows and for the futures; s⁰ = h_t.
        here = core.hidden[present].flatten(0, 1)
        # What was decided at row t is where row t + 1 is read.
        looked = None if location is None else location[1:]
        ahead = self.simulator.overshoot(core, actions, plan, looked)
        states = torch.cat([here, ahead.flatten(0, 2)]) if len(here) else ahead.flatten(0, 2)
        rows = torch.cat([present, plan.targets.flatten()])
        nats, measured = (
            self._generate(states, rows, observation, sensors, location, absent, total)
            if isinstance(self.head, SimCoreHead)
            else self._contrast(states, rows, *self._views(features, observation, sensors), absent)
        )
        counted = None
        if absent is not None:
            # From an absent row on no horizon is valid, as the row after it is a first one.
            plan = plan._replace(valid=plan.valid & self._truth(~absent)[plan.targets])
            counted = (~absent & self._truth(~absent))[present].flatten()
        return self._reduce(nats, measured, len(here), counted, plan)

    def _generate(
        self,
        states: Tensor,
        rows: Tensor,
        observation: Observation,
        sensors: Sensors,
        location: Tensor | None,
        absent: Tensor | None,
        total: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """SimCore: nats [N] of what was seen at these rows, environments innermost."""
        assert isinstance(self.head, SimCoreHead)
        if self.whole is not None:
            observation = observation | {self.whole: observation[WHOLE + self.whole]}
        seen = {
            name: self._truth(observation[name])[rows].flatten(0, 1) for name in self.head.names
        }
        weights = self.head.cell_weights(observation, absent, total=total)
        through = None if location is None else self._truth(location)[rows].flatten(0, 1)
        return self.head(states, seen, sensors, weights, through), {}

    def _contrast(
        self,
        states: Tensor,
        rows: Tensor,
        features: Tensor,
        observation: Observation,
        absent: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """CPC|A: nats [N] of telling these rows' views from the others of the unroll, among a group
        of environments at a time; environments innermost."""
        assert isinstance(self.head, CPCHead)
        loss = binary_contrast if self.config.contrast == "binary" else infonce
        sizes = group_sizes(features.shape[1])
        leaves = [leaf.split(sizes, 1) for leaf in observation.values()]
        queries = self.head.query(states).unflatten(0, (len(rows), features.shape[1]))
        # Split in one piece: the gradient of each part by itself would be as large as of all.
        groups = zip(
            queries.split(sizes, 1),
            self.head.key(features).split(sizes, 1),
            [None] * len(sizes) if absent is None else absent.split(sizes, 1),
            *leaves,
            strict=True,
        )
        nats, first = [], []
        for size, (query, key, filler, *seen) in zip(sizes, groups, strict=True):
            views = candidates(key, dict(zip(observation, seen, strict=True)), filler)
            members = torch.arange(size, device=rows.device).unsqueeze(0)
            true = (rows.unsqueeze(1) * size + self._truth(members)).flatten()
            scores = self.head.scores(query.flatten(0, 1), true, views)
            nats.append(loss(scores, true, views).view(len(rows), size))
            first.append(ranked_first(scores).view(len(rows), size))
        return torch.cat(nats, 1).flatten(), {"ranked_first": torch.cat(first, 1).flatten()}

    def _views(
        self, features: Tensor, observation: Observation, sensors: Sensors
    ) -> tuple[Tensor, Observation]:
        """CPC|A's candidates: features and leaves of an unroll, with nothing instructed and not
        where the agent looked. By the instruction alone, or by the location that the simulator is
        told, its own future could be told from that of any other room."""
        if not sensors.instructions and sensors.where is None:
            return features, observation
        silent = sensors.without_instruction(observation)
        features = sensors(silent)
        return (features if self.config.reaches_agent else features.detach()), silent

    def _truth(self, leaf: Tensor) -> Tensor:
        """[T, B, …]: as it was; for the placebo, as it was in the environment before, of a group
        that CPC|A tells apart. (SimCore's is the same, so that both are asked alike.)"""
        if not self.config.shuffled:
            return leaf
        groups = leaf.split(group_sizes(leaf.shape[1]), 1)
        return torch.cat([group.roll(1, dims=1) for group in groups], 1)

    def _reduce(
        self,
        nats: Tensor,
        measured: dict[str, Tensor],
        here: int,
        counted: Tensor | None,
        plan: Overshoot,
    ) -> PredictionOutput:
        """Means of present (the first `here` nats, or those of them that are `counted`) and future
        (pairs that lie within one episode)."""
        future = nats[here:].view_as(plan.valid)
        count = plan.valid.sum()
        numbers = {"prediction/longest_horizon": (float(plan.horizons[-1]), 1.0)}
        if pairs := plan.valid.numel():
            numbers["prediction/valid"] = (float(count) / pairs, float(pairs))
        for name, values in measured.items():
            ahead = values[here:].view_as(plan.valid)[plan.valid].float()
            if len(ahead):
                numbers[f"prediction/{name}"] = (float(ahead.mean()), float(len(ahead)))
        now = nats[:here] if counted is None else nats[:here][counted]
        return PredictionOutput(
            now.sum() / max(len(now), 1),
            (future * plan.valid).sum() / count.clamp(min=1),
            len(now),
            count,
            numbers,
        )
