"""Rows, locations and final observations line up: every view says where and when it is.

Each cell of a view holds its own number, the step and the episode, so that a glimpse tells through
which place it was read, and of which row.
"""

import copy
import dataclasses
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from groundling.agents.agent import Agent, Rows
from groundling.agents.config import AgentConfig, GlimpseConfig
from groundling.agents.cores import CoreState
from groundling.training import learner as learner_module
from groundling.training.actor import Actor
from groundling.training.config import EnvironmentConfig, LearnerConfig
from groundling.training.environments import make_environment
from groundling.training.learner import Learner
from groundling.training.loop import Training
from groundling.training.run import RunDirectory
from groundling.training.unroll import looked, transitions

CPU = torch.device("cpu")
T, B, UNROLLS, SIDE = 5, 4, 6, 6
LENGTHS = (3, 1, 4, 2, 6)
ENDS = ("terminated", "truncated")
IDS = {"cells": "Tests/Told-v0", "image": "Tests/ToldImage-v0"}
KINDS = [(attention, seen) for attention in ("tile", "foveal") for seen in IDS]
ALL_KINDS = pytest.mark.parametrize(("attention", "seen"), KINDS)


def view_of(count, episode):
    view = np.empty((SIDE, SIDE, 3), np.uint8)
    view[..., 0] = np.arange(SIDE**2).reshape(SIDE, SIDE)
    view[..., 1], view[..., 2] = 7 * count, 3 * episode
    return view


class Told(gymnasium.Env):
    """Views that say their step and episode; reward 8 · episode + step."""

    action_space = spaces.Discrete(3)

    def __init__(self, highest=254):
        self.observation_space = spaces.Box(0, highest, (SIDE, SIDE, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.seed, self.episode = seed, -1
        self.episode, self.count = self.episode + 1, 0
        return view_of(0, self.episode), {}

    def step(self, action):
        self.count += 1
        over = self.count == LENGTHS[(self.seed + self.episode) % 5]
        end = ENDS[(self.seed + self.episode) % 2]
        reward = 8.0 * self.episode + self.count
        flags = over and end == "terminated", over and end == "truncated"
        return view_of(self.count, self.episode), reward, *flags, {}


class ToldImage(Told):
    """The same as an image."""

    def __init__(self):
        super().__init__(highest=255)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gymnasium.register(IDS["cells"], entry_point=Told)
    gymnasium.register(IDS["image"], entry_point=ToldImage)
    yield
    for name in IDS.values():
        del gymnasium.registry[name]


def make_actor(attention, seen="cells", *, exploration=0.0, seed=1, **glimpse):
    environment = make_environment(EnvironmentConfig(id=IDS[seen], num_envs=B))
    config = AgentConfig(
        core_size=8,
        feature_size=6,
        sensor_size=7,
        embedding_size=5,
        attention=attention,
        glimpse=GlimpseConfig(**({"size": 2, "scales": 2, "std": 0.7} | glimpse)),
    )
    agent = Agent(environment.single_observation_space, environment.single_action_space, config, 0)
    if agent.attention is not None and agent.attention.policy is not None:
        with torch.no_grad():  # Far from uniform, and different from row to row.
            agent.attention.policy[-1].weight.normal_(generator=torch.Generator().manual_seed(0))
    return Actor(
        environment,
        agent,
        seed=3,
        generator=torch.Generator().manual_seed(seed),
        location_generator=torch.Generator().manual_seed(seed + 1),
        exploration=exploration,
    )


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def walked(request):
    """The actor, and consecutive unrolls."""
    actor = make_actor(*request.param)
    return actor, [actor.collect(T) for _ in range(UNROLLS)]


def glimpse_of(agent, view, where):
    """Of one view, through one place."""
    whole = {agent.attention.part: torch.from_numpy(view)}
    return agent.attention.see(whole, where)[agent.attention.part]


def moments():
    """[row][environment]: (step, episode), from the plan alone."""
    rows = []
    for i in range(B):
        count, episode, walked = 0, 0, []
        for _ in range(UNROLLS * T + 1):
            walked.append((count, episode))
            count += 1
            if count == LENGTHS[(3 + i + episode) % 5]:
                count, episode = 0, episode + 1
        rows.append(walked)
    return list(zip(*rows, strict=True))


def test_each_row_is_read_through_what_was_decided_in_the_row_before_or_through_the_centre(walked):
    actor, unrolls = walked
    agent, locations = actor.agent, actor.agent.attention.locations
    expected_moments = moments()
    centre = locations.coordinates(locations.centre)
    decided, seen_at = None, set()
    for n, unroll in enumerate(unrolls):
        for t in range(T + 1):
            for i, (count, episode) in enumerate(expected_moments[n * T + t]):
                first = count == 0
                assert unroll.rows.is_first[t, i] == first
                where = centre if first else locations.coordinates(decided[i])
                assert torch.equal(unroll.rows.location[t, i], where)
                expected = glimpse_of(agent, view_of(count, episode), where)
                assert torch.equal(unroll.rows.observation["observation"][t, i], expected)
                seen_at.add(tuple(where.tolist()))
            # The last row decides in the next unroll, of which it is the first.
            if t < T:
                decided = unroll.location[t]
    assert len(seen_at) > 5


def test_an_unroll_begins_with_the_row_the_last_one_ended_with(walked):
    _, unrolls = walked
    for one, following in pairwise(unrolls):
        last, first = (
            rows.map(lambda part, t=t: part[t]) for rows, t in ((one.rows, -1), (following.rows, 0))
        )
        assert_close(last, first, rtol=0, atol=0)


def walk_slowly(agent, unroll):
    """Outputs and states of each row, by single steps."""
    state, found = unroll.core_state, []
    for t in range(T + 1):
        output, state = agent.step(unroll.rows.map(lambda part, t=t: part[t]), state)
        found.append((output, state))
    return found


def test_what_an_episode_was_cut_off_before_is_read_through_what_was_decided_with_the_last_action(
    walked,
):
    actor, unrolls = walked
    agent, cut, elsewhere = actor.agent, 0, 0
    expected_moments = moments()
    for n, unroll in enumerate(unrolls):
        with torch.no_grad():
            walked_slowly = walk_slowly(agent, unroll)
        for t, i in torch.nonzero(unroll.truncated).tolist():
            count, episode = expected_moments[n * T + t][i]
            state = CoreState(*(part[i : i + 1] for part in walked_slowly[t][1]))

            def value(where, t=t, i=i, count=count, episode=episode, state=state, unroll=unroll):
                glimpse = glimpse_of(agent, view_of(count + 1, episode), where)
                row = Rows(
                    {"observation": glimpse[None]},
                    torch.tensor([False]),
                    unroll.rows.previous_action[t + 1, i : i + 1],
                    unroll.rows.previous_reward[t + 1, i : i + 1],
                    where[None],
                )
                with torch.no_grad():
                    return agent.step(row, state)[0].baseline[0]

            locations = agent.attention.locations
            decided = locations.coordinates(unroll.location[t, i])
            centre = locations.coordinates(locations.centre)
            assert_close(unroll.bootstrap_value[t, i], value(decided), rtol=1e-4, atol=1e-5)
            cut += 1
            elsewhere += not torch.isclose(value(centre), value(decided), rtol=1e-3)
    assert cut > 5
    assert elsewhere > 3
    for unroll in unrolls:
        assert (unroll.bootstrap_value[~unroll.truncated] == 0).all()


def test_reading_an_unroll_again_gives_the_probabilities_it_was_decided_with(walked):
    """On policy every ratio is 1."""
    actor, unrolls = walked
    locations = actor.agent.attention.locations
    for unroll in unrolls:
        with torch.no_grad():
            output = actor.agent.unroll(unroll.rows, unroll.core_state)
        found = locations.log_probs(output.location[:-1], unroll.location)
        assert_close(found, unroll.location_log_prob, rtol=1e-4, atol=1e-5)
        assert found.std() > 0.1


@ALL_KINDS
def test_one_long_unroll_is_many_short_ones(attention, seen):
    whole = make_actor(attention, seen).collect(10)
    actor = make_actor(attention, seen)
    parts = [actor.collect(length) for length in (3, 1, 6)]
    for name in ("location", "location_log_prob", "behaviour_log_prob"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name)), name
    bootstraps = torch.cat([part.bootstrap_value for part in parts])
    assert_close(bootstraps, whole.bootstrap_value)  # of other batches
    rows = [part.rows.map(lambda leaf: leaf[1:]) for part in parts]
    assert torch.equal(torch.cat([one.location for one in rows]), whole.rows.location[1:])
    seen_rows = torch.cat([one.observation["observation"] for one in rows])
    assert torch.equal(seen_rows, whole.rows.observation["observation"][1:])


@pytest.mark.parametrize("attention", ["tile", "foveal"])
def test_uniform_actions_are_explored_and_locations_are_not(attention):
    actor = make_actor(attention, exploration=0.6)
    with torch.no_grad():
        actor.agent.policy[-1].bias.copy_(torch.tensor([2.0, 0.0, -2.0]))
    unroll = actor.collect(T)
    with torch.no_grad():
        output = actor.agent.unroll(unroll.rows, unroll.core_state)
    actions = transitions(unroll, 1.0).actions
    locations = actor.agent.attention.locations
    found = locations.log_probs(output.location[:-1], unroll.location)
    assert_close(found, unroll.location_log_prob, rtol=1e-4, atol=1e-5)
    plain = actor.agent.actions.log_probs(output.policy[:-1], actions)
    assert not torch.allclose(plain, unroll.behaviour_log_prob, rtol=1e-2)


@pytest.mark.parametrize("attention", ["tile", "foveal"])
def test_where_to_look_is_drawn_from_a_generator_of_its_own(attention):
    """The very same actions are drawn whoever looks, as long as what is seen does not matter."""

    def actions(**chosen):
        actor = make_actor(attention, **chosen)
        with torch.no_grad():
            actor.agent.policy[-1].weight.zero_()
        return transitions(actor.collect(20), 1.0).actions

    assert torch.equal(actions(), actions(policy="scan"))
    assert torch.equal(actions(), actions(policy="random"))


def test_a_control_decides_nothing_that_is_learned():
    for policy in ("random", "centre", "scan"):
        unroll = make_actor("tile", policy=policy).collect(T)
        assert unroll.location is None
        assert unroll.location_log_prob is None
        assert (unroll.rows.location[1:] != unroll.rows.location[:1]).any() == (policy != "centre")


def learner_of(actor):
    return Learner(
        copy.deepcopy(actor.agent),
        LearnerConfig(unroll_length=T),
        generator=torch.Generator().manual_seed(0),
        monitor=None,
    )


def learned(actor, unroll):
    """What one update measures and makes of the agent."""
    learner = learner_of(actor)
    measured = learner.step(unroll)
    return measured, learner.agent.state_dict()


def same(one, other):
    return one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


def with_wild_location(actor, unroll, t, i):
    """The unroll, had l_t been another in one environment, of another probability."""
    location, log_prob = unroll.location.clone(), unroll.location_log_prob.clone()
    log_prob[t, i] = 1.5
    tile = location.dim() == 2
    location[t, i] = (location[t, i] + 1) % 9 if tile else 5.0
    return unroll._replace(location=location, location_log_prob=log_prob)


def unroll_with_all_ends(actor):
    """With a termination, a truncation and a step that goes on, and an absent row."""
    for _ in range(50):
        unroll = actor.collect(T)
        if unroll.terminated[:-1].any() and unroll.truncated[:-1].any():
            absent = unroll.absent.clone()
            ended = torch.nonzero(unroll.truncated[:-1])[0]
            t, i = int(ended[0]) + 1, int(ended[1])  # Somebody is away for the row after it.
            absent[t, i] = True
            is_first = unroll.rows.is_first.clone()
            is_first[t + 1, i] = True
            flags = unroll.terminated.clone(), unroll.truncated.clone()
            for flag in flags:
                flag[t, i] = False
            rows = unroll.rows._replace(is_first=is_first)
            return unroll._replace(
                rows=rows, absent=absent, terminated=flags[0], truncated=flags[1]
            )
    raise AssertionError("no such unroll")


@pytest.mark.parametrize("attention", ["tile", "foveal"])
def test_a_location_after_which_nothing_was_looked_at_teaches_nothing_and_every_other_does(
    attention,
):
    actor = make_actor(attention)
    unroll = unroll_with_all_ends(actor)
    before = learned(actor, unroll)
    counted = looked(unroll)
    kinds = {"terminated": 0, "truncated": 0, "absent": 0, "going on": 0}
    for t in range(T):
        for i in range(B):
            ended = [name for name in kinds if name != "going on" and getattr(unroll, name)[t, i]]
            kind = ended[0] if ended else "going on"
            kinds[kind] += 1
            after = learned(actor, with_wild_location(actor, unroll, t, i))
            assert same(before, after) == (kind in ("terminated", "absent")), kind
            assert counted[t, i] == (kind in ("truncated", "going on"))
    assert min(kinds.values()) > 0


@pytest.mark.parametrize("attention", ["tile", "foveal"])
def test_both_decisions_are_in_the_ratio_and_the_locations_that_count_are_averaged(
    attention, monkeypatch
):
    actor = make_actor(attention)
    unroll = unroll_with_all_ends(actor)
    stale = unroll._replace(
        location_log_prob=unroll.location_log_prob - torch.rand(T, B),
        behaviour_log_prob=unroll.behaviour_log_prob + torch.rand(T, B),
    )
    learner = learner_of(actor)
    found = {}
    working = learner_module.vtrace

    def spy(log_rhos, *arguments, **keywords):
        found["log_rhos"] = log_rhos
        found["targets"] = working(log_rhos, *arguments, **keywords)
        return found["targets"]

    monkeypatch.setattr(learner_module, "vtrace", spy)
    agent = copy.deepcopy(learner.agent)
    measured = learner.step(stale)
    with torch.no_grad():
        output = agent.unroll(stale.rows, stale.core_state)
    locations = agent.attention.locations
    of_actions = agent.actions.log_probs(output.policy[:-1], transitions(stale, 1.0).actions)
    of_locations = locations.log_probs(output.location[:-1], stale.location)
    loss, entropy, number = 0.0, 0.0, 0
    for t in range(T):
        for i in range(B):
            ratio = of_actions[t, i] - stale.behaviour_log_prob[t, i]
            if not (stale.terminated[t, i] or stale.absent[t, i]):
                ratio = ratio + of_locations[t, i] - stale.location_log_prob[t, i]
                loss -= float(found["targets"].advantages[t, i] * of_locations[t, i])
                number += 1
                entropy -= float(locations.entropy(output.location[t, i]))
            assert_close(found["log_rhos"][t, i], ratio, rtol=1e-4, atol=1e-5)
    assert measured["loss/location"].value == pytest.approx(loss / number, rel=1e-3)
    assert measured["loss/location_entropy"].value == pytest.approx(entropy / number, rel=1e-3)


def states_of(training):
    """Weights, and where the walk stands."""
    actor = training.actor.state_dict()
    walk = {name: actor[name] for name in ("row", "looker", "core_state", "generator")}
    return training.learner.agent.state_dict(), walk


@pytest.mark.parametrize(
    ("attention", "policy"),
    [("tile", "learned"), ("foveal", "learned"), ("tile", "scan"), ("foveal", "random")],
)
def test_a_resumed_run_looks_as_if_it_had_not_stopped(
    small_config, small_agent, tmp_path, attention, policy
):
    glimpse = GlimpseConfig(size=1, scales=2, policy=policy)
    agent = dataclasses.replace(small_agent, attention=attention, glimpse=glimpse)
    config = small_config(agent=agent)
    whole, stopped, resumed = (Training(config, CPU) for _ in range(3))

    def update(training, times):
        for _ in range(times):
            training.learner.step(training.actor.collect(T))

    run = RunDirectory(tmp_path / "run")
    run.open_for(config)
    update(stopped, 2)
    stopped.save(run)
    update(resumed, 1)  # Whatever it was at, it takes up the other's walk.
    resumed.resume(run)
    update(whole, 5)
    update(resumed, 3)
    assert_close(states_of(whole), states_of(resumed), rtol=0, atol=0)


def test_a_walk_that_cannot_be_restored_goes_on_from_the_centre():
    actor = make_actor("tile")
    actor.collect(T)
    other = make_actor("tile")
    other.load_state_dict(actor.state_dict())
    assert other.row.is_first.all()
    locations = actor.agent.attention.locations
    centre = locations.coordinates(locations.centre)
    assert torch.equal(other.row.location, centre.expand(B, 2))
    other.collect(T)


class AttendedRows(gymnasium.vector.SyncVectorEnv):
    """Notes what it is told was sensed of each row, and whether it was told before its reset."""

    vocabulary, question_types = None, ()

    def __init__(self, num_envs):
        super().__init__([Told] * num_envs, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
        self.attended, self.at_reset, self.sensed = False, None, []

    def reset(self, **keywords):
        self.at_reset = self.attended
        return super().reset(**keywords)

    def ask(self, generator):
        raise AssertionError("nobody asks")

    def attend(self, sensed):
        self.sensed.append(sensed)


@pytest.mark.parametrize("attention", ["tile", "foveal"])
@pytest.mark.parametrize("asked", [True, False])
def test_a_source_of_questions_is_told_what_was_sensed_of_every_row(attention, asked):
    source = AttendedRows(B)
    config = AgentConfig(core_size=8, attention=attention, glimpse=GlimpseConfig(size=2, scales=2))
    agent = Agent(source.single_observation_space, source.single_action_space, config, 0)
    actor = Actor(
        source,
        agent,
        seed=3,
        generator=torch.Generator().manual_seed(0),
        question_generator=np.random.default_rng(0) if asked else None,
        location_generator=torch.Generator().manual_seed(1),
    )
    unroll = actor.collect(T)
    assert source.attended == source.at_reset == asked
    if not asked:
        assert not source.sensed
        return
    assert len(source.sensed) == T + 1
    for sensed, glimpses in zip(source.sensed, unroll.rows.observation["observation"], strict=True):
        assert sensed.shape == (B, SIDE, SIDE)
        for mask, glimpse in zip(sensed, glimpses, strict=True):
            sharp = glimpse[:4, 0]  # each cell holds its own number
            found = sorted(sharp[sharp >= 0].tolist())
            assert np.flatnonzero(mask.ravel()).tolist() == found
