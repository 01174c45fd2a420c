"""Studies of hard attention: learned locations beside the controls, and beside seeing everything.

    python -m groundling.evaluation.looking digits|look [--seeds 3] [--directory runs/digits]

Each preset FAMILY-NAME is trained with the same budget and evaluated, one run per core; the same
command goes on after anything. The numbers go to FAMILY.json, the picture and the table beside it.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray

from groundling.envs.digits.options import FOLDS
from groundling.envs.errors import UserError
from groundling.evaluation.figures import png
from groundling.evaluation.jobs import STOPPED, Command, Job
from groundling.evaluation.runner import Room, run_jobs
from groundling.evaluation.statistics import Interval, clustered_interval, difference, mean_interval
from groundling.evaluation.summary import markdown_table
from groundling.training.checkpoint import load_checkpoint
from groundling.training.presets import LOOKS, NAMERS, preset
from groundling.training.run import RunDirectory, load_agent, write_bytes, write_text

FAMILIES = {"digits": tuple(NAMERS), "look": tuple(LOOKS)}
"""Presets FAMILY-NAME of each study."""

LEARNED = ("learned", "foveal", "tile")
CONTROLS = ("random", "centre", "scan")
MOST_SEEDS = 1_000
REDRAWN = 2_000
"""Times that digits are drawn again for an interval."""


def plan(family: str, names: Sequence[str], seeds: int, directory: Path, frames: int) -> list[Job]:
    """All runs of a study, first seeds first.

    Args:
        family: of presets.
        names: of the family's presets.
        seeds: how many of each; of the digits each has a fold of its own.
        directory: of the study.
        frames: of training, of each; 0: the preset's. (Where the presets of a family differ, fewer
            in proportion.)
    """
    jobs = []
    for seed in range(seeds):
        for name in names:
            run = directory / f"{name}-{seed}"
            train = ["train", f"{family}-{name}", "--run-dir", str(run), "--seed", str(seed)]
            config = preset(f"{family}-{name}")
            if frames:
                most = max(preset(f"{family}-{other}").frames for other in FAMILIES[family])
                train += ["--frames", str(frames * config.frames // most)]
            if family == "digits":
                train += ["--env.options.fold", str(seed)]
            scored = RunDirectory(run).evaluation / "returns.json"
            commands = (
                Command(tuple(train), run / ".trained"),
                Command(("evaluate", str(run)), scored),
            )
            jobs.append(Job(name, seed, run, commands))
    return jobs


def gather(jobs: Sequence[Job], file: Path) -> dict[str, Any]:
    """Collects what the finished runs measured into one small file.

    Returns:
        {"measured", "runs": [{"name", "seed", "frames", "seconds", "weights", "numbers": that enter
        the network from a view, "return", "naming": see `naming.score_naming`, or None}]}.
    """
    runs = []
    for job in jobs:
        scored = RunDirectory(job.directory).evaluation / "returns.json"
        if not scored.exists():
            continue
        results = json.loads(scored.read_text(encoding="utf-8"))
        agent, _ = load_agent(job.directory)
        last = load_checkpoint(RunDirectory(job.directory).checkpoint)
        entry = {
            "name": job.variant,
            "seed": job.seed,
            "frames": last["frames"],
            "seconds": last["seconds"],
            "weights": sum(weights.numel() for weights in agent.parameters()),
            "numbers": None if agent.attention is None else agent.attention.numbers,
            "return": results["returns"]["agent"]["mean"],
            "naming": results["naming"],
        }
        runs.append(entry)
    gathered = {"measured": time.strftime("%Y-%m-%d"), "runs": runs}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(gathered) + "\n")
    return gathered


def summarise_digits(runs: Sequence[dict[str, Any]]) -> tuple[str, bytes]:
    """Error by name over all folds, how far learning closes the gap to the oracle, and a picture.

    Returns:
        The tables in Markdown, and PNG bytes.
    """
    groups = _by_name(runs)
    rows, errors = [], {}
    for name, group in groups.items():
        wrong, asked = (
            np.concatenate([run["naming"][what] for run in group]) for what in ("wrong", "asked")
        )
        error = errors[name] = clustered_interval(wrong, asked)
        told = [run["naming"]["information"] for run in group if run["naming"]["information"]]
        bits = fmean(one["bits"] - one["shuffled"] for one in told) if told else None
        rows.append(
            [
                name,
                str(len(group)),
                f"{100 * error.value:.1f} % [{100 * error.low:.1f}, {100 * error.high:.1f}]",
                "–" if bits is None else f"{round(bits, 2) + 0.0:.2f}",
                f"{group[0]['weights']:,}",
                f"{fmean(run['seconds'] for run in group) / 60:.1f}",
            ]
        )
    header = ["locations", "folds", "error", "bits about the image", "weights", "minutes"]
    text = markdown_table(header, rows)
    if {"learned", "oracle", "random"} <= groups.keys():
        gap = closed_gap(groups)
        text += (
            "\n\n(learned − oracle) / (random − oracle) = "
            f"{gap[0]:.2f} [{gap[1]:.2f}, {gap[2]:.2f}] (digits drawn again)"
        )
    bars = {
        name: (100 * error.value, 100 * error.low, 100 * error.high)
        for name, error in errors.items()
    }
    return text, _bars(bars, "misnamed, %")


def closed_gap(groups: dict[str, list[dict[str, Any]]]) -> tuple[float, float, float]:
    """(learned − oracle) / (random − oracle) of errors, and its 95 % interval.

    Only folds that all three were run on count. Digits are drawn again with all their canvases, the
    same for all three.
    """
    folds = set.intersection(
        *({run["seed"] for run in groups[name]} for name in ("learned", "oracle", "random"))
    )

    def counts(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        chosen = [run["naming"] for run in groups[name] if run["seed"] in folds]
        wrong, asked = (
            np.concatenate([one[what] for one in chosen]) for what in ("wrong", "asked")
        )
        return wrong.astype(np.float64), asked.astype(np.float64)

    tables = {name: counts(name) for name in ("learned", "oracle", "random")}
    generator = np.random.default_rng(0)
    digits = len(tables["learned"][0])
    times = generator.multinomial(digits, np.full(digits, 1 / digits), size=REDRAWN)

    def ratio(weights: NDArray[Any]) -> NDArray[np.float64]:
        error = {
            name: (weights @ wrong) / (weights @ asked) for name, (wrong, asked) in tables.items()
        }
        return np.asarray(
            (error["learned"] - error["oracle"]) / (error["random"] - error["oracle"])
        )

    low, high = np.quantile(ratio(times), [0.025, 0.975])
    return float(ratio(np.ones(digits))), float(low), float(high)


def summarise_look(runs: Sequence[dict[str, Any]]) -> tuple[str, bytes]:
    """Returns by name over seeds, the foveal agent held against the others, and a picture.

    Returns:
        The tables in Markdown, and PNG bytes.
    """
    groups = {name: [run["return"] for run in group] for name, group in _by_name(runs).items()}
    about = {run["name"]: run for run in runs}
    rows, earned = [], {}
    for name, returns in groups.items():
        numbers = about[name]["numbers"]
        share = "all" if numbers is None else str(numbers)
        mean = earned[name] = _mean(returns)
        against = "–"
        if name != "foveal" and min(len(returns), len(groups.get("foveal", ()))) > 1:
            found = difference(groups["foveal"], returns)
            against = f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
        spread = f" [{mean.low:.2f}, {mean.high:.2f}]" if len(returns) > 1 else ""
        seen = f"{about[name]['frames'] / 1e6:.1f}"
        minutes = f"{about[name]['seconds'] / 60:.1f}"
        rows.append(
            [name, str(len(returns)), share, f"{mean.value:.2f}{spread}", against, seen, minutes]
        )
    header = ["looks", "seeds", "numbers of the view", "return", "foveal minus this"]
    text = markdown_table([*header, "M frames", "minutes"], rows)
    if {"full", "foveal", "centre"} <= groups.keys():
        full, foveal, centre = (earned[name].value for name in ("full", "foveal", "centre"))
        text += f"\n\nfoveal / full = {foveal / full:.2f}, full / centre = {full / centre:.2f}"
    return text, _bars(earned, "return")


def _mean(returns: Sequence[float]) -> Interval:
    """Over seeds; of a single one there is no interval."""
    only = returns[0]
    return mean_interval(returns) if len(returns) > 1 else Interval(only, only, only)


def _by_name(runs: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(run["name"], []).append(run)
    return groups


def _bars(bars: Mapping[str, tuple[float, float, float]], label: str) -> bytes:
    """A bar for each name: a value, and from where to where it reaches."""
    figure = Figure(figsize=(7.2, 0.42 * len(bars) + 0.9), dpi=144, layout="constrained")
    axes = figure.subplots()
    for place, (name, (value, low, high)) in enumerate(bars.items()):
        control = name in CONTROLS
        colour = "#9aa5b8" if control else "#2a6fbb" if name in LEARNED else "#3d8b5f"
        axes.barh(place, value, color=colour, height=0.7)
        axes.plot([low, high], [place, place], color="#333333", linewidth=1.2)
        axes.text(high, place, f"  {value:.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


SUMMARIES = {"digits": summarise_digits, "look": summarise_look}


@dataclass(frozen=True)
class StudyFlags:
    """Trains and evaluates a family of presets that look; goes on where it stopped."""

    family: tyro.conf.Positional[Literal["digits", "look"]]
    """Which study."""
    seeds: int = 3
    """Runs of each preset; of the digits each has a fold of its own."""
    names: tuple[str, ...] = ()
    """Which presets FAMILY-NAME; all unless told."""
    frames: int = 0
    """Frames of training of each run that takes glimpses (0: the preset's)."""
    directory: Path | None = None
    """Where the runs live; runs/FAMILY unless told."""
    workers: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    """Runs at a time, each on a core of its own."""
    output: Path = Path("docs")
    """Where the numbers, the picture and the table go."""


def main() -> None:
    """Runs the study and writes FAMILY.json with its picture and table."""
    try:
        flags = tyro.cli(StudyFlags, prog="python -m groundling.evaluation.looking")
        _check(flags)
        _study(flags)
    except UserError as error:
        print(f"looking: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _check(flags: StudyFlags) -> None:
    """Raises UserError for flags that cannot be meant."""
    known = FAMILIES[flags.family]
    if unknown := [name for name in flags.names if name not in known]:
        raise UserError(f"--names has {unknown[0]!r}; expected some of {', '.join(known)}")
    most = FOLDS if flags.family == "digits" else MOST_SEEDS
    if not 1 <= flags.seeds <= most:
        raise UserError(f"--seeds is {flags.seeds}; expected 1 to {most}")
    for name, value, least in (("workers", flags.workers, 1), ("frames", flags.frames, 0)):
        if value < least:
            raise UserError(f"--{name} is {value}; expected at least {least}")


def _study(flags: StudyFlags) -> None:
    directory = flags.directory or Path("runs") / flags.family
    names = flags.names or FAMILIES[flags.family]
    jobs = plan(flags.family, names, flags.seeds, directory, flags.frames)
    outcome = run_jobs(jobs, Room(at_once=flags.workers))
    results = gather(jobs, flags.output / f"{flags.family}.json")
    if results["runs"]:
        text, picture = SUMMARIES[flags.family](results["runs"])
        write_text(flags.output / f"{flags.family}.md", text + "\n")
        write_bytes(flags.output / f"{flags.family}.png", picture)
        print(text)
    if outcome.stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED)
    raise SystemExit(1 if outcome.failed else 0)


if __name__ == "__main__":
    main()
