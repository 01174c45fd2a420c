"""Losses of a user's own: functions `loss(output, unroll)`, named in `LearnerConfig.losses`.

Such a function is pure: of an `AgentOutput` ([T + 1, B]) and the `Unroll` that it was read from it
makes a number for each step or row, [T, B] or [T + 1, B], or an average of fewer dimensions. What
it says of rows in which nobody is is left out; an average must leave them out itself.

With several learners each calls it with environments of its own, B of them. Of numbers for each
step or row the loss is the mean over all environments, whoever has them; averages are averaged over
the learners.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from groundling.agents.agent import AgentOutput
from groundling.agents.losses import Mean, mean_where
from groundling.agents.plugins import load_named
from groundling.envs.errors import UserError
from groundling.training.unroll import Unroll

OwnLoss = Callable[[AgentOutput, Unroll], Tensor]
FIELD = "learner.losses"


def load_losses(references: Iterable[str], taken: Iterable[str]) -> dict[str, OwnLoss]:
    """The functions by their own names, under which metrics show them.

    Args:
        references: `module:function`.
        taken: names of losses that the learner has already.

    Raises:
        UserError: there is no such function, or another loss of its name.
    """
    losses: dict[str, OwnLoss] = {}
    for reference in references:
        function = load_named(FIELD, reference)
        if not callable(function):
            raise UserError(
                f"{FIELD} names {reference!r}, which is {function!r}; expected a function"
            )
        name = reference.partition(":")[2]
        if name in losses or name in taken:
            raise UserError(
                f"{FIELD} names {reference!r}, but there is another loss named {name!r}; expected "
                f"a name beside {', '.join([*taken, *losses])}"
            )
        losses[name] = function
    return losses


def own_loss(
    name: str, function: OwnLoss, output: AgentOutput, unroll: Unroll, absent: Tensor | None
) -> Mean:
    """The mean.

    Args:
        name: for the message.
        function: gives it.
        output: of the agent, [T + 1, B].
        unroll: that it was read from.
        absent: [T + 1, B] bool: rows that are left out; None if none is.

    Raises:
        UserError: it is no tensor of floats of a known shape.
    """
    values = function(output, unroll)
    rows, batch = unroll.rows.is_first.shape
    shape = tuple(getattr(values, "shape", ()))
    of_each = shape in ((rows - 1, batch), (rows, batch))
    if not isinstance(values, Tensor) or not (of_each or len(shape) < 2):
        told = f"a tensor of shape {shape}" if isinstance(values, Tensor) else repr(values)[:40]
        raise UserError(
            f"{FIELD}: {name} gives {told}; expected a tensor of shape {(rows - 1, batch)} or "
            f"{(rows, batch)}, or their mean"
        )
    if not torch.is_floating_point(values):
        raise UserError(f"{FIELD}: {name} gives {values.dtype}; expected floats")
    present = ~absent[: len(values)] if of_each and absent is not None else None
    return mean_where(values, present)
