"""Anybody's environment from the command line: found, checked, trained in, asked."""

import dataclasses
import sys

import gymnasium
import numpy as np
import pytest

from groundling.cli import main
from groundling.envs.adapters import make_vector
from groundling.envs.questions import QuestionSource
from groundling.envs.registration import plug_ins
from groundling.training.loop import train
from groundling.training.metrics import read_rows
from groundling.training.presets import preset
from groundling.training.run import load_agent

MODULE = """
import gymnasium
import numpy as np
from gymnasium import spaces
from groundling.envs.questions import UNUSED, Questions, tokens_of
from groundling.envs.vocabulary import VOCABULARY

class Signal(gymnasium.Env):
    \"\"\"Shows 0 or 1, and rewards who does the same.\"\"\"
    observation_space = action_space = spaces.Discrete(2)
    metadata = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 8
        self.shown = int(self.np_random.integers(2))
        return self.shown, {}

    def step(self, action):
        reward = float(action == self.shown)
        self.left -= 1
        self.shown = int(self.np_random.integers(2))
        return self.shown, reward, False, self.left == 0, {}

class Asked(Signal):
    vocabulary = VOCABULARY
    question_types = ("existence",)

    def ask(self, generator):
        answer = VOCABULARY.encode("yes" if self.shown else "no", 1)
        return Questions(
            world=np.zeros(1, np.int64), type=np.zeros(1, np.int64),
            arguments=np.full((1, 2), UNUSED), tokens=np.array([tokens_of("is there a key ?")]),
            answer=np.array(answer), answerable=np.ones(1, bool),
            steps_since_seen=np.zeros(1, np.int64),
        )

class Pair:
    \"\"\"Two who see the same signal; one stays longer than the other.\"\"\"
    possible_agents = ["ann", "bob"]
    metadata = {"name": "pair"}

    def __init__(self):
        self.space = spaces.Discrete(2)
        self.unwrapped = self

    def observation_space(self, agent):
        return self.space

    def action_space(self, agent):
        return self.space

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.generator = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.count = 0
        return self.seen(self.agents), {agent: {} for agent in self.agents}

    def seen(self, agents):
        self.shown = int(self.generator.integers(2))
        return dict.fromkeys(agents, self.shown)

    def step(self, actions):
        self.count += 1
        rewards = {agent: float(action == self.shown) for agent, action in actions.items()}
        over = {agent: self.count == (5 if agent == "ann" else 3) for agent in actions}
        self.agents = [agent for agent in actions if not over[agent]]
        going = dict.fromkeys(actions, False)
        return self.seen(actions), rewards, going, over, {agent: {} for agent in actions}

    def close(self):
        pass

class Levers(Signal):
    \"\"\"Each lever should be where the signal says.\"\"\"
    action_space = spaces.MultiDiscrete([2, 3])

    def step(self, action):
        right = np.mean(action == np.array([self.shown, 2 * self.shown]))
        shown, _, _, over, info = super().step(0)
        return shown, float(right), over, False, info

class Dial(Signal):
    \"\"\"The nearer the dial is to the signal, the better.\"\"\"
    action_space = spaces.Box(-1.0, 2.0, (1,), np.float32)

    def step(self, action):
        near = 1.0 - abs(float(action[0]) - self.shown)
        shown, _, _, over, info = super().step(0)
        return shown, near, over, False, info

class Leaky(Signal):
    \"\"\"Draws what no seed decides, and writes over what it gave.\"\"\"
    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    given = np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.given, {}

    def step(self, action):
        _, reward, _, over, _ = super().step(action)
        self.given[:] = np.random.rand()
        return self.given, reward, False, over, {}

def register():
    gymnasium.register("Plugged/Signal-v0", entry_point=Signal)
"""

FAST = ["--frames", "2048", "--agent.core-size", "16", "--log-every", "1"]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A distribution with a plug-in, as pip would have left it in a directory on the path."""
    home = tmp_path / "site"
    about = home / "signals-1.0.dist-info"
    about.mkdir(parents=True)
    (home / "signals.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: signals\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[groundling.envs]\nsignals = signals:register\n")
    monkeypatch.syspath_prepend(home)
    plug_ins.cache_clear()
    yield home
    plug_ins.cache_clear()
    sys.modules.pop("signals", None)
    gymnasium.registry.pop("Plugged/Signal-v0", None)


def rows_of(run):
    return list(read_rows(run / "metrics.jsonl"))


def test_a_plug_in_that_is_installed_is_listed_and_trained_in(module, tmp_path, capsys):
    main(["envs"])
    assert "Plugged/Signal-v0" in capsys.readouterr().out
    run = tmp_path / "run"
    main(["train", "any", "--env.id", "Plugged/Signal-v0", "--run-dir", str(run), *FAST])
    assert rows_of(run)[-1]["frames"] == 2048
    agent, _ = load_agent(run)
    assert agent is not None


def test_a_file_in_the_current_directory_is_found(module, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("from signals import Signal\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    main(["train", "any", "--env.id", "beside:Signal", "--run-dir", "run", *FAST])
    assert rows_of(tmp_path / "run")[-1]["episodes"] > 0
    sys.modules.pop("beside", None)


def test_a_single_environment_that_answers_is_asked_while_it_is_trained_in(module, tmp_path):
    run = tmp_path / "run"
    main(["train", "any", "--env.id", "signals:Asked", "--run-dir", str(run), *FAST])
    assert "probe/existence" in rows_of(run)[0]
    environment = make_vector("signals:Asked", 3, {})
    environment.reset(seed=0)
    source = environment.unwrapped
    assert isinstance(source, QuestionSource)
    assert source.ask(np.random.default_rng(0)).world.tolist() == [0, 1, 2]


def test_the_monitor_stays_away_where_nobody_answers(module, tmp_path):
    run = tmp_path / "run"
    main(["train", "any", "--env.id", "signals:Signal", "--run-dir", str(run), *FAST])
    assert not [name for row in rows_of(run) for name in row if name.startswith("probe")]


@pytest.mark.slow
def test_the_preset_learns_in_cart_pole(tmp_path):
    """In two runs together: one alone may have come to a dip just then."""
    last = []
    for seed in range(2):
        config = dataclasses.replace(preset("any"), frames=80_000, seed=seed)
        run = train(config, tmp_path / f"{seed}", show_progress=False)
        rows = list(read_rows(run.metrics))
        assert rows[0]["episode_return"] < 40
        last.append(rows[-1]["episode_return"])
    assert sum(last) / 2 > 60


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "chance"), [("Levers", 8 * 5 / 12), ("Dial", 0.0)])
def test_more_than_one_lever_and_a_dial_are_learned(kind, chance, module, tmp_path):
    """MultiDiscrete and continuous actions, from the command line; 8 is the most there is."""
    run = tmp_path / "run"
    small = ["--agent.core-size", "32", "--log-every", "4", "--frames", "61440"]
    main(["train", "any", "--env.id", f"signals:{kind}", "--run-dir", str(run), *small])
    returns = [row["episode_return"] for row in rows_of(run)]
    assert returns[0] < chance + 3
    assert returns[-1] > 6


def test_several_agents_train_as_rows(module, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    main(["train", "any", "--env.id", "signals:Pair", "--run-dir", str(run), *FAST])
    rows = rows_of(run)
    assert sum(row["episodes"] for row in rows) > 0
    with pytest.raises(SystemExit) as exit_:
        main(["train", "any", "--env.id", "signals:Pair", "--env.num-envs", "5", *FAST])
    assert exit_.value.code == 2
    assert "env.num-envs is 5; expected a multiple of 2" in capsys.readouterr().err


def checked(capsys, *arguments):
    """The exit code of check-env, and the row of each check."""
    code = 0
    try:
        main(["check-env", *arguments])
    except SystemExit as exit_:
        code = exit_.code
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["signals:Asked"], ["1 types, 84 questions", "one agent, copied"]),
        (["signals:Pair"], ["2 agents, each a row", "parallel_api_test"]),
        (["CartPole-v1", "--options", "max_episode_steps", "9"], ["NEXT_STEP"]),
        (["Groundling/Explore-v0", "--options", "size", "3", "objects", "3"], ["14 types"]),
    ],
)
def test_a_fit_environment_passes_every_check(module, capsys, monkeypatch, arguments, expected):
    monkeypatch.setenv("COLUMNS", "300")
    code, shown = checked(capsys, *arguments)
    assert code == 0, shown
    assert "✗" not in shown
    for words in [*expected, "steps/s of one copy"]:
        assert words in shown


def test_what_is_wrong_with_an_environment_is_told_with_what_to_do(module, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, shown = checked(capsys, "signals:Leaky")
    assert code == 1
    lines = [line for line in shown.splitlines() if "✗" in line]
    assert any("is another one in another copy" in line and "np_random" in line for line in lines)
    assert any("is written over" in line and "observation.copy()" in line for line in lines)


def test_an_environment_that_cannot_be_made_is_told_in_one_row(module, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, shown = checked(capsys, "signals:Signal", "--options", "volume", "11")
    assert code == 1
    assert "env.options does not fit signals:Signal" in shown
    assert "speed" not in shown


def test_an_unknown_environment_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["check-env", "CartPole-v11"])
    assert exit_.value.code == 2
    assert "did you mean CartPole-v1?" in capsys.readouterr().err
