"""Rollouts in other processes: workers behind Ray, as one source of unrolls.

Each worker is asked for two unrolls at a time, so that it walks on while the learner has the other
one: with N workers 2 N unrolls are under way, and no more wait than that. An unroll is asked for
with a reference to the newest weights, which lie in shared memory, and comes back as a reference.

A worker that dies, raises, or is silent for too long is replaced by a new one, which begins with
fresh episodes. What it was walking is lost, and counted (`accounting`).
"""

import sys
import time
from collections import deque
from contextlib import ExitStack
from typing import Any, NamedTuple

from groundling.agents.agent import Agent
from groundling.envs.errors import UserError
from groundling.training.accounting import Ledger
from groundling.training.actor import FinishedEpisode
from groundling.training.cluster import cluster, reserved
from groundling.training.config import TrainConfig
from groundling.training.environments import Environment
from groundling.training.metrics import Row
from groundling.training.progress import console
from groundling.training.rollouts import Identity, make_actor
from groundling.training.unroll import Unroll
from groundling.training.worker import (
    Delivery,
    Failure,
    RolloutWorker,
    WorkerTraceback,
    to_tensors,
    weights_of,
)

IN_FLIGHT = 2
"""Unrolls that one worker is asked for at a time: the second keeps it busy while the first is on
its way."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""In a worker: as many workers as cores is what a machine is made for."""


class _Request(NamedTuple):
    """An unroll that was asked for."""

    number: int
    """Of all requests of this process."""
    reference: Any
    """Ray's, to a `Delivery` or `Failure`."""


class _Place:
    """A worker's place in the run: who fills it now, and what it was asked for."""

    def __init__(self, worker: int, incarnation: int) -> None:
        self.identity = Identity(worker, incarnation)
        self.handle: Any = None
        self.whereabouts: Any = None
        self.requests: deque[_Request] = deque()
        self.failures = 0
        """Since its last unroll."""
        self.since = 0.0
        """When it was first asked for what is still to come."""


class Workers:
    """A run's rollout workers, as the learner sees them: an `UnrollSource`.

    Args:
        config: of the run; `config.rollout` says how many workers, and where.
        environment: one as the workers will have, to see that it works; it is closed then.
        agent: the learner's, whose weights the workers are given.
        asked: questions for the online probe will be drawn.
    """

    def __init__(
        self, config: TrainConfig, environment: Environment, agent: Agent, *, asked: bool
    ) -> None:
        self.config = config
        self.agent = agent
        self.asked = asked
        self.device = next(agent.parameters()).device
        self.finished: list[FinishedEpisode] = []
        self.ledger = Ledger()
        self.replaced = 0
        self.oldest = 0
        self._environment = environment
        self._places = [_Place(worker, 0) for worker in range(config.rollout.workers)]
        self._group: Any = None
        self._open = ExitStack()
        self._asked_for = 0
        self._weights: tuple[int, Any] = (-1, None)

    def start(self) -> None:
        """Starts or joins Ray, and reserves room for all workers.

        Everything that a worker does is first done once here: what is wrong with an environment
        shows with its own traceback, and compiled kernels are in numba's cache, which is not safe
        against several processes that compile at once.

        Raises:
            UserError: there is no such cluster, or no room; or the environment is at fault.
        """
        rehearsal = make_actor(self.config, self._environment, self.agent, asked=self.asked)
        rehearsal.collect(1, ask=self.asked)
        rehearsal.close()
        rollout = self.config.rollout
        self._open.enter_context(cluster(rollout.ray_address))
        self._group = self._open.enter_context(reserved(rollout.workers, rollout.num_gpus))
        for place in self._places:
            self._fill(place)

    def collect(self, length: int, *, policy_version: int = 0, ask: bool = False) -> Unroll:
        """The next unroll that is not too old, on the learner's device.

        Args:
            length: T, as configured.
            policy_version: updates that the learner has made.
            ask: unrolls that are asked for in this call shall ask the online probe.

        Raises:
            UserError: an environment, or a machine, failed too often in a row.
            Exception: whatever an environment raised too often in a row.
        """
        assert length == self.config.learner.unroll_length
        while True:
            self._ask_for_more(policy_version, ask)
            delivery = self._receive(self._next_ready())
            if delivery is None:
                continue
            steps = delivery.size
            lag = policy_version - delivery.unroll.policy_version
            if lag > self.config.rollout.max_lag:
                self.ledger.dropped += steps
                continue
            self.ledger.used += steps
            self.oldest = max(self.oldest, lag)
            return to_tensors(delivery.unroll, self.device)

    def _ask_for_more(self, version: int, ask: bool) -> None:
        """Asks every worker for as many unrolls as may be under way."""
        import ray

        if version != self._weights[0]:
            self._weights = (version, ray.put(weights_of(self.agent)))
        for under_way in range(IN_FLIGHT):
            for place in self._places:
                if len(place.requests) > under_way:
                    continue
                if not place.requests:
                    place.since = time.monotonic()
                reference = place.handle.collect.remote(*self._weights, ask)
                place.requests.append(_Request(self._asked_for, reference))
                self._asked_for += 1

    def _next_ready(self) -> _Place:
        """Waits for the next unroll: the first one to be there, or (`in_order`) the first one that
        was asked for. Workers that keep silent are replaced meanwhile."""
        import ray

        while True:
            self._replace_stalled()
            waiting = [place for place in self._places if place.requests]
            waiting.sort(key=lambda place: place.requests[0].number)
            if self.config.rollout.in_order:
                waiting = waiting[:1]
            heads = {place.requests[0].reference: place for place in waiting}
            patience = min(self._deadline(place) for place in waiting) - time.monotonic()
            ready, _ = ray.wait(list(heads), timeout=max(patience, 0.01))
            if ready:
                return heads[ready[0]]

    def _deadline(self, place: _Place) -> float:
        return place.since + self.config.rollout.stalled_after

    def _replace_stalled(self) -> None:
        import ray

        now = time.monotonic()
        for place in self._places:
            if not place.requests or now < self._deadline(place):
                continue
            if not ray.wait([place.requests[0].reference], timeout=0)[0]:
                seconds = self.config.rollout.stalled_after
                self._fail(place, f"gave no unroll for {seconds:g} s")

    def _receive(self, place: _Place) -> Delivery | None:
        """What a worker was asked for first and has ready; None if it failed."""
        import ray

        request = place.requests.popleft()
        place.since = time.monotonic()
        try:
            answer = ray.get(request.reference)
        except ray.exceptions.RayError as error:
            _check_made(error, self._name(place))
            self._fail(place, f"died ({type(error).__name__})")
            return None
        if isinstance(answer, Failure):
            said = " ".join(str(answer.error).split())
            self._fail(place, f"raised {type(answer.error).__name__}: {said}", answer)
            return None
        assert isinstance(answer, Delivery)
        place.failures = 0
        self.ledger.receive(answer.id, answer.steps)
        self.finished += answer.finished
        return answer

    def _fail(self, place: _Place, what: str, failure: Failure | None = None) -> None:
        """Replaces a worker that failed, unless it did so too often, or always will."""
        most = self.config.rollout.max_failures
        place.failures += 1
        self.ledger.lose(self.config.frames_per_update)
        hopeless = failure is not None and failure.making and isinstance(failure.error, UserError)
        name = self._name(place)
        if failure is not None and (hopeless or place.failures >= most):
            raise failure.error from WorkerTraceback(failure.traceback)
        if place.failures >= most:
            raise UserError(
                f"{name} {what}, {place.failures} times in a row; expected an unroll now and then "
                "(rollout.max-failures, rollout.stalled-after)"
            )
        console.print(
            f"{name} {what}: replaced ({place.failures} of {most} in a row)", soft_wrap=True
        )
        self._dismiss(place)
        self.replaced += 1
        place.identity = place.identity._replace(incarnation=place.identity.incarnation + 1)
        self._fill(place)

    def _name(self, place: _Place) -> str:
        """A worker for people: its number, and where it is or was, once it has said so."""
        import ray

        name = f"rollout worker {place.identity.worker}"
        if ray.wait([place.whereabouts], timeout=0)[0]:
            try:
                process, machine = ray.get(place.whereabouts)
            except ray.exceptions.RayError:
                return name
            name += f" (process {process} on {machine})"
        return name

    def _fill(self, place: _Place) -> None:
        """Starts a new worker in a place."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        kind = ray.remote(RolloutWorker).options(
            num_cpus=1,
            num_gpus=self.config.rollout.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": ONE_THREAD},
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                self._group, placement_group_bundle_index=place.identity.worker
            ),
        )
        place.handle = kind.remote(self.config, place.identity, self.asked, tuple(sys.path))
        place.whereabouts = place.handle.whereabouts.remote()

    def _dismiss(self, place: _Place) -> None:
        import ray

        ray.kill(place.handle)
        place.requests.clear()

    def _begun(self, place: _Place) -> int:
        """Unrolls that a worker has begun and not delivered: it walks one after the other."""
        import ray

        references = [request.reference for request in place.requests]
        if not references:
            return 0
        there, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return min(len(there) + 1, len(references))

    def accounts(self) -> Row:
        """Steps by what became of them, workers replaced so far, and the largest lag since the
        last row, in updates."""
        self.ledger.check()
        oldest, self.oldest = self.oldest, 0
        return {
            **self.ledger.row(),
            "workers_replaced": self.replaced,
            "policy_lag_max": oldest,
        }

    def state_dict(self) -> dict[str, Any]:
        """The accounts, what is under way, and who filled the places."""
        self.ledger.check()
        begun = sum(self._begun(place) for place in self._places)
        return {
            **self.ledger.row(),
            "steps_under_way": begun * self.config.frames_per_update,
            "workers_replaced": self.replaced,
            "incarnations": [place.identity.incarnation for place in self._places],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the accounts. What was under way is lost; the places are filled anew."""
        self.ledger.load(state)
        self.ledger.lose(state["steps_under_way"])
        self.replaced = state["workers_replaced"]
        self._places = [
            _Place(worker, before + 1) for worker, before in enumerate(state["incarnations"])
        ]

    def settle(self) -> None:
        """Dismisses all workers. What they have begun is lost."""
        for place in self._places:
            self.ledger.lose(self._begun(place) * self.config.frames_per_update)
            if place.handle is not None:
                self._dismiss(place)

    def close(self) -> None:
        """Dismisses all workers, and leaves Ray as it was found."""
        self._environment.close()
        for place in self._places:
            if place.handle is not None:
                self._dismiss(place)
        self._open.close()


def _check_made(error: Exception, name: str) -> None:
    """Raises UserError if the process of a worker is there, but cannot run ours."""
    if getattr(error, "actor_init_failed", False):
        why = str(error).strip().splitlines()[-1]
        raise UserError(
            f"{name} cannot begin ({why}); expected the same groundling where it runs"
        ) from error
