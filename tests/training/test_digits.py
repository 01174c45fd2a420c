"""Digits among clutter, through the whole of training."""

import numpy as np
import torch
from torch.testing import assert_close

from groundling.agents.config import AgentConfig
from groundling.cli import main
from groundling.envs.digits.options import DIGITS
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)
from groundling.training.environments import make_environment
from groundling.training.loop import Training
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory

CPU = torch.device("cpu")
SMALL = ["--frames", "1536", "--log-every", "1", "--agent.core-size", "16"]


def configured(**options):
    return TrainConfig(
        env=EnvironmentConfig(id=DIGITS, num_envs=4, options={"canvas": 40, **options}),
        agent=AgentConfig(core_size=8, feature_size=6, sensor_size=7),
        learner=LearnerConfig(unroll_length=5),
        probe=OnlineProbeConfig(online=False),
    )


def learn(training, updates):
    for _ in range(updates):
        training.learner.step(training.actor.collect(5))


def test_options_reach_the_environment():
    environment = make_environment(configured(glimpses=3, split="test").env)
    digits = environment.unwrapped.digits
    assert (digits.canvas, digits.glimpses, digits.split) == (40, 3, "test")


def test_a_resumed_run_goes_on_bitwise(tmp_path):
    """Unrolls of five steps end in the midst of episodes of three."""
    config = configured(glimpses=3)
    whole, stopped, resumed = (Training(config, CPU) for _ in range(3))
    run = RunDirectory(tmp_path / "run")
    run.open_for(config)
    for training in (whole, stopped):
        learn(training, 3)
    stopped.save(run)
    resumed.resume(run)
    for training in (whole, resumed):
        learn(training, 3)
    agents = [training.learner.agent.state_dict() for training in (whole, resumed)]
    assert_close(agents[0], agents[1], rtol=0, atol=0)
    one, other = (training.actor.state_dict() for training in (whole, resumed))
    for part in ("environment", "row"):
        assert_close(one[part], other[part], rtol=0, atol=0)
    assert one["environment"].keys() == {"seed", "episode", "elapsed"}
    assert one["environment"]["episode"].min() > 5


def test_it_is_trained_in_and_evaluated_by_the_command_line(tmp_path, capsys):
    run = tmp_path / "run"
    main(
        [
            "train",
            "any",
            "--env.id",
            DIGITS,
            "--env.options",
            "glimpses",
            "4",
            "split",
            "test",
            "--run-dir",
            str(run),
            *SMALL,
        ]
    )
    rows = list(read_rows(RunDirectory(run).metrics))
    assert sum(row["episodes"] for row in rows) == 1536 / 4
    assert np.mean([row["episode_length"] for row in rows]) == 4
    capsys.readouterr()
    main(["evaluate", str(run), "--episodes", "64"])
    shown = capsys.readouterr().out
    assert "random" in shown
    assert "explorer" not in shown


def test_the_checks_pass(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    main(["check-env", DIGITS, "--options", "canvas", "40"])
    shown = capsys.readouterr().out
    assert "✗" not in shown
    assert "SAME_STEP" in shown
