"""The study runs every variant with every seed, skips what is finished, and draws what it found."""

import json
from pathlib import Path

import pytest

from groundling.evaluation import reproduce
from groundling.evaluation.jobs import Command, Job
from groundling.evaluation.reproduce import FULL, Budget, gather, main, plan
from groundling.evaluation.runner import Outcome, run_jobs
from groundling.evaluation.summary import summarise
from groundling.training.presets import FAMILIES, PRESETS, VARIANTS
from groundling.training.run import RunDirectory


def test_every_variant_is_a_preset_of_every_family_and_in_the_study() -> None:
    for family in FAMILIES:
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
    assert jobs[0].commands[2].words[-2:] == ("--controls", "few")
    assert jobs[2].commands[2].words[-2:] == ("--controls", "none")


def test_at_equal_time_the_clock_ends_a_run_and_equal_frames_are_probed_too(tmp_path: Path) -> None:
    job = plan(tmp_path, seeds={"none": 1}, budget=Budget(minutes=8), at=[500_000])[0]
    trained, _, probed, probed_at = (command.words for command in job.commands)
    given = dict(zip(trained[2::2], trained[3::2], strict=True))
    assert given["--max-minutes"] == "8"
    assert given["--frames"] == "1000000000"
    assert given["--snapshot-every"] == "500000"
    assert "--frames" not in probed
    assert probed_at[-4:] == ("--controls", "none", "--frames", "500000")
    assert job.commands[3].result.name == "results-500000.json"
    for command in job.commands[:3]:
        command.result.parent.mkdir(parents=True, exist_ok=True)
        command.result.touch()
    assert job.done, "a run that did not come so far is not probed there"
    run = RunDirectory(job.directory)
    run.snapshot(500_000).parent.mkdir()
    run.snapshot(500_000).touch()
    assert not job.done
    run.results(500_000).touch()
    assert job.done


def test_studies_with_different_budgets_do_not_mix(tmp_path: Path, monkeypatch, capsys) -> None:
    def study(name: str, *given: str) -> int | str | None:
        directory = tmp_path / name
        flags = ["--directory", str(directory), "--output", str(tmp_path), *given]
        monkeypatch.setattr("sys.argv", ["reproduce", *flags])
        monkeypatch.setattr(reproduce, "run_jobs", lambda jobs, room: Outcome(False, []))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    assert study("a", "--minutes", "8") == 0
    assert study("a", "--minutes", "8", "--at", "500000") == 0, "snapshots were kept anyway"
    assert study("a", "--minutes", "9") == 2
    told = capsys.readouterr().err
    assert f"--minutes is 9.0, but {tmp_path / 'a'} was begun with 8.0; expected the same" in told
    assert study("a") == 2
    told = capsys.readouterr().err
    assert f"--minutes is not given, but {tmp_path / 'a'} was begun with 8.0" in told
    assert study("a", "--minutes", "8", "--family", "know") == 2
    assert study("b", "--frames", "9000") == 0
    assert study("b", "--frames", "9000", "--snapshot-every", "500") == 2
    told = capsys.readouterr().err
    assert f"--snapshot-every is 500, but {tmp_path / 'b'} was begun with 500000" in told
    (tmp_path / "c" / "none-0").mkdir(parents=True)
    (tmp_path / "c" / "none-0" / "config.json").touch()
    assert study("c", "--minutes", "8") == 2
    assert "holds runs that no study began" in capsys.readouterr().err
    (tmp_path / "d").touch()
    assert study("d") == 2
    assert "d cannot be used (" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_finished_run_is_skipped_and_a_failure_is_told(tmp_path: Path) -> None:
    run = tmp_path / "none-0"
    small = ["--env.rooms.size", "4", "--env.rooms.view-size", "3"]
    train = ("train", "know-small-none", "--run-dir", str(run), "--frames", "1024", *small)
    probe = ("probe", str(run), "--quick", "--rooms", "64", "--controls", "none")
    directory = RunDirectory(run)
    commands = (
        Command((*train, "--snapshot-every", "512"), run / ".trained"),
        Command(
            ("evaluate", str(run), "--episodes", "64", "--snapshots"),
            directory.evaluation / "returns.json",
        ),
        Command(probe, directory.results()),
        Command((*probe, "--frames", "512"), directory.results(512)),
    )
    job = Job("none", 0, run, commands)
    assert run_jobs([job]) == (False, [])
    results = gather([job], tmp_path / "small.json", at=[512])
    assert json.loads((tmp_path / "small.json").read_text()) == results
    assert results["runs"][0]["variant"] == "none"
    assert results["runs"][0]["frames"] == 1024
    assert results["runs"][0]["earlier"]["512"]["frames"] == 512
    assert list(results["runs"][0]["returns"]) == ["512", "1024"]
    assert results["runs"][0]["returns"]["1024"] == results["runs"][0]["return"]
    assert "| none | 1 |" in summarise(results, tmp_path / "small")
    broken = ("train", "no-such-preset")
    finished = Job("none", 0, run, tuple(Command(broken, one.result) for one in commands))
    other = Job(
        "none", 1, tmp_path / "none-1", (Command(broken, tmp_path / "none-1" / ".trained"),)
    )
    failed = run_jobs([finished, other]).failed
    assert failed == [other], "a job whose commands have left their results is not run again"
    assert "no-such-preset" in (tmp_path / "none-1.log").read_text()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--family", "knw"], "--family has 'knw'; expected some of know-small"),
        (["--variants", "simcor"], "--variants has 'simcor'; expected some of simcore"),
        (["--workers", "0"], "--workers is 0; expected at least 1"),
        (["--seeds", "0"], "--seeds is 0; expected at least 1"),
        (["--minutes", "0"], "--minutes is 0.0; expected a positive number"),
        (["--at", "0"], "--at has 0; expected multiples of"),
        (["--snapshot-every", "0"], "--snapshot-every is 0; expected a positive number"),
        (["--rooms", "-1"], "--rooms is -1; expected a positive number"),
        (["--minutes", "1", "--frames", "10"], "--minutes and --frames are both given"),
        (["--at", "500000", "300000"], "--at has 300000; expected multiples of"),
        (["--frames", "10", "--at", "500000"], "--at has 500000; expected at most --frames, 10"),
    ],
)
def test_flags_that_cannot_work_are_told_before_anything_runs(flags, expected, capsys) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["reproduce", *flags])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 2
    assert expected in capsys.readouterr().err
