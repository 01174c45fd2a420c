"""What a sweep runs for each point, and what its table says."""

from pathlib import Path

import pytest

from groundling.envs.errors import UserError
from groundling.evaluation.sweeps import Point, Probing, plan, table
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.presets import preset


def test_the_first_run_is_probed_with_controls_and_the_others_alone(tmp_path: Path) -> None:
    points = [
        Point(name, ("--frames", "9"), preset("know-small-none")) for name in ("one", "other")
    ]
    jobs = plan(tmp_path, "know-small-none", points, seeds=2, probing=Probing(rooms=64, workers=3))
    assert [job.name for job in jobs] == ["one-0", "other-0", "one-1", "other-1"]
    train, evaluate, probe = jobs[2].commands
    run = str(tmp_path / "one-1")
    assert train.words == (
        *("train", "know-small-none", "--frames", "9", "--seed", "1", "--run-dir", run),
    )
    assert evaluate.words == ("evaluate", run)
    assert probe.words == (
        *("probe", run, "--decoders", "mlp", "--controls", "none", "--rooms", "64"),
        *("--workers", "3", "--no-keep"),
    )
    assert "few" in jobs[0].commands[2].words


def test_an_environment_without_questions_is_not_probed(tmp_path: Path) -> None:
    config = TrainConfig(env=EnvironmentConfig(id="CartPole-v1"))
    (job,) = plan(tmp_path, "any", [Point("any", (), config)], seeds=1, probing=Probing())
    assert [command.words[0] for command in job.commands] == ["train", "evaluate"]


def test_an_environment_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    points = [Point("any", (), TrainConfig(env=EnvironmentConfig(id="CartPol-v1")))]
    with pytest.raises(UserError, match="CartPol-v1"):
        plan(tmp_path, "any", points, seeds=1, probing=None)


def test_the_table_shows_intervals_where_there_are_seeds() -> None:
    several = {"value": 1.25, "low": 1.0, "high": 1.5}
    single = {"value": 2.0, "low": None, "high": None}
    rows = table({"a": {"return": several, "count_shape": several}, "b": {"return": single}})
    assert rows == [
        ["mean over seeds", "a", "b"],
        ["return", "1.25 [1.00, 1.50]", "2.00"],
        ["count shape", "1.25 [1.00, 1.50]", "–"],
    ]
