"""Parts of a user's own, named as `module:name` in the configuration.

The module is imported as Python finds it: an installed one, or, from the command line, a file of
the current directory.
"""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from groundling.agents.config import AgentConfig
from groundling.envs.errors import UserError


def load_named(field: str, reference: str) -> Any:
    """What `module:name` stands for.

    Args:
        field: of the configuration, for the message.
        reference: as the user wrote it.

    Raises:
        UserError: it is not of that form, there is no such module, or nothing of that name in it.
            An error inside the module keeps its traceback.
    """
    module, _, name = reference.partition(":")
    if not module or not name:
        raise UserError(f"{field} names {reference!r}; expected module:name")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # The module is there; one that it imports is not.
        raise UserError(
            f"{field} names {reference!r}, but there is no module {error.name!r}; expected an "
            "installed one, or a file of the current directory"
        ) from error
    if not hasattr(loaded, name):
        near = difflib.get_close_matches(name, dir(loaded), n=1)
        hint = f"; did you mean {near[0]}?" if near else "; expected one that is there"
        raise UserError(f"{field} names {reference!r}, but {module} has no {name!r}{hint}")
    return getattr(loaded, name)


def known_names(field: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises UserError if a name that was given is not known."""
    known = tuple(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise UserError(f"{field} has {name!r}; {hint}")


def own_sensor(name: str, space: gymnasium.Space[Any], config: AgentConfig) -> nn.Module:
    """The user's own sensor of a leaf, called with its space and the configuration.

    It is a module with a `size` that maps [..., *leaf shape], as the environment gives it, to
    [..., size] floats, whatever the leading dimensions: a function of what it reads, with nothing
    drawn on the way. It is tried once.

    Raises:
        UserError: it is no such module.
    """
    reference = config.sensors[name]
    field = f"agent.sensors {name}"
    make = load_named(field, reference)
    if not callable(make):
        raise UserError(f"{field} names {reference!r}, which is {make!r}; expected a class")
    sensor = make(space, config)
    if not isinstance(sensor, nn.Module):
        kind = type(sensor).__name__
        raise UserError(f"{field}: {reference} makes a {kind}; expected a torch.nn.Module")
    size = getattr(sensor, "size", None)
    if not isinstance(size, int) or size < 1:
        raise UserError(f"{field}: {reference} has size {size!r}; expected the number of outputs")
    example = torch.from_numpy(np.array(_example(space)))
    with torch.no_grad():
        given = sensor(example.expand(2, 3, *example.shape))
    wanted = (2, 3, size)
    shape = tuple(getattr(given, "shape", ()))
    if not isinstance(given, torch.Tensor) or shape != wanted or not given.is_floating_point():
        told = f"{given.dtype} {shape}" if isinstance(given, torch.Tensor) else type(given).__name__
        raise UserError(
            f"{field}: {reference} makes {told} of {(2, 3, *example.shape)}; expected floats "
            f"{wanted}, as its size says"
        )
    return sensor


def _example(space: gymnasium.Space[Any]) -> Any:
    """An element of a leaf space: the one nearest to 0."""
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape, np.int8)
    assert isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    return space.start
