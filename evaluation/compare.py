"""Which way of learning leaves more behind: groups of runs that differ in their seeds alone.

The difference of two groups' means over seeds, with a t-interval and an exact permutation p, is
the figure to report (DESIGN.md, section 7). Interquartile mean and probability of improvement, with
bootstrap intervals for which rooms are drawn jointly, stand beside it.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundling.envs.errors import UserError
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.statistics import (
    bootstrap,
    difference,
    interquartile_mean,
    probability_of_improvement,
)
from groundling.training.checkpoint import load_checkpoint
from groundling.training.config import TrainConfig
from groundling.training.run import RunDirectory

ALL_TYPES = "all types"
"""Stands beside the question types for their mean."""


@dataclass(frozen=True)
class ProbedRun:
    """A run and what probing found."""

    path: Path
    config: TrainConfig
    results: dict[str, Any]
    asked: NDArray[np.int64]
    """[rooms, types]."""
    right: NDArray[np.int64]
    """[rooms, types]: the agent's right answers."""

    @property
    def decoder(self) -> dict[str, Any]:
        """Which decoder answered on the agent's behalf, and how it was fitted."""
        settings = ProbeSettings(**self.results["settings"])
        return {"decoder": settings.decoders[0]} | settings.fitted

    @property
    def scores(self) -> dict[str, float]:
        """Share of right answers among answerable questions by type, and the mean over types."""
        rows = self.results["rows"]["agent"]
        scores = {kind: float(score["answerable"]) for kind, score in rows.items()}
        return scores | {ALL_TYPES: fmean(scores.values())}


def read_probed(path: Path | str) -> ProbedRun:
    """What was found of a run.

    Raises:
        UserError: it is no run, or was not probed.
    """
    run = RunDirectory(path)
    config = run.read_config()
    if not (run.results().exists() and run.by_room().exists()):
        raise UserError(f"{path} was not probed; expected `groundling probe {path}` before")
    results = json.loads(run.results().read_text(encoding="utf-8"))
    by_room = load_checkpoint(run.by_room())
    asked, right = by_room["asked"].numpy(), by_room["right"]["agent"].numpy()
    was_asked = asked.any(axis=0)  # Some worlds admit no question of some types.
    return ProbedRun(Path(path), config, results, asked[:, was_asked], right[:, was_asked])


def compare(paths: Sequence[Path | str]) -> dict[str, Any]:
    """Compares groups of runs; those that differ in their seed alone are one group.

    Args:
        paths: of probed runs, two at least. The first one's group is the reference.

    Returns:
        {"groups": {name: {"runs", "scores": {type: [of each run]}, "mean": {type: mean},
        "interquartile_mean": Interval}}, "reference": name, "differences": {name: {type:
        Difference}}, "improvement": {name: Interval}}. A difference is the reference minus the
        other group and needs two seeds of each; the probability of improvement is the
        reference's. Over and above the question types there is "all types", their mean.

    Raises:
        UserError: a run was not probed, was probed in other rooms or with another decoder than
            the others, or is named twice.
    """
    runs = [read_probed(path) for path in _distinct(paths)]
    _check_comparable(runs)
    groups = _groups(runs)
    reference, *others = groups
    asked = runs[0].asked
    return {
        "reference": reference,
        "groups": {name: _describe(group, asked) for name, group in groups.items()},
        "differences": {
            name: _differences(groups[reference], groups[name])
            for name in others
            if min(len(groups[reference]), len(groups[name])) > 1
        },
        "improvement": {
            name: bootstrap(
                [_right(groups[reference]), _right(groups[name])],
                asked,
                probability_of_improvement,
            )._asdict()
            for name in others
        },
    }


def _distinct(paths: Sequence[Path | str]) -> list[Path]:
    resolved = [Path(path).resolve() for path in paths]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise UserError(f"{paths[place]} is named twice; expected different runs")
    if len(paths) < 2:
        raise UserError("compare needs two runs; expected groundling compare RUN RUN ...")
    return [Path(path) for path in paths]


def _check_comparable(runs: Sequence[ProbedRun]) -> None:
    first, *others = runs
    for run in others:
        for what, now, then in (
            ("asked about other rooms", run.results["rooms"], first.results["rooms"]),
            ("probed with another decoder", run.decoder, first.decoder),
        ):
            if now != then:
                raise UserError(
                    f"{run.path} was {what} than {first.path}; expected both to be probed with "
                    "the same settings, in the same world, and not on walks or through glimpses of "
                    "their own"
                )


def _groups(runs: Sequence[ProbedRun]) -> dict[str, list[ProbedRun]]:
    """Runs that differ in their seed alone, by a name taken from their directories."""
    found: list[list[ProbedRun]] = []
    for run in runs:
        kind = dataclasses.replace(run.config, seed=0)
        for group in found:
            if dataclasses.replace(group[0].config, seed=0) == kind:
                group.append(run)
                break
        else:
            found.append([run])
    named: dict[str, list[ProbedRun]] = {}
    for group in found:
        name = group[0].path.resolve().name
        short = re.sub(r"[-_.]?\d+$", "", name) if len(group) > 1 else name
        named[short if short and short not in named else str(group[0].path)] = group
    return named


def _describe(group: Sequence[ProbedRun], asked: NDArray[np.int64]) -> dict[str, Any]:
    scores = {kind: [run.scores[kind] for run in group] for kind in group[0].scores}
    return {
        "runs": [str(run.path) for run in group],
        "frames": [run.results["frames"] for run in group],
        "scores": scores,
        "mean": {kind: fmean(values) for kind, values in scores.items()},
        "interquartile_mean": bootstrap([_right(group)], asked, interquartile_mean)._asdict(),
    }


def _right(group: Sequence[ProbedRun]) -> NDArray[np.int64]:
    """[runs, rooms, types]."""
    return np.stack([run.right for run in group])


def _differences(
    reference: Sequence[ProbedRun], other: Sequence[ProbedRun]
) -> dict[str, dict[str, Any]]:
    return {
        kind: difference(
            [run.scores[kind] for run in reference], [run.scores[kind] for run in other]
        )._asdict()
        for kind in reference[0].scores
    }
