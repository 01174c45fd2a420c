"""The studies of looking run every preset of a family, and say what came of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from groundling.evaluation.looking import (
    FAMILIES,
    closed_gap,
    gather,
    main,
    plan,
    summarise_digits,
    summarise_look,
)
from groundling.training.presets import PRESETS, preset

PNG = b"\x89PNG"


def named(name: str, seed: int, wrong: list[int], asked: list[int]) -> dict[str, Any]:
    return {
        "name": name,
        "seed": seed,
        "seconds": 60.0,
        "weights": 1_000,
        "naming": {
            "wrong": wrong,
            "asked": asked,
            "information": {"bits": 1.5, "shuffled": 0.5} if name == "learned" else None,
        },
    }


def looked(name: str, seed: int, earned: float) -> dict[str, Any]:
    numbers = None if name == "full" else 54
    return {
        "name": name,
        "seed": seed,
        "frames": 1_000_000,
        "seconds": 90.0,
        "numbers": numbers,
        "return": earned,
    }


def test_every_name_of_a_family_is_a_preset() -> None:
    for family, names in FAMILIES.items():
        assert {f"{family}-{name}" for name in names} <= set(PRESETS)


def test_presets_of_a_family_differ_in_how_they_look_alone() -> None:
    import dataclasses

    learned = preset("digits-learned")
    for name in ("random", "centre", "scan", "oracle"):
        made = preset(f"digits-{name}")
        glimpse = dataclasses.replace(made.agent.glimpse, policy="learned")
        agent = dataclasses.replace(made.agent, glimpse=glimpse)
        assert dataclasses.replace(made, agent=agent) == learned
    full = preset("look-full")
    for name in FAMILIES["look"]:
        made = preset(f"look-{name}")
        agent = dataclasses.replace(made.agent, attention="none", glimpse=full.agent.glimpse)
        assert dataclasses.replace(made, agent=agent) == full


def test_each_seed_of_the_digits_is_a_fold_and_first_seeds_come_first(tmp_path: Path) -> None:
    jobs = plan("digits", ("learned", "convolution"), 2, tmp_path, 0)
    assert [job.name for job in jobs] == [
        "learned-0",
        "convolution-0",
        "learned-1",
        "convolution-1",
    ]
    words = jobs[2].commands[0].words
    assert words[:2] == ("train", "digits-learned")
    assert words[words.index("--env.options.fold") + 1] == "1"
    assert "--frames" not in words
    short = plan("digits", ("learned", "convolution"), 1, tmp_path, 2_000)
    frames = [job.commands[0].words[job.commands[0].words.index("--frames") + 1] for job in short]
    whole = preset("digits-convolution").frames / preset("digits-learned").frames
    assert frames == ["2000", str(int(2_000 * whole))]
    assert "--env.options.fold" not in plan("look", ("full",), 1, tmp_path, 0)[0].commands[0].words


def test_the_gap_that_learning_leaves_is_relative_to_chance_and_the_oracle() -> None:
    asked = [10] * 40
    groups = {
        "learned": [named("learned", 0, [2] * 40, asked)],
        "oracle": [named("oracle", 0, [1] * 40, asked)],
        "random": [named("random", 0, [6] * 40, asked), named("random", 1, [10] * 40, asked)],
    }
    gap = closed_gap(groups)
    assert gap[0] == pytest.approx(0.2), "the fold that only one was run on does not count"
    assert gap[1] == pytest.approx(0.2), "all digits are alike"
    groups["learned"] = [named("learned", 0, [0] * 20 + [4] * 20, asked)]
    gap = closed_gap(groups)
    assert gap[0] == pytest.approx(0.2)
    assert gap[1] < 0.1 < 0.3 < gap[2]


def test_digits_are_summed_over_folds() -> None:
    runs = [
        named(name, seed, wrong, [10] * 4)
        for seed in range(2)
        for name, wrong in (
            ("learned", [1, 2, 1, 2]),
            ("random", [5] * 4),
            ("oracle", [0, 1, 0, 1]),
        )
    ]
    text, picture = summarise_digits(runs)
    assert "| learned | 2 | 15.0 % [" in text
    assert "| 1.00 |" in text, "bits beyond those of shuffled locations"
    assert "= 0.22 [" in text
    assert picture.startswith(PNG)
    text, _ = summarise_digits(runs[:1])
    assert "oracle" not in text


def test_returns_are_held_against_the_foveal_agents() -> None:
    runs = [
        looked(name, seed, mean + 0.1 * seed)
        for seed in range(3)
        for name, mean in (("full", 5.0), ("foveal", 4.8), ("random", 2.0))
    ]
    text, picture = summarise_look(runs)
    assert "| full | 3 | all | 5.10 [4.85, 5.35] | -0.20 [" in text
    assert "| random | 3 | 54 | 2.10 [1.85, 2.35] | +2.80 [" in text
    assert "| foveal | 3 | 54 | 4.90 [4.65, 5.15] | – |" in text
    assert "foveal / full" not in text  # Without the centre there is nothing to set it against.
    assert picture.startswith(PNG)
    text, _ = summarise_look([*runs[:2], looked("centre", 0, 2.5)])
    assert "| full | 1 | all | 5.00 | – |" in text
    assert text.endswith("\n\nfoveal / full = 0.96, full / centre = 2.00")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits", "--names", "learnt"], "--names has 'learnt'; expected some of learned, "),
        (["digits", "--seeds", "6"], "--seeds is 6; expected 1 to 5"),
        (["look", "--workers", "0"], "--workers is 0; expected at least 1"),
        (["look", "--frames", "-1"], "--frames is -1; expected at least 0"),
    ],
)
def test_a_wrong_flag_is_named(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.argv", ["looking", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert f"looking: {message}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_study_runs_and_is_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    where = ["--directory", str(tmp_path / "runs"), "--output", str(tmp_path / "docs")]
    words = ["digits", "--names", "learned", "convolution", "--seeds", "1", "--frames", "2048"]
    monkeypatch.setattr("sys.argv", ["looking", *words, *where])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert "| convolution | 1 |" in capsys.readouterr().out
    gathered = json.loads((tmp_path / "docs" / "digits.json").read_text())
    assert [run["name"] for run in gathered["runs"]] == ["learned", "convolution"]
    assert (tmp_path / "docs" / "digits.png").read_bytes().startswith(PNG)
    jobs = plan("digits", ("learned",), 1, tmp_path / "runs", 2048)
    assert jobs[0].done, "it is not run again"
    assert gather(jobs, tmp_path / "again.json")["runs"] == gathered["runs"][:1]
