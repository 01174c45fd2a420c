"""Prediction in a run: what reaches the head, what leaves the agent alone, and what is learned."""

import copy
import math
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from groundling.agents import prediction as prediction_module
from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.agents.simcore import SimCoreHead
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)
from groundling.training.errors import NonFiniteLoss
from groundling.training.loop import Training
from groundling.training.run import RunDirectory

CPU = torch.device("cpu")
COUNTER, CAROUSEL = "Tests/Counter-v0", "Tests/Carousel-v0"
FIRST_ACTION, LENGTHS = 5, (3, 1, 7, 2, 12)
SYMBOLS = 3
LOSSES = ("simcore", "cpc")


class Counter(gymnasium.Env):
    """Observes which environment it is, its episode and its step, and remembers what was done."""

    observation_space = spaces.Box(0, 1e6, (3,), np.float32)
    action_space = spaces.Discrete(3, start=FIRST_ACTION)
    done: ClassVar[dict[tuple[int, int, int], int]] = {}
    """By environment, episode and step: the action taken there, from 0."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.name, self.episode = seed % 1000, -1
        self.episode, self.count = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action):
        self.done[self.name, self.episode, self.count] = int(action) - FIRST_ACTION
        self.count += 1
        over = self.count == LENGTHS[(self.name + self.episode) % len(LENGTHS)]
        return self._observation(), 0.0, over and self.episode % 2 == 0, over, {}

    def _observation(self):
        return np.array([self.name, self.episode, self.count], np.float32)


class Carousel(gymnasium.Env):
    """A ring of tiles with random symbols, turned left or right by the agent, who stands at one.

    At first the whole ring is in sight; afterwards it still is, or the agent's own tile alone is.
    Either way what comes next is decided by what was seen and by what is done.

    Args:
        tiles: how many.
        in_sight: whether the ring stays in sight.
    """

    action_space = spaces.Discrete(2)

    def __init__(self, tiles, in_sight):
        self.tiles, self.in_sight = tiles, in_sight
        self.observation_space = spaces.Box(0, SYMBOLS, (1, tiles, 1), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.ring = self.np_random.integers(1, SYMBOLS + 1, self.tiles, dtype=np.uint8)
        self.count = 0
        return self._observation(), {}

    def step(self, action):
        self.ring = np.roll(self.ring, 1 if action else -1)
        self.count += 1
        return self._observation(), 0.0, False, self.count == 8, {}

    def _observation(self):
        seen = self.ring.copy()
        if self.count and not self.in_sight:
            seen[1:] = 0
        return seen.reshape(self.observation_space.shape)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gymnasium.register(COUNTER, entry_point=Counter)
    gymnasium.register(CAROUSEL, entry_point=Carousel)
    yield
    for name in (COUNTER, CAROUSEL):
        del gymnasium.registry[name]


def carousel_training(*, tiles=4, in_sight=True, seed=0, **prediction):
    settings = {"balance": 0.0, "frames_per_horizon": 0, "last_limit": 4, "present_weight": 0.3}
    prediction = settings | prediction
    options = {"tiles": tiles, "in_sight": in_sight}
    return Training(
        TrainConfig(
            seed=seed,
            env=EnvironmentConfig(id=CAROUSEL, num_envs=16, options=options),
            agent=AgentConfig(
                core_size=64,
                feature_size=32,
                sensor_size=64,
                embedding_size=8,
                prediction=PredictionConfig(**prediction),
            ),
            learner=LearnerConfig(unroll_length=16, learning_rate=3e-3),
            probe=OnlineProbeConfig(online=False),
        ),
        CPU,
    )


def learn(training, updates, last=50):
    """The means of everything measured over the last updates."""
    rows = []
    for _ in range(updates):
        unroll = training.actor.collect(16, policy_version=training.learner.updates)
        rows.append(training.learner.step(unroll))
    names = ("loss/present", "loss/future", "prediction/ranked_first")
    return {
        name: np.mean([row[name].value for row in rows[-last:]])
        for name in names
        if name in rows[0]
    }


class Recorder:
    """What a head was handed: states [N, core_size] and the raw views they were to predict."""

    def __init__(self, monkeypatch):
        self.plan = self.states = self.seen = None
        draw, generate = prediction_module.plan_overshoot, SimCoreHead.forward

        def plan(*arguments, **keywords):
            self.plan = draw(*arguments, **keywords)
            return self.plan

        def forward(head, state, target, *arguments):
            self.states, self.seen = state.detach(), target["observation"]
            return generate(head, state, target, *arguments)

        monkeypatch.setattr(prediction_module, "plan_overshoot", plan)
        monkeypatch.setattr(SimCoreHead, "forward", forward)


def beliefs_slowly(agent, unroll):
    """The core's states after reading each row, one step at a time."""
    states, state = [], unroll.core_state
    for t in range(len(unroll.rows.is_first)):
        row = unroll.rows.map(lambda part, t=t: part[t])
        with torch.no_grad():
            _, state = agent.step(row, state)
        states.append(state)
    return states


def imagine_slowly(agent, state, b, actions):
    """s^k of one environment, one action at a time, by PyTorch's own LSTM cell."""
    simulator, size = agent.prediction.simulator, agent.core.core_size
    step = torch.nn.LSTMCell(agent.actions.outputs, size, bias=False)
    step.load_state_dict(
        {"weight_ih": simulator.from_action.weight.t(), "weight_hh": simulator.from_hidden.weight}
    )
    hidden, cell = state.hidden[b], state.cell[b]
    with torch.no_grad():
        for action in actions:
            hidden, cell = step(torch.eye(agent.actions.outputs)[action], (hidden, cell))
    return hidden


def test_the_kth_prediction_is_trained_on_the_view_k_steps_on_and_fed_what_was_done_till_then(
    monkeypatch,
):
    """The counter test: views say which environment, episode and step they are, and the
    environment itself remembers what was done there."""
    recorder, T, B = Recorder(monkeypatch), 8, 4
    Counter.done.clear()
    prediction = PredictionConfig(
        loss="simcore",
        present_weight=0.3,
        starts=3,
        horizons=3,
        first_limit=4,
        last_limit=4,
    )
    training = Training(
        TrainConfig(
            env=EnvironmentConfig(id=COUNTER, num_envs=B),
            agent=AgentConfig(core_size=8, feature_size=6, sensor_size=7, prediction=prediction),
            learner=LearnerConfig(unroll_length=T, max_gradient_norm=1.0),
            probe=OnlineProbeConfig(online=False),
        ),
        CPU,
    )
    counted = [0, 0, 0]
    for _ in range(6):
        unroll = training.actor.collect(T)
        rows = unroll.rows.observation["observation"]
        agent = copy.deepcopy(training.learner.agent)
        training.learner.step(unroll)
        beliefs, plan = beliefs_slowly(agent, unroll), recorder.plan
        K, S = plan.targets.shape
        assert (K, S) == (3, 3)
        present = len(recorder.states) - K * S * B
        assert present == (T + 1) * B
        where = {tuple(rows[t, b].tolist()): (t, b) for t in range(T + 1) for b in range(B)}
        for state, seen in zip(recorder.states[:present], recorder.seen[:present], strict=True):
            t, b = where[tuple(seen.tolist())]  # horizon 0: the belief and its own view
            assert_close(state, beliefs[t].hidden[b], atol=1e-5, rtol=1e-4)
        states = recorder.states[present:].view(K, S, B, -1)
        views = recorder.seen[present:].view(K, S, B, 3)
        for j, k in enumerate(plan.horizons.tolist()):
            for i, t in enumerate(plan.starts.tolist()):
                for b in range(B):
                    name, episode, count = (int(number) for number in rows[t, b])
                    went_on = views[j, i, b].tolist() == [name, episode, count + k]
                    assert plan.valid[j, i, b] == went_on
                    counted[went_on] += 1
                    counted[2] += went_on and k > 1
                    if went_on:
                        done = [Counter.done[name, episode, count + step] for step in range(k)]
                        expected = imagine_slowly(agent, beliefs[t], b, done)
                        assert_close(states[j, i, b], expected, atol=1e-5, rtol=1e-4)
    assert min(counted) > 50


def predicting(small_agent, **prediction):
    sizes = {name: getattr(small_agent, name) for name in ("core_size", "feature_size")}
    sizes |= {name: getattr(small_agent, name) for name in ("sensor_size", "embedding_size")}
    return AgentConfig(**sizes, prediction=PredictionConfig(**prediction))


def update(training, times):
    for _ in range(times):
        measured = training.learner.step(training.actor.collect(5))
    return measured


def assert_agents_alike(one, other):
    """All that an agent without prediction has is bitwise the same, and so is its walk."""
    plain, more = (training.learner.agent.state_dict() for training in (one, other))
    assert set(more) - set(plain) == {name for name in more if name.startswith("prediction.")}
    for name, weight in plain.items():
        assert torch.equal(weight, more[name]), name
    walks = [training.actor.state_dict() for training in (one, other)]
    for part in ("generator", "core_state", "row", "environment"):
        assert_close(walks[0][part], walks[1][part], rtol=0, atol=0)


CLIPS = [
    pytest.param({"max_gradient_norm": 1e9}, id="never clipped"),
    pytest.param({"max_gradient_norm": 1e-2}, id="always clipped"),
]


def plain_and_predicting(small_config, small_agent, learner=(), **prediction):
    quiet = {"learner": learner, "probe": {"online": False}}
    return (
        Training(small_config(**quiet), CPU),
        Training(small_config(**quiet, agent=predicting(small_agent, **prediction)), CPU),
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("clip", CLIPS)
def test_a_prediction_of_weight_zero_leaves_the_agent_bitwise_the_same(
    small_config, small_agent, loss, clip
):
    plain, predicts = plain_and_predicting(
        small_config, small_agent, clip, loss=loss, weight=0.0, present_weight=0.0
    )
    update(plain, 20)
    measured = update(predicts, 20)
    assert not {"loss/present", "loss/future"} & set(measured)
    assert_agents_alike(plain, predicts)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("clip", CLIPS)
def test_a_prediction_that_may_not_reach_the_agent_leaves_it_the_same_and_learns(
    small_config, small_agent, loss, clip
):
    plain, predicts = plain_and_predicting(
        small_config, small_agent, clip, loss=loss, reaches_agent=False
    )
    before = copy.deepcopy(predicts.learner.agent.prediction.state_dict())
    update(plain, 20)
    update(predicts, 20)
    assert_agents_alike(plain, predicts)
    after = predicts.learner.agent.prediction.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_prediction_with_a_weight_changes_the_agent(small_config, small_agent, loss):
    for weights in ({"weight": 0.0, "present_weight": 0.3}, {"present_weight": 0.0}):
        plain, predicts = plain_and_predicting(small_config, small_agent, loss=loss, **weights)
        update(plain, 1)
        update(predicts, 1)
        for name in ("core.from_hidden.weight", "core.from_input.weight"):
            weight = predicts.learner.agent.state_dict()[name]
            assert not torch.equal(weight, plain.learner.agent.state_dict()[name]), name


def test_a_gradient_of_the_simulator_that_is_not_finite_stops_and_changes_nothing(
    small_config, small_agent
):
    _, training = plain_and_predicting(small_config, small_agent, loss="simcore")
    agent = training.learner.agent
    before = copy.deepcopy(agent.state_dict())
    agent.prediction.simulator.from_hidden.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(NonFiniteLoss, match=r"gradient's norm is (nan|inf)"):
        update(training, 1)
    assert_close(agent.state_dict(), before, rtol=0, atol=0)


def test_prediction_draws_from_a_generator_of_its_own(small_config, small_agent):
    """What it draws follows from the run's seed alone, and the walk is none of its business."""
    quiet = {"probe": {"online": False}}
    agent = predicting(small_agent, loss="simcore", starts=1)

    def training(seed):
        return Training(small_config(**quiet, agent=agent, seed=seed), CPU)

    one, other = training(0), training(1)
    own, actions = one.learner.generator, one.actor.generator
    assert not torch.equal(own.get_state(), other.learner.generator.get_state())
    assert not torch.equal(own.get_state(), actions.get_state())
    before = own.get_state()
    unroll = one.actor.collect(5)
    assert torch.equal(own.get_state(), before)
    held, everybody = actions.get_state(), torch.get_rng_state()
    one.learner.step(unroll)
    assert not torch.equal(own.get_state(), before)
    assert torch.equal(actions.get_state(), held)
    assert torch.equal(torch.get_rng_state(), everybody)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_resumed_run_predicts_as_if_it_had_not_stopped(small_config, small_agent, tmp_path, loss):
    """The horizon grows after every 15 frames, which is an update; starts are drawn anew."""
    agent = predicting(
        small_agent, loss=loss, starts=1, first_limit=1, last_limit=4, frames_per_horizon=15
    )
    config = small_config(agent=agent, probe={"online": False})
    whole, stopped, resumed = (Training(config, CPU) for _ in range(3))
    run = RunDirectory(tmp_path / "run")
    run.open_for(config)
    update(stopped, 2)
    stopped.save(run)
    resumed.resume(run)
    expected, measured = update(whole, 5), update(resumed, 3)
    assert measured == expected
    states = [training.learner.agent.state_dict() for training in (whole, resumed)]
    assert_close(states[0], states[1], rtol=0, atol=0)
    assert torch.equal(whole.learner.generator.get_state(), resumed.learner.generator.get_state())


def test_the_longest_horizon_follows_the_frames_learned_from(
    small_config, small_agent, monkeypatch
):
    recorder = Recorder(monkeypatch)
    agent = predicting(
        small_agent,
        loss="simcore",
        horizons=9,
        first_limit=1,
        last_limit=4,
        frames_per_horizon=30,
    )
    # The recorder of views knows a single leaf, and a room has more.
    monkeypatch.setattr(SimCoreHead, "forward", lambda head, state, *_: state.sum(1))
    training = Training(small_config(agent=agent, probe={"online": False}), CPU)
    longest = []
    for _ in range(8):
        measured = update(training, 1)
        assert measured["prediction/longest_horizon"].value == len(recorder.plan.horizons)
        longest.append(len(recorder.plan.horizons))
    assert longest == [1, 1, 2, 2, 3, 3, 4, 4]  # 15 frames an update


LOG_SYMBOLS = math.log(SYMBOLS)
"""Nats of a tile that nothing is known about."""


@pytest.mark.slow
def test_a_future_that_was_in_sight_is_generated_to_its_entropy_and_the_placebo_s_is_not():
    """The ring turned by the net of what was done: nothing is left to chance, a floor of 0 nats
    per tile. The ring of another environment is independent: log 3, for any agent whatsoever."""
    honest = learn(carousel_training(loss="simcore"), 600)
    assert honest["loss/present"] < 0.02
    assert honest["loss/future"] < 0.02
    placebo = learn(carousel_training(loss="simcore", shuffled=True), 400)
    for term in ("loss/present", "loss/future"):
        assert placebo[term] == pytest.approx(LOG_SYMBOLS, abs=0.03)


@pytest.mark.slow
def test_a_future_that_must_be_remembered_is_generated_to_its_entropy():
    """Of three tiles only the agent's own stays in sight, and the others show 0: a floor of 0, but
    log 3 / 3 for who remembers nothing and for the placebo (an average over three tiles)."""
    remembering = learn(carousel_training(loss="simcore", tiles=3, in_sight=False), 1600)
    assert remembering["loss/future"] < 0.05
    placebo = learn(carousel_training(loss="simcore", tiles=3, in_sight=False, shuffled=True), 400)
    assert placebo["loss/future"] == pytest.approx(LOG_SYMBOLS / 3, abs=0.02)


@pytest.mark.slow
def test_without_actions_the_next_view_is_generated_to_the_entropy_of_the_actions():
    """A policy without rewards turns left or right by a coin. A tile's two neighbours differ with
    probability 2/3, and then the coin costs log 2."""
    only_next = {"first_limit": 1, "last_limit": 1}
    blind = learn(carousel_training(loss="simcore", actions=False, **only_next), 700, last=100)
    assert blind["loss/future"] == pytest.approx(2 / 3 * math.log(2), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("contrast", ["binary", "infonce"])
def test_the_true_future_is_told_from_all_others_and_the_placebo_s_is_not(contrast):
    """272 candidates of at most 81 looks, the ring's other turns among them: who knows the ring but
    not how it was turned is right less than every other time."""
    honest = learn(carousel_training(loss="cpc", contrast=contrast), 1400)
    assert honest["prediction/ranked_first"] > 0.8
    placebo = learn(carousel_training(loss="cpc", contrast=contrast, shuffled=True), 200)
    assert placebo["prediction/ranked_first"] < 0.06
