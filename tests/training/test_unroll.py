"""The one place where time is shifted: what was decided at row t beside what followed it."""

import pytest
import torch
from torch.testing import assert_close

from groundling.agents.agent import Rows
from groundling.agents.cores import CoreState
from groundling.agents.vtrace import vtrace
from groundling.training.unroll import Unroll, transitions

GAMMA = 0.5


def column(*values, dtype=torch.float32):
    """[T, 1]: what happened in a single environment."""
    return torch.tensor(values, dtype=dtype).unsqueeze(-1)


@pytest.fixture
def unroll():
    """Three steps: one inside an episode, one that is cut off, one that ends for good."""
    return Unroll(
        rows=Rows(
            {"observation": column(0, 1, 2, 3)},
            column(False, False, True, True, dtype=torch.bool),
            column(7, 1, 2, 0, dtype=torch.int64),
            column(70.0, 10.0, 20.0, 30.0),
        ),
        core_state=CoreState(torch.zeros(1, 2), torch.zeros(1, 2)),
        behaviour_log_prob=column(-1.0, -1.0, -1.0),
        terminated=column(False, False, True, dtype=torch.bool),
        truncated=column(False, True, False, dtype=torch.bool),
        absent=torch.zeros(4, 1, dtype=torch.bool),
        bootstrap_value=column(0.0, 4.0, 0.0),
        policy_version=0,
        questions=None,
    )


def test_what_a_row_decided_stands_in_the_next_row(unroll):
    actions, rewards, _ = transitions(unroll, GAMMA)
    assert actions.tolist() == [[1], [2], [0]]
    assert rewards[[0, 2]].tolist() == [[10.0], [30.0]]


def test_the_return_is_cut_at_both_kinds_of_end(unroll):
    assert transitions(unroll, GAMMA).discounts.tolist() == [[GAMMA], [0.0], [0.0]]


def test_nothing_follows_from_what_is_done_where_nobody_is(unroll):
    absent = column(True, False, False, False, dtype=torch.bool)
    assert transitions(unroll._replace(absent=absent), GAMMA).discounts[0].item() == 0.0


def test_the_value_of_what_the_clock_cut_off_joins_the_discounted_reward(unroll):
    assert transitions(unroll, GAMMA).rewards[1].tolist() == [20.0 + GAMMA * 4.0]


def test_logged_rewards_stay_raw(unroll):
    before = unroll.rows.previous_reward.clone()
    transitions(unroll, GAMMA)
    assert torch.equal(unroll.rows.previous_reward, before)


def test_with_v_trace_the_returns_are_those_worked_out_by_hand(unroll):
    _, rewards, discounts = transitions(unroll, GAMMA)
    baselines = column(100.0, 200.0, 300.0, 400.0)  # the last row begins another episode
    values = vtrace(torch.zeros(3, 1), discounts, rewards, baselines, lambda_=1.0).values
    assert_close(values, column(10 + GAMMA * (20 + GAMMA * 4), 20 + GAMMA * 4, 30))
