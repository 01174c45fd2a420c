"""Jobs are stopped as a whole and fail one by one."""

import os
import signal
import threading
from pathlib import Path

import pytest

from groundling.evaluation.jobs import Command, Job, Runner
from groundling.training.run import RunDirectory


@pytest.mark.slow
def test_ctrl_c_saves_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    jobs = []
    for seed in range(2):
        run = tmp_path / f"none-{seed}"
        train = ("train", "know-small-none", "--run-dir", str(run), "--frames", "100000000")
        jobs.append(Job("none", seed, run, (Command(train, run / ".trained"),)))
    running = RunDirectory(jobs[0].directory)
    over = threading.Event()

    def interrupt() -> None:
        while not running.metrics.exists() and not over.wait(0.2):
            pass
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    runner = Runner(jobs, workers=1)
    try:
        assert not runner.run()
    finally:
        over.set()
        watcher.join()
    assert not runner._running, "every command has ended before the runner does"
    assert not runner.failed
    assert running.checkpoint.exists()
    assert not jobs[0].done
    assert not jobs[1].directory.exists()


def test_an_error_of_ours_fails_its_job_and_not_the_others(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    inside_a_file = tmp_path / "file" / "none-0"
    broken = Job("none", 0, inside_a_file, (Command(("envs",), inside_a_file / ".done"),))
    after = tmp_path / "none-1"
    after.mkdir()
    well = Job("none", 1, after, (Command(("--version",), after / ".done"),))
    runner = Runner([broken, well], workers=1)
    assert runner.run()
    assert runner.failed == [broken]
    assert well.done
