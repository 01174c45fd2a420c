"""Fitting a decoder to what an agent remembers, and letting it answer.

Every row of a table is fitted alike: the same network, the same initial weights, the same order of
questions, the same number of step sizes tried, the same rule for which pass is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.generators import initialised_by, named_generator
from groundling.agents.probe import DecoderName, Probe, answer_loss
from groundling.envs.questions import QUESTION_LENGTH, Questions
from groundling.evaluation.observed import ObservationCode
from groundling.evaluation.protocol import ProbeSettings


class Reading(Protocol):
    """What a decoder is given of S moments."""

    @property
    def width(self) -> int:
        """Numbers of each moment."""

    def take(self, moments: Tensor) -> Tensor:
        """Those of some moments ([n] int64): [n, width] float32."""


@dataclass(frozen=True)
class Vectors:
    """Vectors that are kept as they are, [S, width]."""

    vectors: Tensor

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.vectors.shape[1]

    def take(self, moments: Tensor) -> Tensor:
        """See `Reading`."""
        return self.vectors[moments].float()


@dataclass(frozen=True)
class Codes:
    """Encoded observations, [S, k, width], decoded when they are read."""

    codes: Tensor
    code: ObservationCode

    @property
    def width(self) -> int:
        """Numbers of k decoded observations."""
        return self.code.decode(self.codes[:1]).shape[1]

    def take(self, moments: Tensor) -> Tensor:
        """See `Reading`."""
        return self.code.decode(self.codes[moments])


@dataclass(frozen=True)
class Nothing:
    """The same for all moments: what the question alone gives away.

    It has a belief's width, so that its decoder is the same network.
    """

    width: int

    def take(self, moments: Tensor) -> Tensor:
        """See `Reading`."""
        return torch.zeros(len(moments), self.width, device=moments.device)


class Lessons:
    """Questions with a reading of their moments, as tensors on a device, sorted by moment.

    Args:
        questions: N; `world` is the moment.
        reading: of the moments.
        device: where to answer.
    """

    def __init__(self, questions: Questions, reading: Reading, device: torch.device) -> None:
        # Only moments of which something is asked; a batch takes some with all their questions.
        order = np.argsort(questions.world, kind="stable")
        asked_of, counts = np.unique(questions.world[order], return_counts=True)
        _, first, which = np.unique(
            scramble(questions.tokens[order]), return_index=True, return_inverse=True
        )
        self.reading, self.order = reading, order
        self.asked_of = torch.from_numpy(asked_of).to(device)
        self.counts = torch.from_numpy(counts).to(device)
        self.begins = self.counts.cumsum(0) - self.counts
        self.tokens = torch.from_numpy(questions.tokens[order][first]).to(device)
        self.which = torch.from_numpy(which).to(device)
        self.answers = torch.from_numpy(questions.answer[order]).to(device)

    @property
    def moments(self) -> int:
        """How many moments there are."""
        return len(self.asked_of)

    def ask(self, probe: Probe, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, words] and answers [n] of all questions about the chosen moments."""
        counts = self.counts[moments]
        about = torch.repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        within = torch.arange(len(about), device=about.device) - first[about]
        chosen = self.begins[moments][about] + within
        different, asked = torch.unique(self.which[chosen], return_inverse=True)
        reading = self.reading.take(self.asked_of[moments])
        return probe(reading, self.tokens[different], about, asked), self.answers[chosen]

    def standardise(self, probe: Probe, most: int = 20_000) -> None:
        """Gives what the probe reads mean 0 and spread 1, as some moments have it."""
        some = torch.linspace(0, self.moments - 1, min(self.moments, most)).long()
        probe.standardise(self.reading.take(self.asked_of[some.to(self.asked_of.device)]))

    @torch.no_grad()
    def score(self, probe: Probe) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The probe's answers, [N] word ids, and the log-probability it gave the right ones, [N]
        in nats; in the order of the questions."""
        probe.eval()
        answers = np.empty(len(self.order), np.int64)
        log_right = np.empty(len(self.order), np.float32)
        parts = torch.arange(self.moments, device=self.answers.device).split(1024)
        logits, right = zip(*(self.ask(probe, part) for part in parts), strict=True)
        answers[self.order] = torch.cat([one.argmax(-1) for one in logits]).cpu().numpy()
        losses = [answer_loss(*pair) for pair in zip(logits, right, strict=True)]
        log_right[self.order] = -torch.cat(losses).cpu().numpy()
        return answers, log_right


TRIAL_SHARE = 20
"""One moment in so many is used to try a step size."""


@dataclass(frozen=True)
class Fit:
    """A decoder to be fitted to lessons; the budget is the same for every row of a table."""

    train: Lessons
    """To fit on."""
    validation: Lessons
    """To choose step size and pass by, from other rooms."""
    decoder: DecoderName
    num_words: int
    """Size of the vocabulary."""
    settings: ProbeSettings

    def run(self, advance: Callable[[], None] = lambda: None) -> Probe:
        """The decoder that answers the validation rooms best; `advance` is called every update."""
        rates = self.settings.learning_rates
        best = 0
        if len(rates) > 1:
            trials = [self._fit(rate, self._some, 1, advance)[1] for rate in rates]
            best = int(np.argmin(trials))
        everything = torch.arange(self.train.moments, device=self.train.answers.device)
        return self._fit(rates[best], everything, self.settings.passes, advance)[0]

    @property
    def _some(self) -> Tensor:
        return torch.arange(0, self.train.moments, TRIAL_SHARE, device=self.train.answers.device)

    def _fit(
        self, rate: float, moments: Tensor, passes: int, advance: Callable[[], None]
    ) -> tuple[Probe, float]:
        """A decoder fitted to some moments, and its loss on the validation rooms in nats."""
        probe = self._fresh()
        order = named_generator(self.settings.seed, "order")
        optimiser = torch.optim.Adam(probe.parameters(), lr=rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, passes * _batches(len(moments), self.settings)
        )
        best, kept = float("inf"), probe.state_dict()
        for _ in range(passes):
            probe.train()
            shuffled = torch.randperm(len(moments), generator=order).to(moments.device)
            for batch in moments[shuffled].split(self.settings.batch):
                optimiser.zero_grad()
                answer_loss(*self.train.ask(probe, batch)).mean().backward()
                optimiser.step()
                schedule.step()
                advance()
            loss = -float(self.validation.score(probe)[1].mean())
            if loss >= best:
                break
            best, kept = loss, {key: one.clone() for key, one in probe.state_dict().items()}
        probe.load_state_dict(kept)
        return probe.eval(), best

    def _fresh(self) -> Probe:
        # One seed for all rows: every decoder starts from the same weights, in the same order.
        with initialised_by(self.settings.seed, "decoder"):
            probe = make_probe(
                self.decoder, self.train.reading.width, self.num_words, self.settings.size
            )
        if isinstance(self.train.reading, Vectors):
            self.train.standardise(probe)
        return probe.to(self.train.answers.device)


def updates_of(moments: int, settings: ProbeSettings) -> int:
    """How many updates a fit to so many moments takes, at the most."""
    rates = len(settings.learning_rates)
    trial = len(range(0, moments, TRIAL_SHARE)) if rates > 1 else 0
    return rates * _batches(trial, settings) + settings.passes * _batches(moments, settings)


def _batches(moments: int, settings: ProbeSettings) -> int:
    return -(-moments // settings.batch)


def scramble(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """A pseudo-random number for each row of integers, equal for equal rows: [N] uint64."""
    found = np.full(len(rows), 0x9E3779B97F4A7C15, np.uint64)
    for column in rows.astype(np.uint64).T:
        found ^= column
        found *= np.uint64(0xBF58476D1CE4E5B9)
        found ^= found >> np.uint64(31)
    return found


def make_probe(decoder: DecoderName, width: int, num_words: int, size: int) -> Probe:
    """A decoder of the protocol for readings of `width` numbers.

    An LSTM is a fifth as wide as the others: of their width it would cost many times as much.
    """
    units = max(size // 5, 1) if decoder == "lstm" else size
    return Probe(
        decoder, belief_size=width, num_words=num_words, length=QUESTION_LENGTH, size=units
    )
