"""Every command but `train`: a function whose arguments are its flags.

Torch and numba are imported inside, so that help is there at once.
"""

import ast
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from groundling.ask import ask
from groundling.envs.errors import UserError
from groundling.listing import describe_environments
from groundling.training.config import EnvironmentConfig, Scalar


def probe(
    run: tyro.conf.Positional[Path],
    /,
    others: tyro.conf.Positional[tuple[Path, ...]] = (),
    *,
    quick: bool = False,
    json: bool = False,
    walker: Literal["explorer", "random", "agent"] | None = None,
    decoders: tuple[Literal["mlp", "linear", "lstm"], ...] | None = None,
    controls: Literal["none", "few", "all"] | None = None,
    rooms: int | None = None,
    frames: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    keep: bool = True,
) -> None:
    """Ask a frozen agent what it remembers, beside controls that remember less or nothing.

    Args:
        run: The run directory.
        others: Further runs in the same world, each a row of the table.
        quick: Fewer rooms, one decoder, few controls: a look, not the protocol.
        json: Print the results as JSON.
        walker: Who chooses the path through the rooms (default: the scripted explorer, or chance
            in a world that has none).
        decoders: What reads the belief: perceptron, linear map, the paper's LSTM (default: all).
        controls: Rows beside the agent: none, few (untrained agent, question alone), or all.
        rooms: Rooms to fit the decoders on (default: the protocol's 30,000).
        frames: The snapshot after so many frames instead of the latest checkpoint.
        seed: Of the decoders.
        device: Where to compute.
        workers: Processes that fit decoders side by side (default: one for each core).
        keep: Keep what was walked and fitted (about a gigabyte), and use what was.
    """
    from groundling.evaluation.probing import probe_run
    from groundling.evaluation.protocol import QUICK, ProbeSettings
    from groundling.training.run import RunDirectory

    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; expected at least 1")
    given: dict[str, Any] = {"decoders": decoders, "controls": controls, "rooms": rooms}
    settings = dataclasses.replace(
        QUICK if quick else ProbeSettings(),
        walker=walker,
        seed=seed,
        **{name: value for name, value in given.items() if value is not None},
    )
    results = probe_run(
        run,
        settings,
        others=others,
        frames=frames,
        device=device,
        workers=_cores() if workers is None else workers,
        keep=keep,
    )
    if json:
        print_json(results)
    else:
        columns = {
            name: {kind: score["answerable"] for kind, score in scores.items()}
            for name, scores in results["rows"].items()
        }
        _print_scores("answerable questions", columns)
        for sentence in results["left_out"]:
            print(sentence)
        directory = RunDirectory(run)
        print(f"written: {directory.results(frames)}, {directory.picture(frames).name}")


def _cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evaluate(
    run: tyro.conf.Positional[Path],
    /,
    episodes: int = 512,
    snapshots: bool = False,
    json: bool = False,
    device: str = "cpu",
) -> None:
    """Measure an agent's return beside a random policy and the scripted explorer.

    Args:
        run: The run directory.
        episodes: How many episodes each policy plays.
        snapshots: Measure the agent at every snapshot, too (see train --snapshot-every).
        json: Print the results as JSON.
        device: Where to compute.
    """
    from groundling.evaluation.episodes import evaluate as evaluate_run

    if episodes < 2:
        raise UserError(f"--episodes is {episodes}; expected at least 2")
    results = evaluate_run(run, episodes=episodes, snapshots=snapshots, device=device)
    if json:
        print_json(results)
        return
    novel, earlier = results["novel_returns"] or {}, results["snapshots"]
    scores = (
        results["returns"]
        | {f"{name}, novel rooms": score for name, score in novel.items()}
        | {f"agent at {int(at):,} frames": score for at, score in earlier.items()}
    )
    rows = [
        [name, f"{score['mean']:.2f}", "{:.2f} to {:.2f}".format(*score["interval"])]
        for name, score in scores.items()
    ]
    print_table(["policy", "mean return", "95 %"], rows)
    if naming := results["naming"]:
        low, high = (f"{100 * end:.1f}" for end in naming["interval"])
        print(f"misnames {100 * naming['error']:.1f} % of unseen digits (95 %: {low} to {high})")


def foresee(
    run: tyro.conf.Positional[Path],
    /,
    rooms: int = 512,
    walker: Literal["explorer", "agent"] = "explorer",
    json: bool = False,
    device: str = "cpu",
) -> None:
    """Measure how well an agent's simulator predicts, and how much of that takes memory.

    Args:
        run: The run directory, trained with SimCore.
        rooms: Rooms to walk through.
        walker: Who chooses the path: the scripted explorer (the same for all agents), or the agent.
        json: Print the results as JSON.
        device: Where to compute.
    """
    from groundling.evaluation.foresight import measure_foresight

    if rooms < 1:
        raise UserError(f"--rooms is {rooms}; expected at least 1")
    results = measure_foresight(run, rooms=rooms, walker=walker, device=device)
    if json:
        print_json(results)
        return
    names = ("share", "model", "copy", "marginal", "what", "colour")
    rows = [
        [steps, kind, *(f"{scores[name]:.2f}" if name in scores else "" for name in names)]
        for steps, kinds in results["horizons"].items()
        for kind, scores in kinds.items()
    ]
    print_table(["steps ahead", "cell", *names], rows)


def inspect(
    run: tyro.conf.Positional[Path],
    /,
    parts: tyro.conf.Positional[
        tuple[Literal["map", "gaze", "attention", "states", "cause"], ...]
    ] = (),
    *,
    json: bool = False,
    device: str = "cpu",
) -> None:
    """Look inside a frozen agent: draw its memory, find what it attends to, change its mind.

    Args:
        run: The run directory.
        parts: map (the room as it is remembered), gaze (where an agent with attention looks),
            attention (what the decisions of one without hang on), states (its memory in two
            dimensions), cause (what follows when it is changed); all it can have, unless given.
        json: Print every number as JSON.
        device: Where to compute.
    """
    from groundling.evaluation.inspection import inspect_run, left_out
    from groundling.training.run import RunDirectory

    found = inspect_run(run, parts, device=device)
    if json:
        print_json({part: finding.numbers for part, finding in found.items()})
        return
    for finding in found.values():
        print_table(finding.table[0], finding.table[1:])
    if not parts:
        print(*left_out(RunDirectory(run).read_config()).values(), sep="\n")
    print(f"written: {RunDirectory(run).inspection}; `groundling report {run}` shows it")


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    json: bool = False,
) -> None:
    """Compare probed runs: differences of seed means, with intervals.

    Args:
        runs: Run directories; those that differ in their seed alone are one group, and the first
            one's is the reference.
        json: Print everything as JSON.
    """
    from groundling.evaluation.compare import compare as compare_runs

    results = compare_runs(runs)
    if json:
        print_json(results)
        return
    means = {
        f"{name} ({len(group['runs'])})": group["mean"] for name, group in results["groups"].items()
    }
    _print_scores("mean (runs)", means)
    middles = [
        [name, _with_interval(group["interquartile_mean"]), _wins(results, name)]
        for name, group in results["groups"].items()
    ]
    reference = results["reference"]
    print_table(["group", "interquartile mean", f"{reference} wins against it"], middles)
    for name, found in results["differences"].items():
        rows = [
            [
                kind.replace("_", " "),
                f"{score['mean']:+.3f}",
                f"[{score['low']:+.3f}, {score['high']:+.3f}]",
                f"{score['p']:.4f}",
            ]
            for kind, score in found.items()
        ]
        print_table([f"{results['reference']} - {name}", "difference", "95 %", "p"], rows)


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    output: Path | None = None,
    without: tuple[Literal["map", "gaze", "attention", "states", "cause"], ...] = (),
) -> None:
    """Write report.html: curves, tables, films, comparisons, every setting.

    Args:
        runs: One run directory or more.
        output: The page (default: report.html in the run, or beside the first of several).
        without: Sections of `inspect` to leave out.
    """
    from groundling.evaluation.report import write_report

    print(f"written: {write_report(*runs, output=output, without=without)}")


def watch(
    source: tyro.conf.Positional[str],
    /,
    gif: Path | None = None,
    options: dict[str, str] | None = None,
    steps: int | None = None,
    seed: int = 0,
    imagine: bool = False,
) -> None:
    """Show an environment, or a trained agent and what it answers, in a window or as a film.

    Args:
        source: A run directory, or the id of an environment (see envs).
        gif: The file to write; without it a window is opened.
        options: Keywords of the environment, as `keyword value` pairs; several values of one
            keyword have commas between them.
        steps: How long (default: 64 for a film; a window stays until it is closed).
        seed: Which room.
        imagine: Draw what the agent's simulator had expected to see (a run with SimCore).
    """
    from groundling.evaluation.film import environment_frames, run_frames, show, write_gif

    if steps is not None and steps < 1:
        raise UserError(f"--steps is {steps}; expected at least 1")
    if Path(source).is_dir():
        if options:
            raise UserError(f"--options is {options}; a run has its own, expected an environment")
        frames = run_frames(source, seed=seed, imagine=imagine)
    else:
        frames = environment_frames(_environment(source, options or {}), seed=seed)
    if gif is None:
        show(itertools.islice(frames, steps))
    else:
        print(f"written: {write_gif(list(itertools.islice(frames, steps or FILM_STEPS)), gif)}")


FILM_STEPS = 64
"""Length of a film, unless told otherwise."""


def _environment(name: str, options: Mapping[str, str]) -> EnvironmentConfig:
    """The environment of an id, with keywords as they come from the command line."""
    from groundling.envs.rooms.options import RoomsOptions

    keywords = {keyword: _value(text) for keyword, text in options.items()}
    config = EnvironmentConfig(id=name)
    if config.is_rooms:
        keywords = dataclasses.asdict(config.rooms) | keywords
        return EnvironmentConfig(id=name, rooms=RoomsOptions.from_keywords(keywords))
    return EnvironmentConfig(id=name, options=keywords)


def _value(text: str) -> Any:
    """A keyword's value: what Python reads, several where commas are, else the word itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return tuple(map(_value, text.split(","))) if "," in text else text


def envs() -> None:
    """List the environments and what can be chosen about them."""
    for titles, rows in describe_environments():
        print_table(titles, rows, numbers=False)


def check_env(
    name: tyro.conf.Positional[str],
    /,
    options: dict[str, Scalar] | None = None,
) -> None:
    """Check whether an environment is fit to train in, and say what to fix.

    Exit code 0 if all is well, 1 if not.

    Args:
        name: Its id, as for --env.id.
        options: Keyword arguments for it, as `key value` pairs.
    """
    from groundling.envs.check import check_environment
    from groundling.training.environments import suits_agent

    marks = {True: "✓", False: "✗", None: "–"}
    findings = check_environment(name, options or {}, suits_agent)
    rows = [[one.what, marks[one.passed], one.found, one.advice] for one in findings]
    print_table([name, "", "found", "what to fix"], rows, numbers=False)
    for finding in findings:
        for note in finding.notes:
            print(f"note ({finding.what}): {note}")
    if any(finding.passed is False for finding in findings):
        raise SystemExit(1)


def doctor() -> None:
    """Say what is installed, what the machine has, and what to fix."""
    from groundling.evaluation.doctor import examine

    findings = examine()
    print_table(["what", "found", "advice"], [list(finding) for finding in findings])


COMMANDS: dict[str, Callable[..., None]] = {
    "probe": probe,
    "evaluate": evaluate,
    "foresee": foresee,
    "inspect": inspect,
    "compare": compare,
    "report": report,
    "watch": watch,
    "ask": ask,
    "envs": envs,
    "check-env": check_env,
    "doctor": doctor,
}


def print_json(results: Any) -> None:
    """Prints results for machines."""
    print(json.dumps(results, indent=2))


def _wins(results: dict[str, Any], name: str) -> str:
    return _with_interval(results["improvement"][name]) if name in results["improvement"] else ""


def _with_interval(found: dict[str, float]) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


COLUMNS = 5
"""Columns of numbers that fit into a terminal beside the question types."""


def _print_scores(title: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Tables of {name: {question type: share}}, a few names at a time."""
    names = list(columns)
    for first in range(0, len(names), COLUMNS):
        some = names[first : first + COLUMNS]
        rows = [
            [kind.replace("_", " "), *(f"{columns[name][kind]:.2f}" for name in some)]
            for kind in columns[names[0]]
        ]
        print_table([title, *(name.replace(" ", "\n") for name in some)], rows)


def print_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True
) -> None:
    """Prints a table to stdout, the first column to the left and numbers to the right."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if numbers and index > 0 else "left")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)
