"""Implicit attention: what an agent's decisions hang on, read off their Jacobians.

Nobody told a recurrent agent where to look, and yet some cells matter to it more than others. How
much is told by the derivative of what it decides with respect to what its eyes make of each cell:
one map for the value and one for the policy (they differ; Wang et al. 2016, arXiv 1511.06581,
figure 2), and, through time, which earlier step a decision remembers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from groundling.agents.agent import Agent, AgentOutput, Rows
from groundling.agents.cores import CoreState
from groundling.agents.probe import Probe
from groundling.agents.sensors import Cells
from groundling.envs.errors import UserError

Decision = Callable[[Agent, AgentOutput], Tensor]
"""One number of each environment, [B], from an agent's outputs of [T, B] rows."""


def value(agent: Agent, output: AgentOutput) -> Tensor:
    """The baseline of the last row, [B]."""
    return output.baseline[-1]


def chosen_action(agent: Agent, output: AgentOutput) -> Tensor:
    """What the last row's policy prefers, [B]: the log-probability of the likeliest action (see
    `Actions.preference`)."""
    return agent.actions.preference(output.policy[-1])


def answer(probe: Probe, tokens: Tensor, words: Tensor) -> Decision:
    """The log-probability, after the last row, of `words` ([B] word ids) as a decoder's answers to
    questions, `tokens` [B, L], in nats. Here the gradient does pass the decoder's wall: nothing
    learns from it."""

    def decided(agent: Agent, output: AgentOutput) -> Tensor:
        belief = CoreState(output.core.hidden[-1], output.core.cell[-1]).belief
        return probe.log_probability(probe.standard(belief), tokens, words)

    return decided


def cells_of(agent: Agent, part: str) -> Cells:
    """The agent's sensor of a part of the observation.

    Raises:
        ValueError: the part is not made of cells.
    """
    sensor = agent.sensors.leaf(part) if part in agent.sensors.names else None
    if not isinstance(sensor, Cells):
        raise UserError(f"the observation has no {part!r} made of cells; expected a symbolic view")
    return sensor


def sensitivity(
    agent: Agent, rows: Rows, state: CoreState, decision: Decision, part: str = "view"
) -> Tensor:
    """How much a decision would change with each cell of each row.

    Args:
        agent: whose sensor of `part` reads cells.
        rows: [T, B, …]; the decision is made at the last one.
        state: before the first row, [B, core_size] each.
        decision: what is differentiated.
        part: of the observation.

    Returns:
        [T, B, V, W]: the norm of the decision's gradient with respect to a cell's embeddings. What
        lies before the beginning of the last row's episode gets exactly 0.

    Raises:
        ValueError: the part is not made of cells.
    """
    cells = cells_of(agent, part)
    size = cells.embeddings[0].embedding_dim
    shape = (*rows.observation[part].shape[:-1], int(size))  # type: ignore[arg-type]
    like = next(cells.parameters())
    nudges = [like.new_zeros(shape).requires_grad_() for _ in cells.embeddings]
    with torch.enable_grad(), _nudged(cells, nudges):
        made = decision(agent, agent.unroll(rows, state))
    gradients = torch.autograd.grad(made.sum(), nudges)
    norms: Tensor = torch.cat(gradients, dim=-1).norm(dim=-1)
    return norms


@contextmanager
def _nudged(cells: Cells, nudges: list[Tensor]) -> Iterator[None]:
    """While it lasts, what each channel's embedding gives is moved by a nudge."""

    def move(nudge: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda _, __, embedded: embedded + nudge

    handles = [
        table.register_forward_hook(move(nudge))
        for table, nudge in zip(cells.embeddings, nudges, strict=True)
    ]
    folds, cells.folds = cells.folds, False  # Folded, no cell is embedded by itself.
    try:
        yield
    finally:
        cells.folds = folds
        for handle in handles:
            handle.remove()


def remembered_steps(agent: Agent, rows: Rows, state: CoreState, decision: Decision) -> Tensor:
    """The share of a decision's sensitivity that each row has, [T, B]; the shares of an environment
    add up to 1 (to 0 where nothing matters)."""
    return shares_of_rows(sensitivity(agent, rows, state, decision))


def shares_of_rows(found: Tensor) -> Tensor:
    """`remembered_steps`, [T, B], of sensitivities that were found already, [T, B, V, W]."""
    of_rows: Tensor = found.flatten(2).norm(dim=-1)
    return of_rows / of_rows.sum(0).clamp(min=torch.finfo(of_rows.dtype).tiny)
