"""Rows in which nobody is: no decision, no value, no prediction, no question, no episode.

A match of several agents knows when each of them comes and goes; what is told of an absent one is
filler, and no number may depend on it.
"""

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from groundling.agents.agent import Agent, Rows
from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.agents.cores import CoreState
from groundling.agents.generators import named_generator
from groundling.agents.vtrace import vtrace
from groundling.envs.errors import UserError
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.evaluation.episodes import episode_returns
from groundling.training.actor import Actor
from groundling.training.config import LearnerConfig
from groundling.training.learner import Learner
from groundling.training.loop import Training, train
from groundling.training.metrics import read_rows
from groundling.training.stepping import Stepper
from groundling.training.unroll import transitions

T, UNROLLS, SEED = 5, 6, 3
MATCH = 6
PLANS = ((0, 6, "truncated"), (0, 2, "terminated"), (0, 3, "truncated"), (2, 5, "terminated"))
"""Of each agent: the step of a match at which it comes, at which it is gone, and how it ends."""
B = len(PLANS)
FILLER = 77.0


class Matches(VectorEnv):
    """Four agents in matches of six steps: observes [steps of its own episode, match]; reward is
    10 · match + step."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    spec = None
    num_envs = B
    single_observation_space = spaces.Box(-100, 100, (2,), np.float32)
    single_action_space = spaces.Discrete(3)
    observation_space = batch_space(single_observation_space, B)
    action_space = batch_space(single_action_space, B)

    def __init__(self, says_who_vanished=True):
        self.says_who_vanished = says_who_vanished

    def get_state(self):
        return {"match": np.array(self.match), "count": np.array(self.count)}

    def set_state(self, state):
        self.match, self.count = int(state["match"]), int(state["count"])

    def reset(self, *, seed=None, options=None):
        self.match, self.count = 0, 0
        return self._observe(), {"absent": self._absent()}

    def _absent(self):
        return np.array([not come <= self.count < gone for come, gone, _ in PLANS])

    def _observe(self):
        seen = np.full((B, 2), FILLER, np.float32)
        for i in np.flatnonzero(~self._absent()):
            seen[i] = self.count - PLANS[i][0], self.match
        return seen

    def step(self, actions):
        here = ~self._absent()
        reward = np.where(here, 10.0 * self.match + self.count, 999.0)
        terminated, truncated = np.ones((2, B), bool) & ~here  # nonsense of those who are absent
        final = np.full(B, None)
        for i in np.flatnonzero(here):
            come, gone, end = PLANS[i]
            if self.count + 1 == gone:
                terminated[i] = end == "terminated" and self.says_who_vanished
                truncated[i] = end == "truncated"
                final[i] = np.array([gone - come, self.match], np.float32)
        self.count += 1
        if self.count == MATCH:
            self.match, self.count = self.match + 1, 0
        return (
            self._observe(),
            reward,
            terminated,
            truncated,
            {"absent": self._absent(), "final_obs": final},
        )


CONFIG = AgentConfig(core_size=8, feature_size=6, sensor_size=7, embedding_size=5)


def make_actor(environment=None):
    environment = environment or Matches()
    return Actor(
        environment,
        Agent(environment.single_observation_space, environment.single_action_space, CONFIG, 0),
        seed=SEED,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.fixture(scope="module", params=[True, False], ids=["told", "vanished"])
def walked(request):
    """An actor and its unrolls; the second kind of environment never says who terminated."""
    actor = make_actor(Matches(request.param))
    return actor, [actor.collect(T) for _ in range(UNROLLS)]


def moments():
    """(row of an unroll, its index, agent, step of the match, number of the match)."""
    for n in range(UNROLLS):
        for t in range(T + 1):
            match, count = divmod(n * T + t, MATCH)
            for i in range(B):
                yield n, t, i, count, match


def test_the_matches_have_every_kind_of_row_at_the_edge_of_an_unroll():
    edges = {(i, count) for n, t, i, count, _ in moments() if t == 0 and n}
    assert len({count for _, count in edges}) > 3


def test_absence_is_told_and_every_absent_row_and_the_first_after_it_is_a_first_one(walked):
    _, unrolls = walked
    for n, t, i, count, match in moments():
        come, gone, _ = PLANS[i]
        rows = unrolls[n].rows
        here = come <= count < gone
        assert unrolls[n].absent[t, i].item() == (not here)
        assert rows.is_first[t, i].item() == (not here or count == come)
        expected = [count - come, match] if here else [FILLER, FILLER]
        assert rows.observation["observation"][t, i].tolist() == expected


def test_only_those_who_are_there_end_their_episodes_and_earn(walked):
    _, unrolls = walked
    for n, t, i, count, match in moments():
        if t == T:
            continue
        come, gone, end = PLANS[i]
        unroll, over = unrolls[n], count + 1 == gone
        assert unroll.terminated[t, i].item() == (over and end == "terminated")
        assert unroll.truncated[t, i].item() == (over and end == "truncated")
        assert (unroll.bootstrap_value[t, i].item() != 0) == (over and end == "truncated")
        earned = 10.0 * match + count if come <= count < gone else 0.0
        assert unroll.rows.previous_reward[t + 1, i].item() == earned


def test_episodes_count_the_steps_of_those_who_are_there(walked):
    actor, _ = walked
    whole = UNROLLS * T // MATCH
    expected = [
        (sum(10.0 * match + count for count in range(come, gone)), gone - come)
        for match in range(whole)
        for come, gone, _ in PLANS
    ]
    assert sorted(actor.finished) == sorted(expected)


def test_who_is_absent_stays_so_when_a_walk_is_resumed():
    walked, resumed = make_actor(), make_actor()
    walked.collect(T)
    resumed.load_state_dict(walked.state_dict())
    one, other = walked.collect(T), resumed.collect(T)
    assert one.absent[0].any()
    for name in ("absent", "terminated", "truncated", "bootstrap_value"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.rows.is_first, other.rows.is_first)


def test_evaluation_counts_the_same_episodes():
    returns = episode_returns(Matches(), lambda: np.zeros(B, np.int64), 3 * B, shown=False)
    expected = [
        [sum(10.0 * match + count for count in range(come, gone)) for match in range(3)]
        for come, gone, _ in PLANS
    ]
    assert returns.tolist() == expected


def test_whose_absence_is_told_in_another_form_is_refused_by_name():
    class Confused(Matches):
        def _absent(self):
            return super()._absent().astype(np.int64)[:2]

        def _observe(self):
            return np.zeros((B, 2), np.float32)

    stepper = Stepper(Confused(), make_actor().agent.actions, torch.device("cpu"))
    with pytest.raises(UserError, match=r"info\['absent'\] is int64 \(2,\); expected bool \(4,\)"):
        stepper.reset(0)


class HalfEmpty(RoomsVectorEnv):
    """Rooms of which the first two stand empty."""

    def _told(self, info):
        return info | {"absent": np.arange(self.num_envs) < 2}

    def reset(self, **keywords):
        observation, info = super().reset(**keywords)
        return observation, self._told(info)

    def step(self, actions):
        *brought, info = super().step(actions)
        return *brought, self._told(info)


HALF_EMPTY = "Tests/HalfEmpty-v0"


@pytest.fixture
def half_empty(small_config):
    gymnasium.register(HALF_EMPTY, vector_entry_point=HalfEmpty)
    options = {"size": 3, "objects": 3, "view_size": 3, "episode_length": 7}
    yield lambda **fields: small_config(
        env={"id": HALF_EMPTY, "num_envs": 4, "options": options}, **fields
    )
    del gymnasium.registry[HALF_EMPTY]


def test_nothing_is_asked_where_nobody_is(half_empty):
    actor = Training(half_empty(), torch.device("cpu")).actor
    asked = [actor.collect(T, ask=True).questions for _ in range(3)]
    assert {i for one in asked for i in one.environment.tolist()} == {2, 3}


def test_the_share_of_present_rows_is_logged_and_a_run_resumes(half_empty, tmp_path):
    straight = train(half_empty(), tmp_path / "straight", show_progress=False)
    run = train(half_empty(frames=60), tmp_path / "run", show_progress=False)
    train(half_empty(), run.path, show_progress=False)
    rows = [read_rows(one.metrics) for one in (straight, run)]
    assert {row["present_rows"] for row in rows[0]} == {0.5}
    assert [row["loss/policy"] for row in rows[0]] == [row["loss/policy"] for row in rows[1]]


CELLS = spaces.Dict(
    {
        "view": spaces.Box(0, np.full((2, 2, 2), 3, np.uint8), dtype=np.uint8),
        "pulse": spaces.Box(-1, 1, (2,), np.float32),
    }
)
LOSSES = {
    "reward alone": PredictionConfig(),
    "simcore": PredictionConfig(loss="simcore", present_weight=0.3, first_limit=4),
    "cpc": PredictionConfig(loss="cpc", present_weight=0.3, first_limit=4),
    "infonce": PredictionConfig(loss="cpc", contrast="infonce", present_weight=0.3, first_limit=4),
    "placebo": PredictionConfig(loss="simcore", present_weight=0.3, first_limit=4, shuffled=True),
}
EVERY_LOSS = pytest.mark.parametrize("prediction", list(LOSSES.values()), ids=list(LOSSES))


def seen(seed, *leading):
    generator = torch.Generator().manual_seed(seed)
    return {
        "view": torch.randint(4, (*leading, 2, 2, 2), generator=generator, dtype=torch.uint8),
        "pulse": 2 * torch.rand(*leading, 2, generator=generator) - 1,
    }


LONG = 10


def unroll_of():
    """An unroll of random numbers with the comings and goings of matches."""
    walked = make_actor().collect(LONG)
    generator = torch.Generator().manual_seed(2)
    rows = walked.rows._replace(
        observation=seen(0, LONG + 1, B),
        previous_reward=torch.randn(LONG + 1, B, generator=generator),
    )
    return walked._replace(rows=rows)


def learned(prediction, unroll):
    """Losses and gradients of one update."""
    config = AgentConfig(
        core_size=8, feature_size=6, sensor_size=7, embedding_size=5, prediction=prediction
    )
    agent = Agent(CELLS, spaces.Discrete(3), config, seed=0)
    learner = Learner(
        agent,
        LearnerConfig(max_gradient_norm=1e9),
        generator=named_generator(0, "prediction"),
        monitor=None,
    )
    measured = learner.step(unroll)
    return measured, {name: one.grad for name, one in agent.named_parameters()}


@EVERY_LOSS
def test_no_number_depends_on_what_stands_in_an_absent_row(prediction):
    unroll = unroll_of()
    gone = unroll.absent
    assert 0 < gone.sum() < gone.numel()
    other = {
        name: torch.where(gone.reshape(*gone.shape, *[1] * (leaf.dim() - 2)), leaf, given)
        for (name, given), leaf in zip(
            unroll.rows.observation.items(), seen(9, LONG + 1, B).values(), strict=True
        )
    }
    # What was done in an absent row, and with what probability, stands in the next one.
    nonsense = torch.zeros_like(unroll.rows.is_first)
    nonsense[1:] = gone[:-1]
    rows = unroll.rows._replace(
        observation=other,
        previous_action=torch.where(nonsense, 2, unroll.rows.previous_action),
    )
    changed = unroll._replace(
        rows=rows,
        behaviour_log_prob=torch.where(gone[:-1], -9.0, unroll.behaviour_log_prob),
    )
    one, other = learned(prediction, unroll), learned(prediction, changed)
    assert one[0] == other[0]
    for name, gradient in one[1].items():
        assert (gradient is None) == (other[1][name] is None)
        assert gradient is None or torch.equal(gradient, other[1][name]), name


def columns(value, which):
    """Some environments of an unroll."""
    if isinstance(value, dict):
        return {name: columns(leaf, which) for name, leaf in value.items()}
    if isinstance(value, Rows):
        return Rows(*(columns(part, which) for part in value))
    if isinstance(value, CoreState):
        return CoreState(*(part[which] for part in value))
    return value[:, which] if isinstance(value, torch.Tensor) else value


# The placebo pairs environments: another number of them, other pairs.
@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "placebo"])
def test_who_is_never_there_might_as_well_not_be_in_the_unroll(loss):
    prediction = LOSSES[loss]
    unroll = unroll_of()
    absent = unroll.absent.clone()
    absent[:, 3] = True
    first = unroll.rows.is_first | absent
    unroll = unroll._replace(absent=absent, rows=unroll.rows._replace(is_first=first))
    alone = type(unroll)(*(columns(part, slice(0, 3)) for part in unroll))
    one, other = learned(prediction, unroll), learned(prediction, alone)
    for name in (name for name in one[0] if name.startswith("loss/") or name == "value"):
        assert one[0][name].value == pytest.approx(other[0][name].value, rel=1e-5), name
    for name, gradient in one[1].items():
        assert gradient is None or torch.allclose(gradient, other[1][name], atol=1e-6), name


@EVERY_LOSS
def test_an_unroll_without_anybody_teaches_nothing(prediction):
    unroll = unroll_of()
    everywhere = torch.ones_like(unroll.absent)
    rows = unroll.rows._replace(is_first=everywhere)
    no = torch.zeros_like(unroll.terminated)
    empty = unroll._replace(absent=everywhere, rows=rows, terminated=no, truncated=no)
    measured, gradients = learned(prediction, empty)
    assert {one.value for name, one in measured.items() if name.startswith("loss/")} == {0.0}
    assert measured["present_rows"].value == 0.0
    assert all(math.isfinite(one.value) for one in measured.values())
    assert not any(one is not None and one.any() for one in gradients.values())


def test_nothing_leaks_from_one_stay_into_the_next():
    """What comes after an absence does not enter what came before it."""
    unroll = unroll_of()
    after = int((unroll.absent[1:, 1] & ~unroll.absent[:-1, 1]).float().argmax()) + 1
    assert not unroll.absent[after:, 1].all()  # gone at `after`, and back later
    rewards = unroll.rows.previous_reward.clone()
    rewards[after + 1 :, 1] += 100.0
    changed = unroll._replace(rows=unroll.rows._replace(previous_reward=rewards))

    def targets(one):
        _, rewards, discounts = transitions(one, 0.9)
        baselines = torch.arange((LONG + 1.0) * B).view(LONG + 1, B)
        return vtrace(torch.zeros(LONG, B), discounts, rewards, baselines, lambda_=1.0).values

    assert torch.equal(targets(unroll)[:after, 1], targets(changed)[:after, 1])
    assert not torch.equal(targets(unroll)[after:, 1], targets(changed)[after:, 1])
