"""Checkpoints are whole or refused, and reading one executes nothing."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from groundling.envs.errors import UserError
from groundling.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

STATE = {
    "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])},
    "world": torch.zeros(3, dtype=torch.int16),
    "generator": torch.Generator().manual_seed(3).get_state(),
    "questions": np.random.default_rng(1).bit_generator.state,  # has integers of 128 bits
    "list": [1, 2.5, "three", None, True],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "latest.pt"


def saved(path):
    save_checkpoint(path, STATE)
    return path.read_bytes()


def test_what_was_saved_comes_back(path):
    saved(path)
    loaded = load_checkpoint(path)
    assert loaded["packages"]["torch"] == torch.__version__
    for name in ("weights", "world", "generator"):
        torch.testing.assert_close(loaded[name], STATE[name], rtol=0, atol=0)
    assert loaded["questions"] == STATE["questions"]
    assert loaded["list"] == STATE["list"]
    assert os.listdir(path.parent) == ["latest.pt"]


def refuse(path):
    """The one line with which the file is refused."""
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(path)
    message = str(refusal.value)
    assert isinstance(refusal.value, UserError)
    assert "\n" not in message
    assert str(path) in message
    assert "expected a file that `groundling train` wrote" in message
    return message


def test_a_file_cut_short_anywhere_is_refused(path):
    whole = saved(path)
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert "cannot be read" in refuse(path)


@given(st.binary(max_size=300))
@example(b"\x80\x02.")
@example(b"PK\x03\x04")
@example(b"(lp0\n")
@example(pickle.dumps({"format": 1}))
@settings(max_examples=200)
def test_any_other_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "latest.pt"
    path.write_bytes(content)
    refuse(path)


def flipped(whole, position):
    return whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]


def test_a_damaged_file_is_refused_or_at_least_breaks_nothing(path):
    whole = saved(path)
    for position in range(0, len(whole), 61):
        path.write_bytes(flipped(whole, position))
        try:
            load_checkpoint(path)
        except CheckpointError:
            refuse(path)


class Evil:
    """Unpickling this makes a directory."""

    def __init__(self, directory):
        self.directory = directory

    def __reduce__(self):
        return os.mkdir, (str(self.directory),)


@pytest.mark.parametrize("form", ["pickle", "legacy", "zip"])
def test_a_pickle_that_would_run_code_does_not_run_it(path, tmp_path, form):
    trap = tmp_path / "sprung"
    content = {"format": "groundling checkpoint 1", "learner": Evil(trap)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    refuse(path)
    assert not trap.exists()
    unwary = {"pickle": pickle.loads, "legacy": unpickle, "zip": unpickle}[form]
    unwary(path.read_bytes())  # the trap is a real one
    assert trap.exists()


def unpickle(content):
    return torch.load(io.BytesIO(content), weights_only=False)


@pytest.mark.parametrize(
    "content",
    [{"learner": {}}, {"format": "groundling checkpoint 99"}, [1, 2], torch.zeros(3)],
    ids=["no format", "another format", "a list", "a tensor"],
)
def test_a_file_of_torch_that_is_no_checkpoint_is_refused(path, content):
    torch.save(content, path)
    assert "is something else" in refuse(path)


def test_an_ordinary_archive_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    refuse(path)


@pytest.mark.parametrize("failing", ["torch.save", "os.fsync", "os.replace"])
def test_a_failure_while_writing_leaves_the_old_checkpoint(path, monkeypatch, failing):
    whole = saved(path)

    def fail(*arguments):
        if failing == "torch.save":
            arguments[1].write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(path, {"other": 1})
    assert path.read_bytes() == whole
    save_checkpoint(path, {"other": 1})  # whatever was left behind is in nobody's way
    assert load_checkpoint(path)["other"] == 1


def test_a_missing_file_is_the_callers_affair(path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(path)
