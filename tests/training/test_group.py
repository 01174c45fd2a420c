"""K learners on B / K environments each are one learner on B: its losses, gradients and weights.

Each learner has a thread of its own here; `test_learners.py` has them in processes, behind Ray.
"""

import dataclasses
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.distributed import HashStore
from torch.testing import assert_close

from groundling.agents.config import GlimpseConfig, PredictionConfig
from groundling.agents.losses import Mean, mean_where
from groundling.agents.prediction import Prediction
from groundling.training.environments import make_environment
from groundling.training.errors import NonFiniteLoss
from groundling.training.group import Group, GroupBroken, Joined, join_store, make_store
from groundling.training.loop import Training
from groundling.training.metrics import Window
from groundling.training.peer import make_learner
from groundling.training.unroll import shards

CPU = torch.device("cpu")
T, B = 5, 6
OWN = "losses_of_somebody"


def together(number, do, *, patience=20.0):
    """What `do(group)` gives, or raises, in each of so many learners at once."""
    store = HashStore()

    def one(rank):
        group = Joined(store, "127.0.0.1", rank, number, patience=patience)
        try:
            return do(group)
        except Exception as error:
            return error
        finally:
            group.close()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))


def moved(output, unroll):
    """A user's own loss, [T, B]."""
    hidden = output.core.hidden
    return (hidden[1:] - hidden[:-1]).square().mean(-1)


@pytest.fixture(autouse=True)
def _own_losses(monkeypatch):
    module = ModuleType(OWN)
    module.moved = moved
    monkeypatch.setitem(sys.modules, OWN, module)


@pytest.fixture
def config_with(small_config, small_agent):
    """Makes a configuration of six environments, whose gradients are not clipped."""

    def make(prediction=None, agent=(), learner=(), **parts):
        agent = dataclasses.replace(small_agent, **dict(agent))
        if prediction is not None:
            prediction = {"weight": 0.7, "present_weight": 0.4} | prediction
            agent = dataclasses.replace(agent, prediction=PredictionConfig(**prediction))
        learner = {"max_gradient_norm": 1e9} | dict(learner)
        return small_config(env={"num_envs": B}, agent=agent, learner=learner, **parts)

    return make


def learner_of(config):
    """As each of several is made (in one thread, as weights are drawn from the global generator);
    the probe's gradient stays where it can be looked at."""
    environment = make_environment(config.env, num_envs=1)
    learner = make_learner(config, environment, CPU)
    environment.close()
    if learner.monitor is not None:
        learner.monitor.optimiser.zero_grad = lambda: None
    return learner


def walked(config, *, ask=True, labels=False):
    """An unroll; episodes end, and nobody is there, in the first environments above all."""
    training = Training(config, CPU)
    training.actor.collect(T)
    unroll = training.actor.collect(T, ask=ask and training.learner.monitor is not None)
    training.close()
    generator = torch.Generator().manual_seed(3)
    often = torch.tensor([0.6, 0.4, 0.5, 0.0, 0.4, 0.0])
    absent = torch.rand(T + 1, B, generator=generator) < often
    absent[:, 3:] = False  # Whoever has only these need not know of absence.
    terminated = (torch.rand(T, B, generator=generator) < often) & ~absent[:-1]
    first = unroll.rows.is_first | absent
    first[1:] |= terminated | absent[:-1]
    unroll = unroll._replace(
        rows=unroll.rows._replace(is_first=first),
        absent=absent,
        terminated=terminated,
        truncated=unroll.truncated & ~terminated & ~absent[:-1],
        trace=None,  # Of other rows.
    )
    if labels:
        return unroll._replace(label=torch.randint(4, (T, B), generator=generator))
    return unroll


def gradients(learner):
    """By name, of agent and probe."""
    parts = {"agent": learner.agent}
    if learner.monitor is not None:
        parts["probe"] = learner.monitor.probe
    return {
        f"{part}.{name}": weight.grad
        for part, module in parts.items()
        for name, weight in module.named_parameters()
    }


def split(config, unroll, number):
    """What each of so many learners measured, and its gradients."""
    parts = shards(unroll, number)
    learners = [learner_of(config) for _ in parts]

    def step(group):
        learner = learners[group.rank]
        learner.group = group
        measured = learner.step(parts[group.rank], inspect=True)
        return measured, gradients(learner)

    results = together(number, step)
    for one in results:
        if isinstance(one, Exception):
            raise one
    return results


def assert_same_update(config, unroll, number):
    """One learner and so many learners find the same losses and gradients."""
    alone = learner_of(config)
    before = {name: weight.detach().clone() for name, weight in alone.agent.named_parameters()}
    expected = alone.step(unroll, inspect=True)
    assert any(not torch.equal(w, before[name]) for name, w in alone.agent.named_parameters())
    for measured, found in split(config, unroll, number):
        assert gradients(alone).keys() == found.keys()
        for name, gradient in gradients(alone).items():
            assert (gradient is None) == (found[name] is None), name
            if gradient is not None:
                assert_close(found[name], gradient, rtol=1e-4, atol=2e-6, msg=name)
        for name, (value, _) in expected.items():
            if name == "probe/loss" and name not in measured:
                continue  # This learner's environments were asked nothing.
            if name.startswith(("loss/", "gradient", "probe/loss", "policy_lag")):
                assert measured[name].value == pytest.approx(value, rel=1e-4, abs=1e-6), name
    return expected


CASES = {
    "reward alone": {"probe": {"online": False}},
    "online probe": {},
    "perceptron as probe": {"probe": {"decoder": "mlp"}},
    "answers": {"probe": {"answers_reach_agent": True}},
    "SimCore": {"prediction": {"loss": "simcore"}},
    "present alone": {"prediction": {"loss": "simcore", "weight": 0.0}},
    "fovea": {
        "prediction": {"loss": "simcore"},
        "agent": {"attention": "foveal", "glimpse": GlimpseConfig(size=1, scales=2)},
    },
    "tiles": {"agent": {"attention": "tile", "glimpse": GlimpseConfig(size=1)}},
    "own": {"learner": {"losses": {f"{OWN}:moved": 0.5}}},
}


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_several_learners_have_the_gradients_of_one(config_with, case, number):
    config = config_with(**case)
    assert_same_update(config, walked(config), number)


def test_as_many_learners_as_environments_have_the_gradients_of_one(config_with):
    config = config_with({"loss": "simcore"})
    unroll = walked(config)
    asked = unroll.questions
    few = type(asked)(*(part[asked.environment == 4] for part in asked))
    assert len(few.row) > 0
    assert_same_update(config, unroll._replace(questions=few), B)


def test_labels_of_episodes_that_ended_teach_alike(config_with):
    unroll = walked(config_with(), labels=True)
    ended = [part.terminated.sum().item() for part in shards(unroll, 2)]
    assert ended[0] > ended[1] > 0
    labelled = assert_same_update(config_with(learner={"label_weight": 1.5}), unroll, 2)
    assert labelled["loss/label"].value > 0


@pytest.mark.parametrize("contrast", ["binary", "infonce"])
def test_contrast_is_that_of_one_learner_whose_negatives_come_from_the_same_shard(
    config_with, monkeypatch, contrast
):
    config = config_with({"loss": "cpc", "contrast": contrast})
    unroll = walked(config)
    found = split(config, unroll, 2)
    whole = Prediction._contrast

    def by_shards(self, states, rows, features, observation, absent):
        """Each half of the environments, which stand innermost, by itself."""
        losses, ranked = [], []
        for some in (slice(0, 3), slice(3, 6)):
            loss, measured = whole(
                self,
                states.unflatten(0, (-1, B))[:, some].flatten(0, 1),
                rows,
                features[:, some],
                {name: leaf[:, some] for name, leaf in observation.items()},
                absent[:, some],
            )
            losses.append(loss.unflatten(0, (-1, 3)))
            ranked.append(measured["ranked_first"].unflatten(0, (-1, 3)))
        return torch.cat(losses, 1).flatten(), {"ranked_first": torch.cat(ranked, 1).flatten()}

    monkeypatch.setattr(Prediction, "_contrast", by_shards)
    alone = learner_of(config)
    expected = alone.step(unroll)
    for measured, gradients_found in found:
        for name, gradient in gradients(alone).items():
            assert_close(gradients_found[name], gradient, rtol=1e-4, atol=2e-6, msg=name)
        for name in ("loss/present", "loss/future"):
            assert measured[name].value == pytest.approx(expected[name].value, rel=1e-4)
    window = Window()
    for measured, _ in found:
        window.add(measured)
    shown = window.take()
    for name in ("prediction/valid", "prediction/ranked_first", "loss/future"):
        assert shown[name] == pytest.approx(expected[name].value, rel=1e-4)


def test_weights_stay_bitwise_the_same_in_all_learners_and_near_those_of_one(config_with):
    growing = {"loss": "simcore", "frames_per_horizon": T * B, "first_limit": 1, "last_limit": 4}
    config = config_with(growing, learner={"max_gradient_norm": 0.05})
    training = Training(config, CPU)
    unrolls = [training.actor.collect(T, ask=n % 2 == 0) for n in range(6)]
    training.close()

    def learn(group, learner):
        learner.group = group
        horizons = [
            learner.step(shards(one, group.size)[group.rank], inspect=n == 3)[
                "prediction/longest_horizon"
            ].value
            for n, one in enumerate(unrolls)
        ]
        return learner, horizons

    alone, *both = (learner_of(config) for _ in range(3))
    alone, horizons = learn(Group(), alone)
    (one, same), (other, _) = together(2, lambda group: learn(group, both[group.rank]))
    assert horizons == same
    assert max(horizons) == 4.0
    for part in ("agent", "probe"):
        of = [
            (learner.agent if part == "agent" else learner.monitor.probe).state_dict()
            for learner in (alone, one, other)
        ]
        for name, weight in of[1].items():
            assert torch.equal(weight, of[2][name]), name
            assert_close(weight, of[0][name], rtol=0, atol=2e-3)


def test_a_loss_that_is_not_finite_in_one_learner_stops_all_and_changes_nothing(config_with):
    config = config_with()
    unroll = walked(config)
    unroll.rows.previous_reward[:, 5] = math.nan
    learners = [learner_of(config) for _ in range(2)]

    def learn(group):
        learner = learners[group.rank]
        learner.group = group
        before = {name: one.clone() for name, one in learner.agent.state_dict().items()}
        with pytest.raises(NonFiniteLoss, match="loss 'policy' is nan at update 0"):
            learner.step(shards(unroll, 2)[group.rank], inspect=True)
        after = learner.agent.state_dict()
        return all(torch.equal(before[name], after[name]) for name in before)

    assert together(2, learn) == [True, True]


def test_a_gradient_that_is_not_finite_in_one_learner_stops_all(config_with):
    config = config_with()
    unroll = walked(config)
    learners = [learner_of(config) for _ in range(2)]

    def learn(group):
        learner = learners[group.rank]
        learner.group = group
        if group.rank:
            weight = learner.agent.policy[-1].weight
            weight.register_hook(lambda gradient: gradient * math.inf)
        learner.step(shards(unroll, 2)[group.rank])

    assert [type(error) for error in together(2, learn)] == [NonFiniteLoss] * 2


def test_a_mean_is_weighed_by_how_many_it_is_of():
    values = torch.tensor([1.0, 2.0, 3.0, 10.0], requires_grad=True)
    masks = torch.tensor([[True, True, True, False], [False, False, False, True]])

    def do(group):
        nothing = mean_where(values, torch.zeros(4, dtype=torch.bool))
        shares, means = group.means({"some": mean_where(values, masks[group.rank]), "no": nothing})
        (gradient,) = torch.autograd.grad(shares["some"], values, retain_graph=True)
        return means["some"].item(), means["no"].item(), gradient.tolist()

    one, other = together(2, do)
    assert one == (4.0, 0.0, [0.25, 0.25, 0.25, 0.0])
    assert other == (4.0, 0.0, [0.0, 0.0, 0.0, 0.25])


def test_one_learner_alone_takes_its_own_means_for_all(monkeypatch):
    value, counts = torch.tensor(2.0, requires_grad=True), torch.ones(3)
    shares, values = Group().means({"a": Mean(value, 3)})
    assert shares["a"] is value
    assert values["a"] is value
    assert Group().total(counts) is counts


def test_gradients_are_added_up_and_a_weight_without_one_anywhere_keeps_none():
    def do(group):
        weights = [nn.Parameter(torch.zeros(2, 3)), *(nn.Parameter(torch.zeros(4)) for _ in "ab")]
        weights[0].grad = torch.full((2, 3), 1.0 + group.rank)
        if group.rank:
            weights[1].grad = torch.arange(4.0)
        group.add_gradients(weights)
        return [None if weight.grad is None else weight.grad.tolist() for weight in weights]

    assert together(3, do) == [[[[6.0] * 3] * 2, [0.0, 2.0, 4.0, 6.0], None]] * 3


def test_weights_that_differ_in_a_single_bit_are_noticed_by_all():
    def do(group, differ):
        weight = nn.Parameter(torch.linspace(1.0, 2.0, 5))
        group.check_alike([weight])
        if differ and group.rank == 1:
            with torch.no_grad():
                weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
        group.check_alike([weight])

    assert together(3, lambda group: do(group, differ=False)) == [None] * 3
    errors = together(3, lambda group: do(group, differ=True))
    assert all("no longer the same" in str(error) for error in errors)


def test_a_learner_that_leaves_is_missed_at_once():
    def do(group):
        if group.rank != 1:
            group.total(torch.ones(3))

    started = time.monotonic()
    one, left, other = together(3, do, patience=60.0)
    assert left is None
    assert isinstance(one, GroupBroken)
    assert isinstance(other, GroupBroken)
    assert time.monotonic() - started < 10.0


def test_a_silent_learner_is_not_waited_for_for_ever():
    def do(group):
        if group.rank == 1:
            time.sleep(1.5)
        else:
            group.total(torch.ones(3))

    started = time.monotonic()
    error, _ = together(2, do, patience=0.5)
    assert isinstance(error, GroupBroken)
    assert time.monotonic() - started < 10.0


def test_learners_meet_at_an_address():
    store, port = make_store("127.0.0.1")

    def do(rank):
        own, host = (store, "127.0.0.1") if rank == 0 else join_store("127.0.0.1", port)
        group = Joined(own, host, rank, 2, patience=20.0)
        total = group.total(torch.tensor([1.0 + rank]))
        group.close()
        return host, total.item()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(do, range(2))) == [("127.0.0.1", 3.0)] * 2


def test_an_address_where_nobody_waits_is_given_up():
    store, port = make_store("127.0.0.1")
    del store
    with pytest.raises(GroupBroken):
        join_store("127.0.0.1", port, patience=1.0)


def test_whoever_does_not_come_is_not_waited_for_for_ever():
    with pytest.raises(GroupBroken):
        Joined(HashStore(), "127.0.0.1", 0, 2, patience=0.5)
