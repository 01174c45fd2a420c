"""Beliefs are moved where they should be, and nowhere else; what follows is read off rightly."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from groundling.agents.cores import CoreState
from groundling.agents.probe import Probe, answer_loss
from groundling.envs.questions import QUESTION_LENGTH
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.world import FIRST_SHAPE
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.cause import (
    Trials,
    _without,
    answers_after,
    astray,
    behaviour_after,
    collect_trials,
    expected_colours,
    towards,
)
from groundling.evaluation.imagination import Imagination
from groundling.evaluation.probing import load_probe, probe_run
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.walks import Reader
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.presets import preset
from groundling.training.run import RunDirectory, load_agent

CPU = torch.device("cpu")
COLOURS = ("red", "green", "blue", "yellow")
WORDS = torch.tensor([VOCABULARY.index(name) for name in COLOURS])
WIDTH, NUMBER = 40, 400


def question(shape: str) -> torch.Tensor:
    return torch.tensor(VOCABULARY.encode(f"what is the colour of the {shape} ?", QUESTION_LENGTH))


def planted(generator: torch.Generator, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Beliefs that hold the key's colour in their first four numbers, the ball's in the next four,
    and noise; and both colours, [number, 2]."""
    colours = torch.randint(4, (number, 2), generator=generator)
    noise = torch.randn(number, WIDTH - 8, generator=generator)
    return torch.cat([F.one_hot(colours, 4).float().flatten(1), noise], dim=1), colours


@pytest.fixture(scope="module")
def probe() -> Probe:
    """A decoder fitted to planted beliefs."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    probe = Probe(
        "mlp", belief_size=WIDTH, num_words=len(VOCABULARY), length=QUESTION_LENGTH, size=64
    )
    belief, colours = planted(generator, 4000)
    probe.standardise(belief)
    optimiser = torch.optim.Adam(probe.parameters(), lr=3e-3)
    for batch in torch.arange(4000).repeat(3).split(64):
        optimiser.zero_grad()
        for place, shape in enumerate(("key", "ball")):
            tokens = question(shape).expand(len(batch), -1)
            answers = WORDS[colours[batch, place]]
            answer_loss(probe(belief[batch], tokens), answers).mean().backward()
        optimiser.step()
    return probe.eval()


@pytest.fixture(scope="module")
def trials() -> Trials:
    generator = torch.Generator().manual_seed(1)
    belief, colours = planted(generator, NUMBER)
    becomes = (colours[:, 0] + 1) % 4
    return Trials(
        belief=belief,
        tokens=question("key").expand(NUMBER, -1),
        answer=WORDS[colours[:, 0]],
        target=WORDS[becomes],
        others=question("ball").expand(NUMBER, 1, -1),
        asked=torch.ones(NUMBER, 1, dtype=torch.bool),
        known=torch.ones(NUMBER, 1, dtype=torch.bool),
        kind=torch.full((NUMBER,), FIRST_SHAPE),
        colours=torch.stack([colours[:, 0], becomes], dim=1) + 1,
    )


def test_a_planted_direction_is_found_and_a_random_one_does_nothing(
    probe: Probe, trials: Trials
) -> None:
    moved = towards(probe, trials)
    after = answers_after(probe, trials, moved)
    assert after["target"] > 0.99
    assert after["changed"] > 0.99
    assert after["others"] < 0.02
    part = ((moved - trials.belief) / probe.scale).square()
    assert part[:, :4].sum() > 0.6 * part.sum()  # Where the key's colour is.
    assert part[:, 4:8].sum() < 0.2 * part.sum()
    turned = astray(probe, trials.belief, moved, torch.Generator().manual_seed(2))
    far, as_far = (((one - trials.belief) / probe.scale).norm(dim=-1) for one in (moved, turned))
    torch.testing.assert_close(far, as_far, rtol=1e-4, atol=1e-5)
    control = answers_after(probe, trials, turned)
    assert control["target"] < 0.1
    assert control["changed"] < 0.2


def test_what_was_not_known_is_counted_apart(probe: Probe, trials: Trials) -> None:
    moved = towards(probe, trials)
    others = torch.cat([trials.others, question("key").expand(NUMBER, 1, -1)], dim=1)
    asked = torch.ones(NUMBER, 2, dtype=torch.bool)
    known = torch.tensor([True, False]).expand(NUMBER, -1)
    after = answers_after(
        probe, dataclasses.replace(trials, others=others, asked=asked, known=known), moved
    )
    assert after["others"] < 0.02  # The ball's colour.
    assert 0.49 < after["all others"] < 0.52  # The key's changes always.


def test_what_says_so_already_is_left_alone(probe: Probe, trials: Trials) -> None:
    content = torch.arange(NUMBER) % 2 == 0
    half = dataclasses.replace(trials, target=torch.where(content, trials.answer, trials.target))
    moved = towards(probe, half, sure=0.5)
    assert torch.equal(moved[content], trials.belief[content])
    assert (moved[~content] != trials.belief[~content]).any(-1).all()
    assert answers_after(probe, half, moved)["target"] > 0.99


def test_what_is_left_of_a_gradient_stands_at_right_angles_to_the_spared() -> None:
    generator = torch.Generator().manual_seed(0)
    slope, one, other = torch.randn(3, 5, 8, generator=generator).unbind(0)
    other[:, 1:] *= 1e-6  # A gradient as small as those of sure answers.
    left = _without(slope, [one, other, one])  # The same twice.
    for spared in (one, other):
        along = (left * spared).sum(-1) / spared.norm(dim=-1)
        assert along.abs().max() < 1e-5
    # Nothing else is lost: what is missing is a mixture of the spared.
    spanned = torch.stack([one, other], dim=-1)
    missing = (slope - left)[..., None]
    rest = missing - spanned @ torch.linalg.lstsq(spanned.double(), missing.double())[0].float()
    assert rest.abs().max() < 1e-4
    assert torch.equal(_without(slope, []), slope)


CONFIG = TrainConfig(
    frames=1024,
    env=EnvironmentConfig(
        rooms=RoomsOptions(size=4, objects=3, shapes=4, colours=3, view_size=3, episode_length=32)
    ),
    agent=preset("know-small-simcore").agent,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = train(CONFIG, tmp_path_factory.mktemp("runs") / "run", show_progress=False)
    settings = ProbeSettings(
        rooms=128,
        validation_rooms=32,
        test_rooms=32,
        size=64,
        batch=8,
        passes=4,
        decoders=("mlp",),
        controls="none",
    )
    probe_run(run.path, settings, keep=False, show_progress=False)
    return run


@pytest.fixture(scope="module")
def asked(run: RunDirectory) -> tuple[Reader, Probe, Trials]:
    agent, _ = load_agent(run.path)
    reader = Reader(agent, 64)
    decoder = load_probe(run, agent, len(VOCABULARY))
    assert decoder is not None
    found = collect_trials(
        reader, [decoder], CONFIG.env, rooms=64, generator=np.random.default_rng(0), device=CPU
    )
    return reader, decoder, found


def test_trials_ask_of_what_was_seen_and_is_answered_rightly(
    asked: tuple[Reader, Probe, Trials],
) -> None:
    _, decoder, trials = asked
    assert len(trials.belief) > 5
    assert torch.equal(decoder(trials.belief, trials.tokens).argmax(-1), trials.answer)
    assert (trials.target != trials.answer).all()
    for one in range(len(trials.belief)):
        shape = CONFIG.env.rooms.shape_names[int(trials.kind[one]) - FIRST_SHAPE]
        text = VOCABULARY.decode(trials.tokens[one].tolist())
        assert text == f"what is the colour of the {shape} ?"
        had, becomes = (CONFIG.env.rooms.colour_names[int(c) - 1] for c in trials.colours[one])
        assert VOCABULARY.decode([int(trials.answer[one])]) == had
        assert VOCABULARY.decode([int(trials.target[one])]) == becomes
        others = trials.others[one][trials.asked[one]]
        assert len(others) > 0
        texts = {VOCABULARY.decode(tokens.tolist()) for tokens in others}
        assert len(texts) == len(others)
        assert text not in texts


def test_a_small_step_leaves_other_answers_as_they_are(
    asked: tuple[Reader, Probe, Trials],
) -> None:
    _, decoder, trials = asked
    room, which = trials.asked.nonzero(as_tuple=True)
    others = trials.others[room, which]
    given = decoder(trials.belief[room], others).argmax(-1, keepdim=True)

    @torch.no_grad()
    def logs(belief: torch.Tensor, tokens: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(decoder(belief, tokens), -1).gather(-1, answer)

    def changes(spare: bool) -> tuple[float, float]:
        moved = towards(decoder, trials, spare=spare, step=1e-2, most=1)
        before, after = (
            logs(belief, trials.tokens, trials.target[:, None]) for belief in (trials.belief, moved)
        )
        other_before, other_after = (
            logs(belief[room], others, given) for belief in (trials.belief, moved)
        )
        return float((after - before).min()), float((other_after - other_before).abs().max())

    gained, lost = changes(spare=True)
    _, lost_without = changes(spare=False)
    assert gained > 0
    assert lost < 0.1 * lost_without


def test_expected_colours_against_a_slow_reference(
    asked: tuple[Reader, Probe, Trials],
) -> None:
    reader, _, trials = asked
    actions = torch.randint(3, (3, len(trials.belief)), generator=torch.Generator().manual_seed(0))
    found = expected_colours(reader.agent, trials, trials.belief, actions)
    imagined = Imagination(reader)
    for one in (0, len(trials.belief) - 1):
        state = CoreState(*trials.belief[one : one + 1].chunk(2, dim=-1))
        mass, coloured = 0.0, torch.zeros(2)
        for state_ahead in imagined.simulator(state, actions[:, one : one + 1]):
            for cell in range(9):
                kinds = torch.full((1, 9), int(trials.kind[one]))
                what, colour, *_ = imagined.decoder.log_probs(state_ahead, imagined.sensor, kinds)
                there = what[0, cell, trials.kind[one]].exp()
                mass = mass + there
                coloured += there * colour[0, cell, trials.colours[one]].exp()
        torch.testing.assert_close(found[one], coloured / mass, rtol=1e-4, atol=1e-6)


def test_an_unchanged_belief_acts_as_before(asked: tuple[Reader, Probe, Trials]) -> None:
    reader, _, trials = asked
    same = behaviour_after(reader.agent, trials.belief, trials.belief)
    assert same == {"policy": pytest.approx(0.0, abs=1e-6), "value": 0.0}
    other = behaviour_after(reader.agent, trials.belief, trials.belief.flip(0))
    assert other["policy"] > 1e-6
    assert other["value"] > 0


def test_worlds_that_are_not_ours_are_refused(
    asked: tuple[Reader, Probe, Trials], tmp_path: Path
) -> None:
    reader, decoder, _ = asked
    with pytest.raises(ValueError, match="not one of our rooms"):
        collect_trials(
            reader,
            [decoder],
            EnvironmentConfig(id="CartPole-v1"),
            rooms=2,
            generator=np.random.default_rng(0),
            device=CPU,
        )
