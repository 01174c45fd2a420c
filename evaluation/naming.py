"""How often an agent names a digit wrongly that it was never trained on, and whether it looks.

Each episode is scored by the one path of glimpses that was drawn in it: an average over many paths
would hide a bad location policy. The name is the likeliest by the policy after the last glimpse.

A location policy may earn something without regard to what is seen. What its locations tell of the
image, I(location; image) = H(location) - H(location | image), is therefore told beside the error:
both entropies of locations in bins, the second from many paths over one image. Entropies of few
samples come out too small; the same number for locations shuffled among images says by how much.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.agent import Agent
from groundling.envs.digits.options import DIGITS
from groundling.envs.errors import UserError
from groundling.evaluation.statistics import clustered_interval
from groundling.evaluation.walks import Reader
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import make_environment
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device, write_text
from groundling.training.seeds import environment_seed
from groundling.training.stepping import Stepper

BATCH = 256
BINS = 8
"""Rows and columns that locations are counted in."""
PATHS = 32
"""Paths of glimpses over one image."""
IMAGES = 64
"""Images that as many paths each are walked over."""


class Named(NamedTuple):
    """B canvases and what came of them."""

    right: NDArray[np.bool_]
    """[B]: the name was the label."""
    digit: NDArray[np.int64]
    """[B]: which image was on the canvas."""
    locations: NDArray[np.float32] | None
    """[B, glimpses - 1, 2]: coordinates of all glimpses but the first, which nobody decided; None
    without attention."""
    distance: NDArray[np.float32] | None
    """[B, glimpses - 1]: from there to the digit's centre."""


def score_naming(
    run_dir: Path | str,
    *,
    canvases: int = 5_120,
    device: str = "cpu",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Measures a run's error on the images of the test's fold.

    Writes `evaluation/naming.json` in the run directory.

    Args:
        run_dir: of a run in `Groundling/ClutteredDigits-v0`.
        canvases: at least so many.
        device: where to compute.
        show_progress: a live display on stderr.

    Returns:
        {"error": share of wrong names, "interval": 95 %, clustered by digit, "canvases", "digits",
        "asked", "wrong": by digit, "information": see `information_of`, or None of an agent that
        decides nothing, "distance": mean from the digit's centre by glimpse, …}.
    """
    run = RunDirectory(run_dir)
    config = run.read_config()
    agent, _ = load_agent(run_dir, device=device)
    world = unseen(config.env)
    batches = -(-canvases // BATCH)
    seed = environment_seed("evaluation")
    with progress("naming digits", batches + 1, shown=show_progress) as advance:
        named = []
        for batch in range(batches):
            seeds = [seed + batch * BATCH + row for row in range(BATCH)]
            named.append(name_digits(agent, world, seeds, seed=batch, device=device))
            advance(batch + 1)
        results = _scores(named) | {"information": None}
        if agent.attention is not None:
            repeated = [seed + BATCH * batches + row // PATHS for row in range(IMAGES * PATHS)]
            again = name_digits(agent, world, repeated, seed=batches, device=device)
            assert again.locations is not None
            results["information"] = information_of(
                again.locations.reshape(IMAGES, PATHS, -1, 2), np.random.default_rng(0)
            )
            advance(batches + 1)
    results |= {"run": str(run.path), "measured": time.strftime("%Y-%m-%d")}
    run.make(run.evaluation)
    write_text(run.evaluation / "naming.json", json.dumps(results, indent=2) + "\n")
    return results


def unseen(config: EnvironmentConfig) -> EnvironmentConfig:
    """The same canvases with the digits of the test's fold.

    Raises:
        UserError: these are no digits.
    """
    if not config.is_digits:
        raise UserError(f"env.id is {config.id}; expected {DIGITS}")
    return dataclasses.replace(config, options=config.options | {"split": "test"})


@torch.no_grad()
def name_digits(
    agent: Agent, world: EnvironmentConfig, seeds: Sequence[int], *, seed: int, device: str
) -> Named:
    """Walks one path of glimpses over the first canvas of each seed.

    Args:
        agent: frozen.
        world: which canvases.
        seeds: [B]; the same seed is the same canvas.
        seed: of where the agent looks.
        device: where to compute.
    """
    environment = make_environment(world, num_envs=len(seeds))
    stepper = Stepper(environment, agent.actions, resolve_device(device))
    reader = Reader(agent, len(seeds), seed=seed)
    row = stepper.reset(list(seeds))
    target, digit = stepper.target, stepper.info["digit"].copy()
    assert target is not None
    looks: list[Tensor] = []
    right = torch.zeros(len(seeds), dtype=torch.bool)
    over = np.zeros(len(seeds), np.bool_)
    while not over.any():
        reader.read(row, stepper)
        if reader.row.location is not None:
            looks.append(reader.row.location)
        name = reader.output.policy.argmax(-1)
        label = stepper.label
        assert label is not None
        right = name == label
        row, outcome = stepper.step(agent.actions.to_environment(name), name)
        over = outcome.terminated
    assert over.all()  # All have as many steps.
    environment.close()
    if len(looks) < 2:
        return Named(right.cpu().numpy(), digit, None, None)
    locations = torch.stack(looks[1:], dim=1)
    distance = (locations - target.unsqueeze(1)).norm(dim=-1)
    return Named(right.cpu().numpy(), digit, locations.cpu().numpy(), distance.cpu().numpy())


def _scores(named: Sequence[Named]) -> dict[str, Any]:
    """Error over all canvases, and how far from the digit the glimpses were."""
    right = np.concatenate([one.right for one in named])
    digits, which = np.unique(np.concatenate([one.digit for one in named]), return_inverse=True)
    asked = np.bincount(which)
    wrong = np.bincount(which, weights=~right).astype(np.int64)
    error = clustered_interval(wrong, asked)
    distances = [one.distance for one in named if one.distance is not None]
    return {
        "error": error.value,
        "interval": [error.low, error.high],
        "canvases": len(right),
        "digits": digits.tolist(),
        "asked": asked.tolist(),
        "wrong": wrong.tolist(),
        "distance": np.concatenate(distances).mean(0).tolist() if distances else None,
    }


def information_of(
    locations: NDArray[np.float32], generator: np.random.Generator
) -> dict[str, float]:
    """What locations tell of the image they were chosen for, in bits, mean over the glimpses.

    Args:
        locations: [images, paths, glimpses, 2] in [-1, 1].
        generator: shuffles.

    Returns:
        {"entropy": of locations, "given_image": mean entropy over one image, "bits": their
        difference, "shuffled": the same difference for locations dealt out to images by chance}.
    """
    places = np.clip(((locations + 1.0) / 2.0 * BINS).astype(np.int64), 0, BINS - 1)
    bins = places[..., 0] * BINS + places[..., 1]  # [images, paths, glimpses]
    dealt = generator.permuted(bins.reshape(-1, bins.shape[-1]), axis=0).reshape(bins.shape)
    entropy = _entropy(bins.reshape(-1, bins.shape[-1]))
    given = float(np.mean([_entropy(one) for one in bins]))
    by_chance = float(np.mean([_entropy(one) for one in dealt]))
    return {
        "entropy": entropy,
        "given_image": given,
        "bits": entropy - given,
        "shuffled": entropy - by_chance,
    }


def _entropy(bins: NDArray[np.int64]) -> float:
    """Of bins [N, glimpses] in bits, mean over the glimpses."""
    found = []
    for column in bins.T:
        share = np.bincount(column) / len(column)
        found.append(-(share[share > 0] * np.log2(share[share > 0])).sum())
    return float(np.mean(found))
