"""Probes read what an agent remembers and never teach it."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from groundling.agents.probe import Probe, answer_loss

WORDS, LENGTH, BELIEF = 12, 6, 8
DECODERS = pytest.mark.parametrize("decoder", ["lstm", "mlp"])


def make_probe(decoder, answers_reach_agent=False):
    torch.manual_seed(0)
    return Probe(
        decoder,
        belief_size=BELIEF,
        num_words=WORDS,
        length=LENGTH,
        size=16,
        answers_reach_agent=answers_reach_agent,
    )


def decoded(probe, belief, tokens):
    """What the decoder says to these very numbers, a question for each belief."""
    each = torch.arange(len(belief))
    return probe.decoder(belief, tokens, each, each)


def ask(probe, belief, seed=0):
    """The mean loss of random questions about every belief."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, WORDS, (len(belief), LENGTH), generator=generator)
    answers = torch.randint(1, WORDS, (len(belief),), generator=generator)
    return answer_loss(probe(belief, tokens), answers).mean()


@DECODERS
def test_no_gradient_reaches_what_the_belief_came_from(decoder):
    memory = nn.Linear(3, BELIEF)
    probe = make_probe(decoder)
    ask(probe, memory(torch.randn(5, 3))).backward()
    assert memory.weight.grad is None
    assert memory.bias.grad is None
    assert all(weight.grad is not None for weight in probe.parameters())


@DECODERS
def test_answers_reach_the_agent_when_told_to(decoder):
    memory = nn.Linear(3, BELIEF)
    ask(make_probe(decoder, answers_reach_agent=True), memory(torch.randn(5, 3))).backward()
    assert memory.weight.grad.abs().sum() > 0


@DECODERS
def test_the_answer_depends_on_the_belief_and_on_every_word(decoder):
    probe = make_probe(decoder)
    belief = torch.randn(1, BELIEF)
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9]])
    logits = probe(belief, tokens)
    assert logits.shape == (1, WORDS)
    assert (probe(belief + 1, tokens) != logits).any()
    for position in range(LENGTH):
        other = tokens.clone()
        other[0, position] = 7
        assert (probe(belief, other) != logits).any(), position


def test_padding_does_not_change_what_the_paper_s_decoder_answers():
    probe = make_probe("lstm")
    belief = torch.randn(3, BELIEF)
    texts = [[3, 1, 4, 1, 5], [2, 7], [9]]
    alone = [probe(belief[i : i + 1], torch.tensor([text]))[0] for i, text in enumerate(texts)]
    for length in (5, 6, 11):
        padded = torch.tensor([text + [0] * (length - len(text)) for text in texts])
        assert_close(probe(belief, padded), torch.stack(alone))


@DECODERS
def test_the_same_question_can_be_asked_about_many_moments(decoder):
    """Moments and questions given once, and who is asked what, are the same as all pairs."""
    probe = make_probe(decoder)
    belief = torch.randn(3, BELIEF)
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 7, 0, 0, 0, 0]])
    about, asked = torch.tensor([2, 0, 0, 1, 2]), torch.tensor([1, 0, 1, 1, 1])
    pairs = probe(belief[about], tokens[asked])
    assert_close(probe(belief, tokens, about, asked), pairs)
    assert_close(probe(belief, tokens[asked], about), pairs)
    assert_close(probe(belief[about], tokens, asked=asked), pairs)


@DECODERS
def test_questions_may_come_as_any_integers(decoder):
    probe, belief = make_probe(decoder), torch.randn(1, BELIEF)
    tokens = torch.tensor([[3, 1, 4, 0, 0, 0]])
    assert_close(probe(belief, tokens.to(torch.int16)), probe(belief, tokens), rtol=0, atol=0)


def remembered_colours(number):
    """Beliefs that hold the colours (0 … 3) of two things as one-hots, and questions about one."""
    colours = torch.randint(0, 4, (number, 2))
    belief = torch.cat([torch.eye(4)[colours[:, 0]], torch.eye(4)[colours[:, 1]]], -1)
    which = torch.randint(0, 2, (number,))
    tokens = torch.zeros(number, LENGTH, dtype=torch.int64)
    tokens[:, 0], tokens[:, 1] = 1, 2 + which  # "colour first" or "colour second"
    return belief, tokens, 5 + colours[torch.arange(number), which]


@DECODERS
def test_a_probe_learns_to_read_what_a_belief_holds(decoder):
    probe = make_probe(decoder)
    optimiser = torch.optim.Adam(probe.parameters(), lr=1e-2)
    for _ in range(150):
        belief, tokens, answers = remembered_colours(64)
        optimiser.zero_grad()
        answer_loss(probe(belief, tokens), answers).mean().backward()
        optimiser.step()
    belief, tokens, answers = remembered_colours(500)
    right = (probe(belief, tokens).argmax(-1) == answers).float().mean()
    assert right > 0.98
    shuffled = (probe(belief[torch.randperm(500)], tokens).argmax(-1) == answers).float().mean()
    assert shuffled < 0.4  # it reads the belief; one in four is chance


def test_standardised_beliefs_have_mean_zero_and_spread_one():
    torch.manual_seed(0)
    probe = make_probe("mlp")
    beliefs = torch.randn(500, BELIEF) * torch.linspace(0.1, 9, BELIEF) + 3
    probe.standardise(beliefs)
    seen = (beliefs - probe.mean) / probe.scale
    assert_close(seen.mean(0), torch.zeros(BELIEF), atol=1e-4, rtol=0)
    assert_close(seen.std(0, correction=0), torch.ones(BELIEF), atol=1e-4, rtol=0)


def test_the_decoder_gets_the_standardised_belief():
    probe = make_probe("mlp")
    tokens = torch.tensor([[3, 1, 4, 0, 0, 0]]).expand(20, LENGTH)
    beliefs = torch.randn(20, BELIEF) * 5 + 2
    plain = probe(beliefs, tokens)
    assert_close(plain, decoded(probe, beliefs, tokens))
    probe.standardise(beliefs)
    seen = (beliefs - beliefs.mean(0)) / beliefs.std(0, correction=0)
    assert_close(probe(beliefs, tokens), decoded(probe, seen, tokens))
    assert (probe(beliefs, tokens) != plain).any()


def test_a_number_that_never_varies_is_centred_and_not_blown_up():
    probe = make_probe("mlp")
    beliefs = torch.randn(50, BELIEF)
    beliefs[:, 2] = 7.0
    beliefs[:, 3] = 0.1 + 1e-7 * torch.randn(50)  # constant but for the last bits
    probe.standardise(beliefs)
    assert probe.scale[2:4].tolist() == [1.0, 1.0]
    seen = (beliefs - probe.mean) / probe.scale
    assert_close(seen[:, 2:4], torch.zeros(50, 2), atol=1e-5, rtol=0)


def test_a_single_belief_is_centred():
    probe = make_probe("mlp")
    probe.standardise(torch.arange(BELIEF).float()[None])
    assert probe.mean.tolist() == list(range(BELIEF))
    assert probe.scale.tolist() == [1.0] * BELIEF


def test_shift_and_scale_are_kept_with_the_weights():
    probe, other = make_probe("lstm"), make_probe("lstm")
    probe.standardise(torch.randn(50, BELIEF) * 3 + 1)
    other.load_state_dict(probe.state_dict())
    assert_close(other.mean, probe.mean, rtol=0, atol=0)
    assert_close(other.scale, probe.scale, rtol=0, atol=0)


def test_answer_loss_is_the_surprise_of_the_right_word_for_each_question():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    losses = answer_loss(logits, torch.tensor([1, 0]))
    assert losses.tolist() == pytest.approx([-math.log(0.75), math.log(2.0)])


def test_the_paper_s_decoder_is_the_lstm_of_torch_read_as_far_as_a_question_goes():
    decoder = make_probe("lstm").decoder
    generator = torch.Generator().manual_seed(1)
    belief = torch.randn(3, BELIEF, generator=generator)
    tokens = torch.randint(1, WORDS, (4, LENGTH), generator=generator)
    for question, length in enumerate((6, 2, 5, 1)):
        tokens[question, length:] = 0
    about, asked = torch.tensor([0, 2, 2, 1, 0]), torch.tensor([3, 1, 0, 2, 1])
    found = decoder(belief, tokens, about, asked)
    for n, (moment, question) in enumerate(zip(about, asked, strict=True)):
        start = [
            layer(belief[moment])[None, None]
            for layer in (decoder.hidden_from_belief, decoder.cell_from_belief)
        ]
        words = decoder.words(tokens[question][tokens[question] != 0])[:, None]
        _, (read, _) = decoder.reader(words, tuple(start))
        assert_close(found[n], decoder.answer(read[0, 0]))
    (slopes,) = torch.autograd.grad(found.sum(), decoder.words.weight)
    assert not slopes[0].any()  # Padding is not read.
    assert decoder(belief, torch.zeros_like(tokens), about, asked).isfinite().all()


def test_an_unasked_decoder_answers_nothing():
    probe = make_probe("lstm")
    logits = probe(torch.zeros(0, BELIEF), torch.zeros(0, LENGTH, dtype=torch.int64))
    assert logits.shape == (0, WORDS)
    logits.sum().backward()
