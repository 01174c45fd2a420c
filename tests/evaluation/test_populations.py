"""Who went on from whom, told and drawn."""

import importlib.util
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from groundling.evaluation.populations import NEEDED, gather, table, write_page
from groundling.training.population import Population
from groundling.training.presets import preset

RATE = "learner.learning_rate"
WITH_TUNE = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="needs Ray Tune: pip install 'groundling[tune]'",
)
SMALL = ["--frames", "120", "--log-every", "1", "--env.num-envs", "3", "--env.rooms.size", "3"]
SMALL += ["--env.rooms.episode-length", "4", "--learner.unroll-length", "5"]
SMALL += ["--agent.core-size", "8"]


@pytest.fixture
def population(tmp_path: Path) -> Population:
    """Three members: 2 took over from 0 after the first round, 1 from 2 after the second."""
    config = preset("know-small-none")
    made = Population(config, tmp_path, 3, 1_000_000, (RATE,))
    scores = [[1.0, 2.0, 3.0, 9.0], [0.5, 0.4, 4.0], [0.1, 2.5, None]]
    parents = [[0, 0, 0, 0], [1, 1, 2], [2, 0, 2]]
    for member, earned, begun in zip(made.members, scores, parents, strict=True):
        member.run.path.mkdir()
        rows = [
            {"round": at, "frames": 1_000_000 * (at + 1), "score": score, "parent": parent}
            | {RATE: 1e-3 * (member.number + 1)}
            for at, (score, parent) in enumerate(zip(earned, begun, strict=True))
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (member.run.path / "lineage.jsonl").write_text(lines)
    return made


def test_the_best_ones_line_goes_back_through_whom_it_took_over_from(population) -> None:
    found = gather(population)
    assert [len(member["rounds"]) for member in found["members"]] == [3, 3, 3]
    assert found["best"] == 1
    assert found["ancestry"] == [0, 2, 1]


def test_the_table_and_the_page_tell_it(population, tmp_path: Path) -> None:
    found = gather(population)
    header, *rows = table(found)
    assert header == ["member", "score", "took over", "learning rate"]
    assert rows == [
        ["0", "3.00", "–", "0.001"],
        ["1 (best)", "4.00", "2 (round 3)", "0.002"],
        ["2", "diverged", "0 (round 2)", "0.003"],
    ]
    page = write_page(tmp_path, "groundling sweep know-small-none", found).read_text()
    assert "0 → 2 → 1" in page
    assert f"groundling probe {tmp_path / 'member-1'}" in page
    assert json.loads((tmp_path / "results.json").read_text()) == found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--population", "1"], "--population is 1; expected at least 2"),
        (["--population", "2", "--grid", "learner.discount=0.9"], "--grid is given; expected no"),
        (["--population", "2", "--seeds", "5"], "--seeds is given; expected no --population"),
        (["--mutate", "learner.learning-rate"], "--mutate is given; expected --population N"),
        (["--perturb-every", "9"], "--perturb-every is given; expected --population N"),
        (["--population", "2", "--mutate", "learner.learnin-rate"], "did you mean learner.learn"),
        (["--population", "2", "--perturb-every", "9"], "--perturb-every is 9 frames; expected"),
    ],
)
def test_mistakes_are_named(flags, expected, capsys, monkeypatch, tmp_path: Path, ended) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended("sweep", "demo", *flags) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_ray_tune_the_extra_is_named(capsys, monkeypatch, tmp_path: Path, ended) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pandas" else find(name)
    )
    where = ["--directory", str(tmp_path / "population")]
    assert ended("sweep", "know-small-none", "--population", "2", *where) == 2
    assert "(pandas); expected pip install 'groundling[tune]' first" in capsys.readouterr().err


@pytest.mark.slow
@WITH_TUNE
@pytest.mark.usefixtures("ray_cluster")
def test_a_population_goes_on_from_its_best_and_leaves_runs_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ended
) -> None:
    where = ["--directory", str(tmp_path / "population")]
    command = ["sweep", "know-small-none", "--population", "2", "--perturb-every", "30", *where]
    assert ended(*command, *SMALL) == 0
    assert "best: " in capsys.readouterr().out
    results = json.loads((tmp_path / "population" / "results.json").read_text())
    assert [len(member["rounds"]) for member in results["members"]] == [4, 4]
    taken = [
        (row, member["rounds"][at - 1], results["members"][row["parent"]]["rounds"][at - 1])
        for member in results["members"]
        for at, row in enumerate(member["rounds"])
        if row["parent"] != member["member"]
    ]
    assert len(taken) == 3, "after each round but the last the worse one went on from the better"
    for row, own, theirs in taken:
        assert theirs["score"] >= own["score"]
        assert row[RATE] != theirs[RATE]
    best = results["members"][results["best"]]["path"]
    assert ended("evaluate", best, "--episodes", "8") == 0
    assert ended(*command, *SMALL) == 0, "there is nothing left to do"
    assert ended(*command, *SMALL, "--seed", "3") == 2


@pytest.mark.slow
@WITH_TUNE
@pytest.mark.usefixtures("ray_cluster")
def test_ctrl_c_has_the_members_save(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ended, interrupted_when
) -> None:
    directory = tmp_path / "population"
    long = ["--frames", "100000000", "--perturb-every", "50000000", "--save-every", "1e9"]
    words = ["--population", "2", "--directory", str(directory), *SMALL, *long]
    with interrupted_when(lambda: list(directory.glob("member-*/metrics.jsonl"))):
        assert ended("sweep", "know-small-none", *words) == 130
    assert "stopped; the same command goes on" in capsys.readouterr().err
    walked = [run.parent for run in directory.glob("member-*/metrics.jsonl")]
    assert walked
    assert all((run / "checkpoints" / "latest.pt").exists() for run in walked)
    assert not (directory / "tune").exists()


@pytest.mark.slow
@WITH_TUNE
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("ray_cluster")
def test_a_member_that_dies_ends_the_population_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ended
) -> None:
    """The others would wait for it at the end of the round, for ever."""
    directory = tmp_path / "population"

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not list(directory.glob("member-*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.1)
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            if entry.read_bytes().startswith(b"ray::ResourceTrainable"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
                return

    long = ["--frames", "100000000", "--perturb-every", "50000000"]
    killer = threading.Thread(target=kill)
    killer.start()
    words = ["--population", "2", "--directory", str(directory), *SMALL, *long]
    assert ended("sweep", "know-small-none", *words) == 1
    killer.join()
    assert re.search(r"member-\d failed, see \S+member-\d.log", capsys.readouterr().err)
