"""A cluster of two machines is joined, loses one and gets it back: Ray's own make-believe one.

What is done meanwhile is in `test_distributed.py`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from groundling.training.checkpoint import load_checkpoint
from groundling.training.metrics import read_rows
from groundling.training.run import RunDirectory

SUMS = ("steps_used", "steps_dropped", "steps_lost")
SMALL = "--env.num-envs 2 --agent.core-size 8 --agent.feature-size 8 --agent.sensor-size 8"

MACHINES = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
machine = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "remove\\n":
        cluster.remove_node(machine)
    else:
        machine = cluster.add_node(num_cpus=1)
    print("done", flush=True)
cluster.shutdown()
"""


class Machines:
    """A head, where a driver can be, and one more machine, with a CPU each."""

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
        """Removes the other machine, or adds one."""
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
    """Waits until a row of metrics is as wanted."""
    deadline = time.monotonic() + 60
    while not (run.metrics.exists() and any(map(is_wanted, read_rows(run.metrics)))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_until_said(process, words):
    """Reads what a process says up to a line with these words."""
    for line in process.stderr:
        if words in line:
            return line
    pytest.fail(f"never said: {words}")


@pytest.mark.slow
def test_a_joined_cluster_loses_a_machine_and_gets_it_back_and_training_goes_on(machines, tmp_path):
    run = RunDirectory(tmp_path / "run")
    process = machines.train(
        run,
        *("--workers", "2", "--ray-address", "auto", "--rollout.in-order", "True"),
        *("--frames", "100000000", "--log-every", "5"),
        RAY_ADDRESS=machines.address,
    )
    both = 3  # updates of lag: 2 N - 1
    wait_for_row(run, process, lambda row: row["policy_lag_max"] == both)
    machines.do("remove")
    said = wait_until_said(process, "waits for room")
    assert said.startswith("rollout worker ")
    gone = read_rows(run.metrics)[-1]["updates"]
    wait_for_row(run, process, lambda row: row["updates"] > gone and row["policy_lag_max"] == 1)
    machines.do("add")
    wait_until_said(process, said.split()[2] + " has room again")
    alone = read_rows(run.metrics)[-1]["updates"]
    wait_for_row(run, process, lambda row: row["updates"] > alone and row["policy_lag_max"] == both)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    machines.do("remove")  # The cluster goes on without us.
    rows = read_rows(run.metrics)
    assert all(row["steps_taken"] == sum(row[name] for name in SUMS) for row in rows)
    assert all(row["steps_used"] == row["frames"] for row in rows)
    state = load_checkpoint(run.checkpoint)["actor"]
    assert state["workers_replaced"] == 1
    assert sorted(state["incarnations"]) == [0, 1]
    assert rows[-1]["steps_lost"] in (64, 128)  # one unroll, or two
