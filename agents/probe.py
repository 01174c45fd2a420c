"""Probes: decoders that answer a question from what an agent remembers, and never teach it.

A decoder reads a belief and a question's tokens and scores every word of the vocabulary as the
answer. The belief is detached in one place, `Probe.forward`. The single exception has a name of
its own: with `answers_reach_agent` the gradient of the answers flows into the agent, on purpose,
as an upper bound (the green line of the DeepMind × UCL lectures).
"""

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundling.agents.scan import lstm_scan

DecoderName = Literal["linear", "mlp", "lstm"]


class LSTMDecoder(nn.Module):
    """The decoder of Das et al. 2020 (section 3.3): an LSTM that starts from linear maps of the
    belief, reads the question word by word, and answers after the last one.

    Args:
        belief_size: numbers of a belief.
        num_words: size of the vocabulary.
        size: units of the LSTM.
    """

    def __init__(self, belief_size: int, num_words: int, size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, 64, padding_idx=0)
        self.hidden_from_belief = nn.Linear(belief_size, size)
        self.cell_from_belief = nn.Linear(belief_size, size)
        self.reader = nn.LSTM(64, size)
        self.answer = nn.Linear(size, num_words)

    def forward(self, belief: Tensor, tokens: Tensor, about: Tensor, asked: Tensor) -> Tensor:
        """See `Probe.forward`."""
        # Looked up as in a table: whose gradients add up in one order, however many threads do it.
        hidden = F.embedding(about, self.hidden_from_belief(belief))
        cell = F.embedding(about, self.cell_from_belief(belief))
        lengths = (tokens != 0).sum(-1)
        longest = max(int(lengths.max()), 1) if len(lengths) else 0
        shares = F.embedding(tokens[asked, :longest].t(), self._shares(), padding_idx=0)
        nothing = shares[..., :0].detach()  # Beside its words.
        _, weight, *_ = self.reader.parameters()
        read, _ = lstm_scan(shares, nothing, None, hidden, cell, weight)
        last = (lengths - 1)[asked]
        return cast(Tensor, self.answer(read[last, torch.arange(len(last), device=last.device)]))

    def _shares(self) -> Tensor:
        """[num_words, 4 · size]: what each word has to say to the gates."""
        weight, _, *biases = self.reader.parameters()
        return F.linear(self.words.weight, weight, biases[0] + biases[1])


class GatedDecoder(nn.Module):
    """Reads belief ⊙ question: the question says which part of the belief is read.

    Args:
        answer: scores the words from that product, [N, size] → [N, num_words].
        belief_size: numbers of a belief.
        num_words: size of the vocabulary.
        length: tokens of a question, padding included.
        size: width of the product.
    """

    def __init__(
        self, answer: nn.Module, belief_size: int, num_words: int, length: int, size: int
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, 32, padding_idx=0)
        self.question = nn.Sequential(nn.Linear(32 * length, 256), nn.ReLU(), nn.Linear(256, size))
        self.belief = nn.Linear(belief_size, size)
        self.answer = answer

    def forward(self, belief: Tensor, tokens: Tensor, about: Tensor, asked: Tensor) -> Tensor:
        """See `Probe.forward`."""
        question = self.question(self.words(tokens).flatten(-2))
        return cast(Tensor, self.answer(self.belief(belief)[about] * question[asked]))


def _make_decoder(
    name: DecoderName, belief_size: int, num_words: int, length: int, size: int
) -> nn.Module:
    """The decoder of that name: see `Probe`."""
    if name == "lstm":
        return LSTMDecoder(belief_size, num_words, size)
    # One linear map of the product is, for each question, one linear map of the belief.
    answer: nn.Module = nn.Linear(size, num_words)
    if name == "mlp":
        answer = nn.Sequential(
            nn.LayerNorm(size), nn.ReLU(), nn.Linear(size, size), nn.ReLU(), answer
        )
    return GatedDecoder(answer, belief_size, num_words, length, size)


class Standardised(nn.Module):
    """Reads beliefs as they deviate from their usual values.

    Args:
        belief_size: numbers of a belief.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, belief_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(belief_size))
        self.register_buffer("scale", torch.ones(belief_size))

    def standardise(self, beliefs: Tensor) -> None:
        """Fixes the shift and scale that give these beliefs ([N, belief_size]) mean 0, spread 1.

        A number that never varies keeps its scale: it is centred, not blown up.
        """
        self.mean.copy_(beliefs.mean(0))
        spread = beliefs.std(0, correction=0)
        self.scale.copy_(torch.where(spread > 1e-5, spread, torch.ones_like(spread)))

    def standard(self, belief: Tensor) -> Tensor:
        """[N, belief_size], in standard deviations."""
        return (belief - self.mean) / self.scale


class Probe(Standardised):
    """A decoder behind the wall that keeps its gradient from the agent.

    Args:
        decoder: "linear": the answer is linear in the belief, with weights that depend on the
            question; "mlp": a perceptron; "lstm": the paper's.
        belief_size: numbers of a belief.
        num_words: size of the vocabulary.
        length: tokens of a question, padding included.
        size: width of the decoder.
        answers_reach_agent: let the gradient through, on purpose (the upper bound).
    """

    def __init__(
        self,
        decoder: DecoderName,
        *,
        belief_size: int,
        num_words: int,
        length: int,
        size: int,
        answers_reach_agent: bool = False,
    ) -> None:
        super().__init__(belief_size)
        self.answers_reach_agent = answers_reach_agent
        self.decoder = _make_decoder(decoder, belief_size, num_words, length, size)

    def forward(
        self,
        belief: Tensor,
        tokens: Tensor,
        about: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """Scores every word as the answer to N questions.

        Many questions are asked about one moment, and the same question about many moments; what
        depends on the moment or on the question alone is computed once.

        Args:
            belief: [S, belief_size], of S moments.
            tokens: [Q, L] integers, 0 = padding, of Q different questions.
            about: [N] int64: the moment of each question; None: of the n-th, the n-th.
            asked: [N] int64: which question it is; None: the n-th.

        Returns:
            Logits, [N, num_words].
        """
        if not self.answers_reach_agent:
            belief = belief.detach()
        about = torch.arange(len(belief), device=belief.device) if about is None else about
        asked = torch.arange(len(tokens), device=tokens.device) if asked is None else asked
        return cast(Tensor, self.decoder(self.standard(belief), tokens.long(), about, asked))

    def log_probability(self, standard: Tensor, tokens: Tensor, answers: Tensor) -> Tensor:
        """Of one answer to each of N questions, in nats; here the gradient does pass the wall.

        For Jacobians and interventions alone: nothing may learn from it.

        Args:
            standard: [N, belief_size] beliefs in standard deviations (see `standard`).
            tokens: [N, L] integers, 0 = padding.
            answers: [N] word ids, int64.

        Returns:
            [N].
        """
        each = torch.arange(len(standard), device=standard.device)
        logits = self.decoder(standard, tokens.long(), each, each)
        return torch.log_softmax(logits, -1).gather(-1, answers[:, None])[:, 0]


def answer_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of the right answer in nats, [N], from [N, words] and word ids [N] int64."""
    return F.cross_entropy(logits, answers, reduction="none")
