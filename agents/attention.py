"""Hard attention: an agent that receives a glimpse of its view, and decides where the next one is.

Row t is read through the location that was decided at t - 1; the first row of an episode through
the centre. The location policy reads the core's state and learns by REINFORCE alone (Williams 1992;
Mnih et al. 2014, arXiv 1406.6247): what it reads is detached, so that its gradient never enters the
core, and what it decides is a sample, so that no other gradient enters it.
"""

from typing import Any, NamedTuple, cast

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn

from groundling.agents.config import AgentConfig
from groundling.agents.glimpse import CellsGlimpse, Fovea, ImageGlimpse
from groundling.agents.layers import linear, rectified
from groundling.agents.locations import Locations, Points, Tiles
from groundling.agents.plugins import known_names
from groundling.agents.sensors import Observation, is_cells, is_image, leaf_spaces
from groundling.envs.errors import UserError

WHOLE = "whole "
"""Before the name of a part: all of it, for the loss that is privileged to predict it."""


class Decision(NamedTuple):
    """Where to look next, [B, …]."""

    location: Tensor
    """[B, *location shape], as `agents.locations` knows it."""
    log_prob: Tensor
    """[B] float32: log μ(l); 0 where nothing was drawn from the location policy."""


class Attention(nn.Module):
    """Glimpses of one part of the observation, and the policy over their locations.

    Args:
        space: of a single environment's observations.
        config: of the agent.

    Raises:
        UserError: there is no grid or image to be glimpsed, or more than one and none is named; or
            a glimpse is larger than anything there is to see.
    """

    def __init__(self, space: gymnasium.Space[Any], config: AgentConfig) -> None:
        super().__init__()
        self.config = config.glimpse
        leaves = leaf_spaces(space)
        self.part = _part(leaves, config)
        self.space = cast(spaces.Box, leaves[self.part])
        height, width, self.channels = self.space.shape
        tile = config.attention == "tile"
        size = self.config.size
        scales = 1 if tile else self.config.scales
        widest, most = size * 2 ** (scales - 1), 4 * max(height, width)
        if widest > most:
            # A patch of twice the view already holds all of it, wherever its centre lies.
            name, given = ("size", size) if scales == 1 else ("scales", scales)
            raise UserError(
                f"agent.glimpse.{name} is {given}, and the widest patch {widest} places wide; "
                f"expected at most {most}, for a view of {height} × {width}"
            )
        self.fovea = Fovea(height, width, size, scales)
        self.locations: Locations = Tiles(height, width, size) if tile else Points(self.config.std)
        self.keeps_whole = config.prediction.loss != "none" and config.prediction.privileged
        self.policy: nn.Module | None = None
        if self.config.policy == "learned":
            self.policy = nn.Sequential(
                rectified(config.core_size, config.core_size),
                linear(config.core_size, self.locations.outputs, gain=0.01),
            )

    @property
    def numbers(self) -> int:
        """Numbers of a view that enter the glimpse network, before any embedding."""
        return self.fovea.places * self.channels

    def make_sensor(self, config: AgentConfig, instructed: int) -> CellsGlimpse | ImageGlimpse:
        """What reads the glimpse (for `instructed` see `agents.sensors.Cells`)."""
        if is_cells(self.space):
            return CellsGlimpse(self.space, self.fovea, config, instructed)
        return ImageGlimpse(self.channels, self.fovea, config)

    def see(self, observation: Observation, coordinates: Tensor) -> Observation:
        """The observation with nothing left of the part but the glimpse.

        Args:
            observation: leaves as the environment gives them, [..., *leaf shape].
            coordinates: [..., 2].
        """
        whole = observation[self.part]
        cut = self.fovea.cells if is_cells(self.space) else self.fovea.pixels
        seen = observation | {self.part: cut(whole, coordinates)}
        return seen | {WHOLE + self.part: whole} if self.keeps_whole else seen

    def forward(self, hidden: Tensor) -> Tensor | None:
        """What the distribution of the next location is made of, [..., outputs]; None of a control.

        Args:
            hidden: of the core, [..., core_size]; detached here.
        """
        return None if self.policy is None else cast(Tensor, self.policy(hidden.detach()))


class Gaze:
    """Where an agent looks, in a batch of environments: keeps the last decision.

    Args:
        attention: the agent's.
        batch: environments.
        generator: draws; on the agent's device.
    """

    def __init__(self, attention: Attention, batch: int, generator: torch.Generator) -> None:
        self.attention = attention
        self.locations = attention.locations
        self.generator = generator
        centre = self.locations.centre.to(generator.device)
        self.centre = centre.expand(batch, *centre.shape)
        self.decided = self.centre.clone()

    def turn(self, is_first: Tensor) -> Tensor:
        """Turns to the next rows; gives the coordinates where they are read, [B, 2].

        Args:
            is_first: [B] bool: what was decided before such a row is forgotten.
        """
        first = is_first.view(-1, *([1] * (self.decided.dim() - 1)))
        self.decided = torch.where(first, self.centre, self.decided)
        return self.locations.coordinates(self.decided)

    def decide(self, policy: Tensor | None, target: Tensor | None = None) -> Decision:
        """Decides where to look next.

        Args:
            policy: [B, outputs]: of the location policy; None for the controls.
            target: [B, 2]: what the environment told; None if it tells nothing.

        Raises:
            UserError: the oracle is to look where it was not told.
        """
        log_prob = torch.zeros(len(self.decided), device=self.decided.device)
        match self.attention.config.policy:
            case "learned":
                assert policy is not None
                self.decided = self.locations.sample(policy, self.generator)
                log_prob = self.locations.log_probs(policy, self.decided)
            case "random":
                self.decided = self.locations.uniform(len(self.decided), self.generator)
            case "centre":
                self.decided = self.centre
            case "scan":
                self.decided = self.locations.next_on_path(self.decided)
            case "oracle":
                if target is None:
                    raise UserError(
                        "agent.glimpse.policy is oracle, but the environment does not tell where "
                        "to look (info['target']); expected learned, random, centre or scan"
                    )
                self.decided = self.locations.nearest(target)
        return Decision(self.decided, log_prob)


def _part(leaves: dict[str, gymnasium.Space[Any]], config: AgentConfig) -> str:
    """The name of the part that is glimpsed."""
    able = [name for name, leaf in leaves.items() if is_cells(leaf) or is_image(leaf)]
    named = config.glimpse.part
    if not able:
        raise UserError(
            f"agent.attention is {config.attention}, but nothing that is observed is a grid of "
            f"cells or an image ({', '.join(leaves)}); expected none"
        )
    if named:
        known_names("agent.glimpse.part", [named], able)
    elif len(able) > 1:
        raise UserError(f"agent.glimpse.part is empty; expected one of {', '.join(able)}")
    part = named or able[0]
    if part in config.sensors:
        raise UserError(
            f"agent.sensors has {part!r}, which is glimpsed; expected agent.attention none"
        )
    return part
