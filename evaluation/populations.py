"""A population, trained and told of: who went on from whom, with what, and what came of it."""

import importlib.util
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from groundling.envs.errors import UserError
from groundling.evaluation.figures import png
from groundling.evaluation.report import inline_png, page
from groundling.evaluation.runner import Room, check_room
from groundling.training.cluster import cluster
from groundling.training.loop import stop_request
from groundling.training.population import Population
from groundling.training.progress import progress
from groundling.training.run import write_text

NEEDED = ("fsspec", "pandas", "pyarrow", "requests")
"""Packages that Ray Tune needs and Ray does not."""


class Outcome(NamedTuple):
    """What became of a population."""

    stopped: bool
    """Somebody asked it to stop before it had come to its end."""
    failed: dict[int, Path]
    """Members that failed, and what they said last."""


def run_population(population: Population, room: Room) -> Outcome:
    """Trains a population, or goes on where an earlier call stopped. Ctrl-C has members save first.

    Args:
        population: its directory is there.
        room: what each member is given.

    Raises:
        UserError: Ray Tune is not installed; there is no such cluster, or no room for a member.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"--population needs a package that is missing ({missing[0]}); expected pip install "
            "'groundling[tune]' first"
        )
    if population.rounds_lived == population.rounds:
        return Outcome(False, {})
    with ExitStack() as opened:
        asked_to_stop = opened.enter_context(stop_request())
        opened.enter_context(cluster(room.address))
        check_room(room)
        # Ray is first imported when the environment is as `cluster` has it.
        from groundling.training.tuned import evolve

        total = population.rounds * population.size
        advance = opened.enter_context(progress("rounds of members", total))
        failed = evolve(
            population,
            cpus=room.cpus,
            gpus=room.gpus,
            advance=advance,
            asked_to_stop=asked_to_stop,
        )
        stopped = asked_to_stop()
    logs = {}
    for number, error in failed.items():
        logs[number] = population.directory / f"member-{number}.log"
        write_text(logs[number], error + "\n")
    return Outcome(stopped, logs)


def gather(population: Population) -> dict[str, Any]:
    """What the members have lived through.

    Returns:
        {"mutated": names, "members": [{"member", "path", "rounds": see `Member.lineage`}], "best":
        the member with the highest score in the last round all came to, "ancestry": whose weights
        the best one had at the end of each round}.
    """
    rounds = population.rounds_lived
    members: list[dict[str, Any]] = [
        {"member": one.number, "path": str(one.run.path), "rounds": one.lineage[:rounds]}
        for one in population.members
    ]
    best = int(max(members, key=_last_score)["member"])
    return {
        "mutated": list(population.mutated),
        "members": members,
        "best": best,
        "ancestry": _ancestry(members, best),
    }


def _last_score(member: dict[str, Any]) -> float:
    score = member["rounds"][-1]["score"]
    return float("-inf") if score is None else float(score)


def _ancestry(members: Sequence[dict[str, Any]], last: int) -> list[int]:
    """Going back from the end: who a round's weights were taken over from lived the one before."""
    found = [last]
    for row in reversed(range(1, len(members[last]["rounds"]))):
        found.append(int(members[found[-1]]["rounds"][row]["parent"]))
    return found[::-1]


def table(found: dict[str, Any]) -> list[list[str]]:
    """A header, and a row for each member: score, whom it took over from, its hyperparameters."""
    names = [name.rpartition(".")[2].replace("_", " ") for name in found["mutated"]]
    rows = [["member", "score", "took over", *names]]
    for member in found["members"]:
        last = member["rounds"][-1]
        taken = [
            f"{int(row['parent'])} (round {row['round'] + 1})"
            for row in member["rounds"]
            if row["parent"] != member["member"]
        ]
        mark = " (best)" if member["member"] == found["best"] else ""
        score = "diverged" if last["score"] is None else f"{last['score']:.2f}"
        values = [f"{last[name]:.3g}" for name in found["mutated"]]
        rows.append([f"{member['member']}{mark}", score, ", ".join(taken) or "–", *values])
    return rows


def draw(found: dict[str, Any]) -> bytes:
    """Score and hyperparameters of every member by frames; a dot where it took over another's.

    The line of the best one's ancestors is drawn thick.
    """
    panels = ["score", *found["mutated"]]
    figure = Figure(figsize=(7.2, 2.2 * len(panels)), dpi=144, layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(grid, panels, strict=True):
        for member in found["members"]:
            rows = member["rounds"]
            frames = [row["frames"] / 1e6 for row in rows]
            heights = [float("nan") if row[name] is None else row[name] for row in rows]
            colour, number = f"C{member['member']}", member["member"]
            axes.plot(frames, heights, color=colour, linewidth=1, label=f"member {number}")
            over = [place for place, row in enumerate(rows) if row["parent"] != number]
            axes.plot([frames[at] for at in over], [heights[at] for at in over], "o", color=colour)
        line = [found["members"][one]["rounds"][at] for at, one in enumerate(found["ancestry"])]
        heights = [float("nan") if row[name] is None else row[name] for row in line]
        frames = [row["frames"] / 1e6 for row in line]
        axes.plot(
            frames, heights, color="#22252e", linewidth=3, alpha=0.25, label="best one's line"
        )
        axes.set_ylabel(name.rpartition(".")[2].replace("_", " "))
        if name != "score":
            axes.set_yscale("log")
    grid[-1].set_xlabel("million frames")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return png(figure)


def write_page(directory: Path, about: str, found: dict[str, Any]) -> Path:
    """Writes `report.html` and, with every number, `results.json` of a population.

    Args:
        directory: of the population.
        about: the command.
        found: see `gather`.

    Returns:
        The page.
    """
    text = page(
        "population.html",
        name=directory.name,
        about=about,
        table=table(found),
        picture=inline_png(draw(found)),
        members=found["members"],
        best=found["members"][found["best"]],
        ancestry=found["ancestry"],
    )
    file = directory / "report.html"
    write_text(directory / "results.json", json.dumps(found, indent=1) + "\n")
    write_text(file, text)
    return file
