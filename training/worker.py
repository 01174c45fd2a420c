"""A rollout worker: the actor of the in-process loop, as it lives in a process of its own.

Nothing here knows of Ray. What goes in and out are NumPy arrays, which Ray keeps in shared memory
and hands over without copying; bytes stay bytes on the way.
"""

import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.agent import Agent
from groundling.envs.errors import UserError
from groundling.training.accounting import UnrollId
from groundling.training.actor import Actor, FinishedEpisode
from groundling.training.config import TrainConfig
from groundling.training.environments import make_environment
from groundling.training.rollouts import Identity, make_actor
from groundling.training.run import make_agent, resolve_device
from groundling.training.unroll import Unroll

Weights = dict[str, NDArray[Any]]
"""An agent's, by name."""


class Delivery(NamedTuple):
    """An unroll on its way to the learner."""

    id: UnrollId
    steps: int
    """Environment steps that the worker has taken so far."""
    unroll: Unroll
    """With arrays in the place of tensors."""
    finished: list[FinishedEpisode]

    @property
    def size(self) -> int:
        """Environment steps in the unroll itself, T · B."""
        return int(np.size(self.unroll.terminated))


class Failure(NamedTuple):
    """What was raised instead."""

    error: Exception
    traceback: str
    """As it was in the worker; it does not travel with the exception."""
    making: bool
    """While the environment and the agent were made: trying again would not help."""


class WorkerTraceback(Exception):
    """Where in a worker an exception was raised: the cause of that exception in this process."""

    place = "a rollout worker"

    def __str__(self) -> str:
        return f'in {self.place}\n"""\n{self.args[0]}"""'


class RolloutWorker:
    """An environment and an agent that walk when they are told to. They are made at the first call.

    Args:
        config: of the run.
        identity: its place in the run.
        asked: questions for the online probe are to be drawn.
        search_path: where its process is to look for modules, too, last.
    """

    def __init__(
        self, config: TrainConfig, identity: Identity, asked: bool, search_path: Sequence[str]
    ) -> None:
        self.config = config
        self.identity = identity
        self.asked = asked
        self.walked = 0
        self.steps = 0
        self.version = -1
        self._actor: Actor | None = None
        sys.path += [folder for folder in search_path if folder not in sys.path]

    def whereabouts(self) -> tuple[int, str]:
        """Process id, and the machine's name."""
        return os.getpid(), socket.gethostname()

    def collect(self, version: int, weights: Weights, ask: bool) -> Delivery | Failure:
        """Walks one unroll, with these weights if they are newer than those it has."""
        making = self._actor is None
        try:
            if self._actor is None:
                self._actor = self._make()
            making = False
            return self._walk(self._actor, version, weights, ask)
        except Exception as error:
            return Failure(able_to_travel(error), traceback.format_exc(), making)

    def _make(self) -> Actor:
        torch.set_num_threads(1)
        environment = make_environment(self.config.env, stagger=self.config.env.is_rooms)
        agent = make_agent(self.config, resolve_device(self.config.rollout.device))
        return make_actor(self.config, environment, agent, asked=self.asked, identity=self.identity)

    def _walk(self, actor: Actor, version: int, weights: Weights, ask: bool) -> Delivery:
        if version > self.version:
            # Copies: what lies in shared memory cannot be written to, and torch wants to.
            actor.agent.load_state_dict({n: torch.tensor(array) for n, array in weights.items()})
            self.version = version
        length = self.config.learner.unroll_length
        unroll = actor.collect(length, policy_version=version, ask=ask)
        self.steps += length * actor.batch
        self.walked += 1
        finished, actor.finished = actor.finished, []
        number = UnrollId(self.identity, self.walked - 1)
        return Delivery(number, self.steps, to_arrays(unroll), finished)


def weights_of(agent: Agent) -> Weights:
    """The agent's weights as arrays."""
    return {name: tensor.cpu().numpy() for name, tensor in agent.state_dict().items()}


def to_arrays(unroll: Unroll) -> Unroll:
    """An unroll with arrays in the place of tensors."""
    arrays: Unroll = _each(unroll, torch.Tensor, lambda tensor: tensor.cpu().numpy())
    return arrays


def to_tensors(unroll: Unroll, device: torch.device) -> Unroll:
    """The inverse of `to_arrays`, in memory of its own."""
    tensors: Unroll = _each(unroll, np.ndarray, lambda array: torch.tensor(array, device=device))
    return tensors


def _each(part: Any, kind: type[Any], change: Callable[[Any], Any]) -> Any:
    """A nest of named tuples and dicts with every leaf of one kind changed."""
    if isinstance(part, kind):
        return change(part)
    if isinstance(part, dict):
        return {name: _each(one, kind, change) for name, one in part.items()}
    if isinstance(part, tuple):
        return type(part)(*(_each(one, kind, change) for one in part))
    return part


def able_to_travel(error: Exception) -> Exception:
    """The exception, or, if it cannot be pickled and read again, its name and words."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        assert isinstance(copy, Exception)
    except Exception:
        kind = UserError if isinstance(error, UserError) else RuntimeError
        return kind(f"{type(error).__name__}: {error}")
    return error
