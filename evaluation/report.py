"""One self-contained page about some runs: curves, tables, films, and every setting behind them.

The page opens from disk: no script, no network, every picture inside the file. Beside it stands
`results.json` with every number.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from groundling.envs.errors import UserError
from groundling.evaluation.compare import compare
from groundling.evaluation.controls import CONTROL_TASK
from groundling.evaluation.figures import (
    accuracy_against_steps,
    accuracy_bars,
    comparison_dots,
    learning_curve,
)
from groundling.evaluation.film import film_run
from groundling.evaluation.finding import Finding
from groundling.evaluation.inspection import PARTS, Part, findings_of, left_out
from groundling.training.config import to_json
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory, write_text


def write_report(
    *run_dirs: Path | str, output: Path | None = None, without: Sequence[Part] = ()
) -> Path:
    """Writes `report.html`, `results.json` and each run's film from what the runs hold.

    Sections whose data is missing say which command makes it. Several probed runs are compared
    (see `evaluation.compare`); if they cannot be, the page says why.

    Args:
        run_dirs: of one run or more.
        output: the page; unless given `report.html` of the run, or of the directory that holds
            the first of several.
        without: parts of an inspection (see `evaluation.inspection`) that get no section.

    Returns:
        The page.

    Raises:
        ValueError: a directory is no run or was measured by an earlier version; or `output` is a
            directory.
    """
    if not run_dirs:
        raise UserError("report needs a run; expected groundling report RUN [RUN ...]")
    runs = [RunDirectory(path) for path in run_dirs]
    file = output or _place(runs)
    if file.is_dir():
        raise UserError(f"--output {file} is a directory; expected a file to write")
    shown = [part for part in PARTS if part not in without]
    inside = {
        str(run.path): {part: one for part, one in findings_of(run).items() if part in shown}
        for run in runs
    }
    gathered = {str(run.path): _gather(run, inside[str(run.path)]) for run in runs}
    probed = all(found["probe"] for found in gathered.values())
    comparison, apart = None, ""
    if len(runs) > 1 and probed:
        try:
            comparison = compare([run.path for run in runs])
        except UserError as error:  # Agents with attention are each asked about what they sensed.
            apart = str(error)
    text = page(
        "report.html",
        runs=[
            _sections(run, gathered[str(run.path)], inside[str(run.path)], shown) for run in runs
        ],
        comparison=comparison,
        apart=apart,
        dots=inline_png(comparison_dots(comparison)) if comparison else None,
        control_task=CONTROL_TASK,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = {"runs": gathered, "comparison": comparison}
    write_text(file.with_name("results.json"), json.dumps(numbers, indent=1) + "\n")
    write_text(file, text)
    return file


def _place(runs: Sequence[RunDirectory]) -> Path:
    return runs[0].report if len(runs) == 1 else runs[0].path.resolve().parent / "report.html"


def _gather(run: RunDirectory, inside: Mapping[Part, Finding]) -> dict[str, Any]:
    """Every number of a run."""
    config = run.read_config()
    metrics = read_rows(run.metrics)
    returns, probe = _read(run.evaluation / "returns.json"), _read(run.results())
    for command, found, newest in (
        ("evaluate", returns, "novel_returns"),
        ("probe", probe, "time_in_episode"),
    ):
        if found and newest not in found:
            raise UserError(
                f"{run.path} was measured by an earlier version; expected "
                f"`groundling {command} {run.path}` again"
            )
    return {
        "config": to_json(config),
        "about": _read(run.config),
        "last": metrics[-1] if metrics else None,
        "returns": returns,
        "probe": probe,
        "inspection": {part: finding.numbers for part, finding in inside.items()},
    }


def _sections(
    run: RunDirectory,
    found: dict[str, Any],
    inside: Mapping[Part, Finding],
    shown: Sequence[Part],
) -> dict[str, Any]:
    """What the page shows of a run: its numbers, and pictures of them."""
    metrics = read_rows(run.metrics)
    probe = found["probe"]
    left = left_out(run.read_config())
    film = film_run(run.path, run.media / "episode.gif")
    return found | {
        "path": str(run.path),
        "curve": inline_png(learning_curve(metrics, found["returns"])) if metrics else None,
        "bars": inline_png(accuracy_bars(probe)) if probe else None,
        "ages": _steps(probe, "steps_since_seen", "steps since seen"),
        "times": _steps(probe, "time_in_episode", "steps of the episode"),
        "findings": [_illustrated(finding) for finding in inside.values()],
        "missing": [part for part in shown if part not in inside and part not in left],
        "left_out": [sentence for part, sentence in left.items() if part in shown],
        "film": _inline(film.read_bytes(), "image/gif"),
        "settings": json.dumps(found["config"], indent=2),
    }


def _illustrated(finding: Finding) -> dict[str, Any]:
    """A finding with its pictures inside."""
    pictures = {name: inline_png(picture) for name, picture in finding.pictures.items()}
    return vars(finding) | {"pictures": pictures}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def page(name: str, /, **content: Any) -> str:
    """A page of ours with its content.

    Args:
        name: of the template, which extends `page.html`.
        content: what it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("groundling.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: name.replace("_", " ")
    environment.filters["share"] = _share
    return environment.get_template(name).render(content)


def _share(value: float | None) -> str:
    """Two digits; never "-0.00"."""
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _inline(content: bytes, kind: str) -> str:
    """A data address that holds the picture itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _steps(probe: Any, table: str, axis: str) -> str | None:
    picture = accuracy_against_steps(probe[table], axis) if probe else None
    return inline_png(picture) if picture else None


def inline_png(content: bytes) -> str:
    """A data address that holds a PNG itself."""
    return _inline(content, "image/png")
