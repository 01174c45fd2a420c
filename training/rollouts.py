"""Where a learner's unrolls come from, and the actor that makes them, in whichever process."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from groundling.agents.agent import Agent
from groundling.agents.generators import named_generator, named_seed
from groundling.training.actor import Actor, FinishedEpisode
from groundling.training.config import TrainConfig
from groundling.training.environments import Environment
from groundling.training.metrics import Row
from groundling.training.seeds import environment_seed
from groundling.training.unroll import Unroll


class UnrollSource(Protocol):
    """Makes unrolls: an `Actor` in this process, or `distributed.Workers` in others."""

    finished: list[FinishedEpisode]
    """Episodes that ended and were not reported yet; whoever reports them empties it."""

    def collect(self, length: int, *, policy_version: int = 0, ask: bool = False) -> Unroll:
        """The next unroll to learn from, see `Actor.collect`."""

    def accounts(self) -> Row:
        """What became of the steps taken, for a row of metrics; nothing where all are used."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors and plain values only."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""

    def start(self) -> None:
        """Reserves what it takes; raises UserError if that is not there."""

    def settle(self) -> None:
        """Nothing more will be asked for: accounts for all that is under way."""

    def close(self) -> None:
        """Gives everything back."""


class Identity(NamedTuple):
    """Which worker an actor is in, and the how many-eth to fill that place."""

    worker: int
    """From 0."""
    incarnation: int
    """From 0; one more each time a worker is replaced, or its run resumed."""

    def seed(self, run_seed: int) -> int:
        """Of all that it draws. The first of all draws what the in-process loop would."""
        if self == FIRST:
            return run_seed
        return named_seed(run_seed, f"worker {self.worker}, incarnation {self.incarnation}")


FIRST = Identity(0, 0)


def make_actor(
    config: TrainConfig,
    environment: Environment,
    agent: Agent,
    *,
    asked: bool,
    identity: Identity = FIRST,
) -> Actor:
    """An actor with the seeds of its place in the run.

    Environment i of worker w is environment w · num_envs + i of the run, and meets the same
    episodes whatever the number of workers. What fills a place anew begins with fresh ones.

    Args:
        config: of the run.
        environment: as configured; first episodes staggered if it is rooms.
        agent: acts; its device is where the rows go.
        asked: questions for the online probe are to be drawn.
        identity: of the worker that the actor is for; the in-process loop has but one.
    """
    device = next(agent.parameters()).device
    worker, incarnation = identity
    first_of_incarnation = Identity(0, incarnation).seed(config.seed)
    own = identity.seed(config.seed)
    return Actor(
        environment,
        agent,
        seed=environment_seed("train", first_of_incarnation) + worker * config.env.num_envs,
        generator=named_generator(own, "actions", device),
        question_generator=(np.random.default_rng(named_seed(own, "questions")) if asked else None),
        location_generator=named_generator(own, "locations", device),
        labelled=config.learner.label_weight > 0,
        exploration=config.learner.exploration,
        staggered=config.env.is_rooms,
        traced=not config.rollout.workers and config.learners == 1,
    )
