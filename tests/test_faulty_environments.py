"""What the command line says when a user's own environment misbehaves in the middle of a run."""

import gymnasium
import numpy as np
import pytest

from groundling.cli import main
from groundling.training.run import RunDirectory


class Breaks(gymnasium.Env):
    """Well-behaved for a while, then one fault."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault="nan"):
        self.fault = fault
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        bad = {"nan": np.nan, "outside": 5.0}[self.fault] if self.steps > 700 else 0.5
        return np.full(2, bad, np.float32), 0.0, False, self.steps % 10 == 0, {}


@pytest.mark.parametrize(
    ("fault", "said"),
    [("nan", "observation 'observation' is NaN"), ("outside", "its space says -1.0 to 1.0")],
)
def test_a_faulty_environment_stops_the_run_with_a_line_and_what_was_saved_stays(
    fault, said, tmp_path, capsys
):
    name = "Test/Breaks-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=Breaks, disable_env_checker=True)
    run = tmp_path / "run"
    environment = ["--env.id", name, "--env.options", "fault", fault, "--probe.online", "False"]
    with pytest.raises(SystemExit) as exit_:
        main(["train", "know-small-none", *environment, "--save-every", "0", "--run-dir", str(run)])
    assert exit_.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("groundling: environment Test/Breaks-v0")
    assert said in line
    assert RunDirectory(run).checkpoint.exists()
