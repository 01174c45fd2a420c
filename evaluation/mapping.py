"""The map probe: a decoder that draws the whole room from what an agent remembers.

From the belief alone it says what stands in every cell around the agent, where in the room the
agent is and where it looks. (Cells are counted from the agent, since that is how it meets them: a
decoder of the room's own cells must first undo every turn, and finds a quarter as much.) It is
fitted and scored in rooms no agent was trained in; `evaluation.minds_eye` shows what it draws.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from groundling.agents.agent import Agent
from groundling.agents.generators import initialised_by, named_generator, named_seed
from groundling.agents.probe import Standardised
from groundling.envs.errors import UserError
from groundling.envs.maps import HEADINGS, NEVER_SEEN, OUTSIDE, THING, Maps, MapSource, around_agent
from groundling.evaluation.examples import ROOMS_AT_ONCE, through_rooms
from groundling.evaluation.scores import groups_of, share_interval
from groundling.evaluation.walks import Reader, by_explorer, walk
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import make_environment
from groundling.training.progress import progress
from groundling.training.seeds import Purpose, environment_seed

AGES = (0, 1, 5, 10, 20)
"""Steps since a cell was seen at which a new group begins; 0 is in view."""

LONG_AGO = "5+"
"""All groups from the third on, together."""


@dataclass(frozen=True)
class MapSettings:
    """How the map probe is fitted."""

    rooms: int = 8_000
    """Distinct rooms the decoder is fitted on."""
    validation_rooms: int = 500
    """Distinct rooms that decide which pass is kept."""
    test_rooms: int = 2_000
    """Distinct rooms the tables are scored on."""
    draw_every: int = 8
    """Steps between two maps, on average."""
    size: int = 512
    """Width of the decoder."""
    passes: int = 4
    """Passes over the maps, at the most; one that brings nothing is the last."""
    batch: int = 64
    """Maps per update."""
    learning_rate: float = 1e-3
    """Adam's step size; it falls to 0 along a cosine."""
    seed: int = 0
    """Of the decoder's weights, and of the moments."""


class Sizes(NamedTuple):
    """How much there is to tell apart."""

    kinds: int
    colours: int
    places: int
    """Where in its world the agent may be."""


@dataclass(frozen=True)
class Moments:
    """S moments of walks: what was there, and what the agents made of it."""

    maps: Maps
    """As seen from the agent: see `around_agent`."""
    room: NDArray[np.int64]
    """[S]: which room, counted from 0 in the order they were entered."""
    beliefs: Mapping[str, Tensor]
    """[S, belief size] float16 by agent."""
    sizes: Sizes


class MapDecoder(Standardised):
    """From a belief to a map.

    Args:
        belief_size: numbers of a belief.
        cells: of a map around the agent.
        sizes: what a map tells apart.
        size: width.
    """

    def __init__(self, belief_size: int, cells: int, sizes: Sizes, size: int) -> None:
        super().__init__(belief_size)
        self.cells = cells
        self.read = nn.Sequential(
            nn.Linear(belief_size, size),
            nn.LayerNorm(size),
            nn.ReLU(),
            nn.Linear(size, size),
            nn.ReLU(),
        )
        self.kind = nn.Linear(size, cells * sizes.kinds)
        self.colour = nn.Linear(size, cells * sizes.colours)
        self.place = nn.Linear(size, sizes.places)
        self.heading = nn.Linear(size, HEADINGS)

    def forward(self, belief: Tensor) -> "Drawing":
        """Log-probabilities of everything that is on a map, from beliefs [N, belief_size]."""
        # Detached: what is asked of a memory never teaches it.
        read = self.read(self.standard(belief.detach()))
        return Drawing(
            torch.log_softmax(self.kind(read).unflatten(-1, (self.cells, -1)), -1),
            torch.log_softmax(self.colour(read).unflatten(-1, (self.cells, -1)), -1),
            torch.log_softmax(self.place(read), -1),
            torch.log_softmax(self.heading(read), -1),
        )


@dataclass(frozen=True)
class Drawing:
    """Log-probabilities in nats of what is on N maps."""

    kind: Tensor
    """[N, cells, kinds]."""
    colour: Tensor
    """[N, cells, colours]."""
    place: Tensor
    """[N, places]."""
    heading: Tensor
    """[N, 4]."""


@dataclass(frozen=True)
class Targets:
    """Maps as tensors, cells in a row: N of them."""

    kind: Tensor
    """[N, cells] int64."""
    colour: Tensor
    """[N, cells] int64."""
    place: Tensor
    """[N] int64."""
    heading: Tensor
    """[N] int64."""

    def __getitem__(self, chosen: Tensor) -> "Targets":
        """Some of them."""
        return Targets(
            **{field.name: getattr(self, field.name)[chosen] for field in dataclasses.fields(self)}
        )


def targets_of(maps: Maps, device: torch.device) -> Targets:
    """The maps as a decoder is asked for them."""

    def tensor(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Targets(
        tensor(maps.kind).flatten(1),
        tensor(maps.colour).flatten(1),
        tensor(maps.place),
        tensor(maps.heading),
    )


def map_loss(drawing: Drawing, targets: Targets) -> Tensor:
    """Nats of whole maps, place and heading included, [N]."""
    cells = log_probability_of_cells(drawing, targets).sum(-1)
    place = drawing.place.gather(-1, targets.place[:, None])[:, 0]
    heading = drawing.heading.gather(-1, targets.heading[:, None])[:, 0]
    return -(cells + place + heading)


def log_probability_of_cells(drawing: Drawing, targets: Targets) -> Tensor:
    """Log-probability of what truly is in each cell, kind and colour, [N, cells] in nats."""
    kind = drawing.kind.gather(-1, targets.kind[..., None])[..., 0]
    colour = drawing.colour.gather(-1, targets.colour[..., None])[..., 0]
    return kind + colour


def prior_of(maps: Maps, sizes: Sizes, device: torch.device) -> Drawing:
    """One drawing of what is on such maps on average, where there are cells at all; what never was
    counts as if once."""
    targets = targets_of(maps, device)
    inside = torch.from_numpy(maps.age != OUTSIDE).to(device).flatten(1)

    def logs(values: Tensor, classes: int, counted: Tensor) -> Tensor:
        """Of [N, cells]: [1, cells, classes]."""
        counts = torch.ones(values.shape[1], classes, device=device)
        counts.scatter_add_(1, values.T, counted.T.float())
        return (counts / counts.sum(-1, keepdim=True)).log()[None]

    always = torch.ones_like(targets.place)[:, None]
    return Drawing(
        logs(targets.kind, sizes.kinds, inside),
        logs(targets.colour, sizes.colours, inside),
        logs(targets.place[:, None], sizes.places, always)[0],
        logs(targets.heading[:, None], HEADINGS, always)[0],
    )


def collect_moments(
    agents: Mapping[str, Agent],
    environment: EnvironmentConfig,
    purpose: Purpose,
    rooms: int,
    settings: MapSettings,
    *,
    device: torch.device,
    shown: bool = True,
) -> Moments:
    """Takes all agents along the scripted explorer's walks and draws maps on the way.

    Raises:
        ValueError: the environment cannot be drawn, or has no explorer.
    """
    world = make_environment(environment, num_envs=min(rooms, ROOMS_AT_ONCE))
    source = world.unwrapped
    if not isinstance(source, MapSource):
        raise UserError(
            f"{environment.id} draws no maps; expected an environment that implements "
            "groundling.envs.maps.MapSource"
        )
    readers = {name: Reader(agent, world.num_envs) for name, agent in agents.items()}
    generator = np.random.default_rng(named_seed(settings.seed, f"maps {purpose}"))
    steps = walk(
        world,
        seed=environment_seed(purpose),
        choose=by_explorer(world),
        readers=tuple(readers.values()),
        device=device,
    )
    maps: list[Maps] = []
    entered: list[NDArray[np.int64]] = []
    beliefs: dict[str, list[Tensor]] = {name: [] for name in agents}
    room = np.full(world.num_envs, -1)
    with progress(f"maps of {purpose}", rooms, shown=shown) as advance:
        for row, _ in through_rooms(steps, rooms, advance):
            starting = row.is_first.cpu().numpy()
            room[starting] = room.max() + 1 + np.arange(starting.sum())
            if generator.random() < 1.0 / settings.draw_every:
                maps.append(source.draw_maps())
                entered.append(room.copy())
                for name, reader in readers.items():
                    beliefs[name].append(reader.state.belief.half())
    world.close()
    if not maps:
        raise UserError(
            f"draw-every is {settings.draw_every}, so that no map was drawn in {rooms} rooms; "
            "expected fewer steps than an episode has"
        )
    drawn = Maps(*(np.concatenate(parts) for parts in zip(*maps, strict=True)))
    return Moments(
        around_agent(drawn),
        np.concatenate(entered),
        {name: torch.cat(parts) for name, parts in beliefs.items()},
        Sizes(*source.map_codes, places=drawn.kind[0].size),
    )


@dataclass(frozen=True)
class MapFit:
    """A decoder to be fitted to one agent's beliefs."""

    train: Targets
    validation: Targets
    sizes: Sizes
    settings: MapSettings

    def run(self, beliefs: Tensor, stopping: Tensor, name: str, *, shown: bool) -> MapDecoder:
        """The decoder of the pass that draws the validation rooms best.

        Args:
            beliefs: [S, belief size] of the training moments.
            stopping: of the validation moments.
            name: shown beside the progress.
            shown: whether to show it.
        """
        settings = self.settings
        with initialised_by(settings.seed, "map decoder"):
            decoder = MapDecoder(
                beliefs.shape[1], self.train.kind.shape[1], self.sizes, settings.size
            ).to(beliefs.device)
        decoder.standardise(beliefs.float())
        order = named_generator(settings.seed, "order of maps")
        batches = -(-len(beliefs) // settings.batch)
        optimiser = torch.optim.Adam(decoder.parameters(), lr=settings.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.passes * batches)
        best, kept, updates = float("inf"), decoder.state_dict(), 0
        with progress(f"map of {name}", settings.passes * batches, shown=shown) as advance:
            for _ in range(settings.passes):
                shuffled = torch.randperm(len(beliefs), generator=order).to(beliefs.device)
                for batch in shuffled.split(settings.batch):
                    optimiser.zero_grad()
                    map_loss(decoder(beliefs[batch].float()), self.train[batch]).mean().backward()
                    optimiser.step()
                    schedule.step()
                    advance(updates := updates + 1)
                loss = float(map_loss(draw(decoder, stopping), self.validation).mean())
                if loss >= best:
                    break
                best = loss
                kept = {key: one.clone() for key, one in decoder.state_dict().items()}
        decoder.load_state_dict(kept)
        return decoder.eval()


@torch.no_grad()
def draw(decoder: MapDecoder, beliefs: Tensor) -> Drawing:
    """The maps of many beliefs, [S, belief size]."""
    parts = [decoder(some.float()) for some in beliefs.split(4096)]
    return Drawing(
        **{
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Drawing)
        }
    )


def score_map(
    drawing: Drawing, prior: Drawing, maps: Maps, room: NDArray[np.int64]
) -> dict[str, Any]:
    """What N drawings are worth.

    Args:
        drawing: of N moments, or one for all of them.
        prior: what "bits" are counted from.
        maps: the truth.
        room: [N]; rooms are the independent units.

    Returns:
        "bits": {age: what was known of a cell beyond the prior, mean in bits}; "things": {age:
        {"drawn": share of cells that hold a thing for which kind and colour are the likeliest of
        all, floor included; "named": for which they are the likeliest of all things; its 95 %
        "interval"; "cells": how many}}, by steps since the cell was seen, "never" included;
        "place" and "heading": shares drawn right.
    """
    targets = targets_of(maps, drawing.kind.device)
    number = len(maps.place)
    gained = log_probability_of_cells(_for_all(drawing, number), targets)
    gained = gained - log_probability_of_cells(_for_all(prior, number), targets)
    bits = (gained / np.log(2)).cpu().numpy()
    drawn, named = (_right(drawing, targets, first) for first in ((0, 0), (THING, 1)))
    age = maps.age.reshape(number, -1)
    thing = maps.kind.reshape(number, -1) >= THING
    of_room = np.broadcast_to(room[:, None], thing.shape)
    table: dict[str, Any] = {"bits": {}, "things": {}}
    for label, group in _by_age(age):
        if group.any():
            table["bits"][label] = float(bits[group].mean())
        if (things := group & thing).any():
            table["things"][label] = {
                "drawn": float(drawn[things].mean()),
                "named": float(named[things].mean()),
                "interval": share_interval(named[things], of_room[things]),
                "cells": int(things.sum()),
            }
    table["place"] = float((drawing.place.argmax(-1) == targets.place).float().mean())
    table["heading"] = float((drawing.heading.argmax(-1) == targets.heading).float().mean())
    return table


def _right(drawing: Drawing, targets: Targets, first: tuple[int, int]) -> NDArray[np.bool_]:
    """Where kind and colour are the likeliest from the first kind and colour on, [N, cells]."""
    kind = drawing.kind[..., first[0] :].argmax(-1) + first[0]
    colour = drawing.colour[..., first[1] :].argmax(-1) + first[1]
    return np.asarray(((kind == targets.kind) & (colour == targets.colour)).cpu().numpy())


def _for_all(drawing: Drawing, number: int) -> Drawing:
    """A drawing of one moment, repeated for all; another as it is."""
    if len(drawing.place) == number:
        return drawing
    return Drawing(
        **{
            field.name: getattr(drawing, field.name).expand(
                number, *getattr(drawing, field.name).shape[1:]
            )
            for field in dataclasses.fields(Drawing)
        }
    )


def _by_age(age: NDArray[np.int64]) -> list[tuple[str, NDArray[np.bool_]]]:
    groups = [(label, (age >= start) & (age < end)) for label, start, end in groups_of(AGES)]
    return [*groups, (LONG_AGO, age >= AGES[2]), ("never", age == NEVER_SEEN)]
