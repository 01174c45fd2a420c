"""`groundling sweep`: a grid of settings with several seeds each, or a population.

A point of the grid is flags of `train`, read by the same parser; Ray runs what they come to.
"""

import dataclasses
import itertools
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from groundling.envs.errors import UserError
from groundling.settings import preset_name, train_flags
from groundling.training.config import TrainConfig, to_json

if TYPE_CHECKING:
    from groundling.evaluation.jobs import Job
    from groundling.evaluation.sweeps import Point

STOPPED, FAILED = 130, 1
MOST_SEEDS = 1_000


@dataclasses.dataclass(frozen=True)
class SweepFlags:
    """Trains, evaluates and probes every point of a grid with several seeds, and compares them on
    one page. The same command again goes on; Ctrl-C stops runs, which save first. Any other flag is
    `groundling train PRESET`'s, and the same for all runs."""

    grid: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FIELD=VALUE,VALUE,...: a flag of train and the values it takes; given several times, every
    combination. (agent.prediction=none,cpc,simcore takes the presets' variants of prediction.)"""
    seeds: int = 3
    """Runs of each point, with seeds 0, 1, ..."""
    directory: Path | None = None
    """Where the runs live (runs/sweep-PRESET unless told)."""
    cpus_per_run: float = 1.0
    """CPUs that each run reserves: so many are run at a time as there is room for."""
    gpus_per_run: float = 0.0
    """GPUs, or a share of one, that each run reserves (with --device cuda)."""
    ray_address: str = ""
    """The Ray cluster to run on, whose machines share this directory: auto, or HOST:PORT (empty:
    this machine)."""
    probe: bool = True
    """Probe every run, where the environment answers questions."""
    rooms: int | None = None
    """Rooms to fit the probe's decoders on (the protocol's 30,000 unless told)."""


def sweep(arguments: Sequence[str]) -> None:
    """Train a grid of settings, some seeds of each: groundling sweep PRESET --grid FIELD=A,B."""
    preset, words = preset_name("sweep", arguments)
    flags, rest = tyro.cli(
        SweepFlags, prog=f"groundling sweep {preset}", args=words, return_unknown_args=True
    )
    _check(flags, rest)
    _sweep(preset, flags, rest, about=" ".join(["groundling sweep", preset, *words]))


def _check(flags: SweepFlags, rest: Sequence[str]) -> None:
    """Raises UserError for flags that cannot be meant."""
    if not 1 <= flags.seeds <= MOST_SEEDS:
        raise UserError(f"--seeds is {flags.seeds}; expected 1 to {MOST_SEEDS:,}")
    if flags.rooms is not None and flags.rooms < 1:
        raise UserError(f"--rooms is {flags.rooms}; expected at least 1")
    for flag, instead in (("seed", "--seeds N"), ("run-dir", "--directory DIR")):
        if any(_dashed(word.split("=")[0]) == f"--{flag}" for word in rest):
            raise UserError(f"--{flag} is that of one run; expected {instead} for a sweep")


def _sweep(preset: str, flags: SweepFlags, rest: Sequence[str], *, about: str) -> None:
    points = grid_points(preset, flags.grid, rest)
    # Torch is imported from here on.
    from groundling.evaluation.runner import Room, run_jobs
    from groundling.evaluation.studies import begin
    from groundling.evaluation.sweeps import Probing, plan

    room = Room(flags.cpus_per_run, flags.gpus_per_run, address=flags.ray_address)
    directory = flags.directory or Path("runs") / f"sweep-{preset}"
    probing = Probing(flags.rooms, max(1, int(room.cpus))) if flags.probe else None
    jobs = plan(directory, preset, points, seeds=flags.seeds, probing=probing)
    fields = ", ".join(_parsed(one)[0] for one in flags.grid)
    asked = {"preset": preset, "grid": fields or None, "probe": flags.probe, "rooms": flags.rooms}
    begin(directory, "sweep", asked | _pairs(rest))
    outcome = run_jobs(jobs, room)
    _conclude(directory, about, jobs, outcome.failed)
    if outcome.stopped:
        print("groundling: stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED)
    if outcome.failed:
        for job in outcome.failed:
            print(f"groundling: {job.name} failed, see {job.log}", file=sys.stderr)
        raise SystemExit(FAILED)


def _conclude(directory: Path, about: str, jobs: Sequence["Job"], failed: Sequence["Job"]) -> None:
    """Prints the table and writes the page, if any run is finished."""
    from groundling.commands import print_table
    from groundling.evaluation.sweeps import gather, table, write_page

    results = gather(jobs)
    if not results["runs"]:
        return
    header, *rows = table(results["points"])
    for first in range(1, len(header), COLUMNS):
        some = slice(first, first + COLUMNS)
        print_table([header[0], *header[some]], [[row[0], *row[some]] for row in rows])
    print(f"written: {write_page(directory, about, results, failed)}")


COLUMNS = 3
"""Points that fit into a terminal side by side."""


def grid_points(preset: str, grid: Sequence[str], rest: Sequence[str]) -> list["Point"]:
    """Every combination of a grid's values, checked by the parser of `train`.

    Args:
        preset: that is changed.
        grid: FIELD=VALUE,VALUE,... each.
        rest: flags of `train` that all have in common.

    Raises:
        UserError: a field is unknown or named twice, or two points are the same; names it.
        SystemExit: a value is malformed.
    """
    axes = [_parsed(one) for one in grid]
    names = [field for field, _ in axes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--grid names {twice[0]} twice; expected all of its values at once")
    from groundling.evaluation.sweeps import Point

    points: list[Point] = []
    for values in itertools.product(*(values for _, values in axes)):
        words = list(rest)
        for name, value in zip(names, values, strict=True):
            words += [f"--{name}", *value.split()]
        config = train_flags(preset, words, command="sweep").settings
        point = Point(_name(names, values) or preset, tuple(words), config)
        for other in points:
            if point.config == other.config or point.name == other.name:
                raise UserError(
                    f"--grid has {other.name} and {point.name}, which are the same; expected "
                    "different values"
                )
        points.append(point)
    return points


def _parsed(one: str) -> tuple[str, list[str]]:
    """The field and the values of FIELD=VALUE,VALUE,...

    Raises:
        UserError: there is no such field; names the nearest.
    """
    name, _, listed = one.partition("=")
    field = _dashed(name)
    values = [value.strip() for value in listed.split(",")]
    if not field or not all(values):
        raise UserError(f"--grid is {one!r}; expected FIELD=VALUE,VALUE,...")
    known = _fields()
    # An environment's options, and the weights of one's own losses, have names of their own.
    free = field.rpartition(".")[0] in ("env.options", "agent.sensors", "learner.losses")
    if field in ("seed", "run-dir"):
        raise UserError(f"--grid names {field}; expected --seeds N for several seeds")
    if field not in known and not free:
        near = get_close_matches(field, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "expected a flag of train"
        raise UserError(f"--grid names {field}, which is no field; {hint}")
    return field, values


def _dashed(name: str) -> str:
    """As the command line has it: an underscore in the end stays."""
    return re.sub(r"_(?=\w)", "-", name)


def _fields() -> list[str]:
    """Flags of train, without the dashes before them."""

    def leaves(values: dict[str, object], prefix: str = "") -> list[str]:
        found = []
        for key, value in values.items():
            name = prefix + _dashed(key)
            found += leaves(value, f"{name}.") if isinstance(value, dict) and value else [name]
        return found

    return [*leaves(to_json(TrainConfig())), "agent.prediction"]


def _name(names: Sequence[str], values: Sequence[str]) -> str:
    """Of a point, for its directories: its values; a number, or a value of several fields, with the
    name of its own."""
    parts = []
    for name, value in zip(names, values, strict=True):
        short = re.sub(r"[^\w.+-]+", "_", value)
        is_word = bool(re.match(r"[A-Za-z]", value)) and value not in ("True", "False")
        last = name.rpartition(".")[2]
        parts.append(short if is_word and list(values).count(value) == 1 else f"{last}-{short}")
    return "-".join(parts)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """Flags and what stands behind them."""
    found: dict[str, str] = {}
    for word in words:
        if word.startswith("--"):
            flag, _, value = word.removeprefix("--").partition("=")
            found.pop(flag, None)  # The last one counts.
            found[flag] = value
        elif found:
            last = next(reversed(found))
            found[last] = f"{found[last]} {word}".strip()
    return found
