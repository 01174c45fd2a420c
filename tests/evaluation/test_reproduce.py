"""The study runs every variant with every seed, skips what is finished, and draws what it found."""

import json
from pathlib import Path

import pytest

from groundling.evaluation.reproduce import FULL, Job, _run_job, draw, gather, plan, table
from groundling.training.presets import PRESETS, VARIANTS


def test_every_variant_is_a_preset_of_both_families_and_in_the_study() -> None:
    for family in ("know-small", "know"):
        assert {f"{family}-{variant}" for variant in FULL} <= set(PRESETS)
    assert set(FULL) == {*VARIANTS, "answers"}


def test_variants_differ_from_the_plain_agent_in_prediction_alone() -> None:
    import dataclasses

    plain = PRESETS["know-small-none"]()
    for variant in VARIANTS:
        made = PRESETS[f"know-small-{variant}"]()
        prediction = plain.agent.prediction
        agent = dataclasses.replace(made.agent, prediction=prediction)
        assert dataclasses.replace(made, agent=agent) == plain
    answers = PRESETS["know-small-answers"]()
    assert answers.probe.answers_reach_agent
    assert dataclasses.replace(answers, probe=plain.probe) == plain


def test_first_seeds_come_first(tmp_path: Path) -> None:
    jobs = plan(tmp_path, seeds={"simcore": 2, "none": 1})
    assert [job.name for job in jobs] == ["simcore-0", "none-0", "simcore-1"]
    assert "--no-controls" in jobs[2].commands[2]
    assert "--no-controls" not in jobs[0].commands[2]


@pytest.mark.slow
def test_a_finished_run_is_skipped_and_a_failure_is_told(tmp_path: Path) -> None:
    run = tmp_path / "none-0"
    small = ["--env.rooms.size", "4", "--env.rooms.view-size", "3"]
    train = ("train", "know-small-none", "--run-dir", str(run), "--frames", "1024", *small)
    probe = ("probe", str(run), "--quick", "--rooms", "64", "--no-controls")
    job = Job("none", 0, run, (train, ("evaluate", str(run), "--episodes", "64"), probe))
    assert _run_job(job, None)
    results = gather([job], tmp_path / "small.json")
    assert json.loads((tmp_path / "small.json").read_text()) == results
    assert results["runs"][0]["variant"] == "none"
    draw(results, tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size > 5000
    assert table(results).count("\n") == 2
    broken = Job("none", 0, run, (("train", "no-such-preset"),) * 3)
    assert _run_job(broken, None), "every step has left its mark, so nothing is run again"
    assert not _run_job(Job("none", 1, tmp_path / "none-1", broken.commands), None)
    assert "no-such-preset" in (tmp_path / "none-1.log").read_text()
