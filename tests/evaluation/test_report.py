"""The report is one whole page that needs nothing from outside."""

import base64
import dataclasses
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from groundling.envs.rooms.options import RoomsOptions
from groundling.evaluation.episodes import evaluate
from groundling.evaluation.examples import ProbeSettings
from groundling.evaluation.film import film_environment
from groundling.evaluation.probing import probe_run
from groundling.evaluation.report import write_report
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.run import RunDirectory

TINY = ProbeSettings(rooms=64, validation_rooms=32, test_rooms=32, ask_every=4, passes=1, size=32)


class Page(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attributes if key in ("src", "href")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    config = TrainConfig(
        frames=2048,
        log_every=2,
        env=EnvironmentConfig(rooms=RoomsOptions(size=4, view_size=3, episode_length=16)),
    )
    return train(config, tmp_path_factory.mktemp("runs") / "run", show_progress=False)


def test_a_fresh_run_has_a_report_that_says_what_is_missing(run: RunDirectory) -> None:
    page = write_report(run.path).read_text()
    assert f"groundling probe {run.path}" in page
    assert f"groundling evaluate {run.path}" in page


def test_the_report_needs_nothing_from_outside(run: RunDirectory) -> None:
    evaluate(run.path, episodes=64, show_progress=False)
    results = probe_run(run.path, TINY, show_progress=False)
    text = write_report(run.path).read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert len(page.addresses) == 3
    for address in page.addresses:
        kind, _, content = address.partition(";base64,")
        assert kind in ("data:image/png", "data:image/gif")
        Image.open(io.BytesIO(base64.b64decode(content))).load()
    accuracy = results["rows"]["agent"]["existence"]["answerable"]
    assert f'<td class="agent">{accuracy:.2f}</td>' in text


def test_the_film_of_a_run_has_a_frame_for_every_step(run: RunDirectory) -> None:
    write_report(run.path)
    with Image.open(run.media / "episode.gif") as film:
        assert getattr(film, "n_frames", 1) > 32  # equal neighbours are merged


def test_any_environment_can_be_filmed(tmp_path: Path) -> None:
    rooms = dataclasses.replace(EnvironmentConfig().rooms, layout="l_shape", size=7)
    path = film_environment(EnvironmentConfig(rooms=rooms), tmp_path / "walk.gif", steps=12)
    with Image.open(path) as film:
        assert film.width == film.height - 34 == 9 * 40
