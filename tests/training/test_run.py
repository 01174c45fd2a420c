"""The run directory: whose it is, what may be written there, and what comes out of it."""

import dataclasses
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from groundling.envs.errors import UserError
from groundling.training.checkpoint import CheckpointError, load_checkpoint
from groundling.training.config import to_json
from groundling.training.loop import Training, train
from groundling.training.run import (
    RunDirectory,
    load_agent,
    make_agent,
    resolve_device,
    write_text,
)

CPU = torch.device("cpu")


@pytest.fixture
def config(small_config):
    return small_config(frames=30)


@pytest.fixture
def run(config, tmp_path):
    """The directory of a run that was opened and not begun."""
    run = RunDirectory(tmp_path / "run")
    run.open_for(config)
    return run


@pytest.fixture(scope="module")
def trained(small_config, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "trained"
    return train(small_config(frames=30), directory, show_progress=False)


def contents(directory):
    return {path: path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}


def refusal(action):
    with pytest.raises(UserError) as refused:
        action()
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_looking_at_a_run_directory_touches_nothing(config, tmp_path):
    run = RunDirectory(tmp_path / "new")
    run.check(config)
    assert list(tmp_path.iterdir()) == []


def test_a_new_directory_says_what_runs_in_it(run, config, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/groundling", "train", "demo"])
    run.open_for(config)
    about = json.loads(run.config.read_text())
    assert about["config"] == json.loads(json.dumps(to_json(config)))
    assert about["command"] == ["groundling", "train", "demo"]
    assert {"python", "torch", "gymnasium", "numpy", "groundling"} <= about["packages"].keys()
    assert run.read_config() == config
    run.check(config)


def test_an_empty_directory_will_do(config, tmp_path):
    RunDirectory(tmp_path).check(config)
    RunDirectory(tmp_path).open_for(config)
    assert RunDirectory(tmp_path).read_config() == config


def test_another_configuration_is_refused_and_nothing_is_overwritten(trained, small_config):
    before = contents(trained.path)
    other = small_config(frames=30, learner={"discount": 0.5})
    message = refusal(lambda: train(other, trained.path, show_progress=False))
    assert "made with another configuration (learner.discount: 0.97 → 0.5)" in message
    assert "another --run-dir" in message
    assert contents(trained.path) == before


def test_what_may_change_is_written_down_anew(run, config):
    longer = dataclasses.replace(config, frames=60, log_every=2)
    run.check(longer)
    run.open_for(longer)
    assert run.read_config() == longer


def test_a_directory_of_somebody_else_is_refused_and_left_alone(config, tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    before = contents(tmp_path)
    message = refusal(lambda: train(config, tmp_path, show_progress=False))
    assert "holds other files; expected a new or an empty directory" in message
    assert contents(tmp_path) == before


def test_two_trainings_do_not_share_a_directory(config, tmp_path, monkeypatch):
    path, refusals = tmp_path / "run", []
    working = Training._update

    def update(training, window):
        working(training, window)
        monkeypatch.setattr(Training, "_update", working)
        before = contents(path)
        refusals.append(refusal(lambda: train(config, path, show_progress=False)))
        assert contents(path) == before

    monkeypatch.setattr(Training, "_update", update)
    # A forgotten lock would otherwise be given back by whoever collects the garbage.
    monkeypatch.setattr(FileLock, "__del__", lambda lock: None)
    train(config, path, show_progress=False)
    assert len(refusals) == 1
    assert "is in use by another `groundling train`; expected it to be over" in refusals[0]
    train(config, path, show_progress=False)  # The lock was given back.


def test_a_run_that_another_training_finished_a_moment_ago_is_over(config, tmp_path, monkeypatch):
    path, working, updates = tmp_path / "run", RunDirectory.locked, []

    @contextmanager
    def locked(run):
        monkeypatch.setattr(RunDirectory, "locked", working)
        train(config, path, show_progress=False)
        monkeypatch.setattr(Training, "_update", lambda *arguments: updates.append(arguments))
        with working(run):
            yield

    monkeypatch.setattr(RunDirectory, "locked", locked)
    train(config, path, show_progress=False)
    assert not updates


def test_a_lock_alone_is_no_run_of_somebody_else(config, tmp_path):
    with RunDirectory(tmp_path).locked():
        assert contents(tmp_path)
        RunDirectory(tmp_path).check(config)


def test_what_was_locked_and_never_written_to_is_left_as_it_was(config, tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    for path in (new, old):
        with pytest.raises(KeyError), RunDirectory(path).locked():
            raise KeyError
    assert list(tmp_path.iterdir()) == [old]
    assert list(old.iterdir()) == []
    with RunDirectory(new).locked():
        RunDirectory(new).open_for(config)
    assert RunDirectory(new).lock.exists()


def directories_nobody_can_make(tmp_path):
    file = tmp_path / "file"
    file.write_text("a file")
    return {"under a file": file / "run", "is a file": file, "in /proc": Path("/proc/groundling")}


@pytest.mark.parametrize("kind", ["under a file", "is a file", "in /proc"])
def test_a_directory_that_cannot_be_written_is_refused(config, tmp_path, kind):
    path = directories_nobody_can_make(tmp_path)[kind]
    message = refusal(lambda: train(config, path, show_progress=False))
    assert f"run-dir {path} cannot be written (" in message
    assert "expected a directory you may write to" in message
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize("failing", ["mkdir", "write_bytes"])
def test_a_read_only_run_directory_is_refused(config, tmp_path, monkeypatch, failing):
    def refuse(*arguments, **keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, failing, refuse)
    message = refusal(lambda: RunDirectory(tmp_path / "run").open_for(config))
    assert "cannot be written (Permission denied)" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "is damaged"),
        (b"\xff\xfe{}", "is damaged"),
        (b"[1]", "the configuration is [1]; expected an object"),
        (b'{"config": {"sede": 1}}', "unknown field sede; did you mean seed?"),
    ],
)
def test_a_damaged_configuration_is_refused_and_left_alone(run, config, content, expected):
    run.config.write_bytes(content)
    assert expected in refusal(lambda: run.check(config))
    assert expected in refusal(lambda: train(config, run.path, show_progress=False))
    assert run.config.read_bytes() == content


def test_a_directory_that_is_no_run_is_no_run(tmp_path):
    assert "is no run" in refusal(lambda: RunDirectory(tmp_path).read_config())
    assert "is no run" in refusal(lambda: load_agent(tmp_path / "nowhere"))


def test_text_is_never_half_written(tmp_path, monkeypatch):
    path = tmp_path / "text"
    write_text(path, "old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_a_loaded_agent_is_the_trained_one_and_frozen(trained, small_config):
    agent, config = load_agent(trained.path)
    assert config == small_config(frames=30)
    stored = load_checkpoint(trained.checkpoint)["learner"]["agent"]
    assert agent.state_dict().keys() == stored.keys()
    assert all(torch.equal(agent.state_dict()[name], stored[name]) for name in stored)
    assert not any(weight.requires_grad for weight in agent.parameters())
    assert not agent.training


def test_the_untrained_control_is_the_agent_before_its_first_update(trained):
    fresh, config = load_agent(trained.path, untrained=True)
    before = make_agent(config, CPU).state_dict()
    assert all(torch.equal(fresh.state_dict()[name], before[name]) for name in before)
    agent, _ = load_agent(trained.path)
    assert any((agent.state_dict()[name] != before[name]).any() for name in before)


def test_an_agent_that_was_never_saved_cannot_be_loaded(run):
    assert "expected a run that was trained" in refusal(lambda: load_agent(run.path))


def test_a_checkpoint_that_does_not_fit_its_configuration_is_refused(
    trained, small_config, small_agent, tmp_path
):
    other = RunDirectory(tmp_path / "run")
    wider = dataclasses.replace(small_agent, core_size=9)
    other.open_for(small_config(frames=30, agent=wider))
    other.checkpoint.write_bytes(trained.checkpoint.read_bytes())
    with pytest.raises(CheckpointError, match="does not fit the configuration beside it"):
        load_agent(other.path)


@pytest.mark.parametrize("name", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_made(config, tmp_path, name):
    elsewhere = dataclasses.replace(config, device=name)
    message = refusal(lambda: train(elsewhere, tmp_path / "run", show_progress=False))
    assert message.startswith(f"device {name!r} is not there; expected one of cpu")
    assert list(tmp_path.iterdir()) == []


def test_the_processor_is_always_there():
    assert resolve_device("cpu") == CPU
