"""V-trace against deliberately slow references: the paper's sum of products, and torchrl."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from groundling.agents.vtrace import vtrace

GAMMA = 0.9


def random_walk(T, B, seed, on_policy=False):
    """What T steps of B environments look like before anybody shapes them, with ends inside."""
    generator = np.random.default_rng(seed)
    kind = generator.choice(["on", "terminated", "truncated"], p=[0.6, 0.2, 0.2], size=(T, B))
    return {
        "log_rhos": np.zeros((T, B)) if on_policy else generator.normal(size=(T, B)),
        "rewards": generator.normal(size=(T, B)),
        "baselines": generator.normal(size=(T + 1, B)),
        "terminated": kind == "terminated",
        "truncated": kind == "truncated",
        "final_values": generator.normal(size=(T, B)),  # V(final observation), if truncated
    }


def shaped(walk, *, lambda_, clip_rho=1.0, clip_c=1.0):
    """`vtrace` as the learner feeds it: a truncation's value joins its reward."""
    ended = walk["terminated"] | walk["truncated"]
    rewards = walk["rewards"] + GAMMA * walk["truncated"] * walk["final_values"]
    arrays = (walk["log_rhos"], GAMMA * ~ended, rewards, walk["baselines"])
    coefficients = {"lambda_": lambda_, "clip_rho": clip_rho, "clip_c": clip_c}
    return vtrace(*(torch.from_numpy(array) for array in arrays), **coefficients)


def next_value(walk, t, b, inside):
    """What follows step t: nothing, V(final observation), or the `inside` value of row t + 1."""
    if walk["terminated"][t, b]:
        return 0.0
    return walk["final_values"][t, b] if walk["truncated"][t, b] else inside[t + 1, b]


def temporal_difference(walk, t, b):
    following = next_value(walk, t, b, walk["baselines"])
    return walk["rewards"][t, b] + GAMMA * following - walk["baselines"][t, b]


def steps_of_the_episode(walk, s, b):
    """s, s + 1, … up to the step that ends the episode or the unroll."""
    for t in range(s, len(walk["rewards"])):
        yield t
        if walk["terminated"][t, b] or walk["truncated"][t, b]:
            return


def slow_values(walk, *, lambda_, clip_rho, clip_c):
    """Espeholt et al. 2018, equation (1), with c_i of Remark 2. The last row has no correction."""
    values = walk["baselines"].copy()
    T, B = walk["rewards"].shape
    for s in range(T):
        for b in range(B):
            for t in steps_of_the_episode(walk, s, b):
                rho_t = min(clip_rho, np.exp(walk["log_rhos"][t, b]))
                product = np.prod(
                    [lambda_ * min(clip_c, np.exp(walk["log_rhos"][i, b])) for i in range(s, t)]
                )
                delta_t = rho_t * temporal_difference(walk, t, b)
                values[s, b] += GAMMA ** (t - s) * product * delta_t
    return values


def slow_advantages(walk, values, *, lambda_, clip_rho):
    """Section 4.2: ρ_s (r_s + γ v_{s+1} - V(x_s)); for λ < 1 v is mixed with V in the same way."""
    mixed = lambda_ * values + (1 - lambda_) * walk["baselines"]
    T, B = walk["rewards"].shape
    advantages = np.empty((T, B))
    for s in range(T):
        for b in range(B):
            q_s = walk["rewards"][s, b] + GAMMA * next_value(walk, s, b, mixed)
            rho_s = min(clip_rho, np.exp(walk["log_rhos"][s, b]))
            advantages[s, b] = rho_s * (q_s - walk["baselines"][s, b])
    return advantages


@given(
    T=st.integers(1, 8),
    B=st.integers(1, 3),
    seed=st.integers(0, 2**32),
    lambda_=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    clips=st.sampled_from([(1.0, 1.0), (2.0, 1.0), (1.5, 0.7), (np.inf, np.inf)]),
)
@settings(max_examples=150)
def test_values_and_advantages_are_the_papers(T, B, seed, lambda_, clips):
    walk = random_walk(T, B, seed)
    clip_rho, clip_c = clips
    ours = shaped(walk, lambda_=lambda_, clip_rho=clip_rho, clip_c=clip_c)
    values = slow_values(walk, lambda_=lambda_, clip_rho=clip_rho, clip_c=clip_c)
    advantages = slow_advantages(walk, values, lambda_=lambda_, clip_rho=clip_rho)
    assert ours.values.shape == ours.advantages.shape == (T, B)
    assert_close(ours.values.numpy(), values[:-1])
    assert_close(ours.advantages.numpy(), advantages)


@given(
    T=st.integers(1, 10),
    seed=st.integers(0, 2**32),
    lambda_=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
@settings(max_examples=60)
def test_on_policy_it_is_generalised_advantage_estimation(T, seed, lambda_):
    walk = random_walk(T, 2, seed, on_policy=True)
    expected = np.zeros((T, 2))
    for s in range(T):
        for b in range(2):
            for t in steps_of_the_episode(walk, s, b):
                weight = (GAMMA * lambda_) ** (t - s)
                expected[s, b] += weight * temporal_difference(walk, t, b)
    ours = shaped(walk, lambda_=lambda_)
    assert_close(ours.advantages.numpy(), expected)
    assert_close(ours.values.numpy(), walk["baselines"][:-1] + expected)


def test_an_end_cuts_off_everything_that_comes_after_it():
    walk = random_walk(6, 2, seed=3)
    for kind in ("terminated", "truncated"):
        for other in ("terminated", "truncated"):
            walk[other][:] = False
        walk[kind][2, 0] = True
        before = shaped(walk, lambda_=0.9)
        later = {name: array.copy() for name, array in walk.items()}
        later["rewards"][3:] += 5.0
        later["baselines"][3:] -= 7.0
        after = shaped(later, lambda_=0.9)
        assert_close(before.values[:3, 0], after.values[:3, 0], rtol=0, atol=0)
        assert_close(before.advantages[:3, 0], after.advantages[:3, 0], rtol=0, atol=0)
        assert (before.values[:3, 1] != after.values[:3, 1]).all()


def test_a_truncation_is_worth_its_final_value_and_a_termination_nothing():
    walk = random_walk(1, 2, seed=0, on_policy=True)
    walk["terminated"][:] = [[True, False]]
    walk["truncated"][:] = [[False, True]]
    values = shaped(walk, lambda_=1.0).values[0]
    assert values[0].item() == pytest.approx(walk["rewards"][0, 0])
    expected = walk["rewards"][0, 1] + GAMMA * walk["final_values"][0, 1]
    assert values[1].item() == pytest.approx(expected)


def test_no_gradient_flows_through_targets():
    log_rhos, rewards = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2)
    baselines = torch.randn(4, 2, requires_grad=True)
    targets = vtrace(log_rhos, torch.full((3, 2), GAMMA), rewards, baselines, lambda_=1.0)
    assert not targets.values.requires_grad
    assert not targets.advantages.requires_grad


@pytest.mark.slow  # importing torchrl alone takes seconds
@pytest.mark.parametrize("clips", [(1.0, 1.0), (2.0, 0.5)])
def test_torchrl_agrees(clips):
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    walk = random_walk(20, 50, seed=7)
    clip_rho, clip_c = clips
    ours = shaped(walk, lambda_=1.0, clip_rho=clip_rho, clip_c=clip_c)

    def theirs(array):  # [T, B] → [B, T, 1]
        return torch.from_numpy(np.ascontiguousarray(array.T[..., None]))

    following = np.where(walk["truncated"], walk["final_values"], walk["baselines"][1:])
    advantages, values = functional.vtrace_advantage_estimate(
        torch.tensor(GAMMA, dtype=torch.float64),  # a Python number would become float32 in there
        log_pi=theirs(walk["log_rhos"]),
        log_mu=torch.zeros(50, 20, 1, dtype=torch.float64),
        state_value=theirs(walk["baselines"][:-1]),
        next_state_value=theirs(following),
        reward=theirs(walk["rewards"]),
        done=theirs(walk["terminated"] | walk["truncated"]),
        terminated=theirs(walk["terminated"]),
        rho_thresh=clip_rho,
        c_thresh=clip_c,
    )
    assert_close(ours.values, values[..., 0].T)
    assert_close(ours.advantages, advantages[..., 0].T)
