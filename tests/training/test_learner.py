"""One unroll in, one step out: losses by name, a wall before the probe, and a stop at NaN."""

import copy
import dataclasses
import math

import pytest
import torch
from torch.testing import assert_close

from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.agents.probe import answer_loss
from groundling.agents.vtrace import VTrace, vtrace
from groundling.training import learner as learner_module
from groundling.training.learner import NonFiniteLoss
from groundling.training.loop import Training
from groundling.training.unroll import transitions

T = 5
CPU = torch.device("cpu")


def make_training(config):
    return Training(config, CPU)


def collect(training, ask=False):
    updates = training.learner.updates
    return training.actor.collect(T, policy_version=updates, ask=ask)


def update(training, times=1):
    """As the loop does it, and what was last measured."""
    for _ in range(times):
        learner = training.learner
        ask = learner.monitor is not None and learner.monitor.is_due(learner.updates)
        measured = learner.step(collect(training, ask))
    return measured


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def same_training(one, other):
    """Whether agent, optimiser and walk are bitwise the same."""
    moments = [
        {
            (i, name): torch.as_tensor(value)
            for i, state in training.learner.optimiser.state_dict()["state"].items()
            for name, value in state.items()
        }
        for training in (one, other)
    ]
    walks = [
        {
            **training.actor.row.observation,
            "hidden": training.actor.core_state.hidden,
            "generator": training.actor.generator.get_state(),
        }
        for training in (one, other)
    ]
    agents = [weights(training.learner.agent) for training in (one, other)]
    return same(*agents) and same(*moments) and same(*walks)


def test_the_probe_leaves_every_gradient_of_the_agent_exactly_none(small_config):
    training = make_training(small_config())
    agent, monitor = training.learner.agent, training.learner.monitor
    unroll = collect(training, ask=True)
    output = agent.unroll(unroll.rows, unroll.core_state)
    loss, _ = monitor.loss(output.core, unroll.questions)
    loss.value.backward()
    assert all(weight.grad is None for weight in agent.parameters())
    assert all(weight.grad is not None for weight in monitor.probe.parameters())


def test_the_agent_is_bitwise_the_same_with_and_without_the_online_probe(small_config):
    watched = make_training(small_config())
    alone = make_training(small_config(probe={"online": False}))
    probe_before = weights(watched.learner.monitor.probe)
    update(watched, 20)
    update(alone, 20)
    assert same_training(watched, alone)
    assert not same(weights(watched.learner.monitor.probe), probe_before)


def test_what_the_probe_is_like_does_not_matter_to_the_agent(small_config):
    one = make_training(small_config())
    other = make_training(small_config(probe={"decoder": "mlp", "size": 3, "every": 1}))
    update(one, 5)
    update(other, 5)
    assert same_training(one, other)


def test_the_probe_draws_its_weights_from_a_generator_of_its_own(small_config):
    def probe_of(seed):
        return weights(make_training(small_config(seed=seed)).learner.monitor.probe)

    before = torch.get_rng_state()
    first = probe_of(seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert same(probe_of(seed=0), first)
    assert not same(probe_of(seed=1), first)


def test_the_share_answered_right_is_told_by_question_type(small_config):
    training = make_training(small_config())
    monitor, questions = training.learner.monitor, collect(training, ask=True).questions
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(questions.answer), 99, generator=generator)
    known = torch.rand(len(logits), generator=generator) < 0.5
    logits[known, questions.answer[known]] = 99.0
    found = monitor._accuracies(logits, questions)
    for index, name in enumerate(monitor.question_types):
        asked = [n for n, kind in enumerate(questions.type) if kind == index]
        asked = [n for n in asked if questions.answerable[n]]
        assert (f"probe/{name}" in found) == bool(asked)
        if asked:
            right = [logits[n].argmax() == questions.answer[n] for n in asked]
            assert found[f"probe/{name}"] == (sum(right) / len(asked), len(asked))
    assert len(found) > 3


def test_answers_change_the_agent_when_told_to(small_config):
    plain = make_training(small_config())
    taught = make_training(small_config(probe={"answers_reach_agent": True}))
    before = weights(taught.learner.monitor.probe)
    measured = update(taught)
    update(plain)
    assert not same(weights(plain.learner.agent), weights(taught.learner.agent))
    assert not same(weights(taught.learner.monitor.probe), before)
    assert "loss/answers" in measured


def test_answers_of_weight_zero_leave_the_agent_bitwise_the_same(small_config):
    plain = make_training(small_config())
    muted = make_training(small_config(probe={"answers_reach_agent": True, "answer_weight": 0.0}))
    update(plain, 5)
    update(muted, 5)
    assert same_training(plain, muted)


def test_a_room_that_can_be_asked_nothing_trains_all_the_same(small_config):
    dull = {"objects": 1, "shapes": 1, "colours": 1}
    for reach in (False, True):
        config = small_config(rooms=dull, probe={"answers_reach_agent": reach, "every": 1})
        training = make_training(config)
        before = weights(training.learner.agent)
        measured = update(training, 3)
        assert math.isfinite(measured["gradient_norm"].value)
        assert not same(weights(training.learner.agent), before)


def break_loss(monkeypatch, name, value):
    """Makes one of the losses, by its name in the learner, worth `value` everywhere."""
    functions = {
        "policy": (learner_module, "policy_gradient_loss"),
        "baseline": (learner_module, "baseline_loss"),
        "entropy": (learner_module, "negative_entropy_loss"),
    }
    module, function = functions[name]
    working = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *arguments: working(*arguments) * value)


def assert_stops(training, unroll, name):
    """The step is refused by name and changes nothing."""
    learner = training.learner
    parts = [learner.agent, *([learner.monitor.probe] if learner.monitor else [])]
    before = [weights(part) for part in parts]
    moments = copy.deepcopy(learner.optimiser.state_dict())
    updates = learner.updates
    with pytest.raises(NonFiniteLoss, match=name) as stop:
        learner.step(unroll)
    assert "\n" not in str(stop.value)
    assert all(same(weights(part), old) for part, old in zip(parts, before, strict=True))
    assert_close(learner.optimiser.state_dict()["state"], moments["state"], rtol=0, atol=0)
    assert learner.updates == updates


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["policy", "baseline", "entropy"])
def test_a_loss_that_is_not_finite_stops_by_name_and_changes_nothing(
    small_config, monkeypatch, name, value
):
    training = make_training(small_config())
    update(training, 2)
    unroll = collect(training, ask=True)
    break_loss(monkeypatch, name, value)
    assert_stops(training, unroll, f"loss '{name}' is (nan|inf|-inf) at update 2")


@pytest.mark.parametrize(("reach", "name"), [(False, "probe"), (True, "answers")])
def test_a_probe_s_loss_that_is_not_finite_stops_by_name(small_config, reach, name):
    training = make_training(small_config(probe={"answers_reach_agent": reach}))
    update(training, 2)
    unroll = collect(training, ask=True)
    with torch.no_grad():
        training.learner.monitor.probe.scale.zero_()
    assert_stops(training, unroll, f"loss '{name}' is nan at update 2")


def test_a_gradient_that_is_not_finite_stops_and_changes_nothing(small_config):
    training = make_training(small_config())
    update(training, 2)
    training.learner.agent.policy[-1].weight.register_hook(lambda gradient: gradient * math.inf)
    assert_stops(training, collect(training), "gradient's norm is (nan|inf)")


def test_every_loss_has_a_weight_and_every_weight_a_loss(small_config):
    training = make_training(small_config())
    training.learner.weights["surplus"] = 1.0
    with pytest.raises(AssertionError, match="surplus"):
        update(training)
    for name in ("policy", "baseline", "entropy"):
        training = make_training(small_config())
        del training.learner.weights[name]
        with pytest.raises(AssertionError, match=name):
            update(training)


def gradients_of(config, unroll_of):
    """The agent's gradient after one update that is too small to be clipped."""
    training = make_training(config)
    training.learner.step(unroll_of(training))
    return {n: p.grad.clone() for n, p in training.learner.agent.named_parameters()}


def test_the_gradient_is_the_weighted_sum_of_the_losses(small_config):
    def gradient(policy, baseline, entropy):
        learner = {
            "policy_weight": policy,
            "baseline_weight": baseline,
            "entropy_weight": entropy,
            "max_gradient_norm": 1e9,
        }
        return gradients_of(small_config(learner=learner), collect)

    alone = [gradient(1.0, 0.0, 0.0), gradient(0.0, 1.0, 0.0), gradient(0.0, 0.0, 1.0)]
    for name, total in gradient(2.0, 0.5, 0.25).items():
        parts = [2.0 * alone[0][name], 0.5 * alone[1][name], 0.25 * alone[2][name]]
        assert_close(total, sum(parts), atol=1e-6, rtol=1e-4)
    assert all(any(grad.abs().sum() > 0 for grad in one.values()) for one in alone)


def test_the_probe_reads_each_moment_that_it_is_asked_about(small_config):
    training = make_training(small_config())
    unroll, learner = training.actor.collect(8, ask=True), training.learner
    with torch.no_grad():
        core = learner.agent.unroll(unroll.rows, unroll.core_state).core
    rows = torch.arange(len(unroll.questions.row)) % 9  # As if asked at all of them.
    questions = unroll.questions._replace(row=rows)
    found, _ = learner.monitor.loss(core, questions)
    beliefs = core.belief[questions.row, questions.environment]
    logits = learner.monitor.probe(beliefs, questions.tokens)
    assert_close(found.value, answer_loss(logits, questions.answer).mean())


def without_trace(unroll):
    return unroll._replace(trace=None)


@pytest.mark.parametrize("prediction", ["none", "simcore", "cpc"])
def test_what_the_core_computed_while_walking_need_not_be_computed_again(
    small_config, small_agent, prediction
):
    agent = dataclasses.replace(small_agent, prediction=PredictionConfig(loss=prediction))
    config = small_config(agent=agent)
    whole, again = (
        gradients_of(config, lambda training, how=how: how(collect(training)))
        for how in (lambda unroll: unroll, without_trace)
    )
    assert_close(whole, again, atol=1e-6, rtol=1e-4)


def test_between_unrolls_no_more_than_the_state_is_kept(small_config):
    training = make_training(small_config())
    collect(training)
    for part in training.actor.core_state:
        assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


def test_the_core_computes_what_others_weights_walked(small_config, monkeypatch):
    training = make_training(small_config())
    fresh, stale = collect(training), collect(training)
    given = []
    unroll = training.learner.agent.unroll

    def noted(rows, state, trace):
        given.append(trace)
        return unroll(rows, state, trace)

    for one in (fresh, stale):
        with monkeypatch.context() as patch:
            patch.setattr(training.learner.agent, "unroll", noted)
            training.learner.step(one)
    assert given == [fresh.trace, None]


def test_two_learners_learn_the_same_from_one_unroll(small_config):
    """The first spends its trace."""
    learners = [make_training(small_config()).learner for _ in range(2)]
    unroll = make_training(small_config()).actor.collect(8)
    assert unroll.trace.full
    norms = [learner.step(unroll)["gradient_norm"].value for learner in learners]
    assert not unroll.trace.full
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_losses_reach_the_heads_they_are_about_and_no_other(small_config):
    def heads(**chosen):
        off = {"policy_weight": 0.0, "baseline_weight": 0.0, "entropy_weight": 0.0}
        gradients = gradients_of(small_config(learner=off | chosen), collect)
        return [bool(gradients[f"{head}.1.weight"].any()) for head in ("policy", "baseline")]

    assert heads(policy_weight=1.0) == [True, False]
    assert heads(baseline_weight=1.0) == [False, True]
    assert heads(entropy_weight=1.0) == [True, False]


def test_what_each_loss_sends_into_the_core_is_measured_when_asked(small_config):
    """The baseline's share: weight · error / (T · B), taken back through its two layers."""
    config = small_config(learner={"baseline_weight": 0.5}, probe={"online": False})
    training = make_training(config)
    agent, unroll = training.learner.agent, collect(training)
    actions, rewards, discounts = transitions(unroll, config.learner.discount)
    with torch.no_grad():
        output = agent.unroll(unroll.rows, unroll.core_state)
        log_probs = torch.log_softmax(output.policy[:-1], -1).gather(-1, actions[..., None])
        ratios = log_probs[..., 0] - unroll.behaviour_log_prob
        values = vtrace(
            ratios, discounts, rewards, output.baseline, lambda_=config.learner.lambda_
        ).values
        errors = (output.baseline[:-1] - values).unsqueeze(-1)
        (first, _), last = agent.baseline
        open_units = first(output.core.hidden[:-1]) > 0
        back = (errors * last.weight * open_units) @ first.weight
        expected = 0.5 * back.norm() / errors.numel()
    measured = training.learner.step(unroll, inspect=True)
    sent = {name for name in measured if name.startswith("gradient_into_core/")}
    assert sent == {f"gradient_into_core/{name}" for name in ("policy", "baseline", "entropy")}
    assert measured["gradient_into_core/baseline"].value == pytest.approx(expected.item(), rel=1e-4)
    assert not any("into_core" in name for name in update(training))


@pytest.mark.parametrize("switches", [{}, {"reaches_agent": False}])
def test_inspecting_gradients_changes_no_bit_of_the_agent(small_config, switches):
    prediction = PredictionConfig(loss="simcore", first_limit=3, **switches)
    config = small_config(agent=AgentConfig(core_size=8, prediction=prediction))
    plain, inspected = make_training(config), make_training(config)
    plain.learner.step(collect(plain))
    measured = inspected.learner.step(collect(inspected), inspect=True)
    reached = measured["gradient_into_core/future"].value
    assert (reached > 0.0) == (not switches)
    for one, other in zip(
        plain.learner.agent.parameters(), inspected.learner.agent.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_the_baseline_learns_the_return(small_config):
    """With every reward the same, V-trace's targets and the baseline's meet."""
    config = small_config(learner={"learning_rate": 1e-2, "policy_weight": 0.0, "discount": 0.5})
    training = make_training(config)
    for _ in range(150):
        unroll = collect(training)
        unroll.rows.previous_reward.fill_(1.0)
        measured = training.learner.step(unroll._replace(bootstrap_value=2.0 * unroll.truncated))
    assert measured["value"].value == pytest.approx(2.0, abs=0.05)  # 1 + 1/2 + 1/4 + …


def test_losses_are_means_over_the_unroll_with_the_targets_of_v_trace(small_config):
    training = make_training(small_config(learner={"discount": 0.9, "lambda_": 0.8}))
    unroll = collect(training)
    actions, rewards, discounts = transitions(unroll, 0.9)
    with torch.no_grad():
        output = training.learner.agent.unroll(unroll.rows, unroll.core_state)
    log_probs = torch.log_softmax(output.policy[:-1], -1).gather(-1, actions[..., None])
    ratios = log_probs[..., 0] - unroll.behaviour_log_prob
    targets = vtrace(ratios, discounts, rewards, output.baseline, lambda_=0.8)
    errors = targets.values - output.baseline[:-1]
    measured = training.learner.step(unroll)
    expected = -(targets.advantages * log_probs[..., 0]).mean().item()
    assert measured["loss/policy"].value == pytest.approx(expected, rel=1e-4)
    expected = 0.5 * errors.square().mean().item()
    assert measured["loss/baseline"].value == pytest.approx(expected, rel=1e-4)


def test_a_gradient_is_scaled_down_to_the_largest_norm_allowed(small_config):
    training = make_training(small_config(learner={"max_gradient_norm": 1e-3}))
    measured = update(training)
    assert measured["gradient_norm"].value > 1e-3  # as it was before
    norms = [weight.grad.norm() for weight in training.learner.agent.parameters()]
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_the_probe_s_gradient_does_not_count_towards_the_agent_s_norm(small_config):
    watched = make_training(small_config())
    alone = make_training(small_config(probe={"online": False}))
    assert update(watched)["gradient_norm"] == update(alone)["gradient_norm"]


@pytest.mark.parametrize("exploration", [0.0, 0.5])
def test_an_unroll_says_with_what_probability_its_actions_were_drawn(small_config, exploration):
    training = make_training(small_config(learner={"exploration": exploration}))
    with torch.no_grad():  # far from uniform
        training.learner.agent.policy[-1].bias.copy_(torch.tensor([2.0, 0.0, 1.0, -1.0]))
        unroll = collect(training)
        output = training.learner.agent.unroll(unroll.rows, unroll.core_state)
    policy = torch.softmax(output.policy[:-1], -1)
    drawn = (1.0 - exploration) * policy + exploration / 4
    actions = transitions(unroll, 0.9).actions.unsqueeze(-1)
    assert_close(unroll.behaviour_log_prob, drawn.gather(-1, actions)[..., 0].log())


def test_policy_lag_counts_the_updates_since_the_policy_acted(small_config):
    training = make_training(small_config())
    assert update(training)["policy_lag"].value == 0
    stale = collect(training)
    update(training, 3)
    assert training.learner.step(stale)["policy_lag"].value == 3


def test_metrics_are_those_of_the_unroll(small_config):
    training = make_training(small_config(probe={"online": False}))
    agent, unroll = training.learner.agent, collect(training)
    with torch.no_grad():
        output = agent.unroll(unroll.rows, unroll.core_state)
    probabilities = torch.softmax(output.policy[:-1], -1)
    entropy = -(probabilities * probabilities.log()).sum(-1).mean().item()
    measured = training.learner.step(unroll)
    assert measured["entropy"].value == pytest.approx(entropy, rel=1e-5)
    assert measured["loss/entropy"].value == pytest.approx(-entropy, rel=1e-5)
    assert measured["value"].value == pytest.approx(output.baseline[:-1].mean().item(), abs=1e-6)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 1.0), (-1.0, -3.0), (2.0, 0.75)])
def test_explained_variance_is_the_share_of_the_targets_that_the_baseline_told(
    small_config, monkeypatch, scale, expected
):
    """Targets that are a multiple of the baseline: 1 - Var(k b - b) / Var(k b)."""

    def targets(log_rhos, discounts, rewards, baselines, **coefficients):
        return VTrace(scale * baselines[:-1], torch.zeros_like(rewards))

    monkeypatch.setattr(learner_module, "vtrace", targets)
    measured = update(make_training(small_config()))
    assert measured["explained_variance"].value == pytest.approx(expected, abs=1e-3)


def test_the_off_policy_ratio_is_that_of_learner_to_actor(small_config, monkeypatch):
    seen = []
    working = learner_module.vtrace
    monkeypatch.setattr(
        learner_module, "vtrace", lambda *args, **kw: seen.append(args) or working(*args, **kw)
    )
    training = make_training(small_config(learner={"exploration": 0.0}))
    unroll = collect(training)
    training.learner.step(unroll)
    training.learner.step(unroll)
    fresh, stale = seen[0][0], seen[1][0]
    assert_close(fresh, torch.zeros_like(fresh), atol=1e-5, rtol=0)
    assert (stale.abs() > 1e-4).any()
    lifted = unroll._replace(behaviour_log_prob=unroll.behaviour_log_prob - 1.0)
    training.learner.step(lifted)
    assert_close(seen[2][0].mean().item(), 1.0, atol=0.2, rtol=0)
