"""Losses of a user's own: averaged, weighed, checked, shown, and refused in one line."""

import math
import sys
from types import ModuleType

import pytest
import torch

from groundling.envs.errors import UserError
from groundling.training.config import TrainConfig, differences, from_json, to_json
from groundling.training.errors import NonFiniteLoss
from groundling.training.loop import Training

MODULE = "losses_of_a_user"


def of_each_step(output, unroll):
    return output.core.hidden[1:].square().mean(-1)


def of_each_row(output, unroll):
    return output.core.hidden.square().mean(-1)


def of_all(output, unroll):
    return output.core.hidden.square().mean()


def too_much(output, unroll):
    return output.core.hidden


def whole(output, unroll):
    return unroll.rows.is_first.long()


def number(output, unroll):
    return 3.0


def endless(output, unroll):
    return output.baseline * math.inf


@pytest.fixture(autouse=True)
def module(monkeypatch):
    made = ModuleType(MODULE)
    for one in (of_each_step, of_each_row, of_all, too_much, whole, number, endless):
        setattr(made, one.__name__, one)
    made.policy = made.future = of_all
    made.constant = 3
    monkeypatch.setitem(sys.modules, MODULE, made)


def make(small_config, losses, **learner):
    named = {f"{MODULE}:{name}": weight for name, weight in losses.items()}
    config = small_config(learner={"losses": named} | learner, probe={"online": False})
    return Training(config, torch.device("cpu"))


def gradients(training, unroll):
    measured = training.learner.step(unroll, inspect=True)
    return measured, {n: p.grad.clone() for n, p in training.learner.agent.named_parameters()}


@pytest.mark.parametrize(
    ("name", "rows"), [("of_each_step", slice(1, None)), ("of_each_row", slice(None))]
)
def test_a_loss_is_the_mean_of_its_numbers_with_its_weight_in_the_gradient(
    small_config, name, rows
):
    plain, taught = make(small_config, {}), make(small_config, {name: 0.7})
    unroll = plain.actor.collect(5)
    agent = taught.learner.agent
    hidden = agent.unroll(unroll.rows, unroll.core_state).core.hidden
    expected = hidden[rows].square().mean()
    own = torch.autograd.grad(expected, list(agent.parameters()), allow_unused=True)
    large = {"max_gradient_norm": 1e9}
    _, before = gradients(make(small_config, {}, **large), unroll)
    measured, after = gradients(make(small_config, {name: 0.7}, **large), unroll)
    assert measured[f"loss/{name}"].value == pytest.approx(expected.item())
    assert measured[f"gradient_into_core/{name}"].value > 0
    for (weight, gradient), extra in zip(after.items(), own, strict=True):
        more = 0.0 if extra is None else 0.7 * extra
        torch.testing.assert_close(gradient, before[weight] + more, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["of_each_step", "of_each_row"])
def test_rows_in_which_nobody_is_do_not_count(small_config, name):
    training = make(small_config, {name: 1.0})
    unroll = training.actor.collect(5)
    absent = torch.zeros(6, 3, dtype=torch.bool)
    absent[2:, 1] = True
    first = unroll.rows.is_first | absent
    rows = unroll.rows._replace(is_first=first)
    unroll = unroll._replace(absent=absent, rows=rows, trace=None)
    hidden = training.learner.agent.unroll(unroll.rows, unroll.core_state).core.hidden
    size = hidden.square().mean(-1)
    counted = size[~absent] if name == "of_each_row" else size[1:][~absent[:-1]]
    measured = training.learner.step(unroll)
    assert measured[f"loss/{name}"].value == pytest.approx(counted.mean().item())


def test_a_loss_that_weighs_nothing_leaves_the_agent_bitwise_the_same(small_config):
    plain, muted = make(small_config, {}), make(small_config, {"of_all": 0.0})
    for training in (plain, muted):
        for _ in range(3):
            measured = training.learner.step(training.actor.collect(5))
    assert "loss/of_all" not in measured
    agents = [training.learner.agent.state_dict() for training in (plain, muted)]
    assert all(torch.equal(agents[0][name], agents[1][name]) for name in agents[0])


def test_several_losses_have_a_weight_each(small_config):
    training = make(small_config, {"of_all": 0.5, "of_each_row": 0.25})
    assert training.learner.weights["of_all"] == 0.5
    assert training.learner.weights["of_each_row"] == 0.25
    measured = training.learner.step(training.actor.collect(5))
    shown = [measured[f"loss/{name}"].value for name in ("of_all", "of_each_row")]
    assert shown[0] == pytest.approx(shown[1])


def test_a_loss_that_is_not_finite_stops_by_its_name(small_config):
    training = make(small_config, {"endless": 1.0})
    with pytest.raises(NonFiniteLoss, match="loss 'endless' is"):
        training.learner.step(training.actor.collect(5))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("too_much", r"too_much gives a tensor of shape (6, 3, 8); expected a tensor of shape (5"),
        ("whole", "whole gives torch.int64; expected floats"),
        ("number", "number gives 3.0; expected a tensor of shape (5, 3) or (6, 3), or their mean"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_line(small_config, name, said):
    training = make(small_config, {name: 1.0})
    with pytest.raises(UserError) as error:
        training.learner.step(training.actor.collect(5))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("policy", "there is another loss named 'policy'; expected a name beside policy, baseline"),
        ("no_such", f"{MODULE} has no 'no_such'"),
        ("constant", "which is 3; expected a function"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused_before_training(small_config, name, said):
    with pytest.raises(UserError) as error:
        make(small_config, {name: 1.0})
    assert said in str(error.value)


def test_a_weight_below_zero_is_refused(small_config):
    with pytest.raises(UserError, match=r"learner.losses losses_of_a_user:of_all is -1.0; expect"):
        make(small_config, {"of_all": -1.0})


def test_sensors_and_losses_are_part_of_what_a_resumed_run_may_not_change():
    values = {"agent": {"sensors": {"view": "a:B"}}, "learner": {"losses": {"c:d": 1}}}
    config = from_json(values)
    assert config.agent.sensors == {"view": "a:B"}
    assert config.learner.losses == {"c:d": 1.0}
    assert from_json(to_json(config)) == config
    assert differences(config, config) == []
    changed = differences(config, TrainConfig())
    assert changed == [
        "agent.sensors: {'view': 'a:B'} → {}",
        "learner.losses: {'c:d': 1.0} → {}",
    ]
    with pytest.raises(UserError, match=r"agent.sensors view is 3; expected str"):
        from_json({"agent": {"sensors": {"view": 3}}})
