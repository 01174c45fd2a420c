"""What a run writes down about itself."""

import json
import sys
from types import SimpleNamespace

import pytest

from groundling.envs.errors import UserError
from groundling.training.metrics import (
    Measured,
    Window,
    discard_after,
    make_trackers,
    read_rows,
    write_row,
)


def test_a_window_gives_weighted_means_and_is_empty_afterwards():
    window = Window()
    window.add({"accuracy": Measured(1.0, 1), "loss": Measured(3.0)})
    window.add({"accuracy": Measured(0.2, 3)})
    assert window.take() == {"accuracy": pytest.approx(0.4), "loss": 3.0}
    assert window.take() == {}
    window.add({"loss": Measured(5.0)})
    assert window.take() == {"loss": 5.0}


def test_rows_are_appended_one_object_to_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    write_row(path, {"updates": 1, "loss": 0.5})
    write_row(path, {"updates": 2, "loss": None})
    assert [json.loads(line) for line in path.read_text().splitlines()] == read_rows(path)
    assert read_rows(path) == [{"updates": 1, "loss": 0.5}, {"updates": 2, "loss": None}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_have_becomes_null(tmp_path, value):
    write_row(tmp_path / "metrics.jsonl", {"updates": 1, "loss": value})
    assert read_rows(tmp_path / "metrics.jsonl") == [{"updates": 1, "loss": None}]


def write_rows(path, updates):
    for number in updates:
        write_row(path, {"updates": number})


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_rows(path, [1, 2])
    path.write_text(path.read_text()[:-4])
    assert read_rows(path) == [{"updates": 1}]
    assert discard_after(path, 1) == 0
    write_rows(path, [2])
    assert read_rows(path) == [{"updates": 1}, {"updates": 2}]


def test_rows_past_a_checkpoint_are_moved_and_not_lost(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_rows(path, [1, 2, 3, 4])
    assert discard_after(path, 2) == 2
    assert read_rows(path) == [{"updates": 1}, {"updates": 2}]
    write_rows(path, [3])
    assert discard_after(path, 2) == 1
    discarded = read_rows(tmp_path / "metrics.discarded.jsonl")
    assert discarded == [{"updates": 3}, {"updates": 4}, {"updates": 3}]


def test_nothing_to_discard_leaves_no_file_behind(tmp_path):
    assert discard_after(tmp_path / "metrics.jsonl", 0) == 0
    assert list(tmp_path.iterdir()) == []


def test_weights_and_biases_gets_every_row_and_is_closed(tmp_path, monkeypatch):
    seen = []
    run = SimpleNamespace(log=seen.append, finish=lambda: seen.append("closed"))
    fake = SimpleNamespace(init=lambda **arguments: seen.append(arguments["config"]) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    (tracker,) = make_trackers(("wandb",), tmp_path, {"seed": 0})
    tracker.log({"updates": 1})
    tracker.close()
    assert seen == [{"seed": 0}, {"updates": 1}, "closed"]


def test_a_tracker_whose_package_is_missing_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"track wandb .* pip install 'groundling\[wandb\]'"):
        make_trackers(("wandb",), tmp_path, {})
