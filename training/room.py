"""Room for workers: which of them have lost their machine, and whether there is another."""

import time
from collections.abc import Sequence
from typing import Any

from groundling.envs.errors import UserError
from groundling.training.progress import console
from groundling.training.remote import RemoteWorker

LOOK_SECONDS = 1.0
"""Between two looks for room for a worker that has none."""


class Room:
    """Knows which workers wait for a machine, and tells the user.

    To lose a machine is no failure of the worker's own, and while there is no other one it is not
    silent. Ray gives it the next place that comes free by itself.

    Args:
        groups: a placement group for each worker (`cluster.reserved`).
        workers: of the run; new processes fill the same places.
        patience: seconds that all of them may be without room.
    """

    def __init__(
        self, groups: Sequence[Any], workers: Sequence[RemoteWorker], patience: float
    ) -> None:
        self.groups = groups
        self.workers = workers
        self.patience = patience
        self._looked = -LOOK_SECONDS

    @property
    def next_look(self) -> float:
        """When to look again, in seconds of the monotonic clock."""
        return self._looked + LOOK_SECONDS

    def look(self) -> None:
        """Finds out, if it is time, who has lost its machine or has another one.

        Raises:
            UserError: nobody has had room for too long.
        """
        absent = [worker for worker in self.workers if worker.homeless or not worker.is_there()]
        now = time.monotonic()
        if not absent or now < self.next_look:
            return
        self._looked = now
        for worker in absent:
            homeless = _is_without_machine(self.groups[worker.identity.worker])
            if homeless != worker.homeless:
                worker.homeless, worker.since = homeless, now
                said = "waits for room: its machine is gone" if homeless else "has room again"
                console.print(f"{worker} {said}", soft_wrap=True, highlight=False)
        last = max(worker.since for worker in self.workers)
        if all(worker.homeless for worker in self.workers) and now >= last + self.patience:
            raise UserError(
                f"there has been no room for any of {len(self.workers)} rollout workers for "
                f"{self.patience:g} s; expected machines to come back (rollout.stalled-after)"
            )


def _is_without_machine(group: Any) -> bool:
    from ray.util.placement_group import placement_group_table

    return not all(placement_group_table(group)["bundles_to_node_id"].values())
