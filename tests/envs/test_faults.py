"""What somebody else's environment does wrong is said in one line, with the place."""

import signal
import threading
import time

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from groundling.envs import faults
from groundling.envs.errors import UserError
from groundling.envs.faults import GuardedEnv, GuardedVectorEnv, naming_faults

NAME = "Tests/Bad-v0"


class Fine(gymnasium.Env):
    observation_space = spaces.Dict({"body": spaces.Dict({"speed": spaces.Box(-1, 1, (2,))})})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen(), {}

    def step(self, action):
        return self.seen(), 0.0, False, False, {}

    def seen(self):
        return {"body": {"speed": np.zeros(2, np.float32)}}


class Raises(Fine):
    def step(self, action):
        return np.zeros(3).reshape(2, 2)


class RaisesInReset(Fine):
    def reset(self, *, seed=None, options=None):
        raise FileNotFoundError("no\nmap")


class Old(Fine):
    def step(self, action):
        return self.seen(), 0.0, False, {}


class OldReset(Fine):
    def reset(self, *, seed=None, options=None):
        return self.seen()


class Incomplete(Fine):
    def seen(self):
        return {"body": {}}


class Bare(Fine):
    def seen(self):
        return {"body": np.zeros(2, np.float32)}


class Long(Fine):
    def seen(self):
        return {"body": {"speed": np.zeros(3, np.float32)}}


class Whole(Fine):
    observation_space = spaces.Box(0, 9, (2,), np.uint8)

    def seen(self):
        return np.zeros(2, np.int64)


class Restless(Fine):
    def reset(self, *, seed=None, options=None):
        self.observation_space = spaces.Dict({"body": self.observation_space})
        return super().reset(seed=seed)


class Rewards(Fine):
    def step(self, action):
        return self.seen(), np.zeros(1), False, False, {}


class Undecided(Fine):
    def step(self, action):
        return self.seen(), 0.0, None, False, {}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Raises, r" raised ValueError in step: cannot reshape .* \(.*test_faults.py:\d+\)"),
        (RaisesInReset, r" raised FileNotFoundError in reset: no map \(.*test_faults.py:\d+\)"),
        (Old, r": step gave 4 values; expected observation, reward, terminated, truncated, info"),
        (OldReset, ": reset gave dict; expected observation, info"),
        (Incomplete, ": observation 'body/speed' is missing"),
        (Bare, ": observation 'body/speed' is missing"),
        (Long, r": observation 'body/speed' has shape \(3,\); its space says \(2,\)"),
        (Whole, ": observation 'observation' has dtype int64; its space says uint8"),
        (Restless, r" changed a space from Dict\(.*\) to Dict\(.*\); expected the ones it was mad"),
        (Rewards, r": reward is array\(\[0.\]\); expected one number or bool"),
        (Undecided, ": terminated is None; expected one number or bool"),
    ],
)
def test_a_single_environments_faults_are_named(kind, expected):
    environment = GuardedEnv(kind(), NAME)

    def walk():
        environment.reset(seed=0)
        environment.step(0)

    with pytest.raises(UserError, match=f"^environment {NAME}{expected}") as refused:
        walk()
    assert "\n" not in str(refused.value)


def test_what_gymnasium_may_make_of_it_is_let_through():
    class Wide(Fine):
        def seen(self):
            return {"body": {"speed": [0.0, 1.0]}}

    environment = GuardedEnv(Wide(), NAME)
    environment.reset(seed=0)
    environment.step(0)


def test_the_exception_of_the_environment_is_kept():
    with pytest.raises(UserError) as refused:
        GuardedEnv(RaisesInReset(), NAME).reset()
    assert isinstance(refused.value.__cause__, FileNotFoundError)


def test_a_users_mistake_and_an_interruption_are_no_fault():
    for kind in (UserError, KeyboardInterrupt):
        with pytest.raises(kind, match=r"^as it is$"), naming_faults(NAME, "reset"):
            raise kind("as it is")


class Stuck(Fine):
    def reset(self, *, seed=None, options=None):
        for _ in range(2):
            try:
                time.sleep(2.0)
            except Exception:  # It must not be able to swallow its end.
                continue
        return super().reset(seed=seed)


def test_an_environment_that_does_not_come_back_from_reset_is_stopped(monkeypatch):
    monkeypatch.setattr(faults, "RESET_SECONDS", 0.2)
    before, started = signal.getsignal(signal.SIGALRM), time.perf_counter()
    with pytest.raises(UserError, match=f"^environment {NAME} took more than 0.2 s to reset"):
        GuardedEnv(Stuck(), NAME).reset(seed=0)
    assert time.perf_counter() - started < 1.5
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_there_is_no_time_limit_where_there_can_be_none(monkeypatch):
    """In another thread, or while somebody else's timer is running."""
    monkeypatch.setattr(faults, "RESET_SECONDS", 0.01)

    class Slow(Fine):
        def reset(self, *, seed=None, options=None):
            time.sleep(0.05)
            return super().reset(seed=seed)

    done = []
    walker = threading.Thread(target=lambda: done.append(GuardedEnv(Slow(), NAME).reset()))
    walker.start()
    walker.join()
    assert len(done) == 1
    signal.setitimer(signal.ITIMER_REAL, 100.0)
    try:
        GuardedEnv(Slow(), NAME).reset()
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class Batch(SyncVectorEnv):
    """Fine, but for what a test changes about a step."""

    def __init__(self, mode=AutoresetMode.NEXT_STEP, **changes):
        self.changes = changes
        limited = [lambda: gymnasium.wrappers.TimeLimit(Fine(), 3)] * 2
        super().__init__(limited, autoreset_mode=mode)

    def step(self, actions):
        if "error" in self.changes:
            raise self.changes["error"]
        observation, reward, terminated, truncated, info = super().step(actions)
        step = {
            "observation": observation,
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "info": info,
        }
        if self.changes.get("final") == "none":
            info.pop("final_obs", None)
        elif "final" in self.changes and "final_obs" in info:
            info["final_obs"][1] = self.changes["final"]
        return tuple((step | {k: v for k, v in self.changes.items() if k in step}).values())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"error": OSError("gone")}, r" raised OSError in step: gone \(.*test_faults.py:\d+\)"),
        ({"reward": np.zeros(3)}, r": reward is float64 \(3,\); expected float64 \(2,\)"),
        ({"reward": np.full(2, None)}, r": reward is object \(2,\); expected float64 \(2,\)"),
        ({"terminated": np.zeros(2)}, r": terminated is float64 \(2,\); expected bool \(2,\)"),
        ({"truncated": False}, r": truncated is bool \(\); expected bool \(2,\)"),
        (
            {"observation": {"body": {"speed": np.zeros((3, 2))}}},
            r": observation 'body/speed' has shape \(3, 2\); its space says \(2, 2\)",
        ),
        ({"final": "none"}, r": an episode ended without info\['final_obs'\] of its row"),
        ({"final": None}, r": an episode ended without info\['final_obs'\] of its row"),
        ({"final": {"body": {"speed": np.zeros(3)}}}, r": observation 'body/speed' has shape"),
    ],
)
def test_a_batchs_faults_are_named(changes, expected):
    mode = AutoresetMode.SAME_STEP if "final" in changes else AutoresetMode.NEXT_STEP
    environment = GuardedVectorEnv(Batch(mode, **changes), NAME)
    environment.reset(seed=0)

    def walk():
        for _ in range(3):
            environment.step(np.zeros(2, np.int64))

    with pytest.raises(UserError, match=f"^environment {NAME}{expected}"):
        walk()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_batch_without_fault_is_as_it_was(mode):
    environment = GuardedVectorEnv(Batch(mode), NAME)
    environment.reset(seed=0)
    for step in range(1, 4):
        *_, truncated, _ = environment.step(np.zeros(2, np.int64))
        assert truncated.all() == (step == 3)
    environment.close()


def test_a_batch_may_give_lists():
    changes = {"reward": [1, 0], "terminated": [True, False], "truncated": [False, False]}
    changes["info"] = {"final_obs": [Fine().seen(), None]}
    environment = GuardedVectorEnv(Batch(AutoresetMode.SAME_STEP, **changes), NAME)
    environment.reset(seed=0)
    _, reward, terminated, truncated, _ = environment.step(np.zeros(2, np.int64))
    assert all(isinstance(part, np.ndarray) for part in (reward, terminated, truncated))
    assert (terminated | truncated).tolist() == [True, False]
