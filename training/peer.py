"""A learner as it is made for a run, and one beside the first, as it lives in a process of its own.

Nothing here knows of Ray. What goes in are NumPy arrays, as with rollout workers.
"""

import io
import os
import socket
import sys
import traceback
from collections.abc import Sequence

import torch

from groundling.agents.actions import DiscreteActions
from groundling.agents.generators import named_generator
from groundling.envs.errors import UserError
from groundling.training.config import TrainConfig
from groundling.training.environments import Environment, make_environment
from groundling.training.group import Joined, join_store
from groundling.training.learner import Learner
from groundling.training.memory import keep_freed_memory
from groundling.training.metrics import Measured
from groundling.training.monitor import make_monitor
from groundling.training.run import make_agent, resolve_device
from groundling.training.unroll import Unroll
from groundling.training.worker import Failure, able_to_travel, to_tensors


def make_learner(config: TrainConfig, environment: Environment, device: torch.device) -> Learner:
    """A fresh learner, with its agent and its online probe.

    Args:
        config: of the run.
        environment: as configured; asked what it can be asked, and not stepped.
        device: of the agent.

    Raises:
        UserError: labels, or questions, that this environment does not have.
    """
    agent = make_agent(config, device)
    if config.learner.label_weight and not isinstance(agent.actions, DiscreteActions):
        raise UserError(
            f"learner.label-weight is {config.learner.label_weight}; expected 0, as the "
            f"actions of {config.env.id} are not Discrete"
        )
    return Learner(
        agent,
        config.learner,
        generator=named_generator(config.seed, "prediction"),
        monitor=make_monitor(config, environment, agent),
    )


def device_of(name: str, rank: int) -> torch.device:
    """Where a learner's networks live: learners take the GPUs of a machine in turns, unless the
    configuration names one of them.

    Raises:
        UserError: there is no such device.
    """
    device = resolve_device(name)
    if name == "cuda":
        return torch.device("cuda", rank % torch.cuda.device_count())
    return device


class Peer:
    """A learner beside the first: takes its state once, and then steps when the others do.

    Args:
        config: of the run.
        rank: which learner it is, from 1.
        search_path: where its process is to look for modules, too, last.
    """

    def __init__(self, config: TrainConfig, rank: int, search_path: Sequence[str]) -> None:
        self.config = config
        self.rank = rank
        self.learner: Learner | None = None
        sys.path += [folder for folder in search_path if folder not in sys.path]
        keep_freed_memory()

    def whereabouts(self) -> tuple[int, str]:
        """Process id, and the machine's name."""
        return os.getpid(), socket.gethostname()

    def make(self, state: bytes) -> Failure | None:
        """Makes the learner, in the first one's state (`Learner.state_dict`, as torch saves it)."""
        try:
            torch.set_num_threads(self.config.threads)
            torch.set_flush_denormal(True)  # As `loop.computing` has it.
            environment = make_environment(self.config.env, num_envs=1)
            device = device_of(self.config.device, self.rank)
            self.learner = make_learner(self.config, environment, device)
            environment.close()
            saved = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
            self.learner.load_state_dict(saved)
        except Exception as error:
            return Failure(able_to_travel(error), traceback.format_exc(), making=True)
        return None

    def join(self, host: str, port: int) -> Failure | None:
        """Joins the group whose store is at this address; waits for the others."""
        assert self.learner is not None
        try:
            store, own = join_store(host, port)
            self.learner.group = Joined(store, own, self.rank, self.config.learners)
        except Exception as error:
            return Failure(able_to_travel(error), traceback.format_exc(), making=True)
        return None

    def step(self, unroll: Unroll, inspect: bool) -> dict[str, Measured] | Failure:
        """Steps with the others; see `Learner.step`.

        Args:
            unroll: of this learner's environments, with arrays in the place of tensors.
            inspect: the same for all.
        """
        learner = self.learner
        assert learner is not None
        try:
            device = next(learner.agent.parameters()).device
            return learner.step(to_tensors(unroll, device), inspect=inspect)
        except Exception as error:
            learner.group.close()  # Or the others would wait for it.
            return Failure(able_to_travel(error), traceback.format_exc(), making=False)
