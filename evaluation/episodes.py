"""Returns: what an agent earns, beside a random policy and the scripted explorer."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.generators import named_generator, named_seed
from groundling.evaluation.walks import Choose, Reader, at_random, by_agent, by_explorer, walk
from groundling.training.environments import Environment, make_environment
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device, write_text
from groundling.training.seeds import environment_seed

BATCH = 64


def episode_returns(
    environment: Environment,
    choose: Choose,
    episodes: int,
    *,
    readers: tuple[Reader, ...] = (),
    device: torch.device | str = "cpu",
    description: str = "walking",
    shown: bool = True,
) -> NDArray[np.float64]:
    """Raw returns of whole episodes in rooms that no training run meets.

    Every environment contributes equally many episodes, so that short ones are not favoured.

    Args:
        environment: stepped together; `episodes` should be a multiple of its number.
        choose: the policy.
        episodes: at least so many.
        readers: memories the policy needs.
        device: of the readers.
        description: for the progress display.
        shown: whether there is one.

    Returns:
        [number of environments, episodes of each] float64.
    """
    wanted = -(-episodes // environment.num_envs)
    returns: list[list[float]] = [[] for _ in range(environment.num_envs)]
    running = np.zeros(environment.num_envs)
    with progress(description, wanted, shown=shown) as advance:
        rows = walk(
            environment,
            seed=environment_seed("evaluation"),
            choose=choose,
            readers=readers,
            device=device,
        )
        next(rows)
        for row in rows:
            running += row.previous_reward.cpu().numpy()
            for i in np.flatnonzero(row.is_first.cpu().numpy()):
                returns[i].append(running[i])
                running[i] = 0.0
            finished = min(len(one) for one in returns)
            advance(finished)
            if finished >= wanted:
                break
    return np.array([one[:wanted] for one in returns])


def evaluate(
    run_dir: Path | str,
    *,
    episodes: int = 512,
    snapshots: bool = False,
    device: str = "cpu",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Measures a run's return beside a random policy and, in our own rooms, the explorer.

    Writes `evaluation/returns.json` in the run directory.

    Args:
        run_dir: of the run.
        episodes: that each policy plays.
        snapshots: whether the agent is measured as it was at every snapshot, too.
        device: where to compute.
        show_progress: a live display on stderr.

    Returns:
        {"episodes", "returns": {policy: {"mean", "standard_error"}}, "snapshots": {frames:
        {"mean", "standard_error"}}, …}.
    """
    run = RunDirectory(run_dir)
    config = run.read_config()
    walks = _agent_walks(run, None, device)  # A run without an agent is told first.
    environment = make_environment(config.env, num_envs=BATCH)

    def measure(name: str, choose: Choose, *readers: Reader) -> dict[str, float]:
        returns = episode_returns(
            environment,
            choose,
            episodes,
            readers=readers,
            device=device,
            description=f"return of {name}",
            shown=show_progress,
        )
        return _summary(returns)

    draws = np.random.default_rng(named_seed(0, "random"))
    returns = {
        "agent": measure("agent", *walks),
        "random": measure("random", at_random(environment, draws)),
    }
    if config.env.is_rooms:
        returns["explorer"] = measure("explorer", by_explorer(environment))
    earlier = {
        str(frames): measure(f"agent at {frames:,} frames", *_agent_walks(run, frames, device))
        for frames in (run.snapshots() if snapshots else ())
    }
    environment.close()
    results = {
        "run": str(run.path),
        "episodes": episodes,
        "returns": returns,
        "snapshots": earlier,
        "measured": time.strftime("%Y-%m-%d"),
    }
    run.evaluation.mkdir(exist_ok=True)
    write_text(run.evaluation / "returns.json", json.dumps(results, indent=2) + "\n")
    return results


def _agent_walks(run: RunDirectory, frames: int | None, device: str) -> tuple[Choose, Reader]:
    """A run's policy, and the memory it needs; the same draws for every checkpoint."""
    agent, _ = load_agent(run.path, device=device, frames=frames)
    reader = Reader(agent, BATCH)
    return by_agent(reader, named_generator(0, "evaluation", resolve_device(device))), reader


def _summary(returns: NDArray[np.float64]) -> dict[str, float]:
    flat = returns.ravel()
    return {
        "mean": float(flat.mean()),
        "standard_error": float(flat.std(ddof=1) / np.sqrt(len(flat))),
    }
