"""Where to look is learned by REINFORCE and by nothing else, and teaches nothing else."""

import dataclasses
import math
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch.testing import assert_close

from groundling.agents.agent import Agent
from groundling.agents.config import AgentConfig, GlimpseConfig, PredictionConfig
from groundling.envs.errors import UserError
from groundling.training.actor import Actor
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)
from groundling.training.learner import Learner
from groundling.training.loop import Training
from groundling.training.run import RunDirectory

CPU = torch.device("cpu")
CUED = "Tests/Cued-v0"
BOTH = pytest.mark.parametrize("attention", ["tile", "foveal"])

AROUND = np.array([[0, 1], [1, 0], [1, 2], [2, 1]])
"""Four places around the centre of 3 × 3 cells."""
NOTHING, CUES, SIGNS = 0, 1, 5
START = 3
"""The lowest action."""


class Cued(VectorEnv):
    """In the centre stands which of four places tells the right action: of two, +1 for it.

    Two steps: the first one's action changes nothing, and the second ends the episode. The other
    three places tell one of the actions by chance.
    """

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP}
    spec = None
    single_observation_space = spaces.Box(0, SIGNS + 1, (3, 3, 1), np.uint8)
    single_action_space = spaces.Discrete(2, start=START)

    def __init__(self, num_envs, tells=True):
        self.num_envs, self.tells = num_envs, tells
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.view = np.zeros((self.num_envs, 3, 3, 1), np.uint8)
        self.step_of = np.zeros(self.num_envs, np.int64)
        self.cue, self.right = np.zeros((2, self.num_envs), np.int64)
        self._begin(np.ones(self.num_envs, bool))
        return self.view.copy(), self._info()

    def _begin(self, ended):
        number = int(ended.sum())
        self.cue[ended] = cue = self.random.integers(4, size=number)
        signs = self.random.integers(2, size=(number, 4))
        self.right[ended] = signs[np.arange(number), cue]
        where = np.flatnonzero(ended)[:, None]
        self.view[where, AROUND[:, 0], AROUND[:, 1], 0] = SIGNS + signs
        self.view[ended, 1, 1, 0] = CUES + cue
        self.step_of[ended] = 0

    def _info(self):
        if not self.tells:
            return {}
        target = (AROUND[self.cue] - 1.0) * 2.0 / 3.0
        return {"label": START + self.right, "target": target.astype(np.float32)}

    def step(self, actions):
        ended = self.step_of == 1
        reward = np.where(ended & (actions - START == self.right), 1.0, 0.0)
        final = np.full(self.num_envs, None)
        for i in np.flatnonzero(ended):
            final[i] = self.view[i].copy()
        self.step_of += 1
        self._begin(ended)
        info = self._info() | {"final_obs": final}
        return self.view.copy(), reward, ended, np.zeros_like(ended), info

    def get_state(self):
        words = self.random.bit_generator.state["state"]
        halves = [words[name] >> 64 * i & 2**64 - 1 for name in ("state", "inc") for i in (0, 1)]
        return {
            "view": self.view,
            "numbers": np.stack([self.step_of, self.cue, self.right]),
            "random": np.array(halves, np.uint64).view(np.int64),
        }

    def set_state(self, state):
        self.view = state["view"].copy()
        self.step_of, self.cue, self.right = state["numbers"].copy()
        a, b, c, d = (int(half) for half in state["random"].view(np.uint64))
        whole = self.random.bit_generator.state
        whole["state"] = {"state": a + (b << 64), "inc": c + (d << 64)}
        self.random.bit_generator.state = whole


class Several(Cued):
    """With another kind of action."""

    single_action_space = spaces.MultiDiscrete([2, 2])


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gymnasium.register(CUED, vector_entry_point=Cued)
    gymnasium.register("Tests/Several-v0", vector_entry_point=Several)
    yield
    for name in (CUED, "Tests/Several-v0"):
        del gymnasium.registry[name]


def cued_config(attention, *, learner=(), num_envs=6, options=(), seed=0, env=CUED, **glimpse):
    glimpse = {"size": 1, "scales": 1} | glimpse
    return TrainConfig(
        seed=seed,
        env=EnvironmentConfig(id=env, num_envs=num_envs, options=dict(options)),
        agent=AgentConfig(
            core_size=32,
            feature_size=32,
            sensor_size=32,
            embedding_size=8,
            attention=attention,
            glimpse=GlimpseConfig(**glimpse),
        ),
        learner=LearnerConfig(**({"unroll_length": 5} | dict(learner))),
        probe=OnlineProbeConfig(online=False),
    )


def update(training, times=1):
    """What was measured by each of so many updates."""
    length, learner = training.config.learner.unroll_length, training.learner
    unrolls = (training.actor.collect(length, policy_version=learner.updates) for _ in range(times))
    # A trace does not last, where each loss is gone back through by itself.
    return [learner.step(unroll._replace(trace=None)) for unroll in unrolls]


class Losses:
    """The learner's real losses, and the gradient of each of them, caught before they are
    summed."""

    def __init__(self, monkeypatch):
        self.gradients = {}
        summed = Learner._weighted_sum

        def weighted_sum(learner, losses):
            weights = dict(learner.agent.named_parameters())
            for name, loss in losses.items():
                found = torch.autograd.grad(
                    loss, list(weights.values()), retain_graph=True, allow_unused=True
                )
                self.gradients[name] = dict(zip(weights, found, strict=True))
            return summed(learner, losses)

        monkeypatch.setattr(Learner, "_weighted_sum", weighted_sum)

    def reached(self, name):
        """Names of the weights that the loss has a gradient for, be it 0."""
        return {weight for weight, grad in self.gradients[name].items() if grad is not None}


def a_loss_of_the_user_s_own(output, unroll):
    return output.baseline.square()


@BOTH
@pytest.mark.parametrize("loss", ["simcore", "cpc"])
def test_locations_are_taught_by_their_own_loss_alone_and_it_teaches_nothing_else(
    small_config, small_agent, monkeypatch, attention, loss
):
    """None, not 0: there is no path at all."""
    losses = Losses(monkeypatch)
    agent = dataclasses.replace(
        small_agent,
        attention=attention,
        glimpse=GlimpseConfig(size=1, scales=2),
        prediction=PredictionConfig(loss=loss, present_weight=0.3, starts=3, horizons=2),
    )
    config = small_config(
        agent=agent,
        probe={"answers_reach_agent": True, "every": 1},
        learner={"losses": {f"{__name__}:a_loss_of_the_user_s_own": 0.1}},
    )
    training = Training(config, CPU)
    training.learner.step(training.actor.collect(5, ask=True))
    own = {f"attention.{name}" for name, _ in training.learner.agent.attention.named_parameters()}
    assert len(own) == 4
    of_locations = {"location", "location_entropy"}
    others = {"policy", "baseline", "entropy", "present", "future", "answers"}
    others |= {"a_loss_of_the_user_s_own"}
    assert losses.gradients.keys() == of_locations | others
    for name in of_locations:
        assert losses.reached(name) == own
        assert all((losses.gradients[name][weight] != 0).any() for weight in own)
    for name in others:
        assert not losses.reached(name) & own
        core = losses.gradients[name]["core.from_hidden.weight"]
        where = losses.gradients[name]["sensors.where.0.weight"]
        assert (core != 0).any(), name
        assert (where != 0).any(), name


@BOTH
def test_a_label_does_not_teach_where_to_look_either(monkeypatch, attention):
    losses = Losses(monkeypatch)
    update(Training(cued_config(attention, learner={"label_weight": 0.5}), CPU))
    assert not any(name.startswith("attention") for name in losses.reached("label"))
    assert {"policy.1.weight", "core.from_hidden.weight"} <= losses.reached("label")


def gradient_of_one_update(attention, **learner):
    config = cued_config(attention, learner={"max_gradient_norm": 1e9} | learner)
    training = Training(config, CPU)
    update(training)
    return {name: weight.grad for name, weight in training.learner.agent.named_parameters()}


@BOTH
def test_locations_have_weights_of_their_own(attention):
    def gradient(location, entropy):
        return gradient_of_one_update(
            attention, location_weight=location, location_entropy_weight=entropy
        )

    reward, entropy, both = gradient(1.0, 0.0), gradient(0.0, 1.0), gradient(2.0, 0.5)
    for name, total in both.items():
        if name.startswith("attention"):
            assert_close(total, 2.0 * reward[name] + 0.5 * entropy[name], atol=1e-7, rtol=1e-4)
            assert reward[name].any()
            assert entropy[name].any()
        else:
            assert torch.equal(total, reward[name])
            assert torch.equal(total, entropy[name])


@BOTH
def test_a_large_gradient_of_locations_makes_no_other_step_smaller(attention):
    """They are clipped by themselves, as the simulator is."""

    def agent_after(weight):
        learner = {"location_weight": weight, "max_gradient_norm": 1e-2}
        training = Training(cued_config(attention, learner=learner), CPU)
        (measured,) = update(training)
        grads = [one.grad.norm() for one in training.learner.agent.attention.parameters()]
        return training.learner.agent.state_dict(), torch.stack(grads).norm(), measured

    (quiet, _, one), (loud, norm, other) = agent_after(0.0), agent_after(1e4)
    assert norm <= 1.001e-2
    assert one["gradient_norm"] == other["gradient_norm"]
    for name, weight in quiet.items():
        assert torch.equal(weight, loud[name]) == (not name.startswith("attention")), name


def test_only_a_policy_over_locations_has_losses():
    def weights(attention, bonus=0.01, **glimpse):
        config = cued_config(attention, learner={"location_entropy_weight": bonus}, **glimpse)
        return set(Training(config, CPU).learner.weights)

    plain = weights("none")
    assert plain == {"policy", "baseline", "entropy"}
    for attention in ("tile", "foveal"):
        assert weights(attention) == plain | {"location", "location_entropy"}
        assert weights(attention, bonus=0.0) == plain | {"location"}
        for policy in ("random", "centre", "scan", "oracle"):
            assert weights(attention, policy=policy) == plain


# --- REINFORCE against the exact gradient -----------------------------------------------------


class Bandit(VectorEnv):
    """Always the same view; two steps, the second of which terminates; rewards are filled in."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP}
    spec = None
    single_observation_space = spaces.Box(0, 3, (3, 4, 1), np.uint8)
    single_action_space = spaces.Discrete(2)

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return self._view(), {}

    def _view(self):
        return np.full((self.num_envs, 3, 4, 1), 2, np.uint8)

    def step(self, actions):
        self.count = (self.count + 1) % 2
        over = np.full(self.num_envs, self.count == 0)
        return self._view(), np.zeros(self.num_envs), over, np.zeros_like(over), {}


def reward_of_place(coordinates):
    """Of where one looks, [..., 2] → [...]."""
    wanted = coordinates.new_tensor([0.4, -0.3])
    return 2.0 * torch.exp(-3.0 * (coordinates - wanted).square().sum(-1))


def estimated_gradients(attention, *, times, batch=512):
    """Of the expected reward with respect to the location policy's outputs in the first row, as
    the learner's loss estimates it from a batch, [times, outputs]; and these outputs."""
    environment = Bandit(batch)
    config = AgentConfig(
        core_size=8,
        feature_size=6,
        sensor_size=7,
        embedding_size=5,
        attention=attention,
        glimpse=GlimpseConfig(size=1, scales=1, std=0.35),
    )
    agent = Agent(environment.single_observation_space, environment.single_action_space, config, 0)
    last = agent.attention.policy[-1]
    with torch.no_grad():
        last.bias.copy_(torch.linspace(-0.8, 0.6, len(last.bias)))
    learner = Learner(
        agent,
        LearnerConfig(discount=1.0, lambda_=1.0),
        generator=torch.Generator().manual_seed(0),
        monitor=None,
    )
    actor = Actor(
        environment,
        agent,
        seed=0,
        generator=torch.Generator().manual_seed(1),
        location_generator=torch.Generator().manual_seed(2),
    )
    locations, found = agent.attention.locations, []
    for _ in range(times):
        unroll = actor.collect(2)
        # What the place decided on in row 0, and read in row 1, brings when the episode ends.
        unroll.rows.previous_reward[2] = reward_of_place(locations.coordinates(unroll.location[0]))
        output = agent.unroll(unroll.rows, unroll.core_state)
        losses, _ = learner._actor_critic(output, unroll)
        (gradient,) = torch.autograd.grad(-losses["location"].value, last.bias)
        found.append(gradient)
    return torch.stack(found).double(), output.location[0, 0].detach().double(), locations


def exact_gradient_of_tiles(logits, locations):
    """Σ_l R(l) ∂π(l)/∂logits, by autograd over all tiles."""
    logits = logits.clone().requires_grad_()
    rewards = reward_of_place(locations.coordinates(torch.arange(len(logits))))
    (torch.softmax(logits, -1) * rewards).sum().backward()
    return logits.grad


def exact_gradient_of_points(outputs, locations):
    """∫ R(clamp(l)) ∂p(l)/∂outputs dl on a fine grid, six standard deviations to each side."""
    outputs = outputs.clone().requires_grad_()
    mean, std = torch.tanh(outputs), locations.std
    offsets = torch.linspace(-6.0, 6.0, 1201, dtype=torch.double) * std
    rows, columns = (mean.detach()[i] + offsets for i in (0, 1))
    grid = torch.cartesian_prod(rows, columns)
    density = torch.exp(-0.5 * ((grid - mean) / std).square().sum(-1)) / (2 * math.pi * std**2)
    area = float(offsets[1] - offsets[0]) ** 2
    assert float(density.detach().sum() * area) == pytest.approx(1.0, abs=1e-6)
    (density * reward_of_place(grid.clamp(-1.0, 1.0)) * area).sum().backward()
    return outputs.grad


@BOTH
def test_the_estimated_gradient_is_that_of_the_expected_reward_within_its_standard_error(attention):
    times = 200
    estimates, outputs, locations = estimated_gradients(attention, times=times)
    exact = exact_gradient_of_tiles if attention == "tile" else exact_gradient_of_points
    expected = exact(outputs, locations)
    error = estimates.std(0) / math.sqrt(times)
    assert ((estimates.mean(0) - expected).abs() < 4.0 * error).all()
    # A gradient of nothing, or half as large, would not pass.
    assert ((expected / error).abs() > 15.0).any()


# --- Labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["none", "tile"])
def test_a_label_is_the_cross_entropy_of_the_actions_that_ended_an_episode(attention):
    training = Training(cued_config(attention, learner={"label_weight": 0.5}), CPU)
    unroll = training.actor.collect(5)._replace(trace=None)
    assert unroll.label.shape == (5, 6)
    assert set(unroll.label.unique().tolist()) == {0, 1}  # as the agent counts actions
    agent = training.learner.agent
    with torch.no_grad():
        output = agent.unroll(unroll.rows, unroll.core_state)
    nats, number = 0.0, 0
    for t in range(5):
        for i in range(6):
            if unroll.terminated[t, i]:
                logits = output.policy[t, i]
                nats -= float(torch.log_softmax(logits, -1)[unroll.label[t, i]])
                number += 1
    assert 0 < number < 30
    other = unroll._replace(label=torch.where(unroll.terminated, unroll.label, 1 - unroll.label))
    found = [
        Training(cued_config(attention, learner={"label_weight": 0.5}), CPU).learner.step(one)
        for one in (unroll, other)
    ]
    assert found[0] == found[1]
    assert found[0]["loss/label"].value == pytest.approx(nats / number, rel=1e-4)


def test_a_label_is_that_of_its_row():
    """What the sign in the cued place says is the action that is right."""
    training = Training(cued_config("none", learner={"label_weight": 0.5}), CPU)
    unroll = training.actor.collect(9)
    views = unroll.rows.observation["observation"][..., 0]
    for t in range(9):
        for view, label in zip(views[t], unroll.label[t], strict=True):
            row, column = AROUND[int(view[1, 1]) - CUES]
            assert int(view[row, column]) - SIGNS == label


def test_nobody_asks_for_labels_that_weigh_nothing():
    training = Training(cued_config("none", options={"tells": False}), CPU)
    assert training.actor.collect(3).label is None
    update(training)


def test_labels_that_are_not_told_are_missed_in_one_line():
    config = cued_config("none", learner={"label_weight": 1.0}, options={"tells": False})
    with pytest.raises(UserError, match=r"learner.label-weight is set, but .*does not tell"):
        update(Training(config, CPU))


def test_only_discrete_actions_have_labels():
    config = cued_config("none", learner={"label_weight": 1.0}, env="Tests/Several-v0")
    with pytest.raises(UserError, match=r"learner.label-weight is 1.0; expected 0.*not Discrete"):
        Training(config, CPU)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"label": np.full(6, 2)}, r"info\['label'\] holds 2; expected one of the actions 3 to 4"),
        ({"label": np.full(6, 3.0)}, r"info\['label'\] is float64 \(6,\); expected integers"),
        ({"label": np.full(5, 3)}, r"info\['label'\] is int64 \(5,\); expected integers \(6,\)"),
        (
            {"label": np.full(6, 3), "_label": np.arange(6) < 4},
            r"info\['label'\] is missing in some rows",
        ),
    ],
)
def test_a_label_that_is_none_is_said_in_one_line(monkeypatch, told, message):
    monkeypatch.setattr(Cued, "_info", lambda _: told)
    with pytest.raises(UserError, match=message) as stop:
        update(Training(cued_config("none", learner={"label_weight": 1.0}), CPU))
    assert "\n" not in str(stop.value)
    update(Training(cued_config("none"), CPU))  # Who does not ask is not disturbed.


def test_a_target_that_is_no_place_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(Cued, "_info", lambda _: {"target": np.full((6, 2), np.nan)})
    with pytest.raises(UserError, match=r"info\['target'\] is NaN or infinite"):
        update(Training(cued_config("tile", policy="oracle"), CPU))


def test_what_is_told_in_an_absent_row_does_not_matter(monkeypatch):
    nobody = np.arange(6) == 2

    def info(environment):
        told = Cued.honest(environment)
        told["label"][nobody], told["target"][nobody] = -99, np.nan
        return told | {"absent": nobody, "_label": ~nobody}

    monkeypatch.setattr(Cued, "honest", Cued._info, raising=False)
    monkeypatch.setattr(Cued, "_info", info)
    config = cued_config("tile", policy="oracle", learner={"label_weight": 1.0})
    (measured,) = update(Training(config, CPU))
    assert math.isfinite(measured["loss/label"].value)


@pytest.mark.parametrize("policy", ["learned", "oracle"])
def test_what_was_told_of_the_row_a_run_stopped_at_is_there_when_it_goes_on(tmp_path, policy):
    config = cued_config("tile", policy=policy, learner={"label_weight": 1.0}, num_envs=16)
    whole, stopped, resumed = (Training(config, CPU) for _ in range(3))
    run = RunDirectory(tmp_path / "run")
    run.open_for(config)
    update(stopped, 2)  # Ten steps: the last row is an episode's first.
    stopped.save(run)
    resumed.resume(run)
    update(whole, 2)
    one, other = (training.actor.collect(5) for training in (whole, resumed))
    assert torch.equal(one.label, other.label)
    assert torch.equal(one.rows.location, other.rows.location)


# --- It learns ----------------------------------------------------------------------------------


def accuracy(attention, updates, *, location_weight=1.0, **glimpse):
    """How often the right action is named after so many updates."""
    learner = {
        "unroll_length": 8,
        "learning_rate": 3e-3,
        "discount": 0.95,
        "entropy_weight": 0.03,
        "location_weight": location_weight,
        "location_entropy_weight": 0.02,
    }
    training = Training(cued_config(attention, num_envs=64, learner=learner, **glimpse), CPU)
    update(training, updates)
    training.actor.finished.clear()
    update(training, 20)
    earned = [episode.episode_return for episode in training.actor.finished]
    assert len(earned) == 20 * 8 * 64 / 2
    return float(np.mean(earned))


@pytest.mark.slow
def test_an_agent_learns_to_look_where_the_cue_tells_it_to():
    """By chance it looks there one time in nine, and 0.56 of the actions can be right; in the
    centre there is nothing to be seen of it. A Gaussian misses a third of a view that it aims at
    one time in four."""
    for policy, best in (("random", 0.6), ("centre", 0.55)):
        assert accuracy("tile", 100, policy=policy) < best
    assert accuracy("tile", 100, policy="oracle") > 0.9
    assert accuracy("tile", 250) > 0.85
    assert accuracy("foveal", 300, std=0.25, location_weight=0.2) > 0.68
