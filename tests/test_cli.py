"""The command line: what works, and what a user's mistake looks like."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from groundling import __version__
from groundling.cli import main
from groundling.commands import print_table
from groundling.envs.digits.options import DIGITS
from groundling.evaluation import episodes, film
from groundling.training.run import RunDirectory, load_agent

SMALL = ["--frames", "1024", "--env.rooms.size", "4", "--env.rooms.view-size", "3"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line says to this mistake: in one line where the words are ours."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if said.err.startswith("groundling:"):
        assert said.err.count("\n") == 1
    return " ".join((said.err + said.out).replace("│", " ").split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "small"
    main(["train", "demo", "--run-dir", str(path), *SMALL])
    return path


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["train", "demo", "--help"], ["sweep", "demo", "--help"]],
)
def test_help_is_there_at_once(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "groundling", *arguments]
    subprocess.run(command, check=True, capture_output=True)  # byte code and disk cache
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "train" in shown.stdout.lower()
    # Of the processor's time, which other work on the machine hardly changes; half a second is the
    # promise, and what it takes a little over when every core is taken.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.9


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_training_leaves_a_run_directory(run: Path) -> None:
    directory = RunDirectory(run)
    assert directory.checkpoint.exists()
    assert directory.read_config().frames == 1024
    about = json.loads(directory.config.read_text())
    assert set(about) == {"config", "command", "packages"}


def test_a_runs_own_configuration_can_be_given_again(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    config = str(run / "config.json")
    main(["train", "demo", "--config", config, "--seed", "5", "--run-dir", str(again)])
    made = RunDirectory(again).read_config()
    assert made.seed == 5
    assert made.env.rooms.size == 4


def test_results_for_machines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["evaluate", str(run), "--episodes", "64", "--json"])
    returns = json.loads(capsys.readouterr().out)["returns"]
    assert set(returns) == {"agent", "random", "explorer"}


def test_returns_of_snapshots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(path: Path, *, device: str, frames: int | None = None) -> object:
        loaded.append(frames)
        return load_agent(path, device=device, frames=frames)

    monkeypatch.setattr(episodes, "load_agent", load)
    run = str(tmp_path / "run")
    main(["train", "demo", "--run-dir", run, *SMALL, "--snapshot-every", "512"])
    main(["evaluate", run, "--episodes", "64", "--snapshots"])
    shown = capsys.readouterr().out
    assert "agent at 512 frames" in shown
    assert "agent at 1,024 frames" in shown
    assert loaded == [None, 512, 1024]


@pytest.mark.slow
def test_probe_results_for_machines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["probe", str(run), "--quick", "--rooms", "64", "--json"])
    assert "agent" in json.loads(capsys.readouterr().out)["rows"]


def test_small_commands(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["envs"])
    main(["doctor"])
    main(["bench", "env", "--num-envs", "4", "--seconds", "0.1"])
    main(["watch", "Groundling/Explore-v0", "--gif", str(tmp_path / "a.gif"), "--steps", "3"])
    main(["watch", str(run), "--gif", str(tmp_path / "b.gif"), "--steps", "3"])
    main(["report", str(run)])
    shown = capsys.readouterr().out
    for expected in ("Groundling/Explore-v0", "torch", "steps/s", "a.gif", "b.gif", "report.html"):
        assert expected in shown


def test_training_is_timed_as_its_flags_would_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["bench", "train", "demo", "--seconds", "0.2", *SMALL])
    assert "frames/s: demo on cpu, " in capsys.readouterr().out
    main(["bench", "train", "demo", "--seconds", "0.2", "--json", *SMALL])
    found = json.loads(capsys.readouterr().out)
    assert found["frames_per_second"] > 0
    assert 0 < found["walking"] < 1
    assert found["updates"] > 0
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["speed"], "bench has 'speed'; expected env, or train PRESET"),
        (["train", "dmeo"], "did you mean demo"),
        (["train", "demo", "--seconds", "0"], "--seconds is 0.0; expected more than 0"),
        (["train", "demo", "--device", "abacus"], "device 'abacus' is not there"),
    ],
)
def test_what_cannot_be_timed_is_named(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(capsys, "bench", *words)


HOUSE = [
    "layout",
    "two_rooms",
    "doors",
    "True",
    "size",
    "3,4",
    "objects",
    "2",
    "shapes",
    "key,ball",
    "episode_length",
    "90",
]


def test_any_keyword_of_an_environment_can_be_given(tmp_path: Path) -> None:
    sizes = {}
    for name, options in {
        "small": [],
        "large": ["--options", *HOUSE, "episode_length", "90"],
    }.items():
        film = tmp_path / f"{name}.gif"
        main(["watch", "Groundling/GoTo-v0", "--gif", str(film), "--steps", "2", *options])
        with Image.open(film) as frames:
            sizes[name] = frames.size
    assert sizes["small"][0] == 7 * 40
    assert sizes["large"][0] == 11 * 40
    assert sizes["large"][1] > 6 * 40 + 34, "the instruction stands below the house"


def test_watching_without_a_file_opens_a_window(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setattr(film, "FRAME_MILLISECONDS", 1)
    shown: list[tuple[int, ...]] = []
    monkeypatch.setattr(film.Window, "show", lambda window, picture: shown.append(picture.shape))
    monkeypatch.chdir(tmp_path)
    main(["watch", "Groundling/Explore-v0", "--steps", "3"])
    main(["watch", str(run), "--steps", "2"])
    assert len(shown) == 5
    assert list(tmp_path.iterdir()) == []


def test_watching_without_pygame_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert "--gif FILE" in refused(capsys, "watch", "Groundling/Explore-v0")


def test_a_run_takes_no_keywords(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "watch", str(run), "--gif", "x.gif", "--options", "size", "4")
    assert "a run has its own" in said


def test_brackets_in_a_table_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["advice"], [["pip install 'groundling[tensorboard]'"]])
    assert "groundling[tensorboard]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian", "demo"], "did you mean train?"),
        (["train", "dmo"], "did you mean demo?"),
        (["train"], "expected one of demo"),
        (["train", "demo", "--env.rooms.sise", "4"], "--env.rooms.size"),
        (["train", "demo", "--frames", "many"], "--frames"),
        (["train", "demo", "--frames", "0"], "frames is 0; expected at least 1"),
        (["train", "demo", "--learner.discount", "1.5"], "expected a number in [0, 1]"),
        (["train", "demo", "--env.rooms.objects", "30"], "objects=30, expected an integer"),
        (["train", "demo", "--env.rooms.view-size", "99"], "view_size=99, expected"),
        (["train", "demo", "--env.rooms.view-size", "4"], "odd number"),
        (["train", "demo", "--env.rooms.shapes", "kee"], "did you mean key?"),
        (["train", "demo", "--env.id", "Groundling/Explor-v0"], "did you mean"),
        (
            ["train", "go-to", "--env.rooms.task", "explore"],
            "--env.rooms.task is explore, but --env.id is Groundling/GoTo-v0; expected both",
        ),
        (
            ["train", "go-to", "--env.id=Groundling/Explore-v0"],
            "--env.id is Groundling/Explore-v0, but --env.rooms.task is go_to; expected both",
        ),
        (
            ["train", "demo", "--env.id", "Groundling/Explor-v0", "--env.rooms.size", "4"],
            "did you mean Groundling/Explore-v0?",
        ),
        (
            ["train", "any", "--env.id", DIGITS, "--env.rooms.size", "4"],
            f"--env.rooms.size says nothing of {DIGITS}; expected --env.options KEY 4",
        ),
        (
            ["train", "any", "--env.id", DIGITS, "--env.options", "canva", "60"],
            "unknown option 'canva', expected one of canvas, clutter, clutter_size, digit_size,",
        ),
        (
            ["watch", DIGITS, "--gif", "x.gif", "--options", "split", "trial"],
            "split='trial', expected one of train, test, all",
        ),
        (["train", "any", "--env.rooms.size", "7"], "--env.rooms.size says nothing of CartPole-v1"),
        (["train", "demo", "--device", "cuda:99"], "device 'cuda:99' is not there; expected one"),
        (["train", "demo", "--config", "no-such-file.json"], "--config no-such-file.json"),
        (["compare", "no-such-run", "other"], "no-such-run is no run; expected"),
        (["probe", "run", "--rooms", "0"], "rooms is 0; expected at least 1"),
        (["probe", "run", "--decoders", "mlp", "mlp"], "expected none of them twice"),
        (["probe", "run", "--workers", "0"], "--workers is 0; expected at least 1"),
        (["probe", "no-such-run"], "no-such-run is no run; expected"),
        (["evaluate", "no-such-run"], "no-such-run is no run; expected"),
        (["report", "no-such-run"], "no-such-run is no run; expected"),
        (["watch", "no-such-env", "--gif", "x.gif"], "no-such-env"),
        (
            ["watch", "Groundling/GoTo-v0", "--gif", "x.gif", "--options", "dors", "1"],
            "mean doors?",
        ),
        (
            ["watch", "Groundling/GoTo-v0", "--gif", "x.gif", "--options", "size", "2"],
            "size=2, expe",
        ),
        (["watch", "CartPole-v1", "--gif", "x.gif", "--options", "poles", "2"], "env.options"),
        (["watch", "CartPole-v1", "--gif", "x.gif", "--steps", "0"], "--steps is 0; expected"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_another_configuration_does_not_overwrite_a_run(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said = refused(capsys, "train", "demo", "--run-dir", str(run), *SMALL, "--seed", "9")
    assert "made with another configuration (seed: 0 → 9)" in said
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_a_folder_of_other_things_is_not_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert "holds other files" in refused(capsys, "train", "demo", "--run-dir", str(tmp_path))


def test_a_run_directory_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    said = refused(capsys, "train", "demo", "--run-dir", str(tmp_path / "file" / "run"))
    assert "cannot be written" in said


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"", b"\x80\x04K\x01."])
def test_a_checkpoint_that_is_none(
    content: bytes, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    RunDirectory(broken).checkpoint.write_bytes(content)
    said = refused(capsys, "evaluate", str(broken))
    assert "checkpoint" in said
    assert "expected a file that `groundling train` wrote" in said
