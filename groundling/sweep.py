"""`groundling sweep`: a grid of settings with several seeds each, or a population.

A point of the grid is flags of `train`, read by the same parser; Ray runs what they come to.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from groundling.envs.errors import UserError
from groundling.grid import dashed, grid_points, pairs, parsed
from groundling.settings import preset_name, train_flags

if TYPE_CHECKING:
    from groundling.evaluation.jobs import Job
    from groundling.training.population import Population

STOPPED, FAILED = 130, 1
MOST_SEEDS = 1_000

COLUMNS = 3
"""Points that fit into a terminal side by side."""


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
    population: int = 0
    """Instead of a grid: so many members that train side by side; now and then the worst go on with
    weights and hyperparameters of the best, a little changed (needs the extra `tune`)."""
    perturb_every: int | None = None
    """Frames of each member from one such exchange to the next (a twentieth of --frames)."""
    mutate: tuple[str, ...] = ()
    """Hyperparameters that are changed, such as learner.learning-rate (all that the preset uses of
    learning rate, entropy weight and weights of losses)."""


def sweep(arguments: Sequence[str]) -> None:
    """Train a grid of settings, some seeds of each: groundling sweep PRESET --grid FIELD=A,B."""
    preset, words = preset_name("sweep", arguments)
    flags, rest = tyro.cli(
        SweepFlags, prog=f"groundling sweep {preset}", args=words, return_unknown_args=True
    )
    _check(flags, rest)
    run = _populate if flags.population else _sweep
    run(preset, flags, rest, about=" ".join(["groundling sweep", preset, *words]))


def _check(flags: SweepFlags, rest: Sequence[str]) -> None:
    """Raises UserError for flags that cannot be meant."""
    if not 1 <= flags.seeds <= MOST_SEEDS:
        raise UserError(f"--seeds is {flags.seeds}; expected 1 to {MOST_SEEDS:,}")
    if flags.rooms is not None and flags.rooms < 1:
        raise UserError(f"--rooms is {flags.rooms}; expected at least 1")
    instead = {"--run-dir": "--directory DIR"}
    if not flags.population:
        instead["--seed"] = "--seeds N"
    for word in rest:
        if (flag := dashed(word.split("=")[0])) in instead:
            raise UserError(f"{flag} is that of one run; expected {instead[flag]} for a sweep")
    apart = ("grid", "seeds", "probe", "rooms") if flags.population else ("perturb_every", "mutate")
    for name in apart:
        if getattr(flags, name) != getattr(SweepFlags(), name):
            other = "no --population" if flags.population else "--population N"
            raise UserError(f"--{name.replace('_', '-')} is given; expected {other} beside it")


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
    fields = ", ".join(parsed(one)[0] for one in flags.grid)
    asked = {"preset": preset, "grid": fields or None, "probe": flags.probe, "rooms": flags.rooms}
    begin(directory, "sweep", asked | pairs(rest))
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


def _populate(preset: str, flags: SweepFlags, rest: Sequence[str], *, about: str) -> None:
    config = train_flags(preset, rest, command="sweep").settings
    # Torch is imported from here on.
    from groundling.evaluation.populations import run_population
    from groundling.evaluation.runner import Room
    from groundling.evaluation.studies import begin
    from groundling.training.population import Population, chosen

    directory = flags.directory or Path("runs") / f"population-{preset}"
    row = config.log_every * config.frames_per_update
    every = max(row, config.frames // 20) if flags.perturb_every is None else flags.perturb_every
    mutated = chosen(config, flags.mutate)
    population = Population(config, directory.resolve(), flags.population, every, mutated)
    room = Room(flags.cpus_per_run, flags.gpus_per_run, address=flags.ray_address)
    asked = {"preset": preset, "population": flags.population, "perturb_every": every}
    begin(directory, "sweep", asked | {"mutate": mutated} | pairs(rest))
    outcome = run_population(population, room)
    _tell(directory, about, population)
    if outcome.stopped:
        print("groundling: stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED)
    if outcome.failed:
        for number, log in outcome.failed.items():
            print(f"groundling: member-{number} failed, see {log}", file=sys.stderr)
        raise SystemExit(FAILED)


def _tell(directory: Path, about: str, population: "Population") -> None:
    """Prints the table and writes the page, if every member has come to the end of a round."""
    from groundling.commands import print_table
    from groundling.evaluation.populations import gather, table, write_page

    if not population.rounds_lived:
        return
    found = gather(population)
    header, *rows = table(found)
    print_table(header, rows)
    print(f"written: {write_page(directory, about, found)}")
    best = directory / f"member-{found['best']}"
    print(f"best: {best}  (next: groundling evaluate {best}; groundling probe {best})")
