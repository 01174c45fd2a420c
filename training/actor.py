"""The actor: a batched environment and an agent that walk together, T steps at a time."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.agent import Agent, Rows, join_rows
from groundling.agents.attention import Decision
from groundling.agents.cores import CoreState
from groundling.agents.layers import unchanging
from groundling.agents.sensors import leaf_arrays
from groundling.envs.errors import UserError
from groundling.envs.questions import QuestionSource
from groundling.training.environments import Environment
from groundling.training.looking import Looker
from groundling.training.metrics import Row
from groundling.training.stepping import Outcome, Stepper, observe, sent
from groundling.training.unroll import AskedQuestions, Unroll


class FinishedEpisode(NamedTuple):
    """An episode that ended during an unroll."""

    episode_return: float
    """Sum of raw rewards."""
    length: int
    """Steps."""


class _Cut(NamedTuple):
    """Episodes that one step cut off, n of them."""

    t: int
    """The step."""
    environment: Tensor
    """[n] int64."""
    final: dict[str, NDArray[Any]]
    """The leaves of their final observations, [n, *leaf shape]."""
    location: Tensor | None
    """[n, *location shape]: where these are looked at, with attention."""
    state: CoreState
    """[B, core_size]: of the core, before them."""


class Actor:
    """Steps a vector environment with an agent's policy and keeps both states between unrolls.

    Args:
        environment: with SAME_STEP autoreset.
        agent: acts; whoever owns the actor keeps its weights up to date.
        seed: of the environments (see `training.seeds`).
        generator: draws the actions; on the agent's device.
        question_generator: decides when and what the online probe is asked; None asks nothing.
        location_generator: draws where to look; on the agent's device (only with attention).
        labelled: note which actions would have been right; the environment must tell.
        exploration: share of actions drawn uniformly instead of from the policy.
        staggered: the environments' first episodes began in the middle and are not reported.
        traced: note what the core computes, for a learner in this process.
    """

    def __init__(
        self,
        environment: Environment,
        agent: Agent,
        *,
        seed: int,
        generator: torch.Generator,
        question_generator: np.random.Generator | None = None,
        location_generator: torch.Generator | None = None,
        labelled: bool = False,
        exploration: float = 0.0,
        staggered: bool = False,
        traced: bool = False,
    ) -> None:
        self.environment = environment
        self.agent = agent
        self.generator = generator
        self.question_generator = question_generator
        self.exploration = exploration
        self.device = generator.device
        self.batch = environment.num_envs
        self.labelled = labelled
        self.traced = traced
        self.stepper = Stepper(environment, agent.actions, self.device)
        self.looker = Looker(agent, self.batch, location_generator)
        if question_generator is not None:
            self.looker.report_to(environment)
        self.row = self.looker.see(self.stepper.reset(seed))
        self.core_state = agent.initial_state(self.batch)
        self.episode_return = np.zeros(self.batch)
        self.episode_length = np.zeros(self.batch, dtype=np.int64)
        self.unreported = np.full(self.batch, staggered)
        self.finished: list[FinishedEpisode] = []

    def collect(self, length: int, *, policy_version: int = 0, ask: bool = False) -> Unroll:
        """Walks `length` steps and returns them as length + 1 rows.

        Episodes that end on the way are added to `finished`.

        Args:
            length: T, in steps.
            policy_version: of the weights the agent now has: by it a learner tells whether it has
                learned since.
            ask: draw questions for the online probe at one random row.
        """
        with torch.no_grad(), unchanging(self.agent):
            return self._collect(length, policy_version, ask)

    def _collect(self, length: int, policy_version: int, ask: bool) -> Unroll:
        start = self.core_state
        trace = self.agent.core.trace(length + 1, self.batch) if self.traced else None
        rows, absent = [self.row], [self.stepper.absent]
        log_probs, outcomes, cuts = [], [], []
        decisions: list[Decision] = []
        labels: list[Tensor] = []
        asked_at = -1
        questions = None
        if ask:
            assert self.question_generator is not None
            asked_at = int(self.question_generator.integers(length))
        for t in range(length):
            if t == asked_at:
                questions = self._ask(t)
            output, self.core_state = self.agent.act(self.row, self.core_state, trace)
            action, log_prob = self.agent.actions.sample(
                output.policy, self.generator, exploration=self.exploration
            )
            decision = self.looker.decide(output, self.stepper)
            if decision is not None and output.location is not None:
                decisions.append(decision)
            if self.labelled:
                labels.append(self._label())
            outcome = self._step(action)
            rows.append(self.row)
            absent.append(self.stepper.absent)
            log_probs.append(log_prob)
            outcomes.append(outcome)
            if outcome.truncated.any():
                cuts.append(self._cut(t, outcome, decision))
        if trace is not None:
            # The last row is not acted upon yet, and read again then.
            self.agent.act(self.row, self.core_state, trace)
        # No view of more: it is kept, and saved.
        self.core_state = CoreState(*(part.clone() for part in self.core_state))
        walked = join_rows(rows, torch.stack)
        return Unroll(
            rows=walked,
            core_state=start,
            behaviour_log_prob=torch.stack(log_probs),
            terminated=self._stack([outcome.terminated for outcome in outcomes]),
            truncated=self._stack([outcome.truncated for outcome in outcomes]),
            absent=self._stack(absent),
            bootstrap_value=self._bootstrap_values(cuts, walked),
            policy_version=policy_version,
            questions=questions,
            location=torch.stack([one.location for one in decisions]) if decisions else None,
            location_log_prob=torch.stack([one.log_prob for one in decisions])
            if decisions
            else None,
            label=torch.stack(labels) if labels else None,
            trace=trace,
        )

    def _label(self) -> Tensor:
        """Which actions would be right in this row, [B] int64."""
        label = self.stepper.label
        if label is None:
            raise UserError(
                f"learner.label-weight is set, but {self.stepper.name} does not tell the right "
                "action (info['label']); expected 0"
            )
        return label

    def _step(self, action: Tensor) -> Outcome:
        """One step of every environment; `row` is then the one it led to."""
        row, outcome = self.stepper.step(self.agent.actions.to_environment(action), action)
        self.row = self.looker.see(row)
        self._count(outcome)
        return outcome

    def _cut(self, t: int, outcome: Outcome, decision: Decision | None) -> "_Cut":
        """What is needed of the episodes that step t cut off to value their final observations."""
        where = sent(np.flatnonzero(outcome.truncated), self.device)
        final = final_observations(outcome.info, outcome.truncated)
        self.stepper.doorkeeper.check(final)
        location = None if decision is None else decision.location[where]
        return _Cut(t, where, final, location, self.core_state)

    def _bootstrap_values(self, cuts: list["_Cut"], walked: Rows) -> Tensor:
        """V(final observation) where an episode was cut off, 0 elsewhere: [T, B].

        Such an observation is read as its episode's next row: not a first one, with the action and
        the reward that led to it, and through the location that was decided with that action. Those
        of the whole unroll are read at once, to the side; the core states that come of it are
        thrown away.
        """
        values = torch.zeros(len(walked.is_first) - 1, self.batch, device=self.device)
        if not cuts:
            return values
        environment = torch.cat([cut.environment for cut in cuts])
        times = np.repeat([cut.t for cut in cuts], [len(cut.environment) for cut in cuts])
        t = sent(times, self.device)
        final = {name: np.concatenate([cut.final[name] for cut in cuts]) for name in cuts[0].final}
        row = Rows(
            observe(final, self.device),
            torch.zeros(len(t), dtype=torch.bool, device=self.device),
            walked.previous_action[t + 1, environment],
            walked.previous_reward[t + 1, environment],
        )
        locations = [cut.location for cut in cuts if cut.location is not None]
        if locations:
            row = self.looker.see_through(row, torch.cat(locations))
        before = ([part[cut.environment] for part in cut.state] for cut in cuts)
        state = CoreState(*(torch.cat(parts) for parts in zip(*before, strict=True)))
        output, _ = self.agent.step(row, state)
        values[t, environment] = output.baseline
        return values

    def _stack(self, flags: list[NDArray[np.bool_]]) -> Tensor:
        return sent(np.stack(flags), self.device)

    def _count(self, outcome: Outcome) -> None:
        self.episode_return += outcome.reward
        self.episode_length += outcome.stepped
        ended = outcome.terminated | outcome.truncated
        if not ended.any():
            return
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
        questions = questions[~self.stepper.absent[questions.world]]

        def tensor(values: NDArray[Any]) -> Tensor:
            return sent(values.astype(np.int64), self.device)

        environment = tensor(questions.world)
        return AskedQuestions(
            row=torch.full_like(environment, row),
            environment=environment,
            type=tensor(questions.type),
            tokens=tensor(questions.tokens),
            answer=tensor(questions.answer),
            answerable=tensor(questions.answerable).bool(),
        )

    def accounts(self) -> Row:
        """Nothing to account for: all that is walked is learned from."""
        return {}

    def start(self) -> None:
        """Nothing to reserve."""

    def settle(self) -> None:
        """Nothing is under way between two unrolls."""

    def close(self) -> None:
        """Closes the environment."""
        self.environment.close()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly here: tensors and plain numbers only."""
        questions = self.question_generator
        return {
            "environment": _environment_state(self.environment),
            "row": self.row._asdict(),
            "looker": self.looker.state_dict(),
            "core_state": {"hidden": self.core_state.hidden, "cell": self.core_state.cell},
            "generator": self.generator.get_state(),
            "question_generator": None if questions is None else questions.bit_generator.state,
            "episode_return": torch.from_numpy(self.episode_return.copy()),
            "episode_length": torch.from_numpy(self.episode_length.copy()),
            "unreported": torch.from_numpy(self.unreported.copy()),
            "absent": torch.from_numpy(self.stepper.absent.copy()),
            "told": self.stepper.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        An environment that cannot be restored (any but our own) goes on with fresh episodes, of
        seeds that it did not have before.
        """
        self.generator.set_state(state["generator"].cpu())
        self.looker.load_state_dict(state.get("looker"))  # An earlier version had none.
        if self.question_generator is not None:
            self.question_generator.bit_generator.state = state["question_generator"]
        if state["environment"] is None:
            drawn = torch.randint(2**62, (), generator=self.generator, device=self.device)
            self.row = self.looker.see(self.stepper.reset(int(drawn)))
            return
        getattr(self.environment.unwrapped, "set_state")(  # noqa: B009
            {name: value.numpy() for name, value in state["environment"].items()}
        )
        self.row = Rows(**state["row"]).map(lambda part: part.to(self.device))
        core = state["core_state"]
        self.core_state = CoreState(core["hidden"].to(self.device), core["cell"].to(self.device))
        self.episode_return = state["episode_return"].numpy().copy()
        self.episode_length = state["episode_length"].numpy().copy()
        self.unreported = state["unreported"].numpy().copy()
        if "absent" in state:  # An earlier version knew of no absence.
            self.stepper.absent = state["absent"].numpy().copy()
        self.stepper.load_state_dict(state.get("told", {}))


def final_observations(info: dict[str, Any], ended: NDArray[Any]) -> dict[str, NDArray[Any]]:
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
