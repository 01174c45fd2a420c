"""A loss of your own: a memory that changes no more than it must (Wiskott & Sejnowski 2002).

In this directory:

    groundling train demo --learner.losses loss:slowness 0.1 --run-dir runs/slow
"""

from torch import Tensor

from groundling.agents.agent import AgentOutput
from groundling.training.unroll import Unroll


def slowness(output: AgentOutput, unroll: Unroll) -> Tensor:
    """[T, B]: how far each step moves the hidden state; where an episode begins it may jump."""
    hidden = output.core.hidden
    moved = (hidden[1:] - hidden[:-1]).square().mean(-1)
    return moved.masked_fill(unroll.rows.is_first[1:], 0.0)
