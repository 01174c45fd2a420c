"""What became of every environment step that workers took."""

from typing import Any, NamedTuple

from groundling.training.rollouts import Identity


class UnrollId(NamedTuple):
    """Names an unroll for ever; no two are alike, and none is learned from twice."""

    identity: Identity
    """The worker that walked it."""
    number: int
    """How many it had walked before."""


class Ledger:
    """Counts steps: each one that was taken was learned from, or dropped, or lost.

    What was taken is told by the workers, as their own count so far; what was used or dropped is
    counted from the unrolls as the learner gets them. That both agree (`check`) means that no
    unroll was forgotten and none came twice. Of an unroll that began and never came nobody knows
    how far it got: all its steps are counted as taken, and as lost.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.used = 0
        self.dropped = 0
        self.lost = 0
        self._told: dict[Identity, tuple[int, int]] = {}

    def receive(self, unroll: UnrollId, steps: int) -> None:
        """Notes that an unroll came.

        Args:
            unroll: which one.
            steps: that its worker has taken so far, with those of this unroll.

        Raises:
            RuntimeError: it is not the next one of its worker: it came before, or one is missing.
        """
        came, before = self._told.get(unroll.identity, (0, 0))
        if unroll.number != came:
            raise RuntimeError(f"{unroll} came; expected number {came} of that worker")
        self._told[unroll.identity] = (came + 1, steps)
        self.taken += steps - before

    def lose(self, steps: int) -> None:
        """Notes an unroll of so many steps that began and will never come."""
        self.taken += steps
        self.lost += steps

    def check(self) -> None:
        """Raises RuntimeError unless all that was taken is accounted for."""
        if self.taken != self.used + self.dropped + self.lost:
            raise RuntimeError(f"steps are not accounted for: {self.row()}")

    def row(self) -> dict[str, int]:
        """For a row of metrics, or a checkpoint."""
        return {
            "steps_taken": self.taken,
            "steps_used": self.used,
            "steps_dropped": self.dropped,
            "steps_lost": self.lost,
        }

    def load(self, row: dict[str, Any]) -> None:
        """The inverse of `row`."""
        self.taken, self.used = row["steps_taken"], row["steps_used"]
        self.dropped, self.lost = row["steps_dropped"], row["steps_lost"]
