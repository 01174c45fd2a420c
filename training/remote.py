"""One rollout worker as the learner's process knows it: who fills its place, and what is asked."""

import sys
import time
from collections import deque
from typing import Any, NamedTuple

from groundling.envs.errors import UserError
from groundling.training.config import TrainConfig
from groundling.training.rollouts import Identity
from groundling.training.worker import Delivery, Failure, RolloutWorker, Weights

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""In a worker: as many workers as cores is what a machine is made for."""


class WorkerLost(Exception):
    """A worker's process is gone, or what it made.

    Args:
        what: happened, after the worker's name.
        unrolls: that it had begun, or finished, and that will not come.
    """

    def __init__(self, what: str, unrolls: int = 1) -> None:
        super().__init__(what)
        self.unrolls = unrolls


class _Request(NamedTuple):
    """An unroll that was asked for."""

    number: int
    """Of all requests of this process."""
    reference: Any
    """Ray's, to a `Delivery` or a `Failure`."""


class RemoteWorker:
    """A worker's place in the run, and the Ray actor that fills it.

    Args:
        config: of the run.
        identity: of who fills the place first.
        asked: questions for the online probe will be drawn.
    """

    def __init__(self, config: TrainConfig, identity: Identity, asked: bool) -> None:
        self.config = config
        self.identity = identity
        self.asked = asked
        self.failures = 0
        """Since the last unroll."""
        self.since = 0.0
        """When what is still to come may have been begun: an unroll, or the process itself."""
        self.homeless = False
        """There was no room for it when somebody last looked."""
        self._handle: Any = None
        self._whereabouts: Any = None
        self._requests: deque[_Request] = deque()

    def start(self, group: Any) -> None:
        """Starts a process, in the worker's own placement group (`cluster.reserved`).

        It is never Ray that starts it again: what it was asked for must not be walked twice.
        """
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        kind = ray.remote(RolloutWorker).options(
            num_cpus=1,
            num_gpus=self.config.rollout.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": ONE_THREAD},
            scheduling_strategy=PlacementGroupSchedulingStrategy(group),
        )
        self._handle = kind.remote(self.config, self.identity, self.asked, tuple(sys.path))
        self._whereabouts = self._handle.whereabouts.remote()
        self.since = time.monotonic()

    def succeed(self, group: Any) -> None:
        """Kills the process, forgets what it was asked for, and starts another one."""
        self.dismiss()
        self.identity = self.identity._replace(incarnation=self.identity.incarnation + 1)
        self.start(group)

    def dismiss(self) -> None:
        """Kills the process, if there is one."""
        self._requests.clear()
        if self._handle is not None:
            import ray  # Not before: whoever stops a run may do so while Ray is being imported.

            ray.kill(self._handle)

    def ask_for(self, version: int, weights: Any, ask: bool, *, number: int) -> None:
        """Asks for one more unroll.

        Args:
            version: of the weights.
            weights: a reference to them (`worker.Weights`).
            ask: whether to ask the online probe in it.
            number: of the request.
        """
        if not self._requests:
            self.since = time.monotonic()
        reference = self._handle.collect.remote(version, weights, ask)
        self._requests.append(_Request(number, reference))

    @property
    def under_way(self) -> int:
        """Unrolls that were asked for and not received."""
        return len(self._requests)

    @property
    def first(self) -> _Request:
        """What was asked for first of all that is under way."""
        return self._requests[0]

    def is_there(self) -> bool:
        """Whether its process has begun, or failed to."""
        return self.under_way > 0 or _is_there(self._whereabouts)

    @property
    def awaited(self) -> Any:
        """Ray's reference to what is to come next: an unroll or, before any was asked for, the
        process."""
        return self.first.reference if self._requests else self._whereabouts

    def is_ready(self) -> bool:
        """Whether what is awaited has come."""
        return _is_there(self.awaited)

    def receive(self) -> Delivery | Failure:
        """Waits for what was asked for first.

        Raises:
            WorkerLost: it will not come.
            UserError: it never would: this package cannot run where the worker is.
        """
        import ray

        request = self._requests.popleft()
        self.since = time.monotonic()
        try:
            answer: Delivery | Failure = ray.get(request.reference)
        except ray.exceptions.RayError as error:
            self._check_made(error)
            # It had finished one that is gone with its machine, and gone on to the next.
            went_on = isinstance(error, ray.exceptions.ObjectLostError) and self.under_way > 0
            raise WorkerLost(f"died ({type(error).__name__})", 1 + went_on) from error
        return answer

    def begun(self) -> int:
        """Unrolls under way that were begun: a worker walks one after the other."""
        there = sum(_is_there(request.reference) for request in self._requests)
        return min(there + 1, self.under_way)

    def check_started(self) -> None:
        """Raises UserError if the process is there, but cannot run this package."""
        import ray

        try:
            if _is_there(self._whereabouts):
                ray.get(self._whereabouts)
        except ray.exceptions.RayError as error:
            self._check_made(error)

    def _check_made(self, error: Exception) -> None:
        if getattr(error, "actor_init_failed", False):
            why = str(error).strip().splitlines()[-1]
            raise UserError(
                f"rollout worker {self.identity.worker} cannot begin ({why}); expected the same "
                "groundling where it runs"
            ) from error

    def __str__(self) -> str:
        """For people: its number, and where it is or was, once it has said so."""
        import ray

        name = f"rollout worker {self.identity.worker}"
        try:
            if _is_there(self._whereabouts):
                process, machine = ray.get(self._whereabouts)
                name += f" (process {process} on {machine})"
        except ray.exceptions.RayError:
            pass
        return name


def put(weights: Weights | bytes) -> Any:
    """A reference to weights, for any number of workers."""
    import ray

    return ray.put(weights)


def wait(references: list[Any], seconds: float, *, number: int = 1) -> list[Any]:
    """Those of Ray's references that are there after at most so many seconds; the first `number`
    of them, in the order given."""
    import ray

    there, _ = ray.wait(references, num_returns=number, timeout=max(seconds, 0.0))
    return list(there)


def _is_there(reference: Any) -> bool:
    return bool(wait([reference], 0.0))
