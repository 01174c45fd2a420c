"""A cluster of two machines is joined, loses one and gets it back: Ray's own make-believe one.

What is done meanwhile is in `test_distributed.py`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from groundling.training.checkpoint import load_checkpoint
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory

PATIENCE = 120  # seconds
SUMS = ("steps_used", "steps_dropped", "steps_lost")
SMALL = "--env.num-envs 2 --agent.core-size 8 --agent.feature-size 8 --agent.sensor-size 8"

MACHINES = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
machines = [cluster.add_node(num_cpus=1)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "remove\\n":
        cluster.remove_node(machines.pop())
    else:
        machines.append(cluster.add_node(num_cpus=1))
    print("done", flush=True)
cluster.shutdown()
"""


class Machines:
    """A head, where a driver can be, and one more machine, or several, with a CPU each."""

    def __init__(self, environment):
        self.environment = environment
        self.process = subprocess.Popen(
            [sys.executable, "-c", MACHINES],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()

    def do(self, what):
        """Removes another machine than the head, or adds one."""
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def train(self, run, *flags, **environment):
        """`groundling train` on them, as a process of its own."""
        arguments = ["know-small-none", "--run-dir", str(run.path), *SMALL.split(), *flags]
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "groundling", "train", *arguments],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def machines():
    folder = tempfile.mkdtemp(prefix="g", dir="/tmp")  # The name of a socket must be short.
    settings = {
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # heard by nobody else
    }
    made = Machines(os.environ | settings)
    # Whoever joins is not told.
    made.environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    try:
        yield made
    finally:
        made.process.communicate(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_row(run, process, is_wanted):
    """Waits until a row of metrics is as wanted; how many updates there are then."""
    deadline = time.monotonic() + PATIENCE
    while not (run.metrics.exists() and any(map(is_wanted, read_rows(run.metrics)))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return read_rows(run.metrics)[-1]["updates"]


def wait_until_said(process, words):
    """Reads what a process says up to a line with these words."""
    too_late = threading.Timer(PATIENCE, process.kill)
    too_late.start()
    try:
        for line in process.stderr:
            if words in line:
                return line
    finally:
        too_late.cancel()
    pytest.fail(f"never said: {words}")


@pytest.mark.slow
def test_a_joined_cluster_loses_machines_and_gets_one_back_and_training_goes_on(machines, tmp_path):
    machines.do("add")
    run = RunDirectory(tmp_path / "run")
    process = machines.train(
        run,
        *("--workers", "3", "--ray-address", "auto", "--rollout.in-order", "True"),
        *("--frames", "100000000", "--log-every", "5"),
        RAY_ADDRESS=machines.address,
    )

    def wait_for_lag(lag, after):  # 2 N - 1 updates, of N workers
        return wait_for_row(
            run, process, lambda row: row["updates"] > after and row["policy_lag_max"] == lag
        )

    all_three = wait_for_lag(5, after=0)
    machines.do("remove")
    machines.do("remove")
    waiting = [wait_until_said(process, "waits for room") for _ in range(2)]
    assert all(said.startswith("rollout worker ") for said in waiting)
    alone = wait_for_lag(1, after=all_three)
    machines.do("add")  # There is room for one of them, and one has it.
    back = wait_until_said(process, "has room again")
    assert back.split()[2] in [said.split()[2] for said in waiting]
    wait_for_lag(3, after=alone)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "has room again" not in errors
    machines.do("remove")  # The cluster goes on without us.
    rows = read_rows(run.metrics)
    assert all(row["steps_taken"] == sum(row[name] for name in SUMS) for row in rows)
    assert all(row["steps_used"] == row["frames"] for row in rows)
    state = load_checkpoint(run.checkpoint)["actor"]
    assert state["workers_replaced"] == 2
    assert sorted(state["incarnations"]) == [0, 1, 1]
    assert rows[-1]["steps_lost"] in (128, 192, 256)  # of each one unroll, or two
