"""Learners in processes of their own, behind Ray: a whole run, and what happens when one is lost.

That several learners learn what one does is held by `test_group.py`. Where processes are not the
point the others are in threads of this one here.
"""

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import ModuleType

import pytest
import torch
from torch.testing import assert_close

from groundling.cli import main
from groundling.envs.errors import UserError
from groundling.training import cluster as cluster_module
from groundling.training import learners as learners_module
from groundling.training import loop
from groundling.training.checkpoint import load_checkpoint
from groundling.training.errors import Interrupted, LearnerLost, NonFiniteLoss
from groundling.training.group import PATIENCE, GroupBroken
from groundling.training.learners import LearnerTraceback, RemoteLearner
from groundling.training.loop import Training, train
from groundling.training.metrics import read_rows
from groundling.training.peer import Peer

ENVS, T = 4, 5
OWN = "faulty_losses"


@pytest.fixture
def config_with(config_of):
    """Makes the configuration of a run with two learners."""

    def make(updates=4, **parts):
        parts = {"learners": 2, "env": {"num_envs": ENVS}, "rollout": {"workers": 0}} | parts
        frames = updates * ENVS * T
        return config_of(**({"frames": frames, "save_every": 0.0} | parts))

    return make


class LocalLearner(RemoteLearner):
    """A learner in a thread of this process."""

    def start(self, group):
        self.peer = Peer(self.config, self.rank, ())
        self.thread = ThreadPoolExecutor(1)

    def locate(self):
        pass

    def ask(self, method, *arguments):
        self._asked = self.thread.submit(getattr(self.peer, method), *arguments)
        if method == "make":
            self._asked.result()  # Weights are drawn from the global generator.

    def _fetch(self, seconds):
        return self._asked.result(seconds)

    def dismiss(self):
        if hasattr(self, "peer"):
            self.peer.learner.group.close()
            self.thread.shutdown()


@pytest.fixture
def local(monkeypatch):
    """The other learners are in this process."""
    monkeypatch.setattr(learners_module, "RemoteLearner", LocalLearner)
    monkeypatch.setattr(learners_module, "cluster", lambda address: nullcontext())
    monkeypatch.setattr(
        learners_module, "reserved", lambda number, gpus, asking: nullcontext(range(number))
    )
    monkeypatch.setattr(learners_module, "put", lambda value: value)
    monkeypatch.setattr(learners_module, "_address", lambda: "127.0.0.1")


def state_of(run):
    return load_checkpoint(run.checkpoint)["learner"]


def assert_near(run, other):
    """Two runs whose weights differ in rounding alone."""
    one, other = (state_of(run)["agent"] for run in (run, other))
    for name, weight in one.items():
        assert_close(weight, other[name], rtol=0, atol=1e-3, msg=name)


def at_update(patch, number, do):
    """Has a run do something before one of its updates."""
    working = Training._update

    def update(training, window):
        if training.learner.updates == number:
            do(training)
        working(training, window)

    patch.setattr(Training, "_update", update)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_of_two_learners_and_a_worker_is_that_of_one_learner(config_with, tmp_path):
    parts = {"rollout": {"workers": 1}}
    one = train(config_with(learners=1, **parts), tmp_path / "one", show_progress=False)
    two = train(config_with(**parts), tmp_path / "two", show_progress=False)
    assert_near(one, two)
    rows, expected = read_rows(two.metrics), read_rows(one.metrics)
    assert [row["frames"] for row in rows] == [20, 40, 60, 80]
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() - other.keys() == {"present_rows"}
        assert other.keys() <= row.keys()
        for name in ("loss/policy", "loss/entropy", "gradient_norm", "entropy", "value"):
            assert row[name] == pytest.approx(other[name], rel=1e-2, abs=1e-4)
        assert row["policy_lag"] == other["policy_lag"]
    assert json.loads(two.config.read_text())["config"]["learners"] == 2


@pytest.mark.usefixtures("ray_cluster")
def test_a_learner_that_is_killed_ends_the_run_in_a_line_and_the_same_command_goes_on(
    config_with, tmp_path, monkeypatch
):
    config = config_with(6)
    killed = []

    def kill(training):
        (other,) = training.learners.others
        other.ask("whereabouts")
        killed.append(other.receive()[0])
        os.kill(killed[0], signal.SIGKILL)

    with monkeypatch.context() as patch:
        at_update(patch, 3, kill)
        with pytest.raises(LearnerLost) as lost:
            train(config, tmp_path / "run", show_progress=False)
    assert str(lost.value).startswith(f"learner 1 (process {killed[0]} on ")
    assert str(lost.value).endswith("died (ActorDiedError)")
    assert "\n" not in str(lost.value)
    run = train(config, tmp_path / "run", show_progress=False)
    assert [row["updates"] for row in read_rows(run.metrics)] == [1, 2, 3, 4, 5, 6]
    assert_near(run, train(config_with(6, learners=1), tmp_path / "one", show_progress=False))


@pytest.mark.usefixtures("ray_cluster")
def test_learners_for_whom_there_is_no_room_are_refused(config_with, tmp_path, monkeypatch):
    import ray

    every = int(ray.cluster_resources()["CPU"])
    monkeypatch.setattr(cluster_module, "STARTED_SECONDS", 0.5)
    number = every + 2
    config = config_with(learners=number, env={"num_envs": number})
    with pytest.raises(UserError) as refused:
        train(config, tmp_path / "run", show_progress=False)
    assert str(refused.value).startswith(
        f"learners is {number}, which takes {every + 1} CPU; expected no more than there is room"
    )
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.usefixtures("local")
def test_ctrl_c_saves_first_and_the_run_goes_on(config_with, tmp_path, monkeypatch):
    config = config_with(5, save_every=1e9, env={"num_envs": 6}, learners=3)
    with monkeypatch.context() as patch:
        at_update(patch, 2, lambda training: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted, match="stopped at 90 frames and saved"):
            train(config, tmp_path / "run", show_progress=False)
    run = train(config, tmp_path / "run", show_progress=False)
    assert [row["updates"] for row in read_rows(run.metrics)] == [1, 2, 3, 4]
    alone = config_with(5, env={"num_envs": 6}, learners=1)
    assert_near(run, train(alone, tmp_path / "one", show_progress=False))


def faulty(monkeypatch, function):
    """Has learners add up this function, as a loss of a user's own."""
    module = ModuleType(OWN)
    module.loss = function
    monkeypatch.setitem(sys.modules, OWN, module)
    return {"losses": {f"{OWN}:loss": 1.0}}


@pytest.mark.usefixtures("local")
def test_what_is_raised_in_another_learner_comes_out_with_its_own_traceback(
    config_with, tmp_path, monkeypatch
):
    def loss_of_other(output, unroll):
        if threading.current_thread() is not threading.main_thread():
            raise KeyError("mine")
        return output.baseline

    config = config_with(learner=faulty(monkeypatch, loss_of_other))
    began = time.monotonic()
    with pytest.raises(KeyError, match="mine") as raised:
        train(config, tmp_path / "run", show_progress=False)
    assert time.monotonic() - began < PATIENCE / 2, "nobody waits for a learner that has left"
    assert isinstance(raised.value.__cause__, LearnerTraceback)
    assert "in another learner" in str(raised.value.__cause__)
    assert "loss_of_other" in str(raised.value.__cause__)


@pytest.mark.usefixtures("local")
def test_a_run_that_diverges_says_so_once(config_with, tmp_path, monkeypatch):
    learner = faulty(monkeypatch, lambda output, unroll: output.baseline / 0.0)
    with pytest.raises(NonFiniteLoss, match="loss 'loss' is"):
        train(config_with(learner=learner), tmp_path / "run", show_progress=False)


def broken_group(config_with, monkeypatch, *answers):
    """Learners whose group breaks at the next step, and what the others have to say."""
    config = config_with(learners=1 + len(answers), env={"num_envs": 12})
    training = Training(config, torch.device("cpu"))
    unroll = training.actor.collect(T)
    training.close()

    def step(own, *, inspect):
        raise GroupBroken("Connection closed")

    def fetch(learner, seconds):
        answer = answers[learner.rank - 1]
        raise LearnerLost(f"learner {learner.rank} {answer}") if isinstance(answer, str) else answer

    monkeypatch.setattr(training.learner, "step", step)
    monkeypatch.setattr(RemoteLearner, "ask", lambda *arguments: None)
    monkeypatch.setattr(RemoteLearner, "_fetch", fetch)
    with pytest.raises((LearnerLost, UserError)) as raised:
        training.learners.step(unroll)
    return raised.value


LEFT = GroupBroken("left alone")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([LEFT, "died", LEFT], "learner 2 died"),
        (["gave no answer", "died"], "learner 1 gave no answer; learner 2 died"),
        ([LEFT], "the learners lost each other (Connection closed)"),
    ],
)
def test_whoever_was_at_fault_is_named(config_with, monkeypatch, answers, said):
    error = broken_group(config_with, monkeypatch, *answers)
    assert isinstance(error, LearnerLost)
    assert str(error) == said


def test_an_error_in_another_learner_counts_more_than_that_it_is_missed(config_with, monkeypatch):
    error = broken_group(config_with, monkeypatch, LEFT, UserError("no such thing"))
    assert isinstance(error, UserError)


def test_a_lost_learner_is_one_line_of_the_command(tmp_path, monkeypatch, capsys):
    def lose(config, run_dir):
        raise LearnerLost("learner 1 died")

    monkeypatch.setattr(loop, "train", lose)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "demo", "--run-dir", str(tmp_path / "run")])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "groundling: learner 1 died; the same command goes on\n"
