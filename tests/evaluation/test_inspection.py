"""Findings are kept as soon as they are made, and told from each other."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from groundling.cli import main
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions
from groundling.evaluation import inspection
from groundling.evaluation.finding import Finding
from groundling.evaluation.inspection import PARTS, findings_of, inspect_run
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.run import RunDirectory

CONFIG = TrainConfig(
    frames=512,
    env=EnvironmentConfig(rooms=RoomsOptions(size=4, view_size=3, episode_length=16)),
)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "#2a6fbb").save(buffer, format="PNG")
    return buffer.getvalue()


def finding(title: str) -> Finding:
    return Finding(title, "how to read it", [["what", "agent"], ["it", "1"]], {"it": picture()}, {})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train(CONFIG, tmp_path_factory.mktemp("runs") / "run", show_progress=False)


def test_every_part_is_known_and_called(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert set(inspection._INSPECT) == set(PARTS)
    called = []

    def made(part: str):
        def inspect(path: Path, **keywords: object) -> Finding:
            called.append((part, path, keywords))
            return finding(part)

        return inspect

    monkeypatch.setattr(inspection, "_INSPECT", {part: made(part) for part in PARTS})
    with pytest.raises(UserError, match="was not probed"):
        inspect_run(run.path, show_progress=False)
    assert not called
    monkeypatch.setattr(inspection, "check_can_change", lambda _: None)
    found = inspect_run(run.path, show_progress=False)
    had = [part for part in PARTS if part != "gaze"]  # Of an agent without attention.
    assert list(found) == had
    assert called == [(part, run.path, {"device": "cpu", "show_progress": False}) for part in had]
    assert {part: one.title for part, one in findings_of(run).items()} == {p: p for p in had}


def test_what_was_found_before_an_error_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = train(CONFIG, tmp_path / "run", show_progress=False)

    def stopped(*_: object, **__: object) -> Finding:
        raise KeyboardInterrupt

    parts = {"map": lambda *_, **__: finding("map"), "states": stopped}
    monkeypatch.setattr(inspection, "_INSPECT", parts)
    with pytest.raises(KeyboardInterrupt):
        inspect_run(run.path, ("map", "states"), show_progress=False)
    assert list(findings_of(run)) == ["map"]


def test_what_is_no_run_gets_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        inspect_run(tmp_path, ("map",), show_progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cause"], "was not probed; expected `groundling probe"),
        (["maps"], "maps"),
        (["gaze"], "agent.attention is none"),
        (["states", "--device", "tpu"], "tpu"),
    ],
)
def test_mistakes_are_told_in_a_line(
    run: RunDirectory,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", str(run.path), *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_shows_tables_and_writes_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(CONFIG, tmp_path / "run", show_progress=False)
    main(["inspect", str(run.path), "attention", "states"])
    out = capsys.readouterr().out
    assert "untrained agent" in out
    assert f"groundling report {run.path}" in out.replace("\n", "")
    for part in ("attention", "states"):
        for name in json.loads(run.finding(part).read_text())["pictures"].values():
            Image.open(run.inspection / name).load()
