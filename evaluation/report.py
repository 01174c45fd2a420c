"""One self-contained page about a run: curves, tables, a film, and every setting behind them.

The page opens from disk: no script, no network, every picture inside the file.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from groundling.evaluation.film import film_run
from groundling.training.config import to_json
from groundling.training.metrics import Row, read_rows
from groundling.training.run import RunDirectory, write_text

ROW_COLOURS = {
    "agent": "#2a6fbb",
    "untrained agent": "#9aa5b8",
    "question only": "#d39b3c",
    "majority": "#c9c3b6",
}


def write_report(run_dir: Path | str) -> Path:
    """Writes `report.html` and `media/episode.gif` from whatever the run directory holds.

    Sections whose data is missing say which command makes it.

    Raises:
        ValueError: the directory is no run.
    """
    run = RunDirectory(run_dir)
    config = run.read_config()
    metrics = read_rows(run.metrics)
    returns = _read(run.evaluation / "returns.json")
    probe = _read(run.probe / "results.json")
    film = film_run(run.path, run.media / "episode.gif")
    page = _template().render(
        run=str(run.path),
        last=metrics[-1] if metrics else None,
        curve=_learning_curve(metrics, returns) if metrics else None,
        returns=returns,
        probe=probe,
        bars=_probe_bars(probe) if probe else None,
        film=_inline(film.read_bytes(), "image/gif"),
        settings=json.dumps(to_json(config), indent=2),
        about=_read(run.config),
    )
    write_text(run.report, page)
    return run.report


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("groundling.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: name.replace("_", " ")
    return environment.get_template("report.html")


def _inline(content: bytes, kind: str) -> str:
    """A data address that holds the picture itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _as_picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return _inline(buffer.getvalue(), "image/png")


def _learning_curve(metrics: list[Row], returns: Any) -> str:
    """Episode return against frames, between chance and the explorer."""
    figure = Figure(figsize=(7.2, 3.2), dpi=144, layout="constrained")
    axes = figure.subplots()
    points = [
        (row["frames"] / 1e6, row["episode_return"])
        for row in metrics
        if row["frames"] is not None and row["episode_return"] is not None
    ]
    axes.plot(*zip(*points, strict=True), color=ROW_COLOURS["agent"], label="agent, training")
    if returns:
        for name, style in (("explorer", "--"), ("random", ":")):
            if name in returns["returns"]:
                level = returns["returns"][name]["mean"]
                axes.axhline(level, color="#555555", linestyle=style, linewidth=1, label=name)
    axes.set_xlabel("million frames")
    axes.set_ylabel("episode return")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _as_picture(figure)


def _probe_bars(probe: Any) -> str:
    """Accuracy on answerable questions, a group of bars for each question type."""
    types = list(next(iter(probe["rows"].values())))
    figure = Figure(figsize=(9.0, 3.4), dpi=144, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(probe["rows"])
    for index, (name, scores) in enumerate(probe["rows"].items()):
        shift = (index - (len(probe["rows"]) - 1) / 2) * width
        places = [place + shift for place in range(len(types))]
        heights = [scores[kind]["answerable"] for kind in types]
        axes.bar(places, heights, width, label=name, color=ROW_COLOURS[name])
    axes.set_xticks(range(len(types)), [kind.replace("_", "\n") for kind in types])
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy, answerable")
    axes.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.18))
    axes.spines[["top", "right"]].set_visible(False)
    return _as_picture(figure)
