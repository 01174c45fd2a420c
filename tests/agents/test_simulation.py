"""The simulator sets out from the belief, is fed what was done, and is asked about one episode."""

import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from groundling.agents.actions import make_actions
from groundling.agents.cores import CoreState
from groundling.agents.simulation import Overshoot, Simulator, plan_overshoot

ACTIONS, H = 3, 4


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make_simulator(**switches):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Simulator(make_actions(spaces.Discrete(ACTIONS)), H, **switches).double()


def random_walk(T, B, seed=0):
    """A core's states [T + 1, B, H] and what was done [T, B]."""
    generator = seeded(seed)
    states = [torch.randn(T + 1, B, H, generator=generator, dtype=torch.double) for _ in range(2)]
    return CoreState(*states), torch.randint(ACTIONS, (T, B), generator=generator)


def no_end(T, B):
    return torch.zeros(T + 1, B, dtype=torch.bool)


def plan_of(is_first, starts=4, horizons=4, limit=4, seed=0):
    return plan_overshoot(
        is_first, starts=starts, horizons=horizons, limit=limit, generator=seeded(seed)
    )


def walk_slowly(simulator, hidden, cell, actions):
    """s^k of a single start, [H]: PyTorch's own LSTM cell, one action at a time, [k] int64."""
    step = torch.nn.LSTMCell(ACTIONS, H, bias=False, dtype=torch.double)
    step.load_state_dict(
        {
            "weight_ih": simulator.from_action.weight.t(),
            "weight_hh": simulator.from_hidden.weight,
        }
    )
    for action in actions:
        done = torch.nn.functional.one_hot(action, ACTIONS).double()
        hidden, cell = step(done, (hidden, cell))
    return hidden


def test_overshoot_is_what_a_simulator_gives_that_walks_from_one_start_one_step_at_a_time():
    T, B = 9, 3
    simulator, (core, actions) = make_simulator(), random_walk(T, B)
    plan = plan_of(no_end(T, B), starts=4, horizons=3, limit=5)
    states = simulator.overshoot(core, actions, plan)
    assert states.shape == (3, 4, B, H)
    for j, k in enumerate(plan.horizons.tolist()):
        for i, t in enumerate(plan.starts.tolist()):
            for b in range(B):
                # s⁰ = h_t, and then a_t … a_{t+k-1}: k actions.
                expected = walk_slowly(
                    simulator, core.hidden[t, b], core.cell[t, b], actions[t : t + k, b]
                )
                assert_close(states[j, i, b], expected)


def test_a_state_depends_on_the_actions_from_its_start_to_the_one_before_its_target_alone():
    T, B = 8, 2
    simulator, (core, actions) = make_simulator(), random_walk(T, B)
    plan = plan_of(no_end(T, B), starts=9, horizons=4, limit=4)
    before = simulator.overshoot(core, actions, plan)
    for row in range(T):
        other = actions.clone()
        other[row, 1] = (other[row, 1] + 1) % ACTIONS
        changed = (simulator.overshoot(core, other, plan) != before).any(-1)
        fed = (plan.starts <= row) & (row < plan.targets)  # [K, S]
        assert torch.equal(changed[..., 1], fed)
        assert not changed[..., 0].any()


@pytest.mark.parametrize("part", ["hidden", "cell"])
def test_a_state_sets_out_from_both_halves_of_the_belief_after_its_start_was_read(part):
    T, B = 6, 2
    simulator, (core, actions) = make_simulator(), random_walk(T, B)
    plan = plan_of(no_end(T, B), starts=7, horizons=3, limit=3)
    belief = getattr(core, part).requires_grad_()
    states = simulator.overshoot(core, actions, plan)
    for j in range(len(plan.horizons)):
        for i, t in enumerate(plan.starts.tolist()):
            (grad,) = torch.autograd.grad(states[j, i, 1].sum(), belief, retain_graph=True)
            reached = (grad != 0).any(-1)
            expected = torch.zeros(T + 1, B, dtype=torch.bool)
            expected[t, 1] = True
            assert torch.equal(reached, expected)


def test_a_simulator_without_actions_only_counts_steps():
    core, actions = random_walk(5, 2)
    plan = plan_of(no_end(5, 2), starts=3, horizons=3, limit=3)
    others = (actions + 1) % ACTIONS
    blind, seeing = make_simulator(sees_actions=False), make_simulator()
    states = blind.overshoot(core, actions, plan)
    assert torch.equal(states, blind.overshoot(core, others, plan))
    assert not torch.equal(
        seeing.overshoot(core, actions, plan), seeing.overshoot(core, others, plan)
    )
    assert (states[0] != states[1]).any()
    assert (states[1] != states[2]).any()


def test_imagining_and_overshooting_are_one_and_the_same():
    T, B = 5, 2
    simulator, (core, actions) = make_simulator(), random_walk(T, B)
    whole = Overshoot(
        torch.tensor([0]), torch.arange(1, T + 1), torch.arange(1, T + 1)[:, None], no_end(T, B)
    )
    imagined = simulator(CoreState(core.hidden[0], core.cell[0]), actions)
    assert imagined.shape == (T, B, H)
    assert torch.equal(imagined, simulator.overshoot(core, actions, whole)[:, 0])


def valid_by_hand(is_first, t, k, b):
    """Whether row t + k lies in the same episode as row t."""
    return not any(is_first[row, b].item() for row in range(t + 1, t + k + 1))


@st.composite
def unrolls(draw):
    """[T + 1, B] beginnings of episodes."""
    T, B = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    size = (T + 1) * B
    flags = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return torch.tensor(flags).reshape(T + 1, B)


@given(unrolls(), st.integers(1, 8), st.integers(1, 8), st.integers(1, 14), st.integers(0, 99))
@settings(max_examples=200)
def test_a_plan_agrees_with_a_loop_over_starts_horizons_and_environments(
    is_first, starts, horizons, limit, seed
):
    T, B = len(is_first) - 1, is_first.shape[1]
    plan = plan_of(is_first, starts, horizons, limit, seed)
    longest = min(limit, T)  # an unroll shorter than the limit shortens it
    rows, lengths = plan.starts.tolist(), plan.horizons.tolist()
    assert rows == sorted(set(rows))
    assert lengths == sorted(set(lengths))
    assert len(rows) == min(starts, T - longest + 1)
    assert len(lengths) == min(horizons, longest)
    assert rows[0] >= 0
    assert 1 <= lengths[0] <= lengths[-1] <= longest
    assert plan.valid.shape == (len(lengths), len(rows), B)
    for j, k in enumerate(lengths):
        for i, t in enumerate(rows):
            assert plan.targets[j, i] == t + k
            assert t + k <= T
            for b in range(B):
                assert plan.valid[j, i, b] == valid_by_hand(is_first, t, k, b)


def test_an_episode_that_begins_at_the_start_itself_spoils_nothing():
    is_first = no_end(4, 1)
    is_first[2] = True
    plan = plan_of(is_first, starts=9, horizons=9, limit=1)
    assert plan.starts.tolist() == [0, 1, 2, 3]
    assert plan.valid[0, :, 0].tolist() == [True, False, True, True]


def test_every_start_and_every_horizon_is_drawn_about_equally_often():
    plans = [plan_of(no_end(8, 1), starts=2, horizons=2, limit=4, seed=s) for s in range(2000)]
    starts = torch.bincount(torch.cat([plan.starts for plan in plans]))
    horizons = torch.bincount(torch.cat([plan.horizons for plan in plans]))
    assert horizons[0] == 0
    for counts, share in ((starts, 2 / 5), (horizons[1:], 2 / 4)):
        # Five standard deviations of a binomial.
        tolerance = 5 * (share * (1 - share) / 2000) ** 0.5
        assert_close(counts / 2000, torch.full((len(counts),), share), atol=tolerance, rtol=0)


def test_a_plan_is_drawn_from_the_generator_given_and_no_other():
    before = torch.get_rng_state()
    generator = seeded(5)
    one, next_one = (
        plan_overshoot(no_end(30, 1), starts=5, horizons=5, limit=9, generator=generator)
        for _ in range(2)
    )
    again = plan_of(no_end(30, 1), starts=5, horizons=5, limit=9, seed=5)
    assert torch.equal(one.targets, again.targets)
    assert not torch.equal(one.targets, next_one.targets)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_state_depends_on_the_locations_from_its_start_to_the_one_before_its_target_alone():
    """With attention what is fed are pairs of action and location."""
    T, B = 8, 2
    simulator, (core, actions) = make_simulator(looks=True), random_walk(T, B)
    locations = torch.rand(T, B, 2, generator=seeded(4), dtype=torch.double)
    plan = plan_of(no_end(T, B), starts=9, horizons=4, limit=4)
    before = simulator.overshoot(core, actions, plan, locations)
    for row in range(T):
        other = locations.clone()
        other[row, 1] += 0.5
        changed = (simulator.overshoot(core, actions, plan, other) != before).any(-1)
        fed = (plan.starts <= row) & (row < plan.targets)  # [K, S]
        assert torch.equal(changed[..., 1], fed)
        assert not changed[..., 0].any()


@pytest.mark.parametrize("sees_actions", [True, False])
def test_a_location_adds_its_share_to_the_gates_of_its_step(sees_actions):
    T, B = 3, 2
    simulator = make_simulator(looks=True, sees_actions=sees_actions)
    core, actions = random_walk(T, B)
    locations = torch.rand(T, B, 2, generator=seeded(4), dtype=torch.double)
    imagined = simulator(CoreState(core.hidden[0], core.cell[0]), actions, locations)
    step = torch.nn.LSTMCell(ACTIONS + 2, H, bias=False, dtype=torch.double)
    from_both = [simulator.from_action.weight.t(), simulator.from_location.weight]
    step.load_state_dict(
        {"weight_ih": torch.cat(from_both, 1), "weight_hh": simulator.from_hidden.weight}
    )
    hidden, cell = core.hidden[0], core.cell[0]
    for t in range(T):
        done = actions[t] if sees_actions else torch.zeros_like(actions[t])
        fed = torch.nn.functional.one_hot(done, ACTIONS).double()
        hidden, cell = step(torch.cat([fed, locations[t]], -1), (hidden, cell))
        assert_close(imagined[t], hidden)
