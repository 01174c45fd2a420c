"""Policies over every kind of action space, held against torch.distributions."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch.distributions import Categorical, Independent, Normal
from torch.testing import assert_close

from groundling.agents.actions import (
    NARROWEST,
    WIDEST,
    Actions,
    BoxActions,
    make_actions,
    sample_categories,
)
from groundling.agents.agent import Agent, Rows
from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.envs.errors import UserError

ONE_SIDED = spaces.Box(
    np.array([-math.inf, 5.0, -math.inf, 0.0], np.float32),
    np.array([math.inf, math.inf, -3.0, 1.0], np.float32),
)
SPACES = {
    "discrete": spaces.Discrete(3),
    "discrete from a start": spaces.Discrete(3, start=-7),
    "choices": spaces.MultiDiscrete([3, 2, 4], start=[0, 5, -1]),
    "table of choices": spaces.MultiDiscrete([[3, 2], [2, 5]]),
    "switches": spaces.MultiBinary([2, 2]),
    "numbers": spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)),
    "matrix of doubles": spaces.Box(-1.0, 3.0, (2, 3), np.float64),
    "one number": spaces.Box(-1.0, 1.0, ()),
    "numbers without bounds": spaces.Box(-math.inf, math.inf, (2,)),
    "numbers bounded on one side": ONE_SIDED,
}
EVERY_SPACE = pytest.mark.parametrize("space", list(SPACES.values()), ids=list(SPACES))
T, B = 4, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def policies(actions, *leading, seed=1):
    return torch.randn(*leading, actions.outputs, generator=generator(seed))


def parts_of(space, policy):
    """torch's distributions of each component, and where it stands in an action."""
    if isinstance(space, spaces.Discrete):
        return [(Categorical(logits=policy), ...)]
    if isinstance(space, spaces.Box):
        mean, raw = policy.chunk(2, -1)
        width = NARROWEST * (WIDEST / NARROWEST) ** torch.sigmoid(raw)
        return [(Independent(Normal(mean, width), 1), slice(None))]
    sizes = np.full(space.shape, 2) if isinstance(space, spaces.MultiBinary) else space.nvec
    parts = policy.split(sizes.ravel().tolist(), -1)
    return [(Categorical(logits=part), i) for i, part in enumerate(parts)]


@EVERY_SPACE
def test_log_probabilities_and_entropies_are_those_of_torch(space):
    actions = make_actions(space)
    policy = policies(actions, T, B)
    taken, _ = actions.sample(policy, generator())
    assert taken.shape == (T, B, *actions.shape)
    assert taken.dtype == actions.dtype
    parts = parts_of(space, policy)
    log_probs = sum(part.log_prob(taken[..., at]) for part, at in parts)
    assert_close(actions.log_probs(policy, taken), log_probs)
    assert_close(actions.entropy(policy), sum(part.entropy() for part, _ in parts))


@EVERY_SPACE
def test_what_is_drawn_carries_its_log_probability(space):
    actions = make_actions(space)
    policy = policies(actions, T, B)
    taken, log_probs = actions.sample(policy, generator())
    assert_close(log_probs, actions.log_probs(policy, taken))
    again, _ = actions.sample(policy, generator())
    assert torch.equal(taken, again)
    assert not torch.equal(taken, actions.sample(policies(actions, T, B), generator(5))[0])


@EVERY_SPACE
def test_the_environment_gets_what_its_space_holds_and_the_agent_gets_it_back(space):
    actions = make_actions(space)
    taken, _ = actions.sample(3.0 * policies(actions, 200), generator())
    given = actions.to_environment(taken)
    many = batch_space(space, 200)
    assert given.shape == many.shape
    assert given.dtype == many.dtype
    assert many.contains(given)
    back = actions.from_environment(given, "cpu")
    assert back.dtype == actions.dtype
    # What the networks are told is what the environment got: bounds are where it was clipped.
    assert_close(actions.encode(back), actions.encode(taken), atol=1e-5, rtol=1e-5)


@EVERY_SPACE
def test_random_actions_lie_in_the_space_and_come_from_the_generator(space):
    actions = make_actions(space)
    drawn, again = (actions.random(50, np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(drawn, again)
    assert batch_space(space, 50).contains(drawn)
    assert len(np.unique(drawn, axis=0)) > 1


@EVERY_SPACE
def test_an_encoded_action_is_of_a_sane_size(space):
    actions = make_actions(space)
    taken, _ = actions.sample(30.0 * policies(actions, 500), generator())
    encoded = actions.encode(taken)
    assert encoded.shape == (500, actions.width)
    assert encoded.dtype == torch.float32
    assert encoded.abs().max() < 6.0


def test_components_are_encoded_one_hot_side_by_side():
    actions = make_actions(spaces.MultiDiscrete([3, 2], start=[4, -1]))
    taken = actions.from_environment(np.array([[5, 0], [4, -1]]), "cpu")
    assert taken.tolist() == [[1, 1], [0, 0]]
    assert actions.encode(taken).tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]


def test_bounds_lie_at_one_and_what_is_stored_is_not_clipped():
    space = spaces.Box(np.array([10.0, 0.0], np.float32), np.array([20.0, 1.0], np.float32))
    actions = make_actions(space)
    taken = torch.tensor([[1.0, -1.0], [0.0, 5.0]])
    assert actions.to_environment(taken).tolist() == [[20.0, 0.0], [15.0, 1.0]]
    assert actions.encode(taken).tolist() == [[1.0, -1.0], [0.0, 1.0]]
    policy = torch.zeros(20_000, 4)
    policy[:, 2:] = 4.0  # very wide
    drawn, log_probs = actions.sample(policy, generator())
    assert (drawn.abs() > 1.0).float().mean() > 0.5
    assert_close(log_probs, actions.log_probs(policy, drawn))


def test_numbers_bounded_on_one_side_count_from_there():
    actions = make_actions(ONE_SIDED)
    given = actions.to_environment(torch.tensor([[2.0, 3.0, -3.0, 0.0], [-2.0, -3.0, 3.0, 9.0]]))
    assert given.tolist() == [[2.0, 8.0, -6.0, 0.5], [-2.0, 5.0, -3.0, 1.0]]
    encoded = actions.encode(torch.tensor([[-2.0, -3.0, -3.0, 9.0]]))
    assert_close(encoded, torch.tensor([[-math.log(3.0), 0.0, -math.log(4.0), 1.0]]))


def test_a_gaussian_starts_half_a_bound_wide_and_stays_within_limits():
    actions = make_actions(spaces.Box(-1, 1, (1,)))
    for raw, width in ((0.0, 0.5), (-60.0, NARROWEST), (60.0, WIDEST)):
        policy = torch.tensor([0.0, raw])
        assert actions.entropy(policy).item() == pytest.approx(
            math.log(width * math.sqrt(2 * math.pi * math.e)), abs=1e-5
        )


@EVERY_SPACE
def test_the_gradient_of_reinforce_makes_an_action_likelier(space):
    actions = make_actions(space)
    policy = policies(actions, B).requires_grad_()
    taken, log_probs = actions.sample(policy, generator())
    assert not taken.requires_grad
    actions.log_probs(policy, taken).sum().backward()
    with torch.no_grad():
        moved = actions.log_probs(policy + 1e-3 * policy.grad, taken)
    assert (moved > log_probs).all()


@EVERY_SPACE
def test_the_gradient_of_entropy_opens_the_policy(space):
    actions = make_actions(space)
    policy = policies(actions, B).requires_grad_()
    entropy = actions.entropy(policy)
    entropy.sum().backward()
    with torch.no_grad():
        assert (actions.entropy(policy + 1e-2 * policy.grad) > entropy).all()


def test_certain_policies_have_finite_log_probabilities_and_entropies():
    actions = make_actions(spaces.Discrete(2))
    policy = torch.tensor([[1e4, -1e4]], requires_grad=True)
    actions.entropy(policy).sum().backward()
    assert torch.isfinite(policy.grad).all()


def test_the_preference_is_the_log_probability_of_the_likeliest_action():
    policy = torch.tensor([[1.0, 3.0, 0.0, 2.0, -1.0]])
    actions = make_actions(spaces.MultiDiscrete([3, 2]))
    assert_close(actions.preference(policy), actions.log_probs(policy, torch.tensor([[1, 0]])))
    actions = make_actions(spaces.Discrete(5))
    assert_close(actions.preference(policy), actions.log_probs(policy, torch.tensor([1])))


def test_the_preference_of_a_gaussian_moves_with_its_means_in_standard_deviations():
    policy = torch.tensor([[0.3, -0.2, 0.0, 60.0]], requires_grad=True)
    make_actions(spaces.Box(-1, 1, (2,))).preference(policy).sum().backward()
    assert_close(policy.grad, torch.tensor([[1 / 0.5, 1 / WIDEST, 0.0, 0.0]]))


def test_sampled_categories_follow_the_policy_and_carry_its_log_probabilities():
    probabilities = torch.tensor([0.2, 0.0, 0.5, 0.3])
    logits = probabilities.log().expand(10, 2000, 4)
    drawn, log_probs = sample_categories(logits, generator())
    assert drawn.shape == log_probs.shape == (10, 2000)
    shares = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    assert shares[1] == 0
    assert_close(shares, probabilities, atol=0.015, rtol=0)  # over four standard deviations
    assert_close(log_probs, probabilities[drawn].log())


def test_exploration_mixes_in_uniform_actions_and_says_so_in_the_log_probabilities():
    probabilities = torch.tensor([0.2, 0.0, 0.5, 0.3])
    mixed = 0.6 * probabilities + 0.4 / 4
    logits = probabilities.log().expand(10, 2000, 4)
    drawn, log_probs = sample_categories(logits, generator(), exploration=0.4)
    shares = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    assert_close(shares, mixed, atol=0.015, rtol=0)
    assert_close(log_probs, mixed[drawn].log())


def test_each_component_explores_by_itself():
    actions = make_actions(spaces.MultiDiscrete([2, 4]))
    policy = torch.tensor([60.0, 0.0, 60.0, 0.0, 0.0, 0.0]).expand(20_000, 6)
    drawn, log_probs = actions.sample(policy, generator(), exploration=0.4)
    strayed = (drawn != 0).float()
    assert_close(strayed.mean(0), torch.tensor([0.2, 0.3]), atol=0.02, rtol=0)
    both = (strayed.sum(-1) == 2).float().mean()
    assert_close(both, torch.tensor(0.2 * 0.3), atol=0.01, rtol=0)
    assert_close(log_probs[strayed.sum(-1) == 0][0], torch.tensor(math.log(0.8 * 0.7)))


def test_a_gaussian_does_not_explore():
    actions = make_actions(spaces.Box(-1, 1, (2,)))
    policy = policies(actions, T, B)
    plain, mixed = (actions.sample(policy, generator(), exploration=e) for e in (0.0, 0.9))
    assert torch.equal(plain[0], mixed[0])
    assert torch.equal(plain[1], mixed[1])


def test_actions_are_drawn_from_the_generator_given_and_no_other():
    before = torch.get_rng_state()
    for space in SPACES.values():
        actions: Actions = make_actions(space)
        actions.sample(policies(actions, 64), generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (spaces.Box(0, 5, (2,), np.int64), "Box of int64"),
        (spaces.Tuple([spaces.Discrete(2)]), "Tuple"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "Dict"),
        (spaces.Text(3), "Text"),
    ],
)
def test_a_space_without_a_policy_is_refused_in_one_line(space, named):
    with pytest.raises(UserError, match=f"the action space is {named}; expected Discrete") as said:
        make_actions(space)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("loss", ["simcore", "cpc"])
@EVERY_SPACE
def test_an_agent_reads_and_predicts_with_actions_of_every_kind(space, loss):
    prediction = PredictionConfig(loss=loss, present_weight=0.3, starts=2, horizons=2)
    config = AgentConfig(
        core_size=8, feature_size=6, sensor_size=7, embedding_size=5, prediction=prediction
    )
    agent = Agent(spaces.Discrete(4), space, config, seed=0)
    actions = agent.actions
    taken, _ = actions.sample(policies(actions, T + 1, B), generator())
    is_first = torch.zeros(T + 1, B, dtype=torch.bool)
    is_first[0] = is_first[3, 1] = True
    seen = {"observation": torch.randint(4, (T + 1, B), generator=generator())}
    rows = Rows(seen, is_first, taken, torch.zeros(T + 1, B))

    def read(rows):
        return agent.unroll(rows, agent.initial_state(B))

    output = read(rows)
    assert output.policy.shape == (T + 1, B, actions.outputs)
    # A first row knows of no action, every other one of its own.
    others = rows._replace(previous_action=taken.roll(1, 1))
    differs = (read(others).policy != output.policy).any(-1)
    assert not differs[0].any()
    row = rows.map(lambda part: part[0])
    step, _ = agent.step(row, agent.initial_state(B))
    assert_close(step.policy, output.policy[0])
    predicted = agent.prediction(
        output.core, output.features, seen, is_first, taken[1:], agent.sensors,
        limit=3, generator=generator(),
    )  # fmt: skip
    predicted.future.backward()
    weight = agent.prediction.simulator.from_action.weight
    assert weight.grad is not None
    assert weight.grad.any()


def test_a_simulator_told_nothing_of_numbers_imagines_the_same_whatever_is_done():
    prediction = PredictionConfig(loss="cpc", actions=False)
    config = AgentConfig(core_size=8, prediction=prediction)
    agent = Agent(spaces.Discrete(4), spaces.Box(-1, 1, (2,)), config, seed=0)
    assert isinstance(agent.actions, BoxActions)
    belief = agent.initial_state(B)
    one, other = (torch.randn(T, B, 2, generator=generator(seed)) for seed in (0, 1))
    simulator = agent.prediction.simulator
    assert torch.equal(simulator(belief, one), simulator(belief, other))
