"""Walking along with an agent and asking it, in words, what it knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from groundling.agents.generators import named_generator
from groundling.agents.probe import Probe
from groundling.envs.errors import UserError
from groundling.envs.questions import NOT_SEEN, TypedQuestions, tokens_of
from groundling.envs.vocabulary import Vocabulary
from groundling.evaluation.probing import load_probe
from groundling.evaluation.walks import Reader, by_agent, walk
from groundling.training.environments import make_environment
from groundling.training.run import RunDirectory, load_agent, resolve_device
from groundling.training.seeds import environment_seed


@dataclass(frozen=True)
class Reply:
    """What the agent's memory says to a question, and what is true."""

    question: str
    answers: list[tuple[str, float]]
    """The likeliest first, with their probabilities."""
    truth: str | None
    """None: the question presupposes what is not so, such as a single key."""
    answerable: bool
    """Whether what the agent has sensed settles it."""
    steps_since_seen: int
    """Steps since what the answer rests on was seen, or NOT_SEEN."""


@torch.no_grad()
def likeliest(
    probe: Probe, belief: Tensor, tokens: Sequence[int], vocabulary: Vocabulary, number: int = 3
) -> list[tuple[str, float]]:
    """The likeliest answers to a question with their probabilities, the likeliest first.

    Args:
        probe: whose answers.
        belief: [1, belief size].
        tokens: of the question, padded.
        vocabulary: of the answers.
        number: how many.
    """
    likely = probe(belief, torch.tensor([tokens], device=belief.device)).softmax(-1)[0].topk(number)
    words = [vocabulary.decode([index]) for index in likely.indices.tolist()]
    return list(zip(words, likely.values.tolist(), strict=True))


class Conversation:
    """An agent in a room it never met, and somebody who asks it.

    Args:
        run_dir: of a probed run; the probe's decoder speaks for the agent's memory.
        seed: which room comes first, and which actions are drawn.
        device: of the agent.

    Raises:
        ValueError: this is no run, was not probed, or its world understands no typed questions.
    """

    def __init__(self, run_dir: Path | str, *, seed: int = 0, device: str = "cpu") -> None:
        run = RunDirectory(run_dir)
        agent, config = load_agent(run_dir, device=device)
        self.device = resolve_device(device)
        self.environment = make_environment(config.env, num_envs=1, render_mode="ansi")
        source = self.environment.unwrapped
        if not isinstance(source, TypedQuestions):
            raise UserError(
                f"{config.env.id} understands no typed questions; expected an environment that "
                "implements groundling.envs.questions.TypedQuestions"
            )
        self.source = source
        probe = load_probe(run, agent, len(source.vocabulary))
        if probe is None:
            raise UserError(f"{run_dir} was not probed; expected `groundling probe {run_dir}`")
        self.probe = probe.to(self.device)
        self.reader = Reader(agent, 1)
        self.generator = named_generator(seed, "conversation", self.device)
        self.seed = environment_seed("evaluation") + seed
        self.begin()

    def begin(self) -> None:
        """Into the next room; nothing is remembered of the one before."""
        self.steps, self.earned = 0, 0.0
        self._rows = walk(
            self.environment,
            seed=self.seed,
            choose=by_agent(self.reader, self.generator),
            readers=(self.reader,),
            device=self.device,
        )
        next(self._rows)
        self.seed += 1

    def step(self) -> bool:
        """Lets the agent act once. False: with that the episode ended and the next one began."""
        row = next(self._rows)
        if row.is_first.item():
            self.steps, self.earned = 0, 0.0
            return False
        self.steps += 1
        self.earned += row.previous_reward.item()
        return True

    def picture(self) -> str:
        """The room as it stands, for a terminal."""
        return str(cast(Any, self.environment.render())[0])

    def ask(self, text: str, answers: int = 3) -> Reply:
        """Asks the agent's memory as it is now.

        Args:
            text: a question in words.
            answers: how many of the likeliest are given.

        Raises:
            ValueError: that is no question this world can be asked; says what would be.
        """
        asked = self.source.typed_question(text)
        tokens = tokens_of(text, self.source.vocabulary)
        vocabulary, belief = self.source.vocabulary, self.reader.state.belief
        known = len(asked) > 0
        return Reply(
            question=self.source.vocabulary.decode(tokens),
            answers=likeliest(self.probe, belief, tokens, vocabulary, answers),
            truth=asked.answer_text(0, self.source.vocabulary) if known else None,
            answerable=bool(asked.answerable[0]) if known else False,
            steps_since_seen=int(asked.steps_since_seen[0]) if known else NOT_SEEN,
        )

    def close(self) -> None:
        """Gives the environment back."""
        self.environment.close()
