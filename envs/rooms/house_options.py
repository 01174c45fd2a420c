"""What a user may choose about a house with several agents. Light to import, like `options`."""

from dataclasses import dataclass
from typing import Literal, get_args

from groundling.envs.options import check_choice, check_integer, refuse
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
            refuse("task", self.task, "explore: agents of one house have no instructions")
        if self.stagger:
            refuse("stagger", True, "False: a house of several agents starts at step 0")
        check_choice("mode", self.mode, get_args(Mode))
        check_integer("agents", self.agents, 1, MOST_AGENTS)
        if not isinstance(self.quota, int) or isinstance(self.quota, bool) or self.quota < 0:
            refuse("quota", self.quota, "an integer, 0 for none")
