"""Returns: what an agent earns, beside a random policy and the scripted explorer."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from groundling.agents.agent import Agent
from groundling.agents.generators import named_generator, named_seed
from groundling.evaluation.naming import score_naming
from groundling.evaluation.walks import Choose, Reader, at_random, by_agent, by_explorer, walk
from groundling.training.config import EnvironmentConfig
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
        absent = rows.absent
        for row in rows:
            running += row.previous_reward.cpu().numpy()
            # While nobody is there every row is a first one, and no episode ends.
            for i in np.flatnonzero(row.is_first.cpu().numpy() & ~absent):
                returns[i].append(running[i])
                running[i] = 0.0
            absent = rows.absent
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
        {"episodes", "returns": {policy: score}, "novel_returns": the same in rooms with the
        combinations that the agent was trained without, or None, "naming": of digits, see
        `naming.score_naming`, or None, "snapshots": {frames: score}, …}, a score being
        {"mean", "standard_error", "interval": 95 % t-interval}.
    """
    run = RunDirectory(run_dir)
    config = run.read_config()
    agent, _ = load_agent(run_dir, device=device)  # A run without an agent is told first.
    contest = _Contest(episodes, device, show_progress)
    novel = config.env.with_novel_combinations
    results = {
        "run": str(run.path),
        "episodes": episodes,
        "returns": contest.of_all(config.env, agent),
        "novel_returns": contest.of_all(novel, agent, " (novel rooms)") if novel else None,
        "naming": (
            score_naming(run_dir, device=device, show_progress=show_progress)
            if config.env.is_digits
            else None
        ),
        "snapshots": {
            str(frames): contest.of_agent(
                config.env, load_agent(run_dir, device=device, frames=frames)[0], f" at {frames:,}"
            )
            for frames in (run.snapshots() if snapshots else ())
        },
        "measured": time.strftime("%Y-%m-%d"),
    }
    run.make(run.evaluation)
    write_text(run.evaluation / "returns.json", json.dumps(results, indent=2) + "\n")
    return results


@dataclass(frozen=True)
class _Contest:
    """Policies in the same rooms."""

    episodes: int
    device: str
    shown: bool

    def of_all(
        self, world: EnvironmentConfig, agent: Agent, where: str = ""
    ) -> dict[str, dict[str, Any]]:
        """Scores of the agent, a random policy and, if there is one, the explorer."""
        environment = make_environment(world, num_envs=BATCH)
        draws = np.random.default_rng(named_seed(0, "random"))
        returns = {
            "agent": self.of_agent(world, agent, where),
            "random": self._measure(environment, "random" + where, at_random(environment, draws)),
        }
        if world.is_rooms:
            explorer = by_explorer(environment)
            returns["explorer"] = self._measure(environment, "explorer" + where, explorer)
        environment.close()
        return returns

    def of_agent(self, world: EnvironmentConfig, agent: Agent, where: str = "") -> dict[str, Any]:
        """An agent's score; the same draws for every agent."""
        environment = make_environment(world, num_envs=BATCH)
        reader = Reader(agent, environment.num_envs)
        draws = named_generator(0, "evaluation", resolve_device(self.device))
        score = self._measure(environment, "agent" + where, by_agent(reader, draws), reader)
        environment.close()
        return score

    def _measure(
        self, environment: Environment, name: str, choose: Choose, *readers: Reader
    ) -> dict[str, Any]:
        returns = episode_returns(
            environment,
            choose,
            self.episodes,
            readers=readers,
            device=self.device,
            description=f"return of {name}",
            shown=self.shown,
        )
        return _summary(returns)


def _summary(returns: NDArray[np.float64]) -> dict[str, Any]:
    flat = returns.ravel()
    error = stats.sem(flat)
    reach = float(error * stats.t.ppf(0.975, len(flat) - 1))
    return {
        "mean": float(flat.mean()),
        "standard_error": float(error),
        "interval": [float(flat.mean()) - reach, float(flat.mean()) + reach],
    }
