"""The examples do what they say, by the command line that they show."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from groundling.cli import main
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory, load_agent

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ["--frames", "1024", "--log-every", "1", "--agent.core-size", "16"]


def command_of(example: Path) -> list[str]:
    """What the example tells to type, after `groundling`."""
    (line,) = re.findall(r"^ +groundling (.*)$", example.read_text(), re.MULTILINE)
    return shlex.split(line)


@pytest.fixture
def by_hand(tmp_path, monkeypatch):
    """Types an example's command in a directory that holds it, with more flags; the run.

    As from a console script: the current directory is not among Python's paths.
    """

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(EXAMPLES))])

    def type_in(name, *flags):
        shutil.copy(EXAMPLES / name, tmp_path)
        words = command_of(EXAMPLES / name)
        main([*words, *SMALL, *flags])
        return RunDirectory(tmp_path / words[words.index("--run-dir") + 1])

    return type_in


def test_there_is_a_test_for_every_example():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "sensor.py",
        "loss.py",
        "environment.py",
    }


def test_a_sensor_of_ones_own_reads_the_view(by_hand):
    run = by_hand("sensor.py")
    agent, config = load_agent(run.path)
    assert config.agent.sensors == {"view": "sensor:Counts"}
    assert type(agent.sensors.leaf("view")).__name__ == "Counts"
    untrained, _ = load_agent(run.path, untrained=True)
    weights = [one.sensors.leaf("view").layer.weight for one in (agent, untrained)]
    assert not torch.equal(*weights)


def test_a_run_with_a_sensor_of_ones_own_resumes(by_hand):
    run = by_hand("sensor.py")
    before = len(read_rows(run.metrics))
    by_hand("sensor.py", "--frames", "2048")
    assert len(read_rows(run.metrics)) == 2 * before


def test_a_loss_of_ones_own_teaches_and_is_shown(by_hand):
    strongly = ["--learner.losses", "loss:slowness", "50.0"]
    by_hand("loss.py", *strongly)
    rows = read_rows(by_hand("loss.py", *strongly, "--frames", "6144").metrics)  # it resumes
    shown = [row["loss/slowness"] for row in rows]
    assert 0 < shown[-1] < 0.7 * shown[0]


def test_an_environment_of_ones_own_is_trained_in_and_asked(by_hand, capsys):
    """The agent learns to remember where the lamp was, and a decoder finds it in its memory."""
    run = by_hand("environment.py", "--frames", "40000", "--agent.core-size", "64")
    rows = read_rows(run.metrics)
    assert sum(row["episode_return"] for row in rows[-5:]) / 5 > 0.8
    main(["probe", str(run.path), "--quick", "--rooms", "300"])
    (known,) = re.findall(r"lamp +│ +([0-9.]+) │", capsys.readouterr().out)
    assert float(known) > 0.9


def test_the_environment_of_ones_own_passes_its_checks(by_hand, capsys):
    by_hand("environment.py")
    main(["check-env", "environment:Corridor-v0"])
    assert "✗" not in capsys.readouterr().out
