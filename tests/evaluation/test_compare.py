"""Runs are grouped by what they differ in, and only comparable ones are compared."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from groundling.agents.config import AgentConfig
from groundling.cli import main
from groundling.evaluation.compare import ALL_TYPES, compare
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.statistics import interquartile_mean
from groundling.training.checkpoint import save_checkpoint
from groundling.training.config import TrainConfig, to_json
from groundling.training.run import RunDirectory

ROOMS, TYPES = 30, ["existence", "never_asked", "count"]


def probed(
    path: Path, seed: int, level: float, *, core: int = 256, rooms: str = "same", **settings: Any
) -> Path:
    """A run directory as training and probing leave it: about `level` of the answers right."""
    run = RunDirectory(path)
    run.probe.mkdir(parents=True)
    config = TrainConfig(seed=seed, agent=AgentConfig(core_size=core))
    run.config.write_text(json.dumps({"config": to_json(config)}))
    asked = np.full((ROOMS, 3), 4)
    asked[:, 1] = 0
    right = np.random.default_rng(seed + core).binomial(asked, level)
    rows = {
        kind: {"answerable": right[:, place].sum() / asked[:, place].sum()}
        for place, kind in enumerate(TYPES)
        if asked[:, place].any()
    }
    protocol = dataclasses.asdict(ProbeSettings(**settings))
    results = {"rows": {"agent": rows}, "rooms": rooms, "frames": 100, "settings": protocol}
    run.results().write_text(json.dumps(results))
    counts = {"asked": torch.from_numpy(asked), "right": {"agent": torch.from_numpy(right)}}
    save_checkpoint(run.by_room(), {"types": TYPES, **counts})
    return path


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    strong = [probed(tmp_path / f"strong-{seed}", seed, 0.9) for seed in range(3)]
    return strong + [probed(tmp_path / f"weak-{seed}", seed, 0.5, core=128) for seed in range(3)]


def test_runs_that_differ_in_their_seed_alone_are_one_group(study: list[Path]) -> None:
    found = compare([study[3], study[0], study[4], study[1], study[2], study[5]])
    assert found["reference"] == "weak"
    assert {name: len(group["runs"]) for name, group in found["groups"].items()} == {
        "weak": 3,
        "strong": 3,
    }


def test_differences_are_those_of_the_seeds_means(study: list[Path]) -> None:
    found = compare(study)
    strong, weak = (found["groups"][name]["scores"]["count"] for name in ("strong", "weak"))
    difference = found["differences"]["weak"]["count"]
    assert difference["mean"] == pytest.approx(np.mean(strong) - np.mean(weak))
    interval = stats.ttest_ind(strong, weak, equal_var=False).confidence_interval(0.95)
    assert (difference["low"], difference["high"]) == pytest.approx(tuple(interval))
    assert difference["p"] == pytest.approx(2 / 20)
    assert "never_asked" not in found["groups"]["weak"]["mean"]
    both = [np.mean(pair) for pair in zip(*found["groups"]["weak"]["scores"].values(), strict=True)]
    assert both[0] == pytest.approx(found["groups"]["weak"]["scores"][ALL_TYPES][0])


def test_means_and_wins_have_intervals_over_runs_and_rooms(study: list[Path]) -> None:
    found = compare(study)
    assert found["improvement"]["weak"]["value"] == 1.0
    group = found["groups"]["strong"]
    middle = group["interquartile_mean"]
    scores = [group["scores"][kind] for kind in ("existence", "count")]
    assert middle["value"] == pytest.approx(interquartile_mean(scores))
    assert middle["low"] < middle["value"] < middle["high"]


def test_a_single_seed_has_no_interval_of_its_own(study: list[Path]) -> None:
    found = compare([study[0], study[3], study[4]])
    assert found["differences"] == {}
    assert list(found["groups"]) == ["strong-0", "weak"]


def test_what_cannot_be_compared_is_refused(study: list[Path], tmp_path: Path) -> None:
    elsewhere = probed(tmp_path / "elsewhere", 0, 0.5, rooms="others")
    with pytest.raises(ValueError, match="asked about other rooms"):
        compare([study[0], elsewhere])
    for place, settings in enumerate([{"passes": 1}, {"decoders": ("linear", "mlp")}]):
        otherwise = probed(tmp_path / f"otherwise-{place}", 0, 0.5, **settings)
        with pytest.raises(ValueError, match="probed with another decoder"):
            compare([study[0], otherwise])
    with pytest.raises(ValueError, match="named twice"):
        compare([study[0], study[0]])
    with pytest.raises(ValueError, match="needs two runs"):
        compare([study[0]])
    shutil.rmtree(study[1] / "probe")
    with pytest.raises(ValueError, match="was not probed; expected `groundling probe"):
        compare([study[0], study[1]])


def test_the_command_prints_means_wins_and_differences(
    study: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compare", *map(str, study)])
    shown = capsys.readouterr().out
    found = compare(study)
    assert "strong wins against it" in shown
    assert f"{found['groups']['weak']['mean']['existence']:.2f}" in shown
    assert f"{found['differences']['weak']['count']['mean']:+.3f}" in shown
    main(["compare", *map(str, study), "--json"])
    assert json.loads(capsys.readouterr().out)["reference"] == "strong"
