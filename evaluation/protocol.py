"""The protocol of questioning a frozen agent: what is walked, asked, fitted and compared."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from groundling.agents.agent import Agent
from groundling.agents.probe import DecoderName
from groundling.envs.errors import UserError

Controls = Literal["none", "few", "all"]
Walker = Literal["explorer", "random", "agent"]


@dataclass(frozen=True)
class ProbeSettings:
    """How a frozen agent is questioned. The defaults are the protocol; `--quick` is a look."""

    rooms: int = 30_000
    """Distinct rooms the decoders are fitted on."""
    validation_rooms: int = 2_000
    """Distinct rooms that decide which pass of a decoder is kept."""
    test_rooms: int = 5_000
    """Distinct rooms the tables are scored on."""
    ask_every: int = 8
    """Steps between two moments of questions, on average."""
    walker: Walker | None = None
    """Who chooses the path: the scripted explorer or chance, the same for all agents, or the agent
    itself. None: the explorer, or chance in a world that has none."""
    decoders: tuple[DecoderName, ...] = ("mlp", "linear", "lstm")
    """A perceptron, a linear map for each question, the LSTM of Das et al. 2020; the first one is
    asked on behalf of every row of the table."""
    controls: Controls = "all"
    """Rows beside the agent: none; few, the untrained agent and the question alone; or all."""
    remembered: int = 8
    """Observations that the control of the last observations is given."""
    size: int = 512
    """Width of the decoders (of the LSTM a fifth: it costs twice as much even so)."""
    passes: int = 2
    """Passes over the questions, at the most; one that brings nothing is the last."""
    batch: int = 32
    """Moments per update of a decoder, each with all its questions."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    """Adam's step sizes that every decoder of every row may try, on a twentieth of the moments; the
    one that answers the validation rooms best is used. It falls to 0 along a cosine."""
    seed: int = 0
    """Of the decoders' weights and order of questions."""

    def __post_init__(self) -> None:
        for name in ("decoders", "learning_rates"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        counts = ("rooms", "validation_rooms", "test_rooms", "ask_every", "passes", "batch")
        for field in (*counts, "remembered", "size"):
            value = getattr(self, field)
            if value < 1:
                raise UserError(f"{field.replace('_', '-')} is {value}; expected at least 1")
        if not self.learning_rates or not all(rate > 0 for rate in self.learning_rates):
            raise UserError(f"learning-rates is {self.learning_rates}; expected positive numbers")
        known = get_args(DecoderName)
        if not self.decoders or any(name not in known for name in self.decoders):
            raise UserError(
                f"decoders is {' '.join(self.decoders) or 'empty'}; expected some of "
                f"{', '.join(known)}"
            )
        if len(set(self.decoders)) < len(self.decoders):
            raise UserError(f"decoders is {' '.join(self.decoders)}; expected none of them twice")

    def in_world(self, *, has_explorer: bool) -> "ProbeSettings":
        """The same settings with a walker, in a world that has a scripted explorer or has none."""
        return replace(self, walker=self.walker or ("explorer" if has_explorer else "random"))

    @property
    def asked(self) -> dict[str, Any]:
        """What decides which questions are asked, without the number of rooms."""
        return {"every": self.ask_every, "walker": self.walker, "seed": self.seed}

    @property
    def fitted(self) -> dict[str, Any]:
        """What decides how a decoder is fitted."""
        names = ("size", "passes", "batch", "learning_rates", "seed")
        return {name: getattr(self, name) for name in names}


QUICK = ProbeSettings(
    rooms=4_000,
    validation_rooms=500,
    test_rooms=2_000,
    passes=3,
    decoders=("mlp",),
    controls="few",
)


def digest(content: Any) -> str:
    """A short name for plain content: equal for equal content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def weights_digest(agent: Agent) -> str:
    """A short name for an agent: equal for equal weights, and for who looks alike."""
    found = hashlib.sha256()
    if agent.attention is not None:  # The controls have no weights that tell them apart.
        found.update(repr(agent.attention.config).encode())
    for name, tensor in sorted(agent.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]
