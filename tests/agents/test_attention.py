"""What an agent with attention can know, who decides where it looks, and which gradients flow."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from groundling.agents.agent import Agent, Rows
from groundling.agents.attention import WHOLE, Gaze
from groundling.agents.config import AgentConfig, GlimpseConfig, PredictionConfig
from groundling.agents.cores import CoreState
from groundling.envs.errors import UserError

ACTIONS = spaces.Discrete(3)
HIGH = np.zeros((8, 9, 2), np.uint8) + np.array([5, 3], np.uint8)
CELLS = spaces.Dict({"view": spaces.Box(0, HIGH, dtype=np.uint8), "direction": spaces.Discrete(4)})
IMAGE = spaces.Box(0, 255, (8, 9, 2), np.uint8)
KINDS = [
    pytest.param(attention, space, id=f"{attention}-{name}")
    for attention in ("tile", "foveal")
    for name, space in (("cells", CELLS), ("image", IMAGE))
]
BOTH = pytest.mark.parametrize("attention", ["tile", "foveal"])


def make_agent(attention, space=CELLS, *, prediction=(), **glimpse):
    config = AgentConfig(
        core_size=8,
        feature_size=16,
        sensor_size=34,
        embedding_size=5,
        attention=attention,
        glimpse=GlimpseConfig(**({"size": 2, "scales": 2} | glimpse)),
        prediction=PredictionConfig(**dict(prediction)),
    )
    return Agent(space, ACTIONS, config, seed=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def observations(space, *dims, seed=0):
    leaves = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    random = np.random.default_rng(seed)
    drawn = {}
    for name, leaf in leaves.items():
        high = leaf.high.astype(np.int64) + 1 if isinstance(leaf, spaces.Box) else leaf.n
        values = random.integers(0, high, (*dims, *leaf.shape)).astype(leaf.dtype)
        drawn[name] = torch.from_numpy(values)
    return drawn


def random_rows(space, T, B, seed=0):
    generator = seeded(seed)
    is_first = torch.rand(T, B, generator=generator) < 0.3
    return Rows(
        observations(space, T, B, seed=seed),
        is_first,
        torch.randint(3, (T, B), generator=generator),
        torch.randn(T, B, generator=generator),
    )


def places(*dims, seed=5):
    return torch.rand(*dims, 2, generator=seeded(seed)) * 2.0 - 1.0


def outputs(agent, rows):
    with torch.no_grad():
        output = agent.unroll(rows, agent.initial_state(rows.is_first.shape[1]))
    return torch.cat([output.policy, output.location, output.core.belief], -1)


def reads(agent, where):
    """Which places of the view its patches read, [8, 9] bool."""
    fovea, mask = agent.attention.fovea, torch.zeros(8, 9, dtype=torch.bool)
    for k, (top, left) in enumerate(fovea.corners(where).tolist()):
        side = fovea.size * 2**k
        mask[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = True
    return mask


@pytest.mark.parametrize(("attention", "space"), KINDS)
def test_nothing_outside_the_glimpse_can_change_the_agent_and_everything_inside_can(
    attention, space
):
    """A row read through one place: its view is changed wherever no patch reaches, and then in
    single places that one does read."""
    agent = make_agent(attention, space)
    part, most = agent.attention.part, torch.from_numpy(agent.attention.space.high.astype(int))
    row = random_rows(space, 1, 1)
    changed_outside = 0
    for seed in range(12):
        where = agent.attention.locations.coordinates(
            agent.attention.locations.uniform(1, seeded(seed))
        )
        mask = reads(agent, where[0])

        def read(view, where=where):
            seen = row._replace(observation=row.observation | {part: view})
            return outputs(agent, agent.see(seen, where.unsqueeze(0)))

        view = row.observation[part]
        before = read(view)
        other = torch.where(mask[..., None], view.long(), most - view.long()).to(view.dtype)
        changed_outside += int((other != view).sum())
        assert torch.equal(read(other), before)
        i, j = torch.nonzero(mask)[seed % int(mask.sum())].tolist()
        inside = view.clone()
        if space is IMAGE:  # by more than a coarse place rounds away
            inside[..., i, j, :] = torch.where(view[..., i, j, :] > 127, 0, 255).to(torch.uint8)
        else:
            inside[..., i, j, :] = (most[i, j] - view[..., i, j, :].long()).to(view.dtype)
        assert not torch.equal(read(inside), before)
    assert changed_outside > 500


@pytest.mark.parametrize(("attention", "space"), KINDS)
def test_a_row_as_it_is_seen_holds_nothing_of_the_view_but_the_glimpse(attention, space):
    agent = make_agent(attention, space)
    row = random_rows(space, 1, 3).map(lambda part: part[0])
    where = places(3)
    seen = agent.see(row, where)
    part = agent.attention.part
    assert seen.observation.keys() == row.observation.keys()
    assert torch.equal(seen.location, where)
    assert seen.observation[part].shape != row.observation[part].shape
    fovea = agent.attention.fovea
    cut = fovea.pixels if space is IMAGE else fovea.cells
    assert torch.equal(seen.observation[part], cut(row.observation[part], where))
    for name in row.observation.keys() - {part}:
        assert torch.equal(seen.observation[name], row.observation[name])
    assert seen.observation[part][0].numel() == (
        agent.attention.numbers if space is IMAGE else fovea.read * 2
    )


def test_an_agent_without_attention_reads_a_row_as_it_is():
    agent = Agent(CELLS, ACTIONS, AgentConfig(core_size=8), seed=0)
    row = random_rows(CELLS, 1, 2)
    assert agent.see(row) is row
    assert agent.unroll(row, agent.initial_state(2)).location is None


@pytest.mark.parametrize(("attention", "space"), KINDS)
def test_what_and_where_are_both_read_and_where_also_by_the_core(attention, space):
    agent = make_agent(attention, space)
    rows = agent.see(random_rows(space, 3, 2), places(3, 2))
    moved = rows._replace(location=rows.location.flip(0).flip(1))
    assert not torch.equal(
        agent.sensors(rows.observation, rows.location),
        agent.sensors(moved.observation, moved.location),
    )
    features = agent.sensors(rows.observation, rows.location)
    fresh = rows.is_first.unsqueeze(-1)
    done = torch.eye(3)[rows.previous_action].masked_fill(fresh, 0.0)
    reward = rows.previous_reward.unsqueeze(-1).masked_fill(fresh, 0.0)
    flags = torch.cat([done, reward, rows.location], -1)
    expected = agent.core(features, flags, rows.is_first, agent.initial_state(2))
    assert_close(agent.unroll(rows, agent.initial_state(2)).core, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("attention", "space"), KINDS)
def test_acting_is_stepping_without_values(attention, space):
    agent = make_agent(attention, space)
    row = agent.see(random_rows(space, 1, 3), places(1, 3)).map(lambda part: part[0])
    state = CoreState(torch.randn(3, agent.core.core_size), torch.randn(3, agent.core.core_size))
    with torch.no_grad():
        output, after = agent.step(row, state)
        acting, next_state = agent.act(row, state)
    assert_close(next_state, after, rtol=0, atol=0)
    assert_close(acting.policy, output.policy)
    assert_close(acting.location, output.location)


@pytest.mark.parametrize(("attention", "space"), KINDS)
def test_whole_sequences_and_single_steps_give_the_same_outputs(attention, space):
    agent = make_agent(attention, space)
    rows, state = agent.see(random_rows(space, 9, 3), places(9, 3)), agent.initial_state(3)
    with torch.no_grad():
        whole = agent.unroll(rows, state)
        assert whole.location.shape == (9, 3, agent.attention.locations.outputs)
        for t in range(9):
            output, state = agent.step(rows.map(lambda part, t=t: part[t]), state)
            for name in ("policy", "baseline", "features", "location"):
                assert_close(getattr(output, name), getattr(whole, name)[t], rtol=1e-4, atol=1e-6)
        first = agent.unroll(rows.map(lambda part: part[:4]), agent.initial_state(3))
        between = type(state)(first.core.hidden[-1], first.core.cell[-1])
        rest = agent.unroll(rows.map(lambda part: part[4:]), between)
    joined = torch.cat([first.location, rest.location])
    assert_close(joined, whole.location, rtol=1e-4, atol=1e-6)


@BOTH
def test_the_location_policy_reads_the_core_and_sends_nothing_back(attention):
    agent = make_agent(attention)
    rows = agent.see(random_rows(CELLS, 4, 2), places(4, 2))
    output = agent.unroll(rows, agent.initial_state(2))
    own = dict(agent.attention.named_parameters())
    parts = dict(agent.named_parameters()) | {"hidden": output.core.hidden}
    grads = torch.autograd.grad(
        output.location.square().sum(), list(parts.values()), allow_unused=True, retain_graph=True
    )
    reached = {name for name, grad in zip(parts, grads, strict=True) if grad is not None}
    assert reached == {f"attention.{name}" for name in own}
    others = output.policy.sum() + output.baseline.sum() + output.core.belief.sum()
    grads = torch.autograd.grad(others, list(own.values()), allow_unused=True)
    assert all(grad is None for grad in grads)
    assert not torch.equal(agent.attention(output.core.hidden + 1.0), output.location)


@BOTH
def test_weights_of_core_and_heads_do_not_depend_on_the_part_that_looks(attention):
    """They draw from generators of their own; the core alone has two more columns to fill."""
    plain = Agent(CELLS, ACTIONS, make_config("none"), seed=3).state_dict()
    looking = Agent(CELLS, ACTIONS, make_config(attention), seed=3).state_dict()
    for name, weight in plain.items():
        if name.split(".")[0] in ("policy", "baseline"):
            assert torch.equal(weight, looking[name]), name
    assert (
        looking["core.from_input.weight"].shape[1] == plain["core.from_input.weight"].shape[1] + 2
    )


def make_config(attention, **glimpse):
    return AgentConfig(
        core_size=8,
        feature_size=6,
        sensor_size=7,
        attention=attention,
        glimpse=GlimpseConfig(**glimpse),
    )


def test_what_cells_hold_is_bound_to_where_they_lie_inside_of_an_agent():
    """Even if where it looked were said in no other way."""
    agent = make_agent("foveal")
    with torch.no_grad():
        for weight in agent.sensors.where.parameters():
            weight.zero_()
    place, other = torch.tensor([[[0.2, -0.3]]]), torch.tensor([[[-0.4, 0.6]]])
    seen = agent.see(random_rows(CELLS, 1, 1), place).observation
    features = [agent.sensors(seen, where) for where in (place, other, None)]
    assert not torch.equal(features[0], features[1])
    assert not torch.equal(features[0], features[2])


def test_a_whole_view_is_kept_only_for_the_loss_that_is_privileged_to_predict_it():
    row = random_rows(CELLS, 1, 2)
    for prediction, kept in (
        ({}, False),
        ({"privileged": True}, False),
        ({"loss": "simcore"}, False),
        ({"loss": "simcore", "privileged": True}, True),
    ):
        agent = make_agent("foveal", prediction=prediction)
        seen = agent.see(row, places(1, 2)).observation
        assert (WHOLE + "view" in seen) == kept
        if kept:
            assert torch.equal(seen[WHOLE + "view"], row.observation["view"])


B = 4
NEVER, ALL = torch.zeros(B, dtype=torch.bool), torch.ones(B, dtype=torch.bool)
SOME = torch.tensor([False, True, False, True])


def make_gaze(attention, policy="learned", seed=0, **glimpse):
    agent = make_agent(attention, policy=policy, **glimpse)
    return Gaze(agent.attention, B, seeded(seed))


def policy_of(gaze, seed=1):
    return torch.randn(B, gaze.locations.outputs, generator=seeded(seed))


@BOTH
def test_first_rows_are_read_through_the_centre_and_all_others_through_what_was_decided(attention):
    gaze = make_gaze(attention)
    centre = gaze.locations.coordinates(gaze.locations.centre)
    assert torch.equal(gaze.turn(ALL), centre.expand(B, 2))
    for seed in range(5):
        decision = gaze.decide(policy_of(gaze, seed))
        looked_at = gaze.locations.coordinates(decision.location)
        turned = gaze.turn(SOME)
        assert torch.equal(turned[~SOME], looked_at[~SOME])
        assert torch.equal(turned[SOME], centre.expand(2, 2))
        assert torch.equal(gaze.turn(NEVER), turned)  # What a first row forgot stays forgotten.


@BOTH
def test_a_learned_decision_is_drawn_from_the_policy_and_scored_as_it_was_drawn(attention):
    gaze, policy = make_gaze(attention, std=0.9), 3.0 * policy_of(make_gaze(attention))
    gaze.turn(ALL)
    decision = gaze.decide(policy)
    assert torch.equal(decision.location, gaze.locations.sample(policy, seeded(0)))
    assert_close(decision.log_prob, gaze.locations.log_probs(policy, decision.location))
    if attention == "foveal":
        assert (decision.location.abs() > 1.0).any()  # Or the next line would say nothing.
    assert (gaze.turn(NEVER).abs() <= 1.0).all()


@BOTH
def test_a_fixed_path_begins_anew_with_each_episode(attention):
    gaze = make_gaze(attention, "scan")
    path = gaze.locations.coordinates(gaze.locations.path.on("cpu"))
    gaze.turn(ALL)
    steps = torch.zeros(B, dtype=torch.int64)
    for n in range(30):
        decision = gaze.decide(None)
        assert (decision.log_prob == 0).all()
        ends = SOME if n % 5 == 3 else NEVER
        steps = torch.where(ends, 0, steps + 1)
        assert_close(gaze.turn(ends), path[steps % len(path)])
    assert steps[0] > len(path) - 1 or len(path) > 30


@BOTH
def test_the_controls_look_at_the_centre_at_random_or_where_they_are_told(attention):
    gaze = make_gaze(attention, "centre")
    centre = gaze.turn(ALL)
    gaze.decide(None)
    assert torch.equal(gaze.turn(NEVER), centre)
    gaze = make_gaze(attention, "random", seed=2)
    gaze.turn(ALL)
    drawn = gaze.decide(None).location
    assert torch.equal(drawn, gaze.locations.uniform(B, seeded(2)))
    assert torch.equal(gaze.turn(NEVER), gaze.locations.coordinates(drawn))
    gaze = make_gaze(attention, "oracle")
    gaze.turn(ALL)
    target = places(B)
    decision = gaze.decide(None, target)
    assert (decision.log_prob == 0).all()
    assert torch.equal(gaze.turn(NEVER), gaze.locations.coordinates(gaze.locations.nearest(target)))
    covered = gaze.attention.fovea.sensed(gaze.turn(NEVER))
    cell = ((target + 1.0) / 2.0 * torch.tensor([8, 9])).long()
    for sensed, (row, column) in zip(covered, cell.tolist(), strict=True):
        assert sensed[row, column]


@BOTH
def test_an_agent_that_is_told_nothing_is_no_oracle(attention):
    gaze = make_gaze(attention, "oracle")
    gaze.turn(ALL)
    with pytest.raises(UserError, match=r"agent.glimpse.policy is oracle.*expected") as stop:
        gaze.decide(None, None)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("policy", ["random", "centre", "scan", "oracle"])
def test_a_control_has_no_location_policy(policy):
    agent = make_agent("tile", policy=policy)
    assert not list(agent.attention.parameters())
    rows = agent.see(random_rows(CELLS, 2, 2), places(2, 2))
    assert agent.unroll(rows, agent.initial_state(2)).location is None


TWO = spaces.Dict({"left": IMAGE, "right": IMAGE})


def test_what_is_glimpsed_is_the_only_grid_or_the_one_that_is_named():
    assert make_agent("foveal").attention.part == "view"
    assert make_agent("foveal", IMAGE).attention.part == "observation"
    assert make_agent("foveal", TWO, part="right").attention.part == "right"


@pytest.mark.parametrize(
    ("space", "glimpse", "message"),
    [
        (spaces.Box(-1, 1, (3,), np.float32), {}, "agent.attention is tile.*expected none"),
        (TWO, {}, "agent.glimpse.part is empty; expected one of left, right"),
        (TWO, {"part": "rigth"}, "agent.glimpse.part has 'rigth'; did you mean right?"),
        (CELLS, {"part": "direction"}, "agent.glimpse.part has 'direction'; expected one of view"),
    ],
)
def test_what_cannot_be_glimpsed_is_said_in_one_line(space, glimpse, message):
    with pytest.raises(UserError, match=message) as stop:
        make_agent("tile", space, **glimpse)
    assert "\n" not in str(stop.value)


def test_a_part_that_is_glimpsed_has_no_sensor_of_the_user_s_own():
    config = dataclasses.replace(make_config("tile"), sensors={"view": "any:Sensor"})
    with pytest.raises(UserError, match=r"agent\.sensors has 'view', which is glimpsed"):
        Agent(CELLS, ACTIONS, config, seed=0)


@pytest.mark.parametrize(("field", "value"), [("size", 0), ("scales", 0), ("std", 0.0)])
def test_a_glimpse_of_nothing_is_said_in_one_line(field, value):
    with pytest.raises(UserError, match=f"agent.glimpse.{field} is {value}"):
        GlimpseConfig(**{field: value})


@pytest.mark.parametrize(
    ("attention", "glimpse", "message"),
    [
        ("foveal", {"size": 3, "scales": 30}, "agent.glimpse.scales is 30, and the widest patch"),
        ("foveal", {"size": 500, "scales": 1}, "agent.glimpse.size is 500, and the widest patch"),
        ("tile", {"size": 500, "scales": 9}, "agent.glimpse.size is 500, and the widest patch 500"),
    ],
)
def test_a_glimpse_larger_than_anything_to_see_is_refused(attention, glimpse, message):
    with pytest.raises(UserError, match=message):
        make_agent(attention, **glimpse)
    widest = 4 * max(HIGH.shape[:2])
    make_agent(attention, size=widest, scales=1)
    with pytest.raises(UserError, match=rf"expected at most {widest}, for a view of"):
        make_agent(attention, size=widest + 1, scales=1)
