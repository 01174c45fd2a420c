"""What an agent's simulator expected to see, to be held beside what came."""

from collections import deque
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.agent import Rows
from groundling.agents.cells_decoder import CellsDecoder, GlimpseDecoder
from groundling.agents.cores import CoreState
from groundling.agents.sensors import Cells
from groundling.agents.simcore import SimCoreHead
from groundling.envs.errors import UserError
from groundling.evaluation.walks import Reader

HORIZONS = (1, 2, 4, 8)


class Imagination:
    """Follows one agent's walk and tells what it had expected of the present.

    Args:
        reader: of a single environment; its agent was trained with SimCore.
        view: name of the observation leaf that is a grid of cells.

    Raises:
        UserError: the agent cannot generate views.
    """

    def __init__(self, reader: Reader, view: str = "view") -> None:
        prediction = reader.agent.prediction
        if prediction is None or not isinstance(prediction.head, SimCoreHead):
            raise UserError("this agent does not generate views; expected a run with SimCore")
        decoder = prediction.head.decoder(view)
        if not isinstance(decoder, CellsDecoder):
            raise UserError(f"observation {view!r} is no grid of cells; expected a symbolic view")
        self.reader = reader
        self.simulator = prediction.simulator
        self.decoder = decoder
        self.of_glimpses = isinstance(decoder, GlimpseDecoder)
        """Whether it is glimpses that are expected, not whole views."""
        # Of a sensor of the user's own nothing is read: the decoder has embeddings itself.
        self.sensor = cast(Cells, reader.agent.sensors.leaf(view))
        self.past: deque[tuple[CoreState, Rows]] = deque(maxlen=max(HORIZONS) + 1)

    def follow(self) -> None:
        """Takes in the row [1] that the reader has just read."""
        if self.reader.row.is_first.item():
            self.past.clear()
        self.past.append((self.reader.state, self.reader.row))

    @torch.no_grad()
    def expected(self, steps: int) -> NDArray[np.int64] | None:
        """The likeliest view of the present as imagined `steps` ago (0: now), from then on blind.

        Returns:
            [V, V, C] codes, or None if the episode is not that old. Of glimpses it is the finest
            patch, [size, size, C].
        """
        if len(self.past) <= steps:
            return None
        belief, _ = self.past[-1 - steps]
        state = belief.hidden
        if steps:
            state = self.simulator(belief, *fed([row for _, row in list(self.past)[-steps:]]))[-1]
        # A glimpse is imagined where the present one was taken.
        scored = self.decoder.log_probs(state, self.sensor, location=self.past[-1][1].location)
        codes = [part.argmax(-1)[0] for part in scored]
        cells = self.decoder.sharp if isinstance(self.decoder, GlimpseDecoder) else len(codes[0])
        side = int(np.sqrt(cells))
        # A glimpse begins with its finest patch.
        return np.asarray(torch.stack(codes, dim=-1)[:cells].view(side, side, -1).cpu())


def fed(rows: list[Rows]) -> tuple[Tensor, Tensor | None]:
    """What a simulator is fed to arrive at the last of some rows ([N, …]) from the row before the
    first: actions [K, N, …] and, with attention, locations [K, N, 2].

    The action that led to a row, and the location decided with it, stand in that row.
    """
    actions = torch.stack([row.previous_action for row in rows])
    looked = [row.location for row in rows if row.location is not None]
    return actions, torch.stack(looked) if looked else None
