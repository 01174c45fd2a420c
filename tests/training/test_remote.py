"""Workers behind Ray, as processes that walk, die, stop and raise."""

import contextlib
import itertools
import os
import signal
import sys
import time
import traceback

import pytest
import torch

from groundling.cli import main
from groundling.envs.errors import UserError
from groundling.training import cluster
from groundling.training.checkpoint import load_checkpoint
from groundling.training.distributed import IN_FLIGHT
from groundling.training.loop import Training, train
from groundling.training.metrics import read_rows

CPU = torch.device("cpu")
FRAMES = 15  # of an unroll: 3 environments × 5 steps
UPDATES = 6
SUMS = ("steps_used", "steps_dropped", "steps_lost")

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def started(config_of):
    """Makes the workers of a run."""
    with contextlib.ExitStack() as made:

        def make(length=5, **rollout):
            config = config_of(rollout=rollout, learner={"unroll_length": length})
            training = Training(config, CPU)
            made.enter_context(contextlib.closing(training))
            training.start(show_progress=False)
            return training.actor

        yield make


def collect(source, updates=0, length=5):
    return source.collect(length, policy_version=updates)


def is_balanced(row):
    return row["steps_taken"] == sum(row[name] for name in SUMS)


def weights_of(run):
    agent = load_checkpoint(run.checkpoint)["learner"]["agent"]
    return {name: tensor.tolist() for name, tensor in agent.items()}


def process_of(worker):
    import ray

    return ray.get(worker._whereabouts)[0]


def test_with_one_worker_the_same_configuration_gives_the_same_run(config_of, tmp_path):
    one, other = (train(config_of(), tmp_path / name, show_progress=False) for name in ("a", "b"))
    assert weights_of(one) == weights_of(other)
    rows = read_rows(one.metrics)
    assert [row["policy_lag"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert all(is_balanced(row) for row in rows)
    assert rows[-1]["steps_taken"] == rows[-1]["frames"] == UPDATES * FRAMES
    state = load_checkpoint(one.checkpoint)["actor"]
    assert is_balanced(state)
    assert FRAMES <= state["steps_lost"] <= IN_FLIGHT * FRAMES  # begun when the run was over


def test_a_worker_killed_in_the_middle_of_an_unroll_is_replaced_and_every_step_is_accounted_for(
    started, small_config, capsys
):
    length = 300
    source = started(length)
    first = collect(source, 0, length)
    (worker,) = source.workers
    process = process_of(worker)
    assert not worker.is_ready()  # It is walking.
    os.kill(process, signal.SIGKILL)
    collected = [collect(source, updates, length) for updates in range(1, 4)]
    accounts = source.accounts()
    assert is_balanced(accounts)
    assert accounts["workers_replaced"] == 1
    assert accounts["steps_used"] == 4 * 3 * length
    assert accounts["steps_lost"] == 3 * length
    assert worker.identity.incarnation == 1
    assert process_of(worker) != process
    assert collected[-1].policy_version >= 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"rollout worker 0 (process {process} on " in said
    assert said.endswith("died (ActorDiedError): replaced (1 of 3 in a row)")
    # The same as one process would have walked; its successor walks elsewhere.
    alone = Training(small_config(), CPU).actor.collect(5)
    assert torch.equal(first.behaviour_log_prob[:5], alone.behaviour_log_prob)
    views = [unroll.rows.observation["view"][:-1] for unroll in (first, *collected)]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(views, 2))


FAULTY = """
import gymnasium, numpy, torch

class World(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0

    def __init__(self, fault=""):
        self.fault = fault

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return numpy.zeros(2, numpy.float32), {}

    def step(self, action):
        self.steps += 1
        if self.fault == "step" and self.steps > 3:
            raise LookupError("no level left")
        return numpy.zeros(2, numpy.float32), 0.0, False, self.steps % 10 == 0, {}

class Sensor(torch.nn.Module):
    calls = 0

    def __init__(self, space, config):
        super().__init__()
        self.size = 2
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, observation):
        self.calls += 1
        if self.calls > 6:
            raise KeyError("lost")
        return self.layer(observation)
"""


@pytest.fixture
def train_faulty(tmp_path, monkeypatch):
    """Trains with a module of a user's own, in a folder that only this process looks into."""
    (tmp_path / "faulty_world.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)

    def run(*flags, failures=1):
        flags += ("--workers", "1", "--rollout.max-failures", str(failures))
        flags += ("--env.num-envs", "2", "--agent.core-size", "8")
        flags += ("--run-dir", str(tmp_path / "run"))
        main(["train", "any", "--env.id", "faulty_world:World", *flags])

    yield run
    sys.modules.pop("faulty_world", None)


def test_an_exception_of_a_plug_in_comes_last_with_its_own_traceback(train_faulty):
    with pytest.raises(KeyError) as raised:
        train_faulty("--agent.sensors", "observation", "faulty_world:Sensor")
    told = "".join(traceback.format_exception(raised.value)).strip()
    assert told.endswith("KeyError: 'lost'")
    assert "in a rollout worker" in told
    assert 'raise KeyError("lost")' in told


@pytest.mark.slow
def test_a_faulty_environment_stops_the_run_after_so_many_failures_with_one_line(
    train_faulty, capsys
):
    with pytest.raises(SystemExit) as exit_:
        train_faulty("--env.options", "fault", "step", failures=2)
    assert exit_.value.code == 2
    *before, line = capsys.readouterr().err.splitlines()
    assert line.startswith("groundling: environment faulty_world:World raised LookupError in step")
    assert "faulty_world.py:" in line
    assert any("replaced (1 of 2 in a row)" in one for one in before)


@pytest.mark.slow
def test_a_worker_that_keeps_dying_stops_the_run(started, monkeypatch):
    source = started(max_failures=2)
    working = source._ask_for_more

    def ask_and_kill(version, ask):
        os.kill(process_of(source.workers[0]), signal.SIGKILL)
        working(version, ask)

    monkeypatch.setattr(source, "_ask_for_more", ask_and_kill)
    with pytest.raises(UserError, match=r"rollout worker 0 .*died .*, 2 times in a row; expected"):
        collect(source)


@pytest.mark.slow
def test_a_stopped_process_is_named_and_replaced(started, capsys):
    source = started(stalled_after=30.0)
    collect(source, 0)
    collect(source, 1)
    process = process_of(source.workers[0])
    os.kill(process, signal.SIGSTOP)
    source.workers[0].since -= 30.0  # It has been silent for so long.
    while source.replaced == 0:
        collect(source, 2)
    said = " ".join(capsys.readouterr().err.split())
    assert f"rollout worker 0 (process {process} on " in said
    assert "gave no unroll for 30 s: replaced" in said
    assert is_balanced(source.accounts())
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{process}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_workers_walk_side_by_side_and_in_order_the_run_is_repeatable(config_of, tmp_path):
    config = config_of(4, rollout={"workers": 2, "in_order": True})
    one, other = (train(config, tmp_path / name, show_progress=False) for name in ("a", "b"))
    assert weights_of(one) == weights_of(other)
    assert read_rows(one.metrics)[-1]["policy_lag"] == 3  # 2 N - 1


def test_more_workers_than_there_is_room_for_are_refused_before_anything_is_written(
    config_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "STARTED_SECONDS", 0.5)
    config = config_of(rollout={"workers": 1000})
    started = time.monotonic()
    with pytest.raises(UserError) as refused:
        train(config, tmp_path / "run", show_progress=False)
    assert time.monotonic() - started < 30
    said = str(refused.value)
    assert said.startswith("workers is 1000, which takes 1000 CPU; expected no more than there is")
    assert said.endswith(" CPU free)")
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_two_workers_share_a_gpu(config_of, tmp_path):
    rollout = {"workers": 2, "device": "cuda", "num_gpus": 0.25}
    config = config_of(8, rollout=rollout, device="cuda")
    rows = read_rows(train(config, tmp_path / "run", show_progress=False).metrics)
    assert rows[-1]["frames"] == 8 * FRAMES
    assert all(is_balanced(row) for row in rows)
    print(f"{rows[-1]['frames_per_second']:,.0f} frames/s")
