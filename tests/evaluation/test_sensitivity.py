"""Jacobians against finite differences, and on agents whose attention is known."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from groundling.agents.agent import Agent, AgentOutput, Rows
from groundling.agents.config import AgentConfig
from groundling.agents.sensors import Cells
from groundling.evaluation.sensitivity import (
    chosen_action,
    remembered_steps,
    sensitivity,
    value,
)

T, B, V = 5, 3, 3
SPACE = spaces.Dict(
    {
        "view": spaces.Box(0, 4, (V, V, 2), np.uint8),
        "direction": spaces.Discrete(4),
    }
)
SIZES = AgentConfig(core_size=16, feature_size=12, sensor_size=20, embedding_size=4)


@pytest.fixture
def agent() -> Agent:
    return Agent(SPACE, spaces.Discrete(3), SIZES, seed=0).double().eval()


def rows(first: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(0)

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, high, shape, generator=generator)

    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[first] = True
    observation = {"direction": integers(4, T, B), "view": integers(5, T, B, V, V, 2)}
    return Rows(observation, is_first, integers(3, T, B), torch.randn(T, B, generator=generator))


@pytest.mark.parametrize("decision", [value, chosen_action])
def test_the_gradient_is_the_slope_of_the_decision(agent: Agent, decision) -> None:  # type: ignore[no-untyped-def]
    """The largest slope along any direction of a cell's embeddings is the gradient's norm: a step
    along the axes gives its parts, one by one."""
    read, state = rows(), agent.initial_state(B)
    found = sensitivity(agent, read, state, decision)
    assert found.shape == (T, B, V, V)
    cells = agent.sensors.leaf("view")
    assert isinstance(cells, Cells)
    step = 1e-6
    for t, row, column in ((0, 1, 2), (3, 0, 0), (4, 2, 1)):
        slopes = []
        for channel in range(2):
            for axis in range(4):

                def moved(by: float, table=cells.embeddings[channel], at=(t, row, column, axis)):  # type: ignore[no-untyped-def]
                    nudge = torch.zeros(T, B, V, V, 4, dtype=torch.float64)
                    nudge[at[0], :, at[1], at[2], at[3]] = by
                    handle = table.register_forward_hook(lambda _, __, out: out + nudge)
                    with torch.no_grad():
                        made = decision(agent, agent.unroll(read, state))
                    handle.remove()
                    return made

                slopes.append((moved(step) - moved(-step)) / (2 * step))
        expected = torch.stack(slopes).norm(dim=0)
        torch.testing.assert_close(found[t, :, row, column], expected, rtol=1e-5, atol=1e-9)


def test_a_value_that_depends_on_one_cell_looks_there_alone(agent: Agent) -> None:
    cells = agent.sensors.leaf("view")
    assert isinstance(cells, Cells)
    with torch.no_grad():
        read_by = cells.perceptron[0].weight.view(-1, V, V, 2 * 4)  # type: ignore[union-attr, operator]
        kept = read_by[:, 1, 2].clone()
        read_by.zero_()
        read_by[:, 1, 2] = kept
    found = sensitivity(agent, rows(), agent.initial_state(B), value)
    elsewhere = torch.ones(V, V, dtype=torch.bool)
    elsewhere[1, 2] = False
    assert (found[..., elsewhere] == 0).all()
    assert (found[-1, :, 1, 2] > 0).all()


def test_value_and_policy_look_at_different_things(agent: Agent) -> None:
    of_value = sensitivity(agent, rows(), agent.initial_state(B), value)
    of_policy = sensitivity(agent, rows(), agent.initial_state(B), chosen_action)
    assert not torch.allclose(of_value / of_value.sum(), of_policy / of_policy.sum())


def test_nothing_before_the_episode_is_remembered(agent: Agent) -> None:
    found = sensitivity(agent, rows(first=2), agent.initial_state(B), value)
    assert (found[:2] == 0).all()
    assert (found[2:].flatten(2).norm(dim=-1) > 0).all()


def test_a_core_that_keeps_its_first_row_remembers_that(agent: Agent) -> None:
    """Its write gates open where the previous reward is 1, and what was written then stays."""
    core = agent.core
    with torch.no_grad():
        core.from_hidden.weight.zero_()
        gates = core.from_input.weight.view(4, core.core_size, -1)
        gates[[0, 1, 3]] = 0
        gates[0, :, -1] = 60.0  # reward 1 opens, reward 0 leaves shut
        core.from_input.bias.view(4, -1)[0] = -30.0
        core.from_input.bias.view(4, -1)[1] = 30.0
    read = rows()
    read.previous_reward.zero_()
    read.previous_reward[2] = 1.0
    shares = remembered_steps(agent, read, agent.initial_state(B), value)
    assert shares.sum(0).tolist() == pytest.approx([1.0] * B)
    assert (shares[2] > 0.999).all()


def test_shares_of_the_rows_add_up(agent: Agent) -> None:
    shares = remembered_steps(agent, rows(), agent.initial_state(B), value)
    assert shares.sum(0).tolist() == pytest.approx([1.0] * B)
    assert (shares > 0).all()


def test_what_is_no_view_is_told(agent: Agent) -> None:
    for part in ("direction", "picture"):
        with pytest.raises(ValueError, match=f"no '{part}' made of cells"):
            sensitivity(agent, rows(), agent.initial_state(B), value, part)


def test_hooks_are_gone_even_after_a_failure(agent: Agent) -> None:
    def broken(agent: Agent, output: AgentOutput) -> torch.Tensor:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sensitivity(agent, rows(), agent.initial_state(B), broken)
    cells = agent.sensors.leaf("view")
    assert isinstance(cells, Cells)
    assert not any(table._forward_hooks for table in cells.embeddings)
