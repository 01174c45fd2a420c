"""The learners of a run: the first one in this process, the others behind Ray.

An unroll of B environments is dealt out to K learners, B / K environments each, and all step at
once (`group`). The first one's weights are everybody's: rollout workers are given them, and one
checkpoint holds them. What walks does not know how many learn.
"""

import io
import sys
from contextlib import ExitStack
from typing import Any, NoReturn

import torch

from groundling.envs.errors import UserError
from groundling.training.cluster import cluster, reserved
from groundling.training.config import TrainConfig
from groundling.training.errors import LearnerLost
from groundling.training.group import PATIENCE, GroupBroken, Joined, make_store
from groundling.training.learner import Learner
from groundling.training.metrics import Measured
from groundling.training.peer import Peer
from groundling.training.remote import put
from groundling.training.unroll import Unroll, shards
from groundling.training.worker import Failure, WorkerTraceback, to_arrays

GRACE = 10.0
"""Seconds for the other learners to say what went wrong, once something did."""


class LearnerTraceback(WorkerTraceback):
    """Where in another learner an exception was raised."""

    place = "another learner"


class RemoteLearner:
    """A learner in another process, as the first one knows it.

    Args:
        config: of the run.
        rank: which one it is, from 1.
    """

    def __init__(self, config: TrainConfig, rank: int) -> None:
        self.config = config
        self.rank = rank
        self.name = f"learner {rank}"
        """For people; says where it is, once that is known."""
        self._handle: Any = None
        self._asked: Any = None

    def start(self, group: Any) -> None:
        """Starts a process, in its own placement group (`cluster.reserved`). Nobody starts it
        again: the others have gone on without it."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        threads = str(self.config.threads)
        kind = ray.remote(Peer).options(
            num_cpus=1,
            num_gpus=gpus(self.config),
            max_restarts=0,
            max_task_retries=0,
            runtime_env={
                "env_vars": {
                    "OMP_NUM_THREADS": threads,
                    "OMP_WAIT_POLICY": "PASSIVE",
                    # It chooses among all GPUs of its machine (`peer.device_of`).
                    "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
                }
            },
            scheduling_strategy=PlacementGroupSchedulingStrategy(group),
        )
        self._handle = kind.remote(self.config, self.rank, tuple(sys.path))
        self._asked = self._handle.whereabouts.remote()

    def locate(self) -> None:
        """Waits until the process is there, and notes where."""
        process, machine = self.receive()
        self.name += f" (process {process} on {machine})"

    def ask(self, method: str, *arguments: Any) -> None:
        """Has it call one of its methods."""
        self._asked = getattr(self._handle, method).remote(*arguments)

    def receive(self, seconds: float = PATIENCE) -> Any:
        """What it answers.

        Raises:
            LearnerLost: nothing will come, or nothing came in time.
            Exception: what was raised there.
        """
        answer = self._fetch(seconds)
        if isinstance(answer, Failure):
            raise answer.error from LearnerTraceback(answer.traceback)
        return answer

    def _fetch(self, seconds: float) -> Any:
        import ray

        try:
            return ray.get(self._asked, timeout=seconds)
        except ray.exceptions.GetTimeoutError as error:
            raise LearnerLost(f"{self.name} gave no answer for {seconds:g} s") from error
        except ray.exceptions.RayError as error:
            if getattr(error, "actor_init_failed", False):
                why = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"{self.name} cannot begin ({why}); expected the same groundling where it runs"
                ) from error
            raise LearnerLost(f"{self.name} died ({type(error).__name__})") from error

    def dismiss(self) -> None:
        """Kills the process, if there is one."""
        if self._handle is not None:
            import ray

            ray.kill(self._handle)


class Learners:
    """All learners of a run, as the loop sees them.

    Args:
        config: of the run; `config.learners` says how many.
        first: the learner in this process.
    """

    def __init__(self, config: TrainConfig, first: Learner) -> None:
        self.config = config
        self.first = first
        self.others = [RemoteLearner(config, rank) for rank in range(1, config.learners)]
        self._open = ExitStack()

    def start(self) -> None:
        """Starts the others, if there are any, in the state that the first one is in.

        Raises:
            UserError: there is no such cluster, or no room; or what they need is not there.
            LearnerLost: one of them died, or did not come in time.
        """
        if not self.others:
            return
        self._open.enter_context(cluster(self.config.rollout.ray_address))
        room = reserved(
            len(self.others), gpus(self.config), asking=f"learners is {self.config.learners}"
        )
        groups = self._open.enter_context(room)
        for other, group in zip(self.others, groups, strict=True):
            other.start(group)
        for other in self.others:
            other.locate()
        self._tell("make", put(_saved(self.first)))
        for other in self.others:
            other.receive()
        host = _address()
        store, port = make_store(host)
        self._tell("join", host, port)
        try:
            self.first.group = Joined(store, host, 0, self.config.learners)
        except GroupBroken as broken:
            self._explain(broken)
        for other in self.others:
            other.receive()

    def step(self, unroll: Unroll, *, inspect: bool = False) -> list[dict[str, Measured]]:
        """All learn from one unroll; see `Learner.step`.

        Args:
            unroll: of all environments.
            inspect: measure more, see there.

        Returns:
            What each one measured, the first one first.

        Raises:
            NonFiniteLoss: names the loss; nothing was changed.
            LearnerLost: one of them is gone.
            Exception: what one of ours, or a plug-in, raised in another process.
        """
        own, *parts = shards(unroll, 1 + len(self.others))
        for other, part in zip(self.others, parts, strict=True):
            other.ask("step", to_arrays(part), inspect)
        try:
            measured = self.first.step(own, inspect=inspect)
        except GroupBroken as broken:
            self._explain(broken)
        return [measured, *(other.receive() for other in self.others)]

    def _tell(self, method: str, *arguments: Any) -> None:
        for other in self.others:
            other.ask(method, *arguments)

    def _explain(self, broken: GroupBroken) -> NoReturn:
        """Raises what was at fault when the group broke, as far as the others can tell."""
        lost = []
        for other in self.others:
            try:
                other.receive(GRACE)
            except GroupBroken:
                continue  # It was left alone, too.
            except LearnerLost as error:
                lost.append(str(error))
        why = "; ".join(lost) or f"the learners lost each other ({broken})"
        raise LearnerLost(why) from broken

    def close(self) -> None:
        """Dismisses the others, and leaves Ray as it was found."""
        self.first.group.close()
        for other in self.others:
            other.dismiss()
        self._open.close()


def gpus(config: TrainConfig) -> float:
    """GPUs that each learner beside the first reserves."""
    return 1.0 if config.device.startswith("cuda") else 0.0


def _address() -> str:
    """Of this machine, as Ray knows it: the loopback device, if nobody else is to reach us."""
    import ray

    return str(ray.util.get_node_ip_address())


def _saved(learner: Learner) -> bytes:
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    return file.getvalue()
