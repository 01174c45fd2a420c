"""What both heads are asked about an unroll, what counts, and what each switch turns off."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from groundling.agents import cpc as cpc_module
from groundling.agents import prediction as prediction_module
from groundling.agents.actions import make_actions
from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.agents.cores import CoreState
from groundling.agents.cpc import (
    Candidates,
    binary_contrast,
    candidates,
    group_sizes,
    infonce,
    ranked_first,
)
from groundling.agents.prediction import Prediction
from groundling.agents.sensors import Sensors
from groundling.envs.errors import UserError

T, B, ACTIONS = 7, 3, 3
SPACE = spaces.Dict(
    {
        "view": spaces.Box(0, np.full((2, 2, 2), 3, np.uint8), dtype=np.uint8),
        "direction": spaces.Discrete(4, start=1),
        "pulse": spaces.Box(-9, 9, (2,), np.float32),
    }
)
LOSSES = ("simcore", "cpc")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class World:
    """An unroll of random numbers, and the part of an agent that reads it."""

    def __init__(self, loss, *, ends=((3, 0), (2, 1), (6, 1)), T=T, B=B, limit=4, **switches):
        switches = {"starts": 3, "horizons": 3, "present_weight": 0.3} | switches
        self.config = AgentConfig(
            core_size=8,
            feature_size=6,
            sensor_size=17,
            embedding_size=5,
            prediction=PredictionConfig(loss=loss, **switches),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.sensors = Sensors(SPACE, self.config)
            self.prediction = Prediction(
                SPACE, self.sensors, make_actions(spaces.Discrete(ACTIONS)), self.config
            )
        generator = seeded()
        self.core = CoreState(
            *(torch.randn(T + 1, B, 8, generator=generator).requires_grad_() for _ in range(2))
        )
        # Few categories, so that some views are alike, as in rooms; the pulse makes most differ.
        self.observation = {
            "view": torch.randint(4, (T + 1, B, 2, 2, 2), generator=generator, dtype=torch.uint8),
            "direction": torch.randint(1, 5, (T + 1, B), generator=generator),
            "pulse": torch.randint(3, (T + 1, B, 2), generator=generator).float(),
        }
        self.is_first = torch.zeros(T + 1, B, dtype=torch.bool)
        for row, environment in ends:
            self.is_first[row, environment] = True
        self.actions = torch.randint(ACTIONS, (T, B), generator=generator)
        self.limit = limit

    def predict(self, seed=0, absent=None):
        return self.prediction(
            self.core,
            self.sensors(self.observation),
            self.observation,
            self.is_first,
            self.actions,
            self.sensors,
            absent=absent,
            limit=self.limit,
            generator=seeded(seed),
        )

    def gradients(self, loss):
        """{name: gradient or None} of the core's states and all parameters, of "present" or
        "future"."""
        parts = {"hidden": self.core.hidden, "cell": self.core.cell}
        for owner in ("sensors", "prediction"):
            for name, parameter in getattr(self, owner).named_parameters():
                parts[f"{owner}.{name}"] = parameter
        total = getattr(self.predict(), loss)
        grads = torch.autograd.grad(total, list(parts.values()), allow_unused=True)
        return dict(zip(parts, grads, strict=True))


def reached(grads, prefix):
    """Names of what a gradient that is not all 0 reaches, and that begin like this."""
    return {
        name
        for name, grad in grads.items()
        if name.startswith(prefix) and grad is not None and (grad != 0).any()
    }


@pytest.fixture
def plans(monkeypatch):
    """The plans that were drawn, and the number of rows that the present was asked at."""
    drawn = []
    working = prediction_module.plan_overshoot

    def plan(*arguments, **keywords):
        drawn.append(working(*arguments, **keywords))
        return drawn[-1]

    monkeypatch.setattr(prediction_module, "plan_overshoot", plan)
    return drawn


def nats_slowly(world, state, t, b):
    """Of a single prediction of the view of row t in environment b."""
    head, features = world.prediction.head, world.sensors(world.observation)
    if world.config.prediction.loss == "simcore":
        seen = {name: leaf[t, b][None] for name, leaf in world.observation.items()}
        weights = head.cell_weights(world.observation)
        return head(state[None], seen, world.sensors, weights)[0]
    views: Candidates = candidates(head.key(features), world.observation)
    loss = binary_contrast if world.config.prediction.contrast == "binary" else infonce
    true = torch.tensor([t * B + b])
    return loss(head.scores(head.query(state[None]), true, views), true, views)[0]


def imagine_slowly(world, t, k, b):
    start = CoreState(world.core.hidden[t, b][None], world.core.cell[t, b][None])
    return world.prediction.simulator(start, world.actions[t : t + k, b][:, None])[-1, 0]


@pytest.mark.parametrize(
    ("loss", "contrast"), [("simcore", "binary"), ("cpc", "binary"), ("cpc", "infonce")]
)
def test_the_future_is_the_mean_over_pairs_within_an_episode_one_by_one(plans, loss, contrast):
    world = World(loss, contrast=contrast)
    for seed in range(3):
        output = world.predict(seed)
        plan = plans[-1]
        nats = [
            nats_slowly(world, imagine_slowly(world, t, k, b), t + k, b)
            for k in plan.horizons.tolist()
            for t in plan.starts.tolist()
            for b in range(B)
            if not world.is_first[t + 1 : t + k + 1, b].any()
        ]
        assert 0 < len(nats) < plan.valid.numel()
        assert_close(output.future, torch.stack(nats).mean())
        assert output.measured["prediction/valid"] == pytest.approx(
            (len(nats) / plan.valid.numel(), plan.valid.numel())
        )
        longest = (max(plan.horizons.tolist()), 1.0)
        assert output.measured["prediction/longest_horizon"] == longest


def test_the_views_of_a_large_batch_are_told_apart_group_by_group(plans, monkeypatch):
    monkeypatch.setattr(cpc_module, "TOGETHER", 2)
    world = World("cpc", B=5)
    output, plan = world.predict(), plans[-1]
    head, nats = world.prediction.head, []
    keys = head.key(world.sensors(world.observation))
    for group in ([0, 1], [2, 3], [4]):
        observation = {name: leaf[:, group] for name, leaf in world.observation.items()}
        views = candidates(keys[:, group], observation)
        for k, t, b in itertools.product(plan.horizons.tolist(), plan.starts.tolist(), group):
            if not world.is_first[t + 1 : t + k + 1, b].any():
                state = imagine_slowly(world, t, k, b)[None]
                true = torch.tensor([(t + k) * len(group) + group.index(b)])
                scores = head.scores(head.query(state), true, views)
                nats.append(binary_contrast(scores, true, views)[0])
    assert_close(output.future, torch.stack(nats).mean())


def test_groups_are_as_few_and_as_alike_as_can_be():
    sizes = {batch: group_sizes(batch) for batch in (1, 16, 17, 40, 256)}
    assert sizes == {1: [1], 16: [16], 17: [9, 8], 40: [14, 13, 13], 256: [16] * 16}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_present_is_read_off_the_belief_itself_at_every_row(loss):
    world = World(loss, starts=1)
    nats = [
        nats_slowly(world, world.core.hidden[t, b], t, b) for t in range(T + 1) for b in range(B)
    ]
    assert_close(world.predict().present, torch.stack(nats).mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_present_and_future_teach_the_belief_and_the_future_alone_the_simulator(loss):
    world = World(loss)
    present, future = world.gradients("present"), world.gradients("future")
    simulator = {name for name in future if name.startswith("prediction.simulator")}
    assert reached(present, "prediction.simulator") == set()
    assert reached(future, "prediction.simulator") == simulator
    assert reached(present, "prediction.head")
    assert reached(future, "prediction.head") == reached(present, "prediction.head")
    assert reached(present, "hidden") == {"hidden"}
    assert reached(present, "cell") == set()  # s⁰ = h_t
    assert reached(future, "hidden") | reached(future, "cell") == {"hidden", "cell"}


def test_each_loss_teaches_the_sensors_by_its_own_way():
    """SimCore through the names of what it generates, CPC|A through all that it tells apart."""
    leaf = World("simcore").sensors.names.index("view")
    tables = {f"sensors.leaves.{leaf}.embeddings.{channel}.weight" for channel in range(2)}
    for term in ("present", "future"):
        assert reached(World("simcore").gradients(term), "sensors") == tables
        assert reached(World("simcore", tied=False).gradients(term), "sensors") == set()
        grads = World("cpc").gradients(term)
        assert reached(grads, "sensors") == {name for name in grads if name.startswith("sensors")}


@pytest.mark.parametrize(
    "switches",
    [
        {"loss": "simcore"},
        {"loss": "simcore", "tied": False},
        {"loss": "cpc"},
        {"loss": "cpc", "contrast": "infonce"},
    ],
)
def test_a_loss_that_may_not_reach_the_agent_teaches_the_simulator_alone(switches):
    world = World(**switches, reaches_agent=False)
    free = World(**switches)
    for term in ("present", "future"):
        grads = world.gradients(term)
        assert reached(grads, ("hidden", "cell", "sensors")) == set()
        learns = reached(grads, "prediction")
        assert learns == reached(free.gradients(term), "prediction")
        assert learns
        assert torch.equal(getattr(world.predict(), term), getattr(free.predict(), term))


def test_a_target_beyond_an_episode_s_end_sends_no_gradient():
    """Numbers are differentiable targets: what sends nothing back has no say in the loss."""
    world = World("simcore", ends=((3, 0),), starts=9, horizons=2, limit=2)
    pulse = world.observation["pulse"].requires_grad_()
    (grad,) = torch.autograd.grad(world.predict().future, pulse)
    # Horizons 1 and 2 from rows 0 … 5. Row 3 of environment 0 begins an episode: no start reaches
    # it; row 4 can be reached from row 3 alone.
    said = (grad != 0).any(-1)
    assert said[:, 0].tolist() == [False, True, True, False, True, True, True, True]
    assert said[:, 1:].all(1).tolist() == [False, *[True] * 7]
    assert (grad[3, 0] == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_belief_sends_nothing_beyond_its_episode(loss):
    """The row before an episode's end has no future at all."""
    world = World(loss, ends=((3, 0),), starts=9, horizons=9, limit=4)
    hidden = world.gradients("future")["hidden"]
    assert (hidden[2, 0] == 0).all()
    assert (hidden[:2, 0] != 0).any(-1).all()
    assert (hidden[3, 0] != 0).any()


def test_what_lies_beyond_an_episode_s_end_changes_nothing():
    world = World("simcore", ends=((3, 0),), starts=9, horizons=9, limit=3, balance=0.0)
    before = world.predict()
    for leaf in world.observation.values():
        leaf[3, 0] = leaf[3, 0] % 3 + 1
    after = world.predict()
    assert torch.equal(after.future, before.future)
    assert not torch.equal(after.present, before.present)


@pytest.mark.parametrize("loss", LOSSES)
def test_where_every_step_ends_an_episode_the_future_is_zero_and_teaches_nothing(loss):
    everywhere = [(row, environment) for row in range(T + 1) for environment in range(B)]
    world = World(loss, ends=everywhere)
    output = world.predict()
    assert output.future.item() == 0.0
    assert output.measured["prediction/valid"][0] == 0.0
    assert "prediction/ranked_first" not in output.measured
    assert reached(world.gradients("future"), "") == set()
    assert torch.isfinite(output.present)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", [1, 2])
def test_an_unroll_shorter_than_the_longest_horizon_is_predicted_as_far_as_it_goes(loss, steps):
    world = World(loss, ends=(), T=steps, limit=10, starts=5, horizons=9)
    output = world.predict()
    assert output.measured["prediction/longest_horizon"][0] == steps
    assert output.measured["prediction/valid"] == (1.0, steps * B)
    assert torch.isfinite(output.future)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_actions_what_was_done_has_no_say(loss):
    for switch, same in ((False, True), (True, False)):
        world = World(loss, actions=switch)
        before = world.predict().future
        world.actions = (world.actions + 1) % ACTIONS
        assert torch.equal(world.predict().future, before) == same


@pytest.mark.parametrize("loss", LOSSES)
def test_the_placebo_predicts_the_view_of_another_environment(loss):
    """A shuffled loss is the honest one of a batch whose views changed places."""
    placebo, honest = World(loss, shuffled=True), World(loss)
    assert placebo.predict().future != honest.predict().future
    moved = {
        name: torch.stack([leaf[:, b - 1] for b in range(B)], 1)
        for name, leaf in honest.observation.items()
    }
    honest.observation = moved
    expected, output = honest.predict(), placebo.predict()
    assert_close(output.present, expected.present)
    assert_close(output.future, expected.future)
    # Which pairs exist is decided by the belief's own episode.
    assert output.measured["prediction/valid"] == expected.measured["prediction/valid"]


@pytest.mark.parametrize("contrast", ["binary", "infonce"])
def test_a_placebo_s_view_is_absent_where_the_environment_is_that_it_is_taken_from(
    contrast, monkeypatch
):
    """Two groups of two, one of whose environments is never there: it is nobody's future, and what
    is left are the other two."""
    monkeypatch.setattr(cpc_module, "TOGETHER", 2)
    world = World("cpc", contrast=contrast, shuffled=True, B=4, ends=((3, 3),))
    absent = torch.zeros(T + 1, 4, dtype=torch.bool)
    absent[:, 1] = True
    world.is_first |= absent
    output = world.predict(absent=absent)

    world.core = CoreState(*(part[:, 2:] for part in world.core))
    world.observation = {name: leaf[:, 2:] for name, leaf in world.observation.items()}
    world.is_first, world.actions = world.is_first[:, 2:], world.actions[:, 2:]
    alone = world.predict()
    assert output.present_count == alone.present_count
    assert output.future_count == alone.future_count
    assert_close(output.present, alone.present)
    assert_close(output.future, alone.future)


def test_both_heads_are_asked_about_the_same_rows(plans):
    """And so is any ablation: anything else would confound the comparison."""
    for world in (
        World("simcore"),
        World("cpc"),
        World("cpc", contrast="infonce"),
        World("simcore", shuffled=True, actions=False, tied=False, balance=0.0),
    ):
        generator = seeded()
        world.prediction(
            world.core,
            world.sensors(world.observation),
            world.observation,
            world.is_first,
            world.actions,
            world.sensors,
            limit=4,
            generator=generator,
        )
        plans[-1] = (*plans[-1], generator.get_state())
    for plan in plans:
        assert_close(plan, plans[0], rtol=0, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_future_that_weighs_nothing_is_not_imagined_and_the_present_is_none_the_wiser(
    plans, loss
):
    """Reconstruction alone is asked about the same rows, and does not pay for the simulator."""
    whole, present_only = World(loss).predict(), World(loss, weight=0.0).predict()
    assert_close(present_only.present, whole.present)
    assert present_only.future.item() == 0.0
    assert len(plans[1].starts) == 0
    assert set(present_only.measured) == {"prediction/longest_horizon"}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_present_that_weighs_nothing_is_not_read_off_and_the_future_is_none_the_wiser(loss):
    both, future_only = World(loss).predict(), World(loss, present_weight=0.0).predict()
    assert_close(future_only.future, both.future)
    assert future_only.present.item() == 0.0
    assert future_only.measured == both.measured
    neither = World(loss, weight=0.0, present_weight=0.0).predict()
    assert (neither.present.item(), neither.future.item()) == (0.0, 0.0)


def test_the_share_ranked_first_counts_the_valid_futures_alone(plans):
    world = World("cpc", T=7)
    output = world.predict()
    plan, head, first = plans[-1], world.prediction.head, []
    views = candidates(head.key(world.sensors(world.observation)), world.observation)

    for k in plan.horizons.tolist():
        for t in plan.starts.tolist():
            for b in range(B):
                if not world.is_first[t + 1 : t + k + 1, b].any():
                    state = imagine_slowly(world, t, k, b)[None]
                    true = torch.tensor([(t + k) * B + b])
                    first.append(ranked_first(head.scores(head.query(state), true, views)))
    share = torch.cat(first).double().mean().item()
    assert output.measured["prediction/ranked_first"] == pytest.approx((share, len(first)))


def test_draws_come_from_the_generator_given_and_no_other():
    world = World("simcore")
    before = torch.get_rng_state()
    one, again, other = (world.predict(seed).future for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_longest_horizon_grows_with_the_frames_up_to_the_last():
    config = PredictionConfig(first_limit=2, last_limit=5, frames_per_horizon=100)
    frames = (0, 99, 100, 199, 200, 299, 300, 400, 10**9)
    assert [config.limit(n) for n in frames] == [2, 2, 3, 3, 4, 4, 5, 5, 5]
    assert PredictionConfig(frames_per_horizon=0, last_limit=7).limit(0) == 7
    assert PredictionConfig(first_limit=3, last_limit=3).limit(10**9) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("starts", 0),
        ("horizons", 0),
        ("first_limit", 0),
        ("last_limit", 0),
        ("weight", -0.1),
        ("present_weight", -1.0),
        ("balance", -0.5),
        ("frames_per_horizon", -1),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_its_flag_s_name(field, value):
    flag = field.replace("_", "-")
    with pytest.raises(UserError, match=rf"agent\.prediction\.{flag} is {value}; expected"):
        PredictionConfig(**{field: value})


def test_a_first_limit_beyond_the_last_is_refused():
    with pytest.raises(UserError, match=r"first-limit is 4; expected at most last-limit \(3\)"):
        PredictionConfig(first_limit=4, last_limit=3)
