"""Foresight: how well a frozen agent's simulator predicts what it will see, and what that takes.

A predicted cell is of one of three kinds. It lies *in view* when the simulator sets out, and
predicting it takes geometry. It was *seen before*, and predicting it takes memory. Or it was *never
seen*, and nobody can know. The simulator is compared with two predictors that need no agent: the
present view copied (mixed with the marginal, as far as views change on average), and the marginal
frequency of each category.
"""

import json
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.agent import Rows
from groundling.agents.cores import CoreState
from groundling.agents.generators import named_generator
from groundling.envs.errors import UserError
from groundling.envs.rooms.kernels import cells_in_view
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import FIRST_SHAPE, HIDDEN, NEVER, WHAT, World
from groundling.evaluation.imagination import Imagination, fed
from groundling.evaluation.walks import Reader, by_agent, by_explorer, walk
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import make_environment
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device, write_text
from groundling.training.seeds import environment_seed

KINDS = ("in view", "seen before", "never seen")
IN_VIEW, SEEN_BEFORE, NEVER_SEEN = range(3)


class Moment(NamedTuple):
    """What is kept of one step of B rooms."""

    views: NDArray[np.int64]
    """[B, cells, C]."""
    core: CoreState
    """[B, core_size] each."""
    row: Rows
    """[B, …]: as the agent saw it; tells how it came here, and where it looks."""
    seen_at: NDArray[np.int16]
    """[B, H · W]: of the world, after this view."""
    places: NDArray[np.int64]
    """[B, cells]: where in the flat world each cell of the view lies."""


def measure_foresight(
    run_dir: Path | str,
    *,
    rooms: int = 512,
    walker: Literal["explorer", "agent"] = "explorer",
    horizons: tuple[int, ...] = (1, 2, 4, 6, 8, 10),
    device: str = "cpu",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Measures a SimCore run's predictions on walks through rooms it never met.

    Writes `evaluation/foresight.json`.

    Args:
        run_dir: of the run.
        rooms: walked through side by side.
        walker: "explorer" takes every agent along the same paths; "agent" lets it choose its own,
            which it knows better, and on which there may be less to remember.
        horizons: to predict at.
        device: where to compute.
        show_progress: a live display on stderr.

    Returns:
        {"horizons": {k: {kind: {"share", "model", "copy", "marginal" (nats per cell, all channels),
        "objects" (cells that hold one), "what", "colour" (accuracy on these)}}}}.

    Raises:
        UserError: the run does not generate whole views, or its world is not one of our rooms.
    """
    run = RunDirectory(run_dir)
    agent, config = load_agent(run_dir, device=device)
    if not config.env.is_rooms:
        raise UserError(f"{config.env.id} is not one of our rooms; foresight is measured there")
    reader = Reader(agent, rooms)
    imagination = Imagination(reader)
    if imagination.of_glimpses:
        raise UserError(
            f"{run.path} generates glimpses; foresight is measured of whole views, expected "
            "--agent.attention none or --agent.prediction.privileged True in training"
        )
    moments = _walked(reader, config.env, rooms, walker, device, show_progress)
    length = len(moments)
    marginal = _marginal(np.stack([moment.views for moment in moments]))
    starts = range(length // 4, length - max(horizons), max(length // 8, 1))
    results = {
        "run": str(run.path),
        "walker": walker,
        "horizons": {
            str(k): _at_horizon(imagination, moments, list(starts), k, marginal) for k in horizons
        },
        "measured": time.strftime("%Y-%m-%d"),
    }
    run.make(run.evaluation)
    write_text(run.evaluation / "foresight.json", json.dumps(results, indent=2) + "\n")
    return results


def _walked(
    reader: Reader,
    config: EnvironmentConfig,
    rooms: int,
    walker: Literal["explorer", "agent"],
    device: str,
    shown: bool,
) -> list[Moment]:
    """One whole episode of every room."""
    environment = make_environment(config, num_envs=rooms)
    world = environment.unwrapped
    assert isinstance(world, RoomsVectorEnv)
    draws = named_generator(0, "foresight", resolve_device(device))
    choose = by_explorer(environment) if walker == "explorer" else by_agent(reader, draws)
    seed, length = environment_seed("evaluation"), config.rooms.episode_length
    rows = walk(environment, seed=seed, choose=choose, readers=(reader,), device=device)
    moments: list[Moment] = []
    with progress("walking", length, shown=shown) as advance:
        for step, row in zip(range(length), rows, strict=False):
            views = row.observation["view"].flatten(1, 2).long().cpu().numpy()
            moments.append(_moment(views, reader, reader.row, world.world, world.rooms))
            advance(step + 1)
    environment.close()
    return moments


def _moment(
    views: NDArray[np.int64],
    reader: Reader,
    row: Rows,
    world: World,
    options: RoomsOptions,
) -> Moment:
    # One more, that is never seen: what lies beyond the grid.
    seen_at = np.pad(world.seen_at.reshape(len(views), -1), ((0, 0), (0, 1)), constant_values=NEVER)
    places = cells_in_view(world, options) % seen_at.shape[1]
    return Moment(views, reader.state, row, seen_at, places)


def _marginal(views: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Frequency of each category, by channel, in nats' logarithm; never quite 0."""
    channels = views.reshape(-1, views.shape[-1]).T
    counts = [np.bincount(channel) + 1.0 for channel in channels]
    return [np.log(count / count.sum()) for count in counts]


def _at_horizon(
    imagination: Imagination,
    moments: list[Moment],
    starts: list[int],
    k: int,
    marginal: list[NDArray[np.float64]],
) -> dict[str, dict[str, float]]:
    """All starts together, cells sorted by what predicting them takes."""
    parts = [_cells(imagination, moments, start, k, marginal) for start in starts]
    cells = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    visible = cells.pop("visible")
    cells = {name: values[visible] for name, values in cells.items()}
    table = {}
    for index, kind in enumerate(KINDS):
        chosen = cells["kind"] == index
        if not chosen.any():
            continue
        objects = chosen & cells["object"]
        table[kind] = {
            "share": float(chosen.mean()),
            **{name: float(cells[name][chosen].mean()) for name in ("model", "copy", "marginal")},
            "objects": int(objects.sum()),
        }
        if objects.any():
            table[kind] |= {
                name: float(cells[f"{name} right"][objects].mean()) for name in ("what", "colour")
            }
    return table


@torch.no_grad()
def _cells(
    imagination: Imagination,
    moments: list[Moment],
    start: int,
    k: int,
    marginal: list[NDArray[np.float64]],
) -> dict[str, NDArray[Any]]:
    """What happened to each cell of the views k steps after a start, [B · cells] each."""
    here, there = moments[start], moments[start + k]
    way = [moment.row for moment in moments[start + 1 : start + k + 1]]
    state = imagination.simulator(here.core, *fed(way))[-1]
    truth = there.views
    kinds = torch.as_tensor(truth[..., WHAT], device=state.device)
    # Likelihoods follow the chain rule through the true kinds; the colour that is scored right or
    # wrong is the likeliest of the likeliest kind.
    log_probs, named = (
        [part.double().cpu().numpy() for part in parts]
        for parts in (
            imagination.decoder.log_probs(state, imagination.sensor, kinds),
            imagination.decoder.log_probs(state, imagination.sensor),
        )
    )
    at_start = np.take_along_axis(here.seen_at, there.places, axis=1)
    kind = np.full(at_start.shape, SEEN_BEFORE)
    kind[at_start == NEVER] = NEVER_SEEN
    kind[at_start == start] = IN_VIEW
    changed = np.clip((here.views != truth).mean(axis=(0, 1)), 1e-3, 1 - 1e-3)
    model, copy, blind = (np.zeros(kind.shape) for _ in range(3))
    for channel, (scores, frequency) in enumerate(zip(log_probs, marginal, strict=True)):
        true = truth[..., channel]
        model -= np.take_along_axis(scores, true[..., None], axis=-1)[..., 0]
        blind -= frequency[true]
        same = here.views[..., channel] == true
        share = changed[channel]
        copy -= np.log(np.where(same, 1 - share, 0.0) + share * np.exp(frequency[true]))
    found = {
        "visible": truth[..., WHAT] != HIDDEN,
        "kind": kind,
        "object": truth[..., WHAT] >= FIRST_SHAPE,
        "model": model,
        "copy": copy,
        "marginal": blind,
        "what right": named[0].argmax(-1) == truth[..., 0],
        "colour right": named[1].argmax(-1) == truth[..., 1],
    }
    return {name: values.reshape(-1) for name, values in found.items()}
