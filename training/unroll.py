"""T steps of B environments as the learner reads them, and the one place where time is shifted."""

from typing import NamedTuple

import torch
from torch import Tensor

from groundling.agents.agent import Rows
from groundling.agents.cores import CoreState
from groundling.agents.scan import Trace


class AskedQuestions(NamedTuple):
    """N questions asked during an unroll, each at one row of one environment."""

    row: Tensor
    """[N] int64 in [0, T)."""
    environment: Tensor
    """[N] int64 in [0, B)."""
    type: Tensor
    """[N] int64: index into the environment's question types."""
    tokens: Tensor
    """[N, L] int64, 0 = padding."""
    answer: Tensor
    """[N] int64: word id."""
    answerable: Tensor
    """[N] bool."""


class Unroll(NamedTuple):
    """T + 1 rows, time-major, without padding; the last row is the next unroll's first."""

    rows: Rows
    """[T + 1, B]."""
    core_state: CoreState
    """[B, core_size]: before row 0 was read."""
    behaviour_log_prob: Tensor
    """[T, B] float32: log μ(a_t) of the policy that acted."""
    terminated: Tensor
    """[T, B] bool: action a_t ended the episode for good."""
    truncated: Tensor
    """[T, B] bool: the episode was cut off after a_t."""
    absent: Tensor
    """[T + 1, B] bool: nobody is in this row and its observation is filler (`training.stepping`).
    Such a row is a first one, and teaches nothing: no decision, no value, no prediction."""
    bootstrap_value: Tensor
    """[T, B] float32: V(final observation) where truncated, else 0. It is in no row."""
    policy_version: int
    """Updates the acting weights had seen."""
    questions: AskedQuestions | None
    """What the online probe was asked, if there is one."""
    location: Tensor | None = None
    """[T, B, *location shape]: l_t, decided at row t as `agents.locations` knows it; None without
    a location policy. (Row t + 1 says through which it was read: the centre, if it is first.)"""
    location_log_prob: Tensor | None = None
    """[T, B] float32: log μ(l_t)."""
    label: Tensor | None = None
    """[T, B] int64: the right action of row t, where the environment tells (`info["label"]`)."""
    trace: Trace | None = None
    """What the core computed of all T + 1 rows with the weights of `policy_version`. Whoever puts
    other rows or another state in their place leaves it out; to learn from them spends it."""


def shards(unroll: Unroll, number: int) -> list[Unroll]:
    """So many unrolls of B / number environments each, in their order; B must be divisible."""
    if number == 1:
        return [unroll]
    B = unroll.terminated.shape[1]
    assert B % number == 0, f"{B} environments for {number}"
    size = B // number
    return [_shard(unroll, slice(first, first + size)) for first in range(0, B, size)]


def _shard(unroll: Unroll, some: slice) -> Unroll:
    """The unroll of some of its environments."""

    def of(part: Tensor) -> Tensor:
        return part[:, some].contiguous()

    def of_optional(part: Tensor | None) -> Tensor | None:
        return None if part is None else of(part)

    asked = unroll.questions
    if asked is not None:
        here = (asked.environment >= some.start) & (asked.environment < some.stop)
        asked = AskedQuestions(*(part[here] for part in asked))
        asked = asked._replace(environment=asked.environment - some.start)
    return Unroll(
        rows=unroll.rows.map(of),
        core_state=CoreState(*(part[some].contiguous() for part in unroll.core_state)),
        behaviour_log_prob=of(unroll.behaviour_log_prob),
        terminated=of(unroll.terminated),
        truncated=of(unroll.truncated),
        absent=of(unroll.absent),
        bootstrap_value=of(unroll.bootstrap_value),
        policy_version=unroll.policy_version,
        questions=asked,
        location=of_optional(unroll.location),
        location_log_prob=of_optional(unroll.location_log_prob),
        label=of_optional(unroll.label),
    )


class Transitions(NamedTuple):
    """Aligned by the action: index t is what was decided at row t and what followed, [T, B]."""

    actions: Tensor
    rewards: Tensor
    discounts: Tensor


def transitions(unroll: Unroll, discount: float) -> Transitions:
    """Aligns decisions with their consequences.

    A row holds what the agent *saw*: its observation, with the action and the reward that led
    there. What row t *decided* therefore stands in row t + 1. This is the only place where that
    shift is made.

    An episode's end cuts the return: discount 0. If the episode was only cut off by the clock, the
    value of its final observation is what would have followed, and joins the reward. What is done
    in an absent row is no transition: nothing follows from it.
    """
    ended = unroll.terminated | unroll.truncated | unroll.absent[:-1]
    return Transitions(
        actions=unroll.rows.previous_action[1:],
        rewards=unroll.rows.previous_reward[1:] + discount * unroll.bootstrap_value,
        discounts=discount * (~ended).to(torch.float32),
    )


def looked(unroll: Unroll) -> Tensor:
    """Which locations decided anything, [T, B] bool.

    Nothing is looked at after an action that ended the episode for good, and in an absent row
    nobody decides. What an episode was cut off before is still looked at: by whoever values it.
    """
    return ~(unroll.terminated | unroll.absent[:-1])
