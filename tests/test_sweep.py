"""A sweep: flags of train on a grid, checked before anything starts, and one page in the end."""

import json
from pathlib import Path

import pytest

from groundling import sweep as sweeps
from groundling.cli import main
from groundling.evaluation import runner
from groundling.evaluation.jobs import Job
from groundling.evaluation.runner import Outcome
from groundling.sweep import grid_points
from groundling.training.presets import VARIANTS
from groundling.training.run import RunDirectory

SMALL = ["--frames", "512", "--log-every", "1", "--env.num-envs", "2", "--env.rooms.size", "3"]
SMALL += ["--env.rooms.episode-length", "8"]


def test_a_grid_is_every_combination_of_its_values_with_readable_names() -> None:
    points = grid_points(
        "know-small-none",
        ["agent.prediction=none,simcore", "learner.learning_rate=1e-3,3e-4"],
        ["--frames", "512"],
    )
    assert [point.name for point in points] == [
        "none-learning-rate-1e-3",
        "none-learning-rate-3e-4",
        "simcore-learning-rate-1e-3",
        "simcore-learning-rate-3e-4",
    ]
    assert points[3].words == (
        *("--frames", "512"),
        *("--agent.prediction", "simcore", "--learner.learning-rate", "3e-4"),
    )
    assert [point.config.learner.learning_rate for point in points] == [1e-3, 3e-4] * 2
    assert {point.config.frames for point in points} == {512}
    assert points[3].config.agent.prediction.loss == "simcore"


def test_names_tell_values_apart() -> None:
    def names(*grid: str) -> list[str]:
        return [point.name for point in grid_points("demo", grid, [])]

    assert names() == ["demo"]
    assert names("env.rooms.objects=3,3 6") == ["objects-3", "objects-3_6"]
    assert names("agent.prediction.loss=none", "agent.attention=none,foveal") == [
        "loss-none-attention-none",
        "none-foveal",
    ]
    assert names("learner.lambda_=0.5") == ["lambda_-0.5"]
    assert names("agent.prediction.tied=True") == ["tied-True"]


def test_a_variant_of_prediction_replaces_all_of_it() -> None:
    """The demo predicts ten steps ahead from the start; `simcore` does not."""
    (point,) = grid_points("demo", ["agent.prediction=simcore"], [])
    assert point.config.agent.prediction.frames_per_horizon > 0
    assert VARIANTS["far-weight-1"]["frames_per_horizon"] == 0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--grid", "agent.predicton=none"], "did you mean agent.prediction?"),
        (["--grid", "learner.learning-rat=1"], "did you mean learner.learning-rate?"),
        (["--grid", "agent.prediction=none,simcre"], "did you mean simcore?"),
        (["--grid", "agent.prediction.loss=none,simcre"], "simcre"),
        (["--grid", "learner.learning-rate=fast"], "--learner.learning-rate"),
        (["--grid", "learner.discount=0.9,1.5"], "expected a number in [0, 1]"),
        (["--grid", "learner.discount=0.9,0.90"], "are the same; expected different values"),
        (["--grid", "learner.discount"], "expected FIELD=VALUE,VALUE,..."),
        (["--grid", "learner.discount=0.9,"], "expected FIELD=VALUE,VALUE,..."),
        (["--grid", "learner.discount=0.9", "--grid", "learner.discount=0.8"], "twice"),
        (["--grid", "seed=1,2"], "expected --seeds N"),
        (["--seed", "3"], "--seed is that of one run; expected --seeds N"),
        (["--run_dir=a"], "--run-dir is that of one run; expected --directory DIR"),
        (["--seeds", "0"], "--seeds is 0; expected 1 to"),
        (["--rooms", "0"], "--rooms is 0; expected at least 1"),
        (["--cpus-per-run", "0"], "--cpus-per-run is 0; expected a positive number"),
        (["--gird", "learner.discount=0.9"], "--gird"),
        (["--grid", "env.id=Groundling/Explor-v0"], "did you mean Groundling/Explore-v0?"),
    ],
)
def test_mistakes_are_named_before_anything_starts(
    flags: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ended,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended("sweep", "demo", *flags) == 2
    said = capsys.readouterr()
    assert expected in " ".join((said.err + said.out).replace("│", " ").split())
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_training_command_needs_no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    from groundling.settings import train_flags

    assert train_flags("demo", []).run_dir == Path("runs/demo")


def test_a_sweep_ends_in_one_page_and_is_not_mixed_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ended
) -> None:
    asked = []

    def run_here(jobs: list[Job], room: object) -> Outcome:
        """In this process; at first the last job fails."""
        asked.append([job.name for job in jobs])
        failed = jobs[3:] if len(asked) == 1 else []
        for job in jobs[: len(jobs) - len(failed)]:
            for command in job.commands:
                if not command.done:
                    main(command.words)
                    command.result.touch()
        return Outcome(False, failed)

    monkeypatch.setattr(runner, "run_jobs", run_here)
    where = ["--directory", str(tmp_path / "sweep")]
    grid = ["--grid", "learner.learning-rate=1e-3,3e-4", "--no-probe", *SMALL]
    assert ended("sweep", "know-small-none", *where, *grid, "--seeds", "2") == sweeps.FAILED
    names = [f"learning-rate-{value}-{seed}" for seed in (0, 1) for value in ("1e-3", "3e-4")]
    assert asked == [names], "first seeds first"
    said = capsys.readouterr()
    assert f"groundling: {names[3]} failed, see {tmp_path / 'sweep' / names[3]}.log" in said.err
    assert "learning-rate-1e-3" in said.out
    results = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert [run["seed"] for run in results["runs"]] == [0, 0, 1]
    both = [run["return"] for run in results["runs"] if run["point"] == "learning-rate-1e-3"]
    found = results["points"]["learning-rate-1e-3"]["return"]
    assert found["value"] == pytest.approx(sum(both) / 2)
    assert found["low"] < found["value"] < found["high"]
    assert results["points"]["learning-rate-3e-4"]["return"]["low"] is None
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]" in page
    assert f"{names[3]} failed" in page
    made = RunDirectory(tmp_path / "sweep" / names[1]).read_config()
    assert made.learner.learning_rate == 3e-4
    assert ended("sweep", "know-small-none", *where, *grid, "--frames", "1024") == 2
    assert "--frames is 1024, but" in capsys.readouterr().err
    assert ended("sweep", "demo", *where, *grid) == 2
    assert "--preset is demo, but" in capsys.readouterr().err
    assert len(asked) == 1
    scored = tmp_path / "sweep" / names[0] / "evaluation" / "returns.json"
    written = scored.stat().st_mtime_ns
    assert ended("sweep", "know-small-none", *where, *grid, "--seeds", "2") == 0
    assert scored.stat().st_mtime_ns == written, "what has its result is not run again"
    again = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert [f"{run['point']}-{run['seed']}" for run in again["runs"]] == names
    assert again["points"]["learning-rate-3e-4"]["return"]["low"] is not None
