"""What a study found, as a picture and tables, from the small file it leaves.

    python -m groundling.evaluation.summary docs/know-small.json

writes the picture and the tables beside the file again.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from groundling.evaluation.figures import png
from groundling.evaluation.statistics import difference
from groundling.training.run import write_bytes, write_text

REFERENCE = "simcore"
"""The variant that the others are held against, if it has two seeds; else the first that has."""

BASELINE = "none"
"""The variant that learns by reward alone."""

MAIN = ("simcore", "far-weight-1", "both-weight-1", "present", BASELINE)
"""Prediction, with and without reconstruction, reconstruction and reward alone: the comparison the
study is about."""

UNTRAINED = "untrained agent"
"""The control of that name in the probe's table."""

GREY = "#555555"

Run = dict[str, Any]


def summarise(results: dict[str, Any], stem: Path) -> str:
    """Writes STEM.png, STEM-ages.png, STEM.md and, of runs probed earlier too, STEM-curve.png.

    Args:
        results: what `reproduce.gather` wrote; at least one run.
        stem: path of the files, without an ending.

    Returns:
        The tables, in Markdown.
    """
    runs = results["runs"]
    parts = ["Where each run ended:", accuracy_table(runs), differences_table(runs)]
    parts += ["By steps since what the answer rests on was seen:", ages_table(runs)]
    parts += [returns_table(runs)]
    if early := _at_equal_frames(runs):
        parts += [f"At {early[0]['frames']:,} frames:", accuracy_table(early)]
        parts += [differences_table(early)]
    if any(run["earlier"] for run in runs):
        parts += [curve_table(runs)]
        draw_curve(results, stem.with_name(f"{stem.name}-curve.png"))
    text = "\n\n".join(part for part in parts if part)
    draw(results, stem.with_suffix(".png"))
    draw_ages(results, stem.with_name(f"{stem.name}-ages.png"))
    write_text(stem.with_suffix(".md"), text + "\n")
    return text


def accuracy_table(runs: Sequence[Run]) -> str:
    """Answerable questions answered right, by variant: mean over seeds, and standard deviation."""
    kinds = list(runs[0]["rows"]["agent"])
    rows = []
    for variant, group in _by_variant(runs).items():
        cells = [
            variant,
            str(len(group)),
            f"{fmean(run['frames'] for run in group) / 1e6:.1f}",
            f"{fmean(run['seconds'] for run in group) / 60:.1f}",
            _mean_and_spread([run["return"] for run in group], 1),
        ]
        rows.append(cells + [_mean_and_spread(_scores(group, kind), 2) for kind in kinds])
    for name in (UNTRAINED, "question only"):
        if group := [run for run in runs if name in run["rows"]]:
            cells = [f"*{name}*", str(len(group)), "", "", ""]
            rows.append(
                cells + [_mean_and_spread(_scores(group, kind, row=name), 2) for kind in kinds]
            )
    header = ["variant", "seeds", "M frames", "minutes", "return", *map(_spaced, kinds)]
    return markdown_table(header, rows)


def differences_table(runs: Sequence[Run]) -> str:
    """The reference minus each other variant, where both have two seeds or more; else nothing."""
    groups = {name: group for name, group in _by_variant(runs).items() if len(group) > 1}
    if len(groups) < 2:
        return ""
    name = REFERENCE if REFERENCE in groups else next(iter(groups))
    reference = groups.pop(name)
    kinds = list(runs[0]["rows"]["agent"])
    rows = []
    for variant, group in groups.items():
        cells = [f"{name} - {variant}"]
        for kind in kinds:
            found = difference(_scores(reference, kind), _scores(group, kind))
            mark = " *" if found.separated else ""
            cells.append(f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]{mark}")
        rows.append(cells)
    note = "Difference of seed means [95 % t-interval]; * the seeds of both do not overlap:"
    return f"{note}\n\n{markdown_table(['', *map(_spaced, kinds)], rows)}"


def ages_table(
    runs: Sequence[Run], kinds: Sequence[str] = ("attribute_colour", "attribute_shape")
) -> str:
    """Mean accuracy over seeds, by how long ago the object asked about was last seen."""
    ages = list(runs[0]["steps_since_seen"]["agent"][kinds[0]])
    rows = []
    for variant, group in _by_variant(runs).items():
        for kind in kinds:
            found = [run["steps_since_seen"]["agent"][kind] for run in group]
            means = [f"{fmean(scores[age] for scores in found):.2f}" for age in ages]
            rows.append([variant, _spaced(kind), *means])
    return markdown_table(["variant", "question", *ages], rows)


def _at_equal_frames(runs: Sequence[Run]) -> list[Run]:
    """Runs that were probed earlier too, as they were at the last moment they have in common."""
    probed = [run for run in runs if run["earlier"]]
    common = set.intersection(*(set(run["earlier"]) for run in probed)) if probed else set()
    return [run | run["earlier"][max(common, key=int)] for run in probed] if common else []


def curve_table(
    runs: Sequence[Run], kinds: Sequence[str] = ("attribute_colour", "attribute_shape")
) -> str:
    """Mean accuracy by frames, of variants all of whose seeds were probed at that moment."""
    moments = sorted({frames for run in runs for frames in run["earlier"]}, key=int)
    rows = []
    for variant, group in _by_variant(runs).items():
        for kind in kinds:
            cells = [variant, _spaced(kind)]
            for moment in moments:
                there = [run["earlier"][moment] for run in group if moment in run["earlier"]]
                whole = len(there) == len(group)
                cells.append(_number(fmean(_scores(there, kind)) if whole else None, 2))
            rows.append(cells)
    header = ["variant", "question", *(f"{int(moment) / 1e6:.1f} M" for moment in moments)]
    return f"Learning, by frames:\n\n{markdown_table(header, rows)}"


MOMENTS = 12
"""Moments of training that the table of returns shows, at the most."""


def returns_table(runs: Sequence[Run]) -> str:
    """Mean return at equal frames, of variants all of whose seeds came so far.

    The last row, if both are there, holds the reference's return against that of reward alone.
    """
    groups = _by_variant(runs)
    means = {
        (variant, moment): fmean(run["returns"][moment] for run in group)
        for variant, group in groups.items()
        for moment in set.intersection(*(set(run["returns"]) for run in group))
    }
    moments = sorted({moment for _, moment in means}, key=int)
    if not moments:
        return ""
    every = -(-len(moments) // MOMENTS)
    moments = moments[(len(moments) - 1) % every :: every]  # The last is always among them.
    rows = [
        [variant, *(_number(means.get((variant, moment)), 1) for moment in moments)]
        for variant in groups
    ]
    if {REFERENCE, BASELINE} <= groups.keys():
        earned = [(means.get((REFERENCE, at)), means.get((BASELINE, at))) for at in moments]
        ratios = [one / other if one and other else None for one, other in earned]
        rows.append([f"{REFERENCE} / {BASELINE}", *(_number(ratio, 2) for ratio in ratios)])
    table = markdown_table(["variant", *(f"{int(moment) / 1e6:.1f} M" for moment in moments)], rows)
    return f"Return by frames:\n\n{table}"


PANELS = ("attribute_colour", "attribute_shape", "existence", "count_shape")
"""Question types that are drawn."""

LEVELS = ((UNTRAINED, "--"), ("question only", ":"))
"""Controls that are drawn as lines."""


def draw(results: dict[str, Any], file: Path) -> None:
    """A picture of what each variant knows: every seed a dot, their mean a bar."""
    variants = list(dict.fromkeys(run["variant"] for run in results["runs"]))
    figure = Figure(figsize=(10.0, 0.9 + 0.3 * len(variants)), dpi=144, layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        for place, variant in enumerate(variants):
            scores = [
                run["rows"]["agent"][kind]["answerable"]
                for run in results["runs"]
                if run["variant"] == variant
            ]
            axes.barh(place, fmean(scores), color="#c7d6ea", height=0.7)
            axes.plot(scores, [place] * len(scores), "o", color="#2a6fbb", markersize=4)
        for name, style, level in _levels(results["runs"], kind):
            axes.axvline(level, color=GREY, linestyle=style, linewidth=1, label=name)
        axes.set_yticks(range(len(variants)), variants)
        axes.set_xlim(0, 1)
        axes.set_title(_spaced(kind), fontsize=10)
    axes.invert_yaxis()
    names = axes.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    _save(figure, file)


def _levels(runs: Sequence[Run], kind: str) -> Iterator[tuple[str, str, float]]:
    """Name, line style and mean accuracy of the controls that were asked."""
    for name, style in LEVELS:
        if group := [run for run in runs if name in run["rows"]]:
            yield name, style, fmean(_scores(group, kind, row=name))


def draw_curve(results: dict[str, Any], file: Path) -> None:
    """A picture of learning: accuracy by frames, every probed moment of every seed a line's dot."""
    figure = Figure(figsize=(10.0, 3.0), dpi=144, layout="constrained")
    groups = _by_variant([run for run in results["runs"] if run["earlier"]])
    for axes, kind in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        for place, (variant, group) in enumerate(groups.items()):
            for run in group:
                moments = [*(run["earlier"][at] for at in sorted(run["earlier"], key=int)), run]
                axes.plot(
                    [moment["frames"] / 1e6 for moment in moments],
                    _scores(moments, kind),
                    "o-",
                    color=f"C{place}",
                    markersize=3,
                    linewidth=1,
                    label=variant if run is group[0] else None,
                )
        for name, style, level in _levels(results["runs"], kind):
            axes.axhline(level, color=GREY, linestyle=style, linewidth=1, label=name)
        axes.set_ylim(0, 1)
        axes.set_xlim(left=0)
        axes.set_title(_spaced(kind), fontsize=10)
    figure.supxlabel("million frames", fontsize=9)
    names = axes.get_legend_handles_labels()
    figure.legend(*names, loc="outside right center", fontsize=8, frameon=False)
    _save(figure, file)


def draw_ages(results: dict[str, Any], file: Path) -> None:
    """A picture of how knowledge fades: accuracy by steps since what was asked about was seen.

    Lines are means of `MAIN` variants (of all, if there is none of these), every seed a dot;
    dashed, the untrained agent.
    """
    panels = ("attribute_colour", "attribute_shape", "near_colour")
    groups = _by_variant(results["runs"])
    shown = [name for name in groups if name in MAIN] or list(groups)
    lines = {name: (groups[name], "agent") for name in shown}
    if group := [run for run in results["runs"] if UNTRAINED in run["steps_since_seen"]]:
        lines[UNTRAINED] = (group, UNTRAINED)
    figure = Figure(figsize=(10.0, 3.0), dpi=144, layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        for name, (group, row) in lines.items():
            found = [run["steps_since_seen"][row][kind] for run in group]
            ages = list(found[0])
            style = "--" if row == UNTRAINED else "-"
            means = [fmean(scores[age] for scores in found) for age in ages]
            (line,) = axes.plot(ages, means, style, label=name, linewidth=1.5)
            for scores in found:
                axes.plot(ages, [scores[age] for age in ages], "o", color=line.get_color(), ms=3)
        axes.set_ylim(0, 1)
        axes.set_title(_spaced(kind), fontsize=10)
    figure.supxlabel("steps since it was seen", fontsize=9)
    names = axes.get_legend_handles_labels()
    figure.legend(*names, loc="outside right center", fontsize=8, frameon=False)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, png(figure))


def _by_variant(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["variant"], []).append(run)
    return groups


def _scores(runs: Sequence[Run], kind: str, row: str = "agent") -> list[float]:
    return [run["rows"][row][kind]["answerable"] for run in runs]


def _mean_and_spread(values: Sequence[float], digits: int) -> str:
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Makes picture and tables of the files named on the command line again."""
    for name in sys.argv[1:]:
        file = Path(name)
        print(summarise(json.loads(file.read_text()), file.with_suffix("")))


if __name__ == "__main__":
    main()
