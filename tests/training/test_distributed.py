"""Workers behind Ray: what they walk, what becomes of it, and what happens when one is lost."""

import dataclasses
import os
import signal
import sys
import time
import traceback

import pytest
import torch

from groundling.cli import main
from groundling.envs.errors import UserError
from groundling.training.checkpoint import load_checkpoint
from groundling.training.config import RolloutConfig
from groundling.training.distributed import IN_FLIGHT, Workers
from groundling.training.loop import Training, train
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory

CPU = torch.device("cpu")
FRAMES = 15  # of an unroll: 3 environments × 5 steps
UPDATES = 6
SUMS = ("steps_used", "steps_dropped", "steps_lost")

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def config_of(small_config):
    """The configuration of a run of so many updates, with one worker."""

    def make(updates=UPDATES, *, rollout=(), **fields):
        rollout = RolloutConfig(**({"workers": 1} | dict(rollout)))
        fields = {"frames": updates * FRAMES, "save_every": 1e9} | fields
        return small_config(rollout=rollout, **fields)

    return make


@pytest.fixture
def started(config_of):
    """Makes the parts of a run whose workers wait to be asked."""
    made = []

    def make(*arguments, **fields):
        training = Training(config_of(*arguments, **fields), CPU)
        made.append(training)
        training.start(show_progress=False)
        return training

    yield make
    for training in made:
        training.close()


@pytest.fixture(scope="module")
def straight(ray_cluster, config_of, tmp_path_factory):
    """A run that nothing disturbed."""
    return train(config_of(), tmp_path_factory.mktemp("runs") / "run", show_progress=False)


def balanced(row):
    return row["steps_taken"] == sum(row[name] for name in SUMS)


def process_of(worker):
    import ray

    return ray.get(worker.start_reference)[0]


def kill(worker):
    """SIGKILL; comes back when the process is gone."""
    process = process_of(worker)
    os.kill(process, signal.SIGKILL)
    while os.path.exists(f"/proc/{process}"):
        time.sleep(0.01)


def collect(training, updates=0):
    return training.actor.collect(5, policy_version=updates)


def test_every_step_of_a_run_is_accounted_for_in_its_rows_and_its_checkpoint(straight):
    rows = read_rows(straight.metrics)
    assert [row["frames"] for row in rows] == [FRAMES * n for n in range(1, UPDATES + 1)]
    assert all(balanced(row) for row in rows)
    assert [row["steps_used"] for row in rows] == [row["frames"] for row in rows]
    assert all(row["steps_dropped"] == row["steps_lost"] == 0 for row in rows)
    state = load_checkpoint(straight.checkpoint)["actor"]
    assert balanced(state)
    assert state["steps_used"] == UPDATES * FRAMES
    assert FRAMES <= state["steps_lost"] <= IN_FLIGHT * FRAMES  # begun when the run was over
    assert state["steps_under_way"] == 0


def test_weights_are_at_most_as_old_as_what_is_under_way(straight):
    rows = read_rows(straight.metrics)
    assert [row["policy_lag"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert [row["policy_lag_max"] for row in rows] == [0, 1, 1, 1, 1, 1]


def test_episodes_and_questions_come_with_the_unrolls(straight):
    rows = read_rows(straight.metrics)
    assert {row["episode_length"] for row in rows} - {None} == {7.0}
    assert sum(row["episodes"] for row in rows) >= 3
    assert any("probe/loss" in row for row in rows)
    assert not all("probe/loss" in row for row in rows)  # asked at every second update


def test_with_one_worker_the_same_configuration_gives_the_same_run(straight, config_of, tmp_path):
    again = train(config_of(), tmp_path / "again", show_progress=False)
    assert weights(again) == weights(straight)


def weights(run):
    agent = load_checkpoint(run.checkpoint)["learner"]["agent"]
    return {name: tensor.tolist() for name, tensor in agent.items()}


def test_the_first_unroll_is_that_of_the_loop_in_one_process(started, small_config):
    ours, theirs = collect(started()), collect(Training(small_config(), CPU))
    assert_same(ours._replace(questions=None), theirs)


def assert_same(one, other):
    """The same values, dtypes and devices, leaf by leaf."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, tuple):
        for ours, theirs in zip(one, other, strict=True):
            assert_same(ours, theirs)
    else:
        assert one == other


def test_two_workers_walk_in_environments_of_their_own_and_in_order_the_run_is_repeatable(
    config_of, tmp_path
):
    config = config_of(4, rollout={"workers": 2, "in_order": True})
    runs = [train(config, tmp_path / name, show_progress=False) for name in ("one", "other")]
    assert weights(runs[0]) == weights(runs[1])
    assert read_rows(runs[0].metrics)[-1]["policy_lag"] == 3  # 2 N - 1


def test_what_is_older_than_the_bound_is_dropped_and_counted(started):
    training = started(rollout={"max_lag": 1})
    assert collect(training, 0).policy_version == 0
    # The one other unroll under way is by now three updates old.
    unroll = collect(training, 3)
    assert unroll.policy_version == 3
    accounts = training.actor.accounts()
    assert balanced(accounts)
    assert (accounts["steps_used"], accounts["steps_dropped"]) == (2 * FRAMES, FRAMES)
    assert accounts["policy_lag_max"] == 0


def test_a_lag_of_the_bound_is_still_learned_from(started):
    training = started(rollout={"max_lag": 3})
    collect(training, 0)
    assert collect(training, 3).policy_version == 0
    assert training.actor.accounts()["policy_lag_max"] == 3


def test_weights_reach_the_workers(started):
    training = started(learner={"exploration": 0.0})
    before = collect(training, 0)
    with torch.no_grad():
        for weight in training.learner.agent.parameters():
            weight.zero_()
    collect(training, 1)
    after = collect(training, 1)
    # Of a network of zeros all actions are alike.
    assert not torch.allclose(before.behaviour_log_prob, before.behaviour_log_prob[0, 0])
    assert torch.equal(after.behaviour_log_prob.unique(), torch.tensor([0.25]).log())


def test_the_learner_knows_what_the_behaviour_policy_thought(started):
    """Unrolls of old weights keep the log-probabilities of the policy that acted."""
    training = started()
    unroll = collect(training, 0)
    output = training.learner.agent.unroll(unroll.rows, unroll.core_state)
    actions = unroll.rows.previous_action[1:]
    target = training.learner.agent.actions.log_probs(output.policy[:-1], actions)
    assert (target - unroll.behaviour_log_prob).exp().isfinite().all()
    with torch.no_grad():
        for weight in training.learner.agent.parameters():
            weight.zero_()
    stale = collect(training, 1)
    assert stale.policy_version == 0
    assert not torch.allclose(stale.behaviour_log_prob, torch.tensor(0.25).log())


def test_a_killed_worker_is_replaced_and_all_is_accounted_for(started, capsys):
    training = started(rollout={"max_failures": 1 + 1})
    for updates in range(2):
        collect(training, updates)
    worker = training.actor.workers[0]
    kill(worker)
    collected = [collect(training, updates) for updates in range(2, 6)]
    accounts = training.actor.accounts()
    assert balanced(accounts)
    assert accounts["steps_used"] == 6 * FRAMES
    assert accounts["steps_lost"] == accounts["workers_replaced"] * FRAMES == FRAMES
    assert worker.identity.incarnation == 1
    assert worker.failures == 0
    said = capsys.readouterr().err
    assert "rollout worker 0 (process " in said
    assert "died (ActorDiedError): replaced (1 of 2 in a row)" in said
    # The new one begins with fresh episodes.
    assert collected[-1].policy_version >= 2


def test_a_worker_that_keeps_dying_stops_the_run(started, monkeypatch):
    training = started(rollout={"max_failures": 2})
    working = Workers._ask_for_more

    def ask_and_kill(workers, version, ask):
        kill(workers.workers[0])
        working(workers, version, ask)

    monkeypatch.setattr(Workers, "_ask_for_more", ask_and_kill)
    with pytest.raises(UserError, match=r"rollout worker 0 .*died .*, 2 times in a row; expected"):
        collect(training)


def test_a_stalled_worker_is_named_and_replaced(started, capsys):
    training = started(rollout={"stalled_after": 8.0})
    collect(training, 0)
    collect(training, 1)
    process = process_of(training.actor.workers[0])
    os.kill(process, signal.SIGSTOP)
    training.actor.workers[0].since -= 8.0  # It has been silent for so long.
    while training.actor.replaced == 0:
        collect(training, 2)
    assert f"rollout worker 0 (process {process} on " in (said := capsys.readouterr().err)
    assert "gave no unroll for 8 s: replaced" in said
    assert balanced(training.actor.accounts())


FAULTY = """
import gymnasium, numpy, torch
from groundling.agents.config import AgentConfig

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

class Stubborn(Exception):
    def __init__(self, one, two):
        super().__init__(one)

class Sensor(torch.nn.Module):
    calls = 0

    def __init__(self, space, config: AgentConfig):
        super().__init__()
        self.size = 2
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, observation):
        self.calls += 1
        if self.calls > 6:
            raise self.error
        return self.layer(observation)

class Raises(Sensor):
    error = KeyError("lost")

class RaisesWhatCannotTravel(Sensor):
    error = Stubborn("lost", "found")
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Flags for a module of a user's own, in a folder that only this process looks into."""
    (tmp_path / "faulty_world.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    yield ["--env.id", "faulty_world:World", "--env.num-envs", "2", "--agent.core-size", "8"]
    sys.modules.pop("faulty_world", None)


def run_command(flags, run_dir):
    flags = [*flags, "--workers", "1", "--rollout.max-failures", "2", "--run-dir", str(run_dir)]
    main(["train", "any", *flags])


def test_a_faulty_environment_stops_the_run_after_so_many_failures_with_one_line(
    faulty, tmp_path, capsys
):
    with pytest.raises(SystemExit) as exit_:
        run_command([*faulty, "--env.options", "fault", "step"], tmp_path / "run")
    assert exit_.value.code == 2
    *before, line = capsys.readouterr().err.splitlines()
    assert line.startswith("groundling: environment faulty_world:World raised LookupError in step")
    assert "faulty_world.py:" in line
    assert any("replaced (1 of 2 in a row)" in one for one in before)


@pytest.mark.parametrize(
    ("sensor", "kind", "last"),
    [
        ("Raises", KeyError, "KeyError: 'lost'"),
        ("RaisesWhatCannotTravel", RuntimeError, "RuntimeError: Stubborn: lost"),
    ],
)
def test_an_exception_of_a_plug_in_comes_last_with_its_own_traceback(
    faulty, tmp_path, sensor, kind, last
):
    sensors = ["--agent.sensors", "observation", f"faulty_world:{sensor}"]
    with pytest.raises(kind) as raised:
        run_command([*faulty, *sensors], tmp_path / "run")
    told = "".join(traceback.format_exception(raised.value)).strip()
    assert told.endswith(last)
    assert "in a rollout worker" in told
    assert "raise self.error" in told


def test_more_workers_than_there_is_room_for_are_refused_before_anything_is_written(
    config_of, tmp_path
):
    config = config_of(rollout={"workers": 1000})
    started = time.monotonic()
    with pytest.raises(UserError, match=r"workers is 1000, which takes 1000 CPU; expected") as no:
        train(config, tmp_path / "run", show_progress=False)
    assert time.monotonic() - started < 30
    assert " CPU free)" in str(no.value)
    assert not RunDirectory(tmp_path / "run").config.exists()


def test_a_run_that_was_interrupted_goes_on_with_new_workers_and_the_same_accounts(
    config_of, tmp_path
):
    run = train(config_of(3), tmp_path / "run", show_progress=False)
    before = load_checkpoint(run.checkpoint)["actor"]
    train(config_of(5), run.path, show_progress=False)
    after = load_checkpoint(run.checkpoint)["actor"]
    assert (before["incarnations"], after["incarnations"]) == ([0], [1])
    assert balanced(after)
    assert after["steps_used"] == 5 * FRAMES
    assert after["steps_lost"] > before["steps_lost"]
    assert all(balanced(row) for row in read_rows(run.metrics))


def test_what_was_under_way_when_a_process_died_is_lost(config_of):
    state = {"steps_taken": 30, "steps_used": 30, "steps_dropped": 0, "steps_lost": 0}
    state |= {"steps_under_way": 2 * FRAMES, "workers_replaced": 1, "incarnations": [3]}
    training = Training(config_of(), CPU)
    training.actor.load_state_dict(state)
    accounts = training.actor.accounts()
    assert balanced(accounts)
    assert (accounts["steps_taken"], accounts["steps_lost"]) == (60, 30)
    assert training.actor.workers[0].identity.incarnation == 4


def test_a_finished_run_starts_no_workers(straight, config_of, monkeypatch):
    monkeypatch.setattr(Workers, "start", lambda workers: pytest.fail("started"))
    before = load_checkpoint(straight.checkpoint)["actor"]
    train(config_of(), straight.path, show_progress=False)
    after = load_checkpoint(straight.checkpoint)["actor"]
    assert after["steps_taken"] == before["steps_taken"]


def test_another_number_of_workers_is_another_configuration(straight, config_of):
    with pytest.raises(UserError, match="rollout.workers: 1 → 2"):
        train(config_of(rollout={"workers": 2}), straight.path, show_progress=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_two_workers_share_a_gpu(config_of, tmp_path):
    rollout = {"workers": 2, "device": "cuda", "num_gpus": 0.25}
    config = dataclasses.replace(config_of(8, rollout=rollout), device="cuda")
    rows = read_rows(train(config, tmp_path / "run", show_progress=False).metrics)
    assert rows[-1]["frames"] == 8 * FRAMES
    assert all(balanced(row) for row in rows)
    print(f"{rows[-1]['frames_per_second']:,.0f} frames/s")
