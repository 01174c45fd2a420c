"""Rollouts in other processes: workers behind Ray, as one source of unrolls.

Each worker is asked for two unrolls at a time, so that it walks on while the learner has the other
one: with N workers 2 N unrolls are under way, and no more wait than that. An unroll is asked for
with a reference to the newest weights, which lie in shared memory, and comes back as a reference.

A worker that dies, raises, or is silent for too long is replaced by a new one, which begins with
fresh episodes. What it was walking is lost, and counted (`accounting`). Nothing is asked of a new
one before its process is there. If its machine is gone, too, that may be for ever: the others go
on without it.
"""

import time
from contextlib import ExitStack
from typing import Any

from groundling.agents.agent import Agent
from groundling.envs.errors import UserError
from groundling.training.accounting import Ledger
from groundling.training.actor import FinishedEpisode
from groundling.training.cluster import cluster, reserved
from groundling.training.config import TrainConfig
from groundling.training.environments import Environment
from groundling.training.metrics import Row
from groundling.training.progress import console
from groundling.training.remote import RemoteWorker, WorkerLost, put, wait
from groundling.training.rollouts import Identity, make_actor
from groundling.training.room import Room
from groundling.training.unroll import Unroll
from groundling.training.worker import Delivery, Failure, WorkerTraceback, to_tensors, weights_of

IN_FLIGHT = 2
"""Unrolls that one worker is asked for at a time: the second keeps it busy while the first is on
its way."""


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
        self.workers = [self._worker(number, 0) for number in range(config.rollout.workers)]
        self._environment = environment
        self._room: Room
        self._open = ExitStack()
        self._requests = 0
        self._version = -1
        self._weights: Any = None

    def _worker(self, number: int, incarnation: int) -> RemoteWorker:
        return RemoteWorker(self.config, Identity(number, incarnation), self.asked)

    def start(self) -> None:
        """Starts or joins Ray, reserves room for all workers, and starts them.

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
        groups = self._open.enter_context(reserved(rollout.workers, rollout.num_gpus))
        self._room = Room(groups, self.workers, rollout.stalled_after)
        for worker, group in zip(self.workers, groups, strict=True):
            worker.start(group)
        # Their start is no training time. Who does not come in time will be missed soon enough.
        starting = [worker.awaited for worker in self.workers]
        wait(starting, rollout.stalled_after, number=len(starting))
        for worker in self.workers:
            worker.check_started()

    def collect(self, length: int, *, policy_version: int = 0, ask: bool = False) -> Unroll:
        """The next unroll that is not too old, on the learner's device.

        Args:
            length: T, as configured.
            policy_version: updates that the learner has made.
            ask: unrolls that are asked for in this call shall ask the online probe.

        Raises:
            UserError: a machine, or an environment, failed too often in a row, or there has been
                no room for any worker for too long.
            Exception: what one of ours, or a plug-in, raised too often in a row.
        """
        assert length == self.config.learner.unroll_length
        while True:
            self._room.look()
            self._replace_stalled()
            self._ask_for_more(policy_version, ask)
            delivery = self._next()
            if delivery is None:
                continue
            lag = policy_version - delivery.unroll.policy_version
            if lag > self.config.rollout.max_lag:
                self.ledger.dropped += delivery.size
                continue
            self.ledger.used += delivery.size
            self.oldest = max(self.oldest, lag)
            return to_tensors(delivery.unroll, self.device)

    def _ask_for_more(self, version: int, ask: bool) -> None:
        """Asks every worker that is there for as many unrolls as may be under way, in turns."""
        if version != self._version:
            self._version, self._weights = version, put(weights_of(self.agent))
        there = [worker for worker in self.workers if worker.is_there()]
        for under_way in range(IN_FLIGHT):
            for worker in there:
                if worker.under_way <= under_way:
                    worker.ask_for(version, self._weights, ask, number=self._requests)
                    self._requests += 1

    def _next(self) -> Delivery | None:
        """Waits for an unroll: the first one to be there, or (`in_order`) the first one that was
        asked for. None if there is a new worker instead, one failed, or it is time to look."""
        asked = [worker for worker in self.workers if worker.under_way]
        asked.sort(key=lambda worker: worker.first.number)
        if self.config.rollout.in_order:
            asked = asked[:1]
        waiting = asked + [worker for worker in self.workers if not worker.under_way]
        references = {worker.awaited: worker for worker in waiting}
        until = min(self._deadline(w) if w.under_way else self._room.next_look for w in waiting)
        ready = wait(list(references), until - time.monotonic())
        if not ready or not references[ready[0]].under_way:
            return None
        return self._receive(references[ready[0]])

    def _receive(self, worker: RemoteWorker) -> Delivery | None:
        """What a worker has ready; None if it failed."""
        try:
            answer = worker.receive()
        except WorkerLost as lost:
            self._replace(worker, str(lost), lost.unrolls)
            return None
        if isinstance(answer, Failure):
            said = " ".join(str(answer.error).split())
            what = f"raised {type(answer.error).__name__}: {said}"
            self._replace(worker, what, 1 + worker.begun(), answer)
            return None
        worker.failures = 0
        self.ledger.receive(answer.id, answer.steps)
        self.finished += answer.finished
        return answer

    def _deadline(self, worker: RemoteWorker) -> float:
        return worker.since + self.config.rollout.stalled_after

    def _replace_stalled(self) -> None:
        now, seconds = time.monotonic(), self.config.rollout.stalled_after
        for worker in self.workers:
            overdue = now >= self._deadline(worker) and not worker.homeless
            if overdue and not worker.is_ready():
                self._replace(worker, f"gave no unroll for {seconds:g} s", worker.begun())

    def _replace(
        self, worker: RemoteWorker, what: str, unrolls: int, failure: Failure | None = None
    ) -> None:
        """Replaces a worker that failed, unless it did so too often, or always would.

        Args:
            worker: in whose place another one is put.
            what: happened.
            unrolls: that it had begun, and that will not come.
            failure: what it raised, if it did.
        """
        most = self.config.rollout.max_failures
        worker.failures += 1
        self.ledger.lose(unrolls * self.config.frames_per_update)
        too_often = worker.failures >= most
        if failure is not None:
            # What cannot be made will not be made by trying again.
            always = failure.making and isinstance(failure.error, UserError)
            if too_often or always:
                raise failure.error from WorkerTraceback(failure.traceback)
        elif too_often:
            raise UserError(
                f"{worker} {what}, {worker.failures} times in a row; expected an unroll now and "
                "then (rollout.max-failures, rollout.stalled-after)"
            )
        in_a_row = f"{worker.failures} of {most} in a row"
        console.print(f"{worker} {what}: replaced ({in_a_row})", soft_wrap=True, highlight=False)
        self.replaced += 1
        worker.succeed(self._room.groups[worker.identity.worker])

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
        begun = sum(worker.begun() for worker in self.workers)
        return {
            **self.ledger.row(),
            "steps_under_way": begun * self.config.frames_per_update,
            "workers_replaced": self.replaced,
            "incarnations": [worker.identity.incarnation for worker in self.workers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the accounts. What was under way is lost; the places, as many as there are now,
        are filled by newcomers."""
        self.ledger.load(state)
        self.ledger.lose(state["steps_under_way"])
        self.replaced = state["workers_replaced"]
        newest = 1 + max(state["incarnations"])
        self.workers = [self._worker(n, newest) for n in range(self.config.rollout.workers)]

    def settle(self) -> None:
        """Dismisses all workers. What they have begun is lost."""
        for worker in self.workers:
            self.ledger.lose(worker.begun() * self.config.frames_per_update)
            worker.dismiss()

    def close(self) -> None:
        """Dismisses all workers, and leaves Ray as it was found."""
        self._environment.close()
        for worker in self.workers:
            worker.dismiss()
        self._open.close()
