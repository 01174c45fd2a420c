"""Jobs are stopped as a whole and fail one by one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groundling.envs.errors import UserError
from groundling.evaluation.jobs import CHILD, Command, Job, _own_cores
from groundling.evaluation.runner import Room, run_jobs
from groundling.training.run import RunDirectory


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ctrl_c_saves_what_runs_and_starts_nothing_more(tmp_path: Path, interrupted_when) -> None:
    jobs = []
    for seed in range(2):
        run = tmp_path / f"none-{seed}"
        train = ("train", "know-small-none", "--run-dir", str(run), "--frames", "100000000")
        train += ("--log-every", "2")
        jobs.append(Job("none", seed, run, (Command(train, run / ".trained"),)))
    running = RunDirectory(jobs[0].directory)
    with interrupted_when(running.metrics.exists):
        outcome = run_jobs(jobs, Room(at_once=1))
    assert outcome.stopped
    assert not outcome.failed
    assert running.checkpoint.exists(), "the command has ended before the runner does"
    assert not jobs[0].done
    assert not jobs[1].directory.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_job_is_stopped_wherever_interrupts_are_ignored(tmp_path: Path) -> None:
    """As under a shell that started all in the background."""
    run = tmp_path / "none-0"
    train = ("train", "know-small-none", "--run-dir", str(run), "--frames", "100000000")
    program = f"""
import signal
from pathlib import Path
from groundling.evaluation.jobs import Command, Job, Setting, run_job
command = Command({(*train, "--log-every", "2")!r}, Path("never"))
job = Job("none", 0, Path({str(run)!r}), (command,))
assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
try:
    run_job(job, Setting(Path.cwd(), {{}}, 0))
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    print("stopped")
"""
    ignoring = "import signal, os, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    ignoring += "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring, program], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not RunDirectory(run).metrics.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for _ in range(3):  # Once, and again while it saves.
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    told, _ = process.communicate(timeout=60)
    assert told == "stopped\n"
    assert RunDirectory(run).checkpoint.exists()


@pytest.mark.usefixtures("ray_cluster")
def test_a_job_that_fails_is_told_and_the_others_go_on(tmp_path: Path, capsys) -> None:
    def job(seed: int, *words: str, directory: Path = tmp_path) -> Job:
        run = directory / f"none-{seed}"
        return Job("none", seed, run, (Command(words, tmp_path / f"done-{seed}"),))

    (tmp_path / "file").touch()
    broken = job(0, "envs", directory=tmp_path / "file")
    wrong = job(1, "no-such-command")
    well = job(2, "--version")
    before = os.sched_getaffinity(0)
    outcome = run_jobs([broken, wrong, well])
    assert not outcome.stopped
    assert {one.seed for one in outcome.failed} == {0, 1}
    assert well.done
    assert not wrong.done
    assert "no-such-command" in wrong.log.read_text()
    told = capsys.readouterr().err
    assert f"none-1: `groundling no-such-command` failed, see {wrong.log}" in told
    assert "none-0 failed: " in told
    assert run_jobs([well]) == (False, []), "what is done is not run again"
    assert os.sched_getaffinity(0) == before


@pytest.mark.usefixtures("ray_cluster")
def test_more_than_a_machine_has_is_refused(tmp_path: Path) -> None:
    job = Job("none", 0, tmp_path / "none-0", (Command(("--version",), tmp_path / "done"),))
    with pytest.raises(UserError, match="--cpus-per-run is 1000; expected at most the"):
        run_jobs([job], Room(cpus=1000))
    with pytest.raises(UserError, match="--gpus-per-run is 99; expected at most the"):
        run_jobs([job], Room(gpus=99))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cpus": 0}, "--cpus-per-run is 0; expected a positive number"),
        ({"gpus": -1}, "--gpus-per-run is -1; expected 0 or more"),
    ],
)
def test_room_that_cannot_be_meant_is_named(asked, message) -> None:
    with pytest.raises(UserError, match=message):
        Room(**asked)


def test_no_core_is_given_twice() -> None:
    free = len(os.sched_getaffinity(0))
    with _own_cores(1) as first, _own_cores(free) as all_of_them:
        assert len(first) <= 1  # Another study may have it.
        assert not first or not all_of_them
    with _own_cores(0) as none:
        assert none == set()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child")
def test_a_command_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "groundling.py").write_text(
        "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    )
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""}
    parent = subprocess.Popen([sys.executable, "-c", starter], cwd=tmp_path, env=environment)
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 20
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    process = Path("/proc") / pid.read_text()
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process.exists()
