"""A run can be stopped anyhow and goes on exactly where it was: bitwise, on the CPU."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from groundling.agents.config import PredictionConfig
from groundling.training import learner as learner_module
from groundling.training.checkpoint import CheckpointError, load_checkpoint
from groundling.training.config import to_json
from groundling.training.learner import NonFiniteLoss
from groundling.training.loop import Interrupted, Training, computing, train
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory

UPDATES = 8
FRAMES_PER_UPDATE = 15  # 3 environments × 5 steps
NEVER, ALWAYS = 1e9, 0.0  # seconds between checkpoints


@pytest.fixture(scope="module")
def config_of(small_config):
    """The configuration of a run of so many updates; it asks its probe at every second one."""

    def make(updates=UPDATES, **fields):
        frames = updates * FRAMES_PER_UPDATE
        # With this seed two of the three first episodes begin midway.
        return small_config(**({"seed": 2, "frames": frames, "save_every": NEVER} | fields))

    return make


@pytest.fixture(scope="module")
def straight(config_of, tmp_path_factory):
    """A run that nothing stopped."""
    return train(config_of(), tmp_path_factory.mktemp("runs") / "straight", show_progress=False)


def tiny():
    """Below the smallest number of full precision, unless such are flushed to 0."""
    return torch.tensor([1e-38]).mul(0.1).item()


@pytest.mark.parametrize("flushed", [False, True])
def test_threads_and_tiny_numbers_are_left_as_they_were_found(config_of, flushed):
    threads = torch.get_num_threads()
    torch.set_flush_denormal(flushed)
    try:
        with computing(config_of(threads=threads + 1)):
            assert torch.get_num_threads() == threads + 1
            assert tiny() == 0.0
        assert torch.get_num_threads() == threads
        assert (tiny() == 0.0) == flushed
    finally:
        torch.set_flush_denormal(False)


def leaves(value, name=""):
    """Everything in a checkpoint by its path, but for clocks and what only says where it ran."""
    if isinstance(value, dict):
        return {
            path: leaf
            for key, one in value.items()
            if (name, key) not in {("", "seconds"), ("", "packages"), ("", "config")}
            for path, leaf in leaves(one, f"{name}/{key}").items()
        }
    if isinstance(value, list | tuple):
        return leaves(dict(enumerate(value)), name)
    return {name: value}


def assert_same_run(one, other):
    """Bitwise the same weights, moments, generators, worlds and rows of metrics."""
    ours, theirs = (leaves(load_checkpoint(run.checkpoint)) for run in (one, other))
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        same = torch.equal(leaf, theirs[name]) if torch.is_tensor(leaf) else leaf == theirs[name]
        assert same, name
    assert rows_of(one) == rows_of(other)


def rows_of(run):
    clocks = {"seconds", "frames_per_second"}
    return [
        {name: value for name, value in row.items() if name not in clocks}
        for row in read_rows(run.metrics)
    ]


def updates_in(path):
    return [row["updates"] for row in read_rows(path)]


def at(monkeypatch, updates, happening):
    """Lets something happen after so many updates of any run."""
    working = Training._update

    def update(training, window):
        working(training, window)
        if training.learner.updates == updates:
            happening(training)

    monkeypatch.setattr(Training, "_update", update)


def save_at(monkeypatch, run_dir, updates):
    at(monkeypatch, updates, lambda training: training.save(RunDirectory(run_dir)))


class Crash(Exception):
    """The power went out."""


def crash(training):
    raise Crash


def test_a_run_leaves_what_it_promises(straight, config_of):
    assert straight.read_config() == config_of()
    about = json.loads(straight.config.read_text())
    assert about["packages"]["torch"] == torch.__version__
    assert about["command"]
    rows = read_rows(straight.metrics)
    assert [row["updates"] for row in rows] == list(range(1, UPDATES + 1))
    assert [row["frames"] for row in rows] == [15 * n for n in range(1, UPDATES + 1)]
    state = load_checkpoint(straight.checkpoint)
    assert state["frames"] == UPDATES * FRAMES_PER_UPDATE
    assert state["learner"]["updates"] == UPDATES


def test_rows_of_metrics_say_what_a_person_wants_to_know(straight):
    row = read_rows(straight.metrics)[-2]  # the probe is asked at every second update
    expected = {"seconds", "frames_per_second", "episodes", "episode_return", "episode_length"}
    expected |= {"weight_norm", "gradient_norm", "entropy", "explained_variance", "policy_lag"}
    expected |= {"loss/policy", "loss/baseline", "loss/entropy", "probe/loss"}
    assert expected <= row.keys()
    lengths = [one["episode_length"] for one in read_rows(straight.metrics)]
    assert {length for length in lengths if length is not None} == {7.0}  # none begun midway


def test_the_same_configuration_gives_the_same_run(straight, config_of, tmp_path):
    again = train(config_of(), tmp_path / "again", show_progress=False)
    assert_same_run(again, straight)


def test_another_seed_gives_another_run(straight, config_of, tmp_path):
    other = train(config_of(seed=1), tmp_path / "other", show_progress=False)
    assert rows_of(other) != rows_of(straight)


@pytest.mark.parametrize("half", [3, 4])  # the probe was just asked, or is to be
def test_a_run_in_two_halves_is_the_whole_run(straight, config_of, tmp_path, half):
    run = train(config_of(half), tmp_path / "run", show_progress=False)
    assert updates_in(run.metrics) == list(range(1, half + 1))
    torch.manual_seed(999)  # another process would have another generator
    train(config_of(), tmp_path / "run", show_progress=False)
    assert_same_run(run, straight)


@pytest.mark.parametrize("loss", ["simcore", "cpc"])
def test_what_a_run_predicts_goes_on_exactly_too(config_of, small_agent, tmp_path, loss):
    prediction = PredictionConfig(loss=loss, starts=3, horizons=2, frames_per_horizon=45)
    agent = dataclasses.replace(small_agent, prediction=prediction)
    straight = train(config_of(6, agent=agent), tmp_path / "straight", show_progress=False)
    run = train(config_of(3, agent=agent), tmp_path / "run", show_progress=False)
    train(config_of(6, agent=agent), run.path, show_progress=False)
    assert_same_run(run, straight)


def test_a_finished_run_stays_as_it_is(straight, config_of, tmp_path):
    run = train(config_of(), tmp_path / "run", show_progress=False)
    train(config_of(), tmp_path / "run", show_progress=False)
    assert_same_run(run, straight)


def test_a_run_that_is_out_of_time_is_over_and_goes_on_exactly_with_more(
    straight, config_of, tmp_path
):
    short = train(config_of(max_minutes=1e-9), tmp_path / "run", show_progress=False)
    assert load_checkpoint(short.checkpoint)["learner"]["updates"] == 1
    again = train(config_of(max_minutes=1e-9), tmp_path / "run", show_progress=False)
    assert load_checkpoint(again.checkpoint)["learner"]["updates"] == 1
    assert_same_run(straight, train(config_of(max_minutes=60.0), tmp_path / "run"))


def test_a_crash_goes_on_from_the_last_checkpoint_and_sets_later_rows_aside(
    straight, config_of, tmp_path, monkeypatch
):
    run = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch:
        save_at(patch, run.path, 3)
        at(patch, 6, crash)
        with pytest.raises(Crash):
            train(config_of(), run.path, show_progress=False)
    assert updates_in(run.metrics) == [1, 2, 3, 4, 5]
    train(config_of(), run.path, show_progress=False)
    assert_same_run(run, straight)
    assert updates_in(run.path / "metrics.discarded.jsonl") == [4, 5]


def test_a_crash_before_the_first_checkpoint_starts_again_and_counts_nothing_twice(
    straight, config_of, tmp_path, monkeypatch
):
    run = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch:
        at(patch, 4, crash)
        with pytest.raises(Crash):
            train(config_of(), run.path, show_progress=False)
    train(config_of(), run.path, show_progress=False)
    assert_same_run(run, straight)
    assert updates_in(run.path / "metrics.discarded.jsonl") == [1, 2, 3]


def test_checkpoints_are_written_as_often_as_configured(config_of, tmp_path, monkeypatch):
    saved = []
    working = Training.save
    monkeypatch.setattr(
        Training,
        "save",
        lambda training, run: (saved.append(training.learner.updates), working(training, run)),
    )
    train(config_of(3, save_every=ALWAYS), tmp_path / "often", show_progress=False)
    assert saved == [1, 2, 3, 3]
    saved.clear()
    train(config_of(3), tmp_path / "once", show_progress=False)
    assert saved == [3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first_and_the_run_goes_on_exactly(
    straight, config_of, tmp_path, monkeypatch, number
):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at(patch, 5, lambda training: signal.raise_signal(number))
        with pytest.raises(Interrupted, match="stopped at 75 frames and saved"):
            train(config_of(), tmp_path / "run", show_progress=False)
    assert signal.getsignal(number) is before
    run = RunDirectory(tmp_path / "run")
    assert load_checkpoint(run.checkpoint)["learner"]["updates"] == 5
    train(config_of(), run.path, show_progress=False)
    assert_same_run(run, straight)


def test_a_second_ctrl_c_stops_at_once(config_of, tmp_path, monkeypatch):
    def twice(training):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    # Whoever runs the tests in the background may ignore Ctrl-C.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    at(monkeypatch, 3, twice)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(config_of(), tmp_path / "run", show_progress=False)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)
    assert not RunDirectory(tmp_path / "run").checkpoint.exists()


def test_signals_are_as_they_were_after_a_run(config_of, tmp_path):
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    train(config_of(1), tmp_path / "run", show_progress=False)
    assert [signal.getsignal(number) for number in numbers] == before


def test_training_runs_outside_the_main_thread(straight, config_of, tmp_path):
    thread = threading.Thread(
        target=train, args=(config_of(), tmp_path / "run"), kwargs={"show_progress": False}
    )
    thread.start()
    thread.join()
    assert_same_run(RunDirectory(tmp_path / "run"), straight)


def test_a_loss_that_is_nan_leaves_the_last_checkpoint_good(
    straight, config_of, tmp_path, monkeypatch
):
    config, run = config_of(save_every=ALWAYS), RunDirectory(tmp_path / "run")
    working = learner_module.baseline_loss

    def poison(training):
        patch.setattr(learner_module, "baseline_loss", lambda *a: working(*a) * float("nan"))

    with monkeypatch.context() as patch:
        at(patch, 4, poison)
        with pytest.raises(NonFiniteLoss, match="loss 'baseline' is nan at update 4"):
            train(config, run.path, show_progress=False)
    assert load_checkpoint(run.checkpoint)["learner"]["updates"] == 4
    train(config, run.path, show_progress=False)
    assert_same_run(run, straight)


def test_a_damaged_checkpoint_is_refused_and_nothing_is_overwritten(config_of, tmp_path):
    run = train(config_of(2), tmp_path / "run", show_progress=False)
    whole = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(whole[: len(whole) // 2])
    before = contents(run.path)
    with pytest.raises(CheckpointError, match=r"latest.pt cannot be read"):
        train(config_of(4, log_every=2), run.path, show_progress=False)
    assert contents(run.path) == before


def test_a_checkpoint_of_another_agent_is_refused_and_nothing_is_overwritten(
    straight, config_of, tmp_path
):
    other = config_of(probe={"online": False})
    run = train(other, tmp_path / "run", show_progress=False)
    run.checkpoint.write_bytes(straight.checkpoint.read_bytes())
    damaged = torch.load(run.checkpoint, weights_only=True)
    del damaged["learner"]["agent"]["policy.1.weight"]
    torch.save(damaged, run.checkpoint)
    before = contents(run.path)
    with pytest.raises(CheckpointError, match=r"does not fit this configuration"):
        train(other, run.path, show_progress=False)
    assert contents(run.path) == before


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


CHILD = """
import json, os, signal, sys
import torch
from groundling.training.config import from_json
from groundling.training.loop import Interrupted, Training, train

run_dir, config, *numbers = sys.argv[1:]
save_at, kill_at, global_seed = map(int, numbers)
torch.manual_seed(global_seed)
working = Training.save

def save(training, run):
    updates = training.learner.updates
    if not kill_at or updates == save_at:
        working(training, run)
    if updates == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

Training.save = save
try:
    train(from_json(json.loads(config)), run_dir, show_progress=False)
except Interrupted as stop:
    sys.exit(str(stop))
"""


def start(config, run_dir, save_at=0, kill_at=0, global_seed=0):
    arguments = [run_dir, json.dumps(to_json(config)), save_at, kill_at, global_seed]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.slow
def test_a_killed_process_goes_on_exactly(config_of, tmp_path):
    """2N updates are N, SIGKILL right after a checkpoint, resume, N."""
    config, half = config_of(save_every=ALWAYS), UPDATES // 2
    straight, run = RunDirectory(tmp_path / "straight"), RunDirectory(tmp_path / "run")
    assert finish(start(config, straight.path)) == (0, "")
    code, errors = finish(start(config, run.path, save_at=half, kill_at=half))
    assert code == -signal.SIGKILL, errors
    assert load_checkpoint(run.checkpoint)["learner"]["updates"] == half
    assert finish(start(config, run.path, global_seed=9)) == (0, "")
    assert_same_run(run, straight)


@pytest.mark.slow
def test_ctrl_c_at_any_moment_saves_first(config_of, tmp_path):
    run = RunDirectory(tmp_path / "run")
    process = start(config_of(10**6), run.path)
    deadline = time.monotonic() + 120
    while len(updates_in(run.metrics)) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, errors = finish(process)
    assert code == 1, errors
    assert "and saved" in errors
    stopped = load_checkpoint(run.checkpoint)["learner"]["updates"]
    assert updates_in(run.metrics)[-1] == stopped >= 3
    train(config_of(stopped + 3), run.path, show_progress=False)
    straight = train(config_of(stopped + 3), tmp_path / "straight", show_progress=False)
    assert_same_run(run, straight)
