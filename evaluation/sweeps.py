"""A sweep: every point of a grid of settings trained with several seeds, held against the others.

What is run, and where, are `jobs` and `runner`; here are the plan, and the one page that ends it.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from groundling.envs.errors import UserError
from groundling.envs.questions import QuestionSource
from groundling.evaluation.compare import compare
from groundling.evaluation.figures import comparison_dots, learning_curves
from groundling.evaluation.jobs import Command, Job
from groundling.evaluation.report import inline_png, page
from groundling.evaluation.statistics import Interval, mean_interval
from groundling.training.checkpoint import load_checkpoint
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory, write_text


class Point(NamedTuple):
    """One combination of a grid's values."""

    name: str
    """Of its runs, but for the seed."""
    words: tuple[str, ...]
    """After `groundling train PRESET`."""
    config: TrainConfig
    """What they come to."""


class Probing(NamedTuple):
    """How runs are probed."""

    rooms: int | None = None
    """Rooms to fit the decoders on (None: the protocol's)."""
    workers: int = 1
    """Processes that fit decoders."""


def plan(
    directory: Path,
    preset: str,
    points: Sequence[Point],
    *,
    seeds: int,
    probing: Probing | None = None,
) -> list[Job]:
    """All jobs, first seeds first, so that an early stop still leaves a comparison.

    Args:
        directory: of the sweep; a run's is DIRECTORY/POINT-SEED.
        preset: that the points' flags change.
        points: of the grid.
        seeds: runs of each point, with seeds from 0.
        probing: of runs whose environment answers questions; None leaves it out.

    Raises:
        UserError: an environment cannot be made.
    """
    # Whatever is wrong with an environment is found before anything is run.
    asked = {point.name for point in points if answers(point.config.env)}
    jobs: list[Job] = []
    for seed in range(seeds):
        for point in points:
            run = RunDirectory(directory / f"{point.name}-{seed}")
            train = ("train", preset, *point.words, "--seed", str(seed))
            commands = [
                Command((*train, "--run-dir", str(run.path)), run.path / ".trained"),
                Command(("evaluate", str(run.path)), run.evaluation / "returns.json"),
            ]
            if probing is not None and point.name in asked:
                # Controls hardly depend on the seed, and not on what was learned: one for all.
                controls = "none" if jobs else "few"
                commands.append(_probe(run, probing, controls))
            jobs.append(Job(point.name, seed, run.path, tuple(commands)))
    return jobs


def _probe(run: RunDirectory, probing: Probing, controls: str) -> Command:
    words = ["probe", str(run.path), "--decoders", "mlp", "--controls", controls]
    if probing.rooms is not None:
        words += ["--rooms", str(probing.rooms)]
    # Nothing is kept: the rooms of a whole sweep would fill a disk.
    words += ["--workers", str(probing.workers), "--no-keep"]
    return Command(tuple(words), run.results())


def answers(env: EnvironmentConfig) -> bool:
    """Whether an environment answers questions.

    Raises:
        UserError: it cannot be made.
    """
    environment = make_environment(env, num_envs=1)
    try:
        return isinstance(environment.unwrapped, QuestionSource)
    finally:
        environment.close()


def gather(jobs: Sequence[Job]) -> dict[str, Any]:
    """What the finished runs measured.

    Returns:
        {"measured", "runs": [{"point", "seed", "path", "frames", "seconds", "return", "scores":
        {question type: share of answerable questions answered right}}], "points": {name:
        {measure: {"value", "low", "high"}}}, "comparison": see `compare.compare`, or None, "apart":
        why there is none}. Measures are return, M frames, minutes and the question types; ends of
        an interval (95 %, t, over seeds) are None where there is one seed.
    """
    done = [job for job in jobs if job.done]
    runs = [_measured(job) for job in done]
    points = {
        name: _summary([run for run in runs if run["point"] == name])
        for name in dict.fromkeys(run["point"] for run in runs)
    }
    comparison, apart = None, ""
    if len(runs) > 1 and all(run["scores"] for run in runs):
        try:
            comparison = compare([job.directory for job in done])
        except UserError as error:  # Agents with attention are each asked about what they sensed.
            apart = str(error)
    results = {"measured": time.strftime("%Y-%m-%d"), "runs": runs, "points": points}
    return results | {"comparison": comparison, "apart": apart}


def _measured(job: Job) -> dict[str, Any]:
    run = RunDirectory(job.directory)
    last = load_checkpoint(run.checkpoint)
    earned = json.loads((run.evaluation / "returns.json").read_text(encoding="utf-8"))
    scores: dict[str, float] = {}
    if run.results().exists():
        probe = json.loads(run.results().read_text(encoding="utf-8"))
        scores = {kind: one["answerable"] for kind, one in probe["rows"]["agent"].items()}
    return {
        "point": job.variant,
        "seed": job.seed,
        "path": str(job.directory),
        "frames": last["frames"],
        "seconds": last["seconds"],
        "return": earned["returns"]["agent"]["mean"],
        "scores": scores,
    }


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Means over the seeds of a point, with intervals."""
    measures = {
        "return": [run["return"] for run in runs],
        "M frames": [run["frames"] / 1e6 for run in runs],
        "minutes": [run["seconds"] / 60 for run in runs],
    }
    measures |= {kind: [run["scores"].get(kind) for run in runs] for kind in runs[0]["scores"]}
    return {
        name: _mean(values)._asdict() for name, values in measures.items() if None not in values
    }


class Mean(NamedTuple):
    """Of some seeds; of a single one there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


def _mean(values: Sequence[float]) -> Mean:
    if len(values) < 2:
        return Mean(fmean(values))
    found: Interval = mean_interval(values)
    return Mean(*found)


def table(points: dict[str, Any]) -> list[list[str]]:
    """A header, and a row for each measure: its mean at every point, and the interval."""
    measures = list(dict.fromkeys(name for found in points.values() for name in found))
    rows = [["mean over seeds", *points]]
    for measure in measures:
        found = [_shown(measure, one.get(measure)) for one in points.values()]
        rows.append([measure.replace("_", " "), *found])
    return rows


def _shown(measure: str, found: dict[str, float | None] | None) -> str:
    if found is None:
        return "–"
    digits = 1 if measure in ("M frames", "minutes") else 2
    if found["low"] is None or digits == 1:
        return f"{found['value']:.{digits}f}"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def write_page(directory: Path, about: str, results: dict[str, Any], failed: Sequence[Job]) -> Path:
    """Writes `report.html` and, with every number, `results.json` of a sweep.

    Args:
        directory: of the sweep.
        about: the command.
        results: see `gather`; at least one run.
        failed: jobs of which a command ended with an error.

    Returns:
        The page.
    """
    curves = {
        name: [
            read_rows(RunDirectory(run["path"]).metrics)
            for run in results["runs"]
            if run["point"] == name
        ]
        for name in results["points"]
    }
    comparison = results["comparison"]
    text = page(
        "sweep.html",
        name=directory.name,
        about=about,
        table=table(results["points"]),
        curves=inline_png(learning_curves(curves)),
        dots=inline_png(comparison_dots(comparison)) if comparison else None,
        comparison=comparison,
        apart=results["apart"],
        runs=results["runs"],
        failed=[(job.name, str(job.log)) for job in failed],
    )
    file = directory / "report.html"
    write_text(directory / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(file, text)
    return file
