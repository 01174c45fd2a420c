"""What a user may choose about a house with several agents. Light to import, like `options`."""

from dataclasses import dataclass
from typing import Literal, get_args

from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions

Mode = Literal["cooperative", "competitive"]

MOST_AGENTS = 4
"""All of them find room anywhere: at least six cells of the smallest house hold no object."""


@dataclass(frozen=True)
class HouseOptions(RoomsOptions):
    """One kind of house, and who explores it.

    Raises ValueError, in one line that names the field, when there is no such house.
    """

    agents: int = 2
    """Agents in the house (1 to 4)."""
    mode: Mode = "cooperative"
    """Whom the first visit to an object pays: everybody (cooperative) or the visitor."""
    quota: int = 0
    """Rewards after which an agent is done and leaves the house; 0: it stays to the end."""

    def __post_init__(self) -> None:
        """Check every field against what a house can be."""
        super().__post_init__()
        if self.task != "explore":
            raise _refusal("task", self.task, "explore: agents of one house have no instructions")
        if self.stagger:
            raise _refusal("stagger", True, "False: a house of several agents starts at step 0")
        if self.mode not in get_args(Mode):
            raise _refusal("mode", self.mode, f"one of {', '.join(get_args(Mode))}")
        if not _is_whole(self.agents) or not 1 <= self.agents <= MOST_AGENTS:
            raise _refusal("agents", self.agents, f"an integer from 1 to {MOST_AGENTS}")
        if not _is_whole(self.quota) or self.quota < 0:
            raise _refusal("quota", self.quota, "an integer, 0 for none")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refusal(name: str, value: object, expected: str) -> UserError:
    return UserError(f"{name}={value!r}, expected {expected}")
