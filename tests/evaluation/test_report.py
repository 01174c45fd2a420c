"""The report is one whole page that needs nothing from outside."""

import base64
import dataclasses
import html
import io
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from groundling.envs.rooms.options import RoomsOptions
from groundling.evaluation.episodes import evaluate
from groundling.evaluation.film import film_environment
from groundling.evaluation.finding import Finding, write_finding
from groundling.evaluation.probing import probe_run
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.report import write_report
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.run import RunDirectory

TINY = ProbeSettings(
    rooms=64,
    validation_rooms=32,
    test_rooms=32,
    ask_every=4,
    passes=1,
    size=32,
    decoders=("mlp", "linear"),
)


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


CONFIG = TrainConfig(
    frames=2048,
    log_every=2,
    env=EnvironmentConfig(rooms=RoomsOptions(size=4, view_size=3, episode_length=16)),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train(CONFIG, tmp_path_factory.mktemp("runs") / "run", show_progress=False)


@pytest.fixture(scope="module")
def probed(run: RunDirectory) -> dict[str, Any]:
    evaluate(run.path, episodes=64, show_progress=False)
    return probe_run(run.path, TINY, keep=False, show_progress=False)


def check_needs_nothing(page: Page, pictures: int) -> None:
    """No script, no address outside, and every picture is whole."""
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert len(page.addresses) == pictures
    for address in page.addresses:
        kind, _, content = address.partition(";base64,")
        assert kind in ("data:image/png", "data:image/gif")
        Image.open(io.BytesIO(base64.b64decode(content))).load()


def test_a_fresh_run_has_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    run = train(CONFIG, tmp_path / "run", show_progress=False)
    page = write_report(run.path).read_text()
    assert f"groundling probe {run.path}" in page
    assert f"groundling evaluate {run.path}" in page
    check_needs_nothing(Page(page), pictures=2)


def test_the_report_needs_nothing_from_outside(run: RunDirectory, probed: dict[str, Any]) -> None:
    text = write_report(run.path).read_text()
    check_needs_nothing(Page(text), pictures=5)
    assert "http" not in text.replace("data:image", "")
    accuracy = probed["rows"]["agent"]["existence"]["answerable"]
    assert f'<td class="agent">{accuracy:.2f}</td>' in text
    for name in probed["rows"]:
        assert f">{html.escape(name, quote=True).replace('&#x27;', '&#39;')}</td>" in text
    numbers = json.loads((run.path / "results.json").read_text())
    assert numbers["runs"][str(run.path)]["probe"]["rows"] == probed["rows"]


def test_what_was_found_inside_has_sections_that_can_be_left_out(
    run: RunDirectory, tmp_path: Path
) -> None:
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    page = write_report(copy.path).read_text()
    assert f"groundling inspect {copy.path} map attention states cause</code>" in page
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, format="PNG")
    pictures = {"one": buffer.getvalue(), "two": buffer.getvalue()}
    copy.inspection.mkdir()
    for part in ("map", "states"):
        found = Finding(f"About {part} & more", "<read>", [["it"], [part]], pictures, {part: 7})
        write_finding(found, copy.finding(part))
    before = len(Page(page).addresses)
    page = write_report(copy.path).read_text()
    check_needs_nothing(Page(page), pictures=before + 4)
    assert page.index("<h2>About map &amp; more</h2>") < page.index("<h2>About states &amp; more")
    assert "&lt;read&gt;" in page
    assert f"groundling inspect {copy.path} attention cause</code>" in page
    page = write_report(copy.path, without=("map", "cause", "attention")).read_text()
    check_needs_nothing(Page(page), pictures=before + 2)
    assert "About map" not in page
    assert "groundling inspect" not in page
    numbers = json.loads((copy.path / "results.json").read_text())
    assert numbers["runs"][str(copy.path)]["inspection"] == {"states": {"states": 7}}


def test_numbers_of_an_earlier_version_are_not_guessed_at(
    run: RunDirectory, probed: dict[str, Any], tmp_path: Path
) -> None:
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    earlier = {name: value for name, value in probed.items() if name != "time_in_episode"}
    copy.results().write_text(json.dumps(earlier))
    with pytest.raises(ValueError, match=r"earlier version; expected `groundling probe"):
        write_report(copy.path)


def test_several_runs_are_compared_on_one_page(
    run: RunDirectory, probed: dict[str, Any], tmp_path: Path
) -> None:
    """Two seeds with one discount, and two with another."""
    del probed
    runs = []
    for place in range(4):
        copy = shutil.copytree(run.path, tmp_path / f"{'far' if place < 2 else 'near'}-{place}")
        runs.append(copy)
        about = json.loads((copy / "config.json").read_text())
        about["config"]["seed"] = place
        about["config"]["learner"]["discount"] = 0.9 if place < 2 else 0.8
        (copy / "config.json").write_text(json.dumps(about))
    output = tmp_path / "page" / "index.html"
    text = write_report(*runs, output=output).read_text()
    check_needs_nothing(Page(text), pictures=1 + 4 * 5)
    assert "<th>far minus</th>" in text
    assert "p = " in text
    numbers = json.loads((output.parent / "results.json").read_text())
    assert set(numbers["comparison"]["groups"]) == {"far", "near"}
    # Unless another place is given, the page lies beside the first of them.
    assert write_report(*runs[:2]) == tmp_path.resolve() / "report.html"


def test_the_page_opens_in_a_browser(
    run: RunDirectory, probed: dict[str, Any], tmp_path: Path
) -> None:
    del probed
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    page, picture = write_report(run.path), tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,4000"]
    subprocess.run(
        [browser, *flags, f"--screenshot={picture}", page.resolve().as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(picture) as shot:
        assert len(shot.convert("L").getcolors() or []) > 20


def test_a_page_is_no_directory(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a directory; expected a file"):
        write_report(run.path, output=tmp_path)


def test_the_film_of_a_run_has_a_frame_for_every_step(run: RunDirectory) -> None:
    write_report(run.path)
    with Image.open(run.media / "episode.gif") as film:
        assert getattr(film, "n_frames", 1) > 32  # equal neighbours are merged


def test_any_environment_can_be_filmed(tmp_path: Path) -> None:
    rooms = dataclasses.replace(EnvironmentConfig().rooms, layout="l_shape", size=7)
    path = film_environment(EnvironmentConfig(rooms=rooms), tmp_path / "walk.gif", steps=12)
    with Image.open(path) as film:
        assert film.width == film.height - 34 == 9 * 40


def test_runs_that_cannot_be_compared_are_shown_and_the_page_says_why(
    run: RunDirectory, probed: dict[str, Any], tmp_path: Path
) -> None:
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "other"))
    other.results().write_text(json.dumps(probed | {"rooms": "others"}))
    page = write_report(run.path, other.path, output=tmp_path / "page.html").read_text()
    assert f"Not compared: {other.path} was asked about other rooms" in page
    assert page.count("What it knows") == 2
