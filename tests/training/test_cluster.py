"""Ray is quiet, heard by nobody else, and leaves everything as it was found."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from groundling.envs.errors import UserError
from groundling.training import cluster as cluster_module
from groundling.training.checkpoint import load_checkpoint
from groundling.training.cluster import cluster, reserved
from groundling.training.group import Joined, join_store, make_store
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory


def status(process, field):
    found = re.search(rf"^{field}:\s+(\S+)", Path(f"/proc/{process}/status").read_text(), re.M)
    return found[1]


def descendants(ancestor):
    """Ids of a process and all that came of it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int(status(entry.name, "PPid"))
            except (FileNotFoundError, ProcessLookupError):
                continue
    family = {ancestor}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def listening(processes):
    """Addresses at which any of these processes listens, as the kernel writes them."""
    sockets = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(file))
            except FileNotFoundError:
                continue
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return {
        line[1].split(":")[0]
        for line in lines
        if line[3] == "0A"
        and line[9] in {name[8:-1] for name in sockets if name.startswith("socket:[")}
    }


LOOPBACK = {
    "0100007F",
    "00000000000000000000000001000000",
    "0000000000000000FFFF00000100007F",
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_listens_where_others_could_reach_it(ray_cluster):
    family = descendants(os.getpid())
    assert len(family) > 3
    found = listening(family)
    assert found
    assert found <= LOOPBACK


def test_what_listens_elsewhere_would_be_found():
    with socket.create_server(("0.0.0.0", 0)):
        assert not listening({os.getpid()}) <= LOOPBACK


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_learners_that_meet_on_this_machine_are_heard_by_nobody_else():
    before = listening({os.getpid()})
    store, port = make_store("127.0.0.1")
    stores = [store, join_store("127.0.0.1", port)[0]]  # One that waits has no time for others.
    with ThreadPoolExecutor(2) as threads:
        joined = [threads.submit(Joined, stores[rank], "127.0.0.1", rank, 2) for rank in range(2)]
        groups = [one.result() for one in joined]
    found = listening({os.getpid()})
    for group in groups:
        group.close()
    assert found
    assert found - before <= LOOPBACK


def test_a_cluster_that_is_there_is_used_and_goes_on(ray_cluster):
    import ray

    with cluster():
        pass
    assert ray.is_initialized()


def test_what_works_behind_ray_does_not_give_way_to_the_rest_of_the_machine(ray_cluster):
    import ray

    niceness = ray.remote(lambda: os.nice(0)).remote()
    assert ray.get(niceness) == os.nice(0)


def test_room_that_was_reserved_is_given_back(ray_cluster, monkeypatch):
    import ray

    every = int(ray.cluster_resources()["CPU"])
    with reserved(every, 0.0):
        monkeypatch.setattr(cluster_module, "STARTED_SECONDS", 0.5)
        with pytest.raises(UserError, match=f"0 of {every} CPU free"), reserved(1, 0.0):
            pass
    monkeypatch.undo()
    with reserved(every, 0.0):
        pass


def test_a_gpu_that_is_not_there_is_said_to_be_missing(ray_cluster, monkeypatch):
    import ray

    if ray.cluster_resources().get("GPU"):
        pytest.skip("there is one")
    monkeypatch.setattr(cluster_module, "STARTED_SECONDS", 0.5)
    with pytest.raises(UserError) as refused, reserved(2, 0.25):
        pass
    said = str(refused.value)
    assert said.startswith("workers is 2, which takes 2 CPU and 0.5 GPU; expected no more than")
    assert said.endswith("0 of 0 GPU free)")


def answering(reply):
    """The address of somebody who says this to whoever comes, once."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        with server, server.accept()[0] as connection:
            connection.recv(100)
            connection.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere", "ray-address is nowhere; expected auto or HOST:PORT"),
        ("127.0.0.1:1", "ray-address is 127.0.0.1:1, where nothing answers ([Errno"),
        ("127.0.0.1:99999", "where nothing answers"),
        (b"HTTP/1.1 400 Bad Request\r\n", "where something else than Ray answers; expected auto"),
        (b"", "where something else than Ray answers"),
    ],
)
def test_an_address_where_no_ray_is_is_refused_at_once(address, said):
    address = answering(address) if isinstance(address, bytes) else address
    started = time.monotonic()
    with pytest.raises(UserError) as refused:
        cluster_module._check_reachable(address)
    assert said in str(refused.value)
    assert time.monotonic() - started < 30


def test_who_greets_as_ray_does_is_let_through():
    cluster_module._check_reachable(answering(b"\0\0\0\x04\0\0\0\0\0"))


def test_auto_is_what_ray_was_told_or_what_was_last_started_here(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster_module._meant("auto") == "auto"
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379\n")
    assert cluster_module._meant("auto") == "127.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    assert cluster_module._meant("auto") == "elsewhere:1"
    assert [cluster_module._meant(one) for one in ("", "here:2")] == ["", "here:2"]


def test_who_listens_on_loopback_alone_is_told_from_who_others_can_reach(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # On this way the machine's own address is that of the loopback device.
        monkeypatch.setattr(cluster_module, "ELSEWHERE", ("127.0.0.1", 53))
        assert not cluster_module._is_loopback_only(f"127.0.0.1:{port}")
        assert not cluster_module._is_loopback_only(f"localhost:{port}")
    assert cluster_module._is_loopback_only(f"127.0.0.1:{port}")
    assert not cluster_module._is_loopback_only(f"10.0.0.1:{port}")
    assert not cluster_module._is_loopback_only("auto")


def test_somebody_who_keeps_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="where nothing answers"):
            cluster_module._check_reachable(address)


def test_environment_variables_are_as_they_were_found(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "mine")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    before = dict(os.environ)
    with cluster_module.environment_as_found({"RAY_USAGE_STATS_ENABLED": "0", "RAY_NEW": "1"}):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "mine"
        assert os.environ["RAY_NEW"] == "1"
        os.environ |= {"RAY_AUTH_MODE": "token", "PYTHONBREAKPOINT": "ray", "RAY_OTHER": "1"}
    assert dict(os.environ) == before


def test_what_others_do_to_the_environment_stays(monkeypatch):
    monkeypatch.setenv("OF_SOMEBODY", "before")
    with cluster_module.environment_as_found({}):
        os.environ["OF_SOMEBODY"] = "after"
    assert os.environ["OF_SOMEBODY"] == "after"


FLAGS = "--env.num-envs 2 --agent.core-size 8 --agent.feature-size 8 --agent.sensor-size 8"
TRAIN = "import sys; from groundling.cli import main; main(sys.argv[1:])"


def command(run_dir, frames, *flags):
    """`groundling train` as a process of its own, in a session of its own."""
    flags = ["--run-dir", str(run_dir), "--frames", str(frames), *FLAGS.split(), *flags]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", TRAIN, "train", "know-small-none", *flags],
        cwd=run_dir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_checkpoint(process, run):
    deadline = time.monotonic() + 120
    while not run.checkpoint.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_agent(process):
    """Whether it is one of Ray's attendants, which neither walk nor hold memory."""
    return b"Agent" in Path(f"/proc/{process}/cmdline").read_bytes()


def wait_until_gone(processes):
    deadline = time.monotonic() + 30
    while left := [one for one in processes if Path(f"/proc/{one}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


WITHIN = """
import os, signal, sys
from groundling.training.cluster import cluster

before = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
for _ in range(2):
    with cluster():
        import ray
        assert ray.is_initialized()
        assert signal.getsignal(signal.SIGTERM) == before[1]
    after = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert after == before, [after, before]
    assert not ray.is_initialized()
"""


@pytest.mark.slow
def test_ray_comes_and_goes_without_a_word_and_leaves_everything_as_it_was(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHIN], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_killed_run_takes_its_workers_along_and_the_same_command_goes_on(tmp_path):
    run = RunDirectory(tmp_path / "run")
    flags = ("--workers", "1", "--save-every", "0", "--log-every", "1")
    process = command(run.path, 10**7, *flags)
    wait_for_checkpoint(process, run)
    family = descendants(process.pid)
    assert len(family) > 3
    # Two of Ray's own take up to a minute to notice.
    family -= {one for one in family if is_agent(one)}
    process.kill()
    process.wait()  # not for its pipes, which the attendants still hold
    process.stdout.close()
    process.stderr.close()
    wait_until_gone(family)
    before = load_checkpoint(run.checkpoint)
    done = command(run.path, before["frames"] + 640, *flags)
    out, errors = done.communicate(timeout=120)
    assert done.returncode == 0
    assert [line[:18] for line in errors.splitlines()] == ["training run: 100%"]
    assert out.startswith("trained: ")
    after = load_checkpoint(run.checkpoint)
    assert after["frames"] >= before["frames"] + 640
    assert after["actor"]["steps_used"] == after["frames"]
    assert after["actor"]["incarnations"] == [1]
    rows = read_rows(run.metrics)
    assert [row["updates"] for row in rows] == list(range(1, len(rows) + 1))
    sums = ("steps_used", "steps_dropped", "steps_lost")
    assert all(row["steps_taken"] == sum(row[name] for name in sums) for row in rows)


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_saves_first_and_leaves_no_process_behind(tmp_path):
    run = RunDirectory(tmp_path / "run")
    process = command(run.path, 10**7, "--workers", "1", "--save-every", "0")
    wait_for_checkpoint(process, run)
    family = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that run in it
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert errors.splitlines()[0] == "stopping; once more to stop at once"
    assert errors.endswith("frames and saved; the same command goes on\n")
    assert "replaced" not in errors
    wait_until_gone(family)
    state = load_checkpoint(run.checkpoint)["actor"]
    assert state["steps_under_way"] == 0
    assert state["workers_replaced"] == 0
