"""SimCore's head: generates the future view from the simulator's state (Gregor et al. 2019,
arXiv 1906.09237), each part of an observation by a decoder of its own (`agents.decoders`)."""

from collections.abc import Callable
from typing import Any, cast

import gymnasium
from torch import Tensor, nn

from groundling.agents.cells_decoder import CellsDecoder, GlimpseDecoder, kind_weights
from groundling.agents.config import AgentConfig
from groundling.agents.decoders import make_decoder
from groundling.agents.sensors import Cells, Observation, Sensors, leaf_spaces


class SimCoreHead(nn.Module):
    """Generates every part of an observation from a state of the simulator, or from the belief.

    But for the instruction: it is the same throughout an episode, so that to predict it is to copy
    it, and it says nothing of the world.

    Args:
        space: of a single environment's observations.
        sensors: the agent's; their embeddings name the categories (they stay the agent's own).
        config: sizes and switches.
    """

    def __init__(self, space: gymnasium.Space[Any], sensors: Sensors, config: AgentConfig) -> None:
        super().__init__()
        self.balance = config.prediction.balance
        leaves = leaf_spaces(space)
        self.names = tuple(name for name in leaves if name not in sensors.instructions)
        self.decoders = nn.ModuleList(
            make_decoder(sensors.leaf(name), leaves[name], config) for name in self.names
        )

    def decoder(self, name: str) -> nn.Module | None:
        """What generates that part of an observation, if anything does."""
        return self.decoders[self.names.index(name)] if name in self.names else None

    def forward(
        self,
        state: Tensor,
        target: Observation,
        sensors: Sensors,
        weights: dict[str, Tensor],
        location: Tensor | None = None,
    ) -> Tensor:
        """Sum over parts of their mean nats, [N].

        Args:
            state: [N, core_size].
            target: {name: [N, *leaf shape]}: what was really seen.
            sensors: the agent's.
            weights: of cells by kind, for each part that is made of cells (`cell_weights`).
            location: [N, 2]: coordinates through which it was seen, with attention.
        """
        total = state.new_zeros(len(state))
        for name, decoder in zip(self.names, self.decoders, strict=True):
            if isinstance(decoder, CellsDecoder):
                cells = cast(Cells, sensors.leaf(name))
                where = (location,) if isinstance(decoder, GlimpseDecoder) else ()
                total = total + decoder(state, target[name], cells, weights[name], *where)
            else:
                total = total + decoder(state, target[name])
        return total

    def cell_weights(
        self,
        observation: Observation,
        absent: Tensor | None = None,
        *,
        total: Callable[[Tensor], Tensor] = lambda counts: counts,
    ) -> dict[str, Tensor]:
        """Weights of cells by kind, from how often each kind is in sight in an unroll (where
        `absent`, [T + 1, B] bool, is not set). For `total` see `Prediction.forward`."""
        present = {
            name: observation[name] if absent is None else observation[name][~absent]
            for name in self.names
        }
        return {
            name: kind_weights(total(decoder.kind_counts(present[name])), self.balance)
            for name, decoder in zip(self.names, self.decoders, strict=True)
            if isinstance(decoder, CellsDecoder)
        }
