"""One forward path for acting and learning, and weights that depend on a seed and a name alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from groundling.agents.agent import Agent, Rows
from groundling.agents.config import AgentConfig
from groundling.agents.cores import CoreState
from groundling.agents.generators import initialised_by, named_seed

ACTIONS = 3
SPACE = spaces.Dict(
    {
        "cells": spaces.Box(0, np.full((3, 3, 2), 4, np.uint8), dtype=np.uint8),
        "direction": spaces.Discrete(4),
    }
)
CONFIG = AgentConfig(core_size=8, feature_size=6, sensor_size=7, embedding_size=5)


def make_agent(seed=0, space=SPACE, config=CONFIG):
    return Agent(space, spaces.Discrete(ACTIONS), config, seed)


def random_rows(generator, T, B, is_first=None):
    """Rows of random numbers; without `is_first` no episode begins."""
    return Rows(
        {
            "cells": torch.from_numpy(generator.integers(0, 5, (T, B, 3, 3, 2), dtype=np.uint8)),
            "direction": torch.from_numpy(generator.integers(0, 4, (T, B))),
        },
        torch.zeros(T, B, dtype=torch.bool) if is_first is None else is_first,
        torch.from_numpy(generator.integers(0, ACTIONS, (T, B))),
        torch.from_numpy(generator.normal(size=(T, B))).float(),
    )


def random_state(generator, B):
    return CoreState(*(torch.from_numpy(generator.normal(size=(B, 8))) for _ in range(2)))


def slice_rows(rows, part):
    return rows.map(lambda field: field[part])


def last_state(output):
    return CoreState(output.core.hidden[-1], output.core.cell[-1])


def join(outputs):
    parts = [(o.policy, o.baseline, o.core.hidden, o.core.cell) for o in outputs]
    return [torch.cat(field) for field in zip(*parts, strict=True)]


def unroll_in_chunks(agent, rows, state, cuts):
    outputs = []
    for start, stop in pairwise(cuts):
        outputs.append(agent.unroll(slice_rows(rows, slice(start, stop)), state))
        state = last_state(outputs[-1])
    return join(outputs)


def walk_step_by_step(agent, rows, state):
    steps = []
    for t in range(len(rows.is_first)):
        output, state = agent.step(slice_rows(rows, t), state)
        assert_close(output.core, state, rtol=0, atol=0)
        steps.append([output.policy, output.baseline, *state])
    return [torch.stack(field) for field in zip(*steps, strict=True)]


@st.composite
def boundaries_and_cuts(draw):
    """[T, B] starts of episodes, and the points at which T rows are cut into chunks."""
    T, B = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    flags = draw(st.lists(st.booleans(), min_size=T * B, max_size=T * B))
    inner = draw(st.sets(st.integers(1, T - 1))) if T > 1 else set()
    return torch.tensor(flags).reshape(T, B), [0, *sorted(inner), T]


@given(boundaries_and_cuts(), st.integers(0, 2**32))
@settings(max_examples=50)
def test_whole_sequences_chunks_and_single_steps_give_the_same_outputs(drawn, seed):
    is_first, cuts = drawn
    T, B = is_first.shape
    generator = np.random.default_rng(seed)
    agent = make_agent().double()  # so that only the last bits may differ
    rows, state = random_rows(generator, T, B, is_first), random_state(generator, B)
    with torch.no_grad():
        whole = join([agent.unroll(rows, state)])
        assert whole[0].shape == (T, B, ACTIONS)
        assert whole[1].shape == (T, B)
        assert_close(unroll_in_chunks(agent, rows, state, cuts), whole, rtol=1e-10, atol=1e-12)
        assert_close(walk_step_by_step(agent, rows, state), whole, rtol=1e-10, atol=1e-12)


def first_in_the_middle():
    """Five rows of two environments; the second begins an episode at row 2."""
    is_first = torch.zeros(5, 2, dtype=torch.bool)
    is_first[2, 1] = True
    return is_first


def changed(outputs, others):
    """[T, B]: where any output differs, to the last bit."""
    differences = [(a != b).flatten(2).any(-1) for a, b in zip(outputs, others, strict=True)]
    return torch.stack(differences).any(0)


def outputs_of(agent, rows, state):
    output = agent.unroll(rows, state)
    logits, baseline, hidden, cell = join([output])
    return [logits, baseline.unsqueeze(-1), hidden, cell]


def test_state_is_forgotten_before_a_first_row_is_read():
    generator = np.random.default_rng(0)
    agent, rows = make_agent().double(), random_rows(generator, 5, 2, first_in_the_middle())
    one, other = random_state(generator, 2), random_state(generator, 2)
    difference = changed(outputs_of(agent, rows, one), outputs_of(agent, rows, other))
    assert difference[:, 0].all()  # a memory that nothing resets
    assert difference[:2, 1].all()
    assert not difference[2:, 1].any()


def test_a_first_row_is_read_as_from_the_initial_state():
    rows = random_rows(np.random.default_rng(0), 1, 2, torch.ones(1, 2, dtype=torch.bool))
    agent = make_agent()
    dirty = agent.unroll(rows, CoreState(torch.full((2, 8), 3.0), torch.full((2, 8), -2.0)))
    clean = agent.unroll(rows, agent.initial_state(2))
    assert_close(dirty, clean, rtol=0, atol=0)


@pytest.mark.parametrize("field", ["previous_action", "previous_reward"])
def test_what_was_done_before_an_episode_has_no_influence_on_it(field):
    generator = np.random.default_rng(0)
    agent, state = make_agent().double(), random_state(generator, 2)
    rows = random_rows(generator, 5, 2, first_in_the_middle())
    other = getattr(rows, field).clone()
    other[2] = (other[2] + 1) % ACTIONS
    difference = changed(
        outputs_of(agent, rows, state), outputs_of(agent, rows._replace(**{field: other}), state)
    )
    assert not difference[:, 1].any()
    assert not difference[:2].any()
    assert difference[2:, 0].all()  # within an episode it does matter


def test_the_previous_action_of_a_first_row_is_a_zero_vector_and_not_action_zero():
    agent = make_agent()
    rows = random_rows(np.random.default_rng(0), 1, 2, torch.ones(1, 2, dtype=torch.bool))
    rows.previous_action.zero_()
    rows.previous_reward.zero_()
    features = agent.sensors(rows.observation)
    flags = torch.zeros(1, 2, ACTIONS + 1)
    as_first = agent.unroll(rows, agent.initial_state(2)).core
    expected = agent.core(features, flags, rows.is_first, agent.initial_state(2))
    assert_close(as_first, expected, rtol=0, atol=0)
    later = rows._replace(is_first=torch.zeros(1, 2, dtype=torch.bool))
    as_later = agent.unroll(later, agent.initial_state(2)).core
    assert (as_later.hidden != as_first.hidden).any()


def test_actions_and_rewards_reach_the_core_undistorted():
    agent = make_agent()
    rows = random_rows(np.random.default_rng(0), 4, 2)
    action = torch.eye(ACTIONS)[rows.previous_action]
    features = agent.sensors(rows.observation)
    flags = torch.cat([action, rows.previous_reward.unsqueeze(-1)], -1)
    expected = agent.core(features, flags, rows.is_first, agent.initial_state(2))
    assert_close(agent.unroll(rows, agent.initial_state(2)).core, expected, rtol=0, atol=0)


def weights_of(agent, *modules):
    return {
        name: weight for name, weight in agent.state_dict().items() if name.split(".")[0] in modules
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_depend_on_the_seed():
    for name, weight in make_agent(seed=1).state_dict().items():
        assert torch.equal(weight, make_agent(seed=1).state_dict()[name])
        if not name.endswith(".bias"):  # which starts from constants
            assert not torch.equal(weight, make_agent(seed=2).state_dict()[name]), name


def test_weights_of_a_module_do_not_depend_on_the_modules_before_it():
    other_space = spaces.Box(-1, 1, (4,), np.float32)
    wider = AgentConfig(core_size=8, feature_size=6, sensor_size=30, embedding_size=9)
    ours = make_agent(seed=3)
    for other in (make_agent(3, other_space), make_agent(3, config=wider)):
        rest = ("core", "policy", "baseline")
        assert_same(weights_of(ours, *rest), weights_of(other, *rest))


def test_each_module_draws_from_a_generator_of_its_own():
    agent = make_agent()  # policy and baseline would begin alike if they drew from the same one
    assert not torch.equal(agent.policy[0][0].weight[0], agent.baseline[0][0].weight[0])
    names = ("sensors", "core", "policy", "baseline", "probe", "actions", "questions")
    assert len({named_seed(seed, name) for seed in range(50) for name in names}) == 50 * len(names)
    assert all(0 <= named_seed(seed, "core") < 2**63 for seed in (0, 1, 2**40))


def test_building_an_agent_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    one = make_agent()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert_same(one.state_dict(), make_agent().state_dict())


def test_the_global_generator_comes_back_even_after_a_failure():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="a module that fails"), initialised_by(0, "core"):
        raise ValueError("a module that fails", torch.rand(3))
    assert torch.equal(torch.get_rng_state(), before)
