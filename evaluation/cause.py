"""Cause, not only correlation: a belief is changed, and what follows is watched.

That a decoder finds the colour of the key in a belief does not say that the agent uses it. So the
belief is moved along the decoder's own direction until the key should be of another colour. If that
is where the agent keeps it, the answer changes and answers about other things do not; its simulator
expects a key of the new colour; and what it does may change. A random direction of the same length
is the control.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.agent import Agent
from groundling.agents.cores import CoreState
from groundling.agents.probe import Probe
from groundling.envs.errors import UserError
from groundling.envs.questions import Questions, concatenate
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.wording import QUESTION_TYPES, TYPES
from groundling.envs.rooms.world import FIRST_SHAPE
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.imagination import Imagination
from groundling.evaluation.walks import Reader, by_explorer, walk
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import make_environment
from groundling.training.seeds import environment_seed


@dataclass(frozen=True)
class Trials:
    """N beliefs, each with a question that the decoder answers rightly, and some others."""

    belief: Tensor
    """[N, belief size]."""
    tokens: Tensor
    """[N, L]: the question about one object's attribute."""
    answer: Tensor
    """[N] word ids: the right answer, and the decoder's."""
    target: Tensor
    """[N] word ids: what the belief is to say instead."""
    others: Tensor
    """[N, M, L]: the same attribute of other objects of the room."""
    asked: Tensor
    """[N, M] bool: which of `others` there are."""
    known: Tensor
    """[N, M] bool: which of them the decoders answer rightly."""
    kind: Tensor
    """[N] int64: what the question is about, as the view's first channel codes it."""
    colours: Tensor
    """[N, 2] int64: the colours it has and is to have, as the second channel codes them."""


@torch.no_grad()
def towards(
    probe: Probe,
    trials: Trials,
    *,
    sure: float = 0.9,
    spare: bool = True,
    step: float = 0.25,
    most: int = 200,
) -> Tensor:
    """Moves every belief along the decoder's gradient until it gives the target that probability.

    Args:
        probe: whose direction it is.
        trials: what to move.
        sure: the probability of the target at which a belief is left alone.
        spare: leave out of the gradient what would change the answers about the other things. A
            memory holds several things in the same numbers, and one's direction is seldom at right
            angles to another's.
        step: length of a step, in the decoder's standard deviations of a belief.
        most: steps, at the most.

    Returns:
        [N, belief size]: the beliefs where they were moved.
    """
    moved: Tensor = trials.belief.clone()
    asked = trials.others.unbind(1) if spare else ()
    others = [(tokens, _words(probe, moved, tokens)) for tokens in asked]
    for _ in range(most):
        standard = probe.standard(moved)
        chosen = probe.log_probability(standard, trials.tokens, trials.target)
        short = chosen < math.log(sure)
        if not short.any():
            break
        slope = _slope(probe, standard, trials.tokens, trials.target)
        direction = _unit(_without(slope, [_slope(probe, standard, *other) for other in others]))
        moved = moved + step * direction * probe.scale * short[:, None]
    return moved


def _slope(probe: Probe, standard: Tensor, tokens: Tensor, answer: Tensor) -> Tensor:
    """The gradient of the log-probabilities of answers, [N, belief size]."""
    standard = standard.detach().requires_grad_()
    with torch.enable_grad():
        wanted = probe.log_probability(standard, tokens, answer).sum()
    return torch.autograd.grad(wanted, standard)[0]


def _unit(vectors: Tensor) -> Tensor:
    units: Tensor = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return units


def _without(slope: Tensor, spared: list[Tensor]) -> Tensor:
    """The part of a gradient [N, D] that is at right angles to all the others."""
    if not spared:
        return slope
    others = _unit(torch.stack(spared, dim=1))  # [N, M, D]
    # Some of them may be the same, so that the products have no inverse.
    products = torch.linalg.pinv(others @ others.mT, rtol=1e-4, hermitian=True)
    along: Tensor = others.mT @ (products @ (others @ slope[..., None]))
    return slope - along[..., 0]


def astray(probe: Probe, belief: Tensor, moved: Tensor, generator: torch.Generator) -> Tensor:
    """The control: as far as the belief was moved, in a random direction, [N, belief size]."""
    length = ((moved - belief) / probe.scale).norm(dim=-1, keepdim=True)
    random = torch.randn(belief.shape, generator=generator).to(belief)
    turned: Tensor = belief + length * random / random.norm(dim=-1, keepdim=True) * probe.scale
    return turned


def answers_after(probe: Probe, trials: Trials, belief: Tensor) -> dict[str, float]:
    """What a decoder reads off changed beliefs.

    Args:
        probe: any decoder; one that had no part in the change is the stricter judge.
        trials: what is asked.
        belief: [N, belief size], as they were changed.

    Returns:
        "target" and "changed": shares of the asked questions that are answered as intended, or
        otherwise than before; "others": share of the other questions, of those whose answers are
        known, that are answered otherwise; "all others": the same of all of them (what is not
        known is guessed, and a guess is easily another one).
    """
    before, after = (_words(probe, one, trials.tokens) for one in (trials.belief, belief))
    room, which = trials.asked.nonzero(as_tuple=True)
    others = trials.others[room, which]
    other_before, other_after = (
        _words(probe, one[room], others) for one in (trials.belief, belief)
    )
    moved = (other_after != other_before).float()
    return {
        "target": float((after == trials.target).float().mean()),
        "changed": float((after != before).float().mean()),
        "others": float(moved[trials.known[room, which]].mean()),
        "all others": float(moved.mean()),
    }


@torch.no_grad()
def _words(probe: Probe, belief: Tensor, tokens: Tensor) -> Tensor:
    words: Tensor = probe(belief, tokens).argmax(-1)
    return words


@torch.no_grad()
def behaviour_after(agent: Agent, before: Tensor, after: Tensor) -> dict[str, float]:
    """How changed beliefs ([N, belief size]) would act: "policy", the mean divergence
    KL(before, after) in nats, and "value", the mean size of the change in reward."""
    logs = [torch.log_softmax(agent.policy(_state(one).hidden), -1) for one in (before, after)]
    values = [agent.baseline(_state(one).hidden)[:, 0] for one in (before, after)]
    return {
        "policy": float((logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean()),
        "value": float((values[1] - values[0]).abs().mean()),
    }


def _state(belief: Tensor) -> CoreState:
    return CoreState(*belief.chunk(2, dim=-1))


@torch.no_grad()
def expected_colours(agent: Agent, trials: Trials, belief: Tensor, actions: Tensor) -> Tensor:
    """The colours in which the agent's simulator expects to see the thing that was asked about.

    Args:
        agent: trained with SimCore in one of our rooms.
        trials: what was asked.
        belief: [N, belief size], perhaps changed.
        actions: [K, N] int64: what is done after the moment.

    Returns:
        [N, 2]: probability of the colour it has, and of the one it is to have, in the cells that
        may show such a thing within K steps, weighed by how probable that is.

    Raises:
        UserError: the agent generates no views.
    """
    imagined = Imagination(Reader(agent, 1))  # Knows where simulator, decoder and sensor are.
    states = imagined.simulator(_state(belief), actions)
    steps = len(actions)
    kinds = trials.kind.repeat(steps)[:, None].expand(-1, imagined.decoder.cells)
    what, colour, *_ = imagined.decoder.log_probs(states.flatten(0, 1), imagined.sensor, kinds)
    there = what.gather(-1, kinds[..., None]).exp()  # [K · N, cells, 1]
    asked = trials.colours.repeat(steps, 1)[:, None].expand(-1, imagined.decoder.cells, -1)
    coloured = (there * colour.gather(-1, asked).exp()).unflatten(0, (steps, -1)).sum((0, 2))
    shares: Tensor = coloured / there.unflatten(0, (steps, -1)).sum((0, 2))
    return shares


COLOUR_OF = TYPES[QUESTION_TYPES.index("attribute_colour")].template


def collect_trials(
    reader: Reader,
    probes: Sequence[Probe],
    config: EnvironmentConfig,
    *,
    rooms: int,
    generator: np.random.Generator,
    device: torch.device,
) -> Trials:
    """Walks rooms of the test set with the scripted explorer for three quarters of an episode, and
    asks for the colour of everything that was seen.

    One question of each room, drawn among those that all decoders answer rightly, is the trial's.

    Raises:
        UserError: the world is not one of our rooms, or no room has two things to ask about.
    """
    environment = make_environment(config, num_envs=rooms)
    world = environment.unwrapped
    if not isinstance(world, RoomsVectorEnv):
        raise UserError(f"{config.id} is not one of our rooms; beliefs are changed there")
    rows = walk(
        environment,
        seed=environment_seed("probe-test"),
        choose=by_explorer(environment),
        readers=(reader,),
        device=device,
    )
    for _ in zip(range(config.rooms.episode_length * 3 // 4), rows, strict=False):
        pass
    questions = concatenate(
        [world.typed_question(COLOUR_OF.format(shape)) for shape in world.rooms.shape_names]
    )
    environment.close()
    questions = questions[questions.answerable]
    belief = reader.state.belief.clone()
    tokens = torch.from_numpy(questions.tokens).to(device)
    about = belief[torch.from_numpy(questions.world).to(device)]
    words = [_words(probe, about, tokens).cpu().numpy() for probe in probes]
    right = np.all([answered == questions.answer for answered in words], axis=0)
    chosen, others = [], []
    for room in range(rooms):
        (here,) = np.nonzero(questions.world == room)
        known = here[right[here]]
        if len(known) and len(here) > 1:
            chosen.append(generator.choice(known))
            others.append(here[here != chosen[-1]])
    if not chosen:
        raise UserError("in no room there were two things whose colours were known; train longer")
    return _trials(belief, questions, right, np.array(chosen), others, world.rooms, generator)


def _trials(
    belief: Tensor,
    questions: Questions,
    right: NDArray[np.bool_],
    chosen: NDArray[np.int64],
    others: list[NDArray[np.int64]],
    options: RoomsOptions,
    generator: np.random.Generator,
) -> Trials:
    colours = [VOCABULARY.index(name) for name in options.colour_names]
    code = {word: number for number, word in enumerate(colours)}
    had = np.array([code[word] for word in questions.answer[chosen]])
    becomes = (had + generator.integers(1, len(colours), len(had))) % len(colours)
    most = max(len(one) for one in others)
    padded = np.array([np.pad(one, (0, most - len(one)), mode="edge") for one in others])
    asked = np.array([np.arange(most) < len(one) for one in others])

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(belief.device)

    return Trials(
        belief=belief[tensor(questions.world[chosen])],
        tokens=tensor(questions.tokens[chosen]),
        answer=tensor(questions.answer[chosen]),
        target=tensor(np.array(colours)[becomes]),
        others=tensor(questions.tokens[padded]),
        asked=tensor(asked),
        known=tensor(asked & right[padded]),
        kind=tensor(questions.arguments[chosen, 0] + FIRST_SHAPE),
        colours=tensor(np.stack([had, becomes], axis=1) + 1),
    )
