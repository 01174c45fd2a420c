"""What the command line says when a user's own environment misbehaves in the middle of a run."""

import time

import gymnasium
import numpy as np
import pytest

from groundling.cli import main
from groundling.envs import faults
from groundling.training.run import RunDirectory


class Breaks(gymnasium.Env):
    """Well-behaved for a while, then one fault."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault="unknown"):
        if fault == "make":
            raise OSError("no display")
        self.fault = fault
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self._now("reset"):
            raise LookupError("no level left")
        if self._now("slow"):
            time.sleep(5.0)
        if self._now("spaces"):
            self.observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self._now("step"):
            raise RuntimeError("the simulator died")
        bad = {"unknown": np.nan, "outside": 5.0}.get(self.fault, 0.5) if self.steps > 40 else 0.5
        shape = 3 if self._now("shape") else 2
        observation = np.full(shape, bad, np.complex64 if self._now("dtype") else np.float32)
        return observation, 0.0, False, self.steps % 10 == 0, {}

    def _now(self, fault):
        return self.fault == fault and self.steps > 40


@pytest.fixture
def train(tmp_path, capsys):
    """Trains in the faulty environment until it is refused: the line that is said."""
    name = "Test/Breaks-v0"
    gymnasium.register(name, entry_point=Breaks, disable_env_checker=True)

    def run(fault):
        flags = ["--env.id", name, "--env.options", "fault", fault, "--save-every", "0"]
        flags += ["--env.num-envs", "2", "--agent.core-size", "8"]
        with pytest.raises(SystemExit) as exit_:
            main(["train", "any", *flags, "--run-dir", str(tmp_path / "run")])
        assert exit_.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("groundling: environment Test/Breaks-v0")
        return line

    yield run
    del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("unknown", "observation 'observation' is NaN"),
        ("outside", "its space says -1.0 to 1.0"),
        ("shape", "has shape (3,); its space says (2,)"),
        ("dtype", "has dtype complex64; its space says float32"),
        ("spaces", "changed a space from Box(-1.0, 1.0, (2,), float32) to Box(-2.0"),
        ("step", "raised RuntimeError in step: the simulator died ("),
        ("reset", "raised LookupError in reset: no level left ("),
        ("slow", "took more than 0.3 s to reset"),
    ],
)
def test_a_faulty_environment_stops_the_run_with_a_line_and_what_was_saved_stays(
    fault, said, train, tmp_path, monkeypatch
):
    monkeypatch.setattr(faults, "RESET_SECONDS", 0.3)
    assert said in train(fault)
    assert RunDirectory(tmp_path / "run").checkpoint.exists()


def test_an_environment_that_cannot_be_made_leaves_nothing_behind(train, tmp_path):
    line = train("make")
    assert "raised OSError in make: no display (" in line
    assert "test_faulty_environments.py:" in line
    assert not (tmp_path / "run").exists()
