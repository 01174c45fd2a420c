"""The online probe: asked while the agent trains, with its own optimiser, and never a teacher.

A light monitor, not the protocol: it meets few distinct rooms, so what it fails to answer says
little. `groundling probe` measures.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from groundling.agents.agent import Agent
from groundling.agents.cores import CoreState
from groundling.agents.generators import initialised_by
from groundling.agents.losses import Mean
from groundling.agents.probe import Probe, answer_loss
from groundling.envs.errors import UserError
from groundling.envs.questions import QUESTION_LENGTH, QuestionSource
from groundling.training.config import OnlineProbeConfig, TrainConfig
from groundling.training.environments import Environment
from groundling.training.metrics import Measured
from groundling.training.unroll import AskedQuestions


class Monitor:
    """Trains a probe on the questions of each unroll.

    Args:
        config: decoder, optimiser, and whether the answers reach the agent.
        belief_size: numbers of the agent's belief.
        num_words: size of the vocabulary.
        length: tokens of a question, padding included.
        question_types: names, for the metrics.
        seed: of the run.
        device: of the agent.
    """

    def __init__(
        self,
        config: OnlineProbeConfig,
        *,
        belief_size: int,
        num_words: int,
        length: int,
        question_types: Sequence[str],
        seed: int,
        device: torch.device,
    ) -> None:
        self.config = config
        self.question_types = tuple(question_types)
        with initialised_by(seed, "probe"):
            self.probe = Probe(
                config.decoder,
                belief_size=belief_size,
                num_words=num_words,
                length=length,
                size=config.size,
                answers_reach_agent=config.answers_reach_agent,
            ).to(device)
        self.optimiser = torch.optim.Adam(
            self.probe.parameters(), lr=config.learning_rate, fused=True
        )

    def is_due(self, updates: int) -> bool:
        """Whether to ask in the unroll after `updates` updates."""
        return self.config.answers_reach_agent or updates % self.config.every == 0

    def loss(self, core: CoreState, questions: AskedQuestions) -> tuple[Mean, dict[str, Measured]]:
        """Mean cross-entropy of the answers in nats, and what was measured.

        Args:
            core: the agent's states, [T + 1, B, core_size] each.
            questions: asked at rows of these states.
        """
        # Many are asked about one moment, which the probe reads once.
        moment = questions.row * core.hidden.shape[1] + questions.environment
        moments, about = moment.unique(return_inverse=True)
        asked_of = CoreState(*(part.flatten(0, 1)[moments] for part in core))
        logits = self.probe(asked_of.belief, questions.tokens, about)
        asked = len(questions.answer)  # 0 in a world of which nothing can be asked
        loss = answer_loss(logits, questions.answer).sum() / max(asked, 1)
        measured = {"probe/loss": Measured(float(loss.detach()))} if asked else {}
        return Mean(loss, asked), measured | self._accuracies(logits, questions)

    def _accuracies(self, logits: Tensor, questions: AskedQuestions) -> dict[str, Measured]:
        """By question type the share of answers that are right, of the answerable."""
        right = logits.argmax(-1) == questions.answer
        kinds = len(self.question_types)
        asked, answered = (
            torch.bincount(questions.type[some], minlength=kinds).tolist()
            for some in (questions.answerable, questions.answerable & right)
        )
        return {
            f"probe/{name}": Measured(well / number, number)
            for name, number, well in zip(self.question_types, asked, answered, strict=True)
            if number
        }

    def step(self) -> None:
        """Applies the gradient that a backward pass left in the probe, and clears it."""
        torch.nn.utils.clip_grad_norm_(self.probe.parameters(), self.config.max_gradient_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()


def make_monitor(config: TrainConfig, environment: Environment, agent: Agent) -> Monitor | None:
    """The online probe of a run, if it has one.

    Raises:
        UserError: it is to ask an environment that answers nothing.
    """
    if not config.probe.online:
        return None
    source = environment.unwrapped
    if not isinstance(source, QuestionSource):
        if config.probe.online == "auto":
            return None
        raise UserError(
            f"probe.online is True, but {config.env.id} answers no questions; expected "
            "--probe.online False or auto, or an environment that implements QuestionSource"
        )
    return Monitor(
        config.probe,
        belief_size=2 * agent.core.core_size,
        num_words=len(source.vocabulary),
        length=QUESTION_LENGTH,
        question_types=source.question_types,
        seed=config.seed,
        device=next(agent.parameters()).device,
    )
