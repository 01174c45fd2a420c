"""The actor: a batched environment and an agent that walk together, T steps at a time."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from groundling.agents.agent import Agent, Rows, sample_actions
from groundling.agents.cores import CoreState
from groundling.agents.sensors import leaf_arrays
from groundling.envs.questions import QuestionSource
from groundling.training.environments import Doorkeeper, Environment
from groundling.training.unroll import AskedQuestions, Unroll


class FinishedEpisode(NamedTuple):
    """An episode that ended during an unroll."""

    episode_return: float
    """Sum of raw rewards."""
    length: int
    """Steps."""


def observe(observation: Any, device: torch.device) -> dict[str, Tensor]:
    """An environment's observation as tensors, leaf by leaf: {name: [B, *leaf shape]}."""
    return {
        name: torch.as_tensor(leaf, device=device)
        for name, leaf in leaf_arrays(observation).items()
    }


def first_row(observation: dict[str, Tensor], batch: int, device: torch.device) -> Rows:
    """The row of B environments that were just reset."""
    return Rows(
        observation,
        torch.ones(batch, dtype=torch.bool, device=device),
        torch.zeros(batch, dtype=torch.int64, device=device),
        torch.zeros(batch, device=device),
    )


class Actor:
    """Steps a vector environment with an agent's policy and keeps both states between unrolls.

    Args:
        environment: with SAME_STEP autoreset.
        agent: acts; whoever owns the actor keeps its weights up to date.
        seed: of the environments (see `training.seeds`).
        generator: draws the actions; on the agent's device.
        question_generator: decides when and what the online probe is asked; None asks nothing.
        staggered: the environments' first episodes began in the middle and are not reported.
    """

    def __init__(
        self,
        environment: Environment,
        agent: Agent,
        *,
        seed: int,
        generator: torch.Generator,
        question_generator: np.random.Generator | None = None,
        staggered: bool = False,
    ) -> None:
        self.environment = environment
        self.agent = agent
        self.generator = generator
        self.question_generator = question_generator
        self.device = generator.device
        self.batch = environment.num_envs
        self.doorkeeper = Doorkeeper(environment, environment.spec.id if environment.spec else "")
        observation, _ = environment.reset(seed=seed)
        self.doorkeeper.check(observation)
        self.row = first_row(observe(observation, self.device), self.batch, self.device)
        self.core_state = agent.initial_state(self.batch)
        self.episode_return = np.zeros(self.batch)
        self.episode_length = np.zeros(self.batch, dtype=np.int64)
        self.unreported = np.full(self.batch, staggered)
        self.finished: list[FinishedEpisode] = []

    @torch.no_grad()
    def collect(self, length: int, *, policy_version: int = 0, ask: bool = False) -> Unroll:
        """Walks `length` steps and returns them as length + 1 rows.

        Episodes that end on the way are added to `finished`.

        Args:
            length: T, in steps.
            policy_version: of the weights the agent now has; only written into the unroll.
            ask: draw questions for the online probe at one random row.
        """
        start = self.core_state
        rows, log_probs, terminateds, truncateds, bootstraps = [self.row], [], [], [], []
        asked_at = -1
        questions = None
        if ask:
            assert self.question_generator is not None
            asked_at = int(self.question_generator.integers(length))
        for t in range(length):
            if t == asked_at:
                questions = self._ask(t)
            output, self.core_state = self.agent.step(self.row, self.core_state)
            action, log_prob = sample_actions(output.policy_logits, self.generator)
            terminated, truncated, bootstrap = self._step(action)
            rows.append(self.row)
            log_probs.append(log_prob)
            terminateds.append(terminated)
            truncateds.append(truncated)
            bootstraps.append(bootstrap)
        return Unroll(
            rows=_stack_rows(rows),
            core_state=start,
            behaviour_log_prob=torch.stack(log_probs),
            terminated=torch.stack(terminateds),
            truncated=torch.stack(truncateds),
            bootstrap_value=torch.stack(bootstraps),
            policy_version=policy_version,
            questions=questions,
        )

    def _step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of every environment: terminated, truncated and bootstrap value, [B] each."""
        choice = action.cpu().numpy() + self.agent.first_action
        observation, reward, terminated, truncated, info = self.environment.step(choice)
        self.doorkeeper.check(observation, reward)
        self._count(reward, terminated | truncated)
        rewards = torch.as_tensor(reward, dtype=torch.float32, device=self.device)
        bootstrap = torch.zeros(self.batch, device=self.device)
        # An episode that is both over and out of time is over.
        truncated = truncated & ~terminated
        if truncated.any():
            bootstrap = self._value_of_final_observation(info, truncated, action, rewards)
        self.row = Rows(
            observe(observation, self.device),
            torch.as_tensor(terminated | truncated, device=self.device),
            action,
            rewards,
        )
        return (
            torch.as_tensor(terminated, device=self.device),
            torch.as_tensor(truncated, device=self.device),
            bootstrap,
        )

    def _value_of_final_observation(
        self,
        info: dict[str, Any],
        truncated: np.ndarray[Any, Any],
        action: Tensor,
        rewards: Tensor,
    ) -> Tensor:
        """V(final observation) where truncated, 0 elsewhere: [B].

        The final observation is read once, to the side, as the episode's next row; the core state
        that comes of it is thrown away.
        """
        where = torch.as_tensor(np.flatnonzero(truncated), device=self.device)
        final = final_observations(info, truncated)
        self.doorkeeper.check(final)
        row = Rows(
            observe(final, self.device),
            torch.zeros(len(where), dtype=torch.bool, device=self.device),
            action[where],
            rewards[where],
        )
        state = CoreState(self.core_state.hidden[where], self.core_state.cell[where])
        output, _ = self.agent.step(row, state)
        return torch.zeros_like(rewards).index_copy(0, where, output.baseline)

    def _count(self, reward: np.ndarray[Any, Any], ended: np.ndarray[Any, Any]) -> None:
        self.episode_return += reward
        self.episode_length += 1
        for i in np.flatnonzero(ended):
            if not self.unreported[i]:
                self.finished.append(
                    FinishedEpisode(float(self.episode_return[i]), int(self.episode_length[i]))
                )
        self.unreported[ended] = False
        self.episode_return[ended] = 0.0
        self.episode_length[ended] = 0

    def _ask(self, row: int) -> AskedQuestions:
        """Questions about the worlds as they are at this row, before its action."""
        source = self.environment.unwrapped
        assert isinstance(source, QuestionSource)
        assert self.question_generator is not None
        questions = source.ask(self.question_generator)

        def tensor(values: np.ndarray[Any, Any]) -> Tensor:
            return torch.as_tensor(values.astype(np.int64), device=self.device)

        environment = tensor(questions.world)
        return AskedQuestions(
            row=torch.full_like(environment, row),
            environment=environment,
            type=tensor(questions.type),
            tokens=tensor(questions.tokens),
            answer=tensor(questions.answer),
            answerable=tensor(questions.answerable).bool(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly here: tensors and plain numbers only."""
        questions = self.question_generator
        return {
            "environment": _environment_state(self.environment),
            "row": {
                "observation": self.row.observation,
                "is_first": self.row.is_first,
                "previous_action": self.row.previous_action,
                "previous_reward": self.row.previous_reward,
            },
            "core_state": {"hidden": self.core_state.hidden, "cell": self.core_state.cell},
            "generator": self.generator.get_state(),
            "question_generator": None if questions is None else questions.bit_generator.state,
            "episode_return": torch.from_numpy(self.episode_return.copy()),
            "episode_length": torch.from_numpy(self.episode_length.copy()),
            "unreported": torch.from_numpy(self.unreported.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        An environment that cannot be restored (any but our own) goes on with fresh episodes.
        """
        self.generator.set_state(state["generator"].cpu())
        if self.question_generator is not None:
            self.question_generator.bit_generator.state = state["question_generator"]
        if state["environment"] is None:
            return
        getattr(self.environment.unwrapped, "set_state")(  # noqa: B009
            {name: value.numpy() for name, value in state["environment"].items()}
        )
        row = state["row"]
        self.row = Rows(
            {name: leaf.to(self.device) for name, leaf in row["observation"].items()},
            *(
                row[name].to(self.device)
                for name in ("is_first", "previous_action", "previous_reward")
            ),
        )
        core = state["core_state"]
        self.core_state = CoreState(core["hidden"].to(self.device), core["cell"].to(self.device))
        self.episode_return = state["episode_return"].numpy().copy()
        self.episode_length = state["episode_length"].numpy().copy()
        self.unreported = state["unreported"].numpy().copy()


def final_observations(
    info: dict[str, Any], ended: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """The leaves of the ended episodes' final observations, stacked.

    Gymnasium hands them over in `info["final_obs"]`, an object array with one observation for each
    environment that ended and None for the others.
    """
    leaves = [leaf_arrays(one) for one in info["final_obs"][ended]]
    return {name: np.stack([one[name] for one in leaves]) for name in leaves[0]}


def _environment_state(environment: Environment) -> dict[str, Tensor] | None:
    get_state = getattr(environment.unwrapped, "get_state", None)
    if get_state is None:
        return None
    return {name: torch.from_numpy(value.copy()) for name, value in get_state().items()}


def _stack_rows(rows: list[Rows]) -> Rows:
    return Rows(
        {
            name: torch.stack([row.observation[name] for row in rows])
            for name in rows[0].observation
        },
        torch.stack([row.is_first for row in rows]),
        torch.stack([row.previous_action for row in rows]),
        torch.stack([row.previous_reward for row in rows]),
    )
