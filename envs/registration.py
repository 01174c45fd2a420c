"""The environments that Gymnasium knows after `import groundling`, and how any other is found.

Entry points are strings, so that registering compiles nothing and imports no numba. No
`max_episode_steps`: Gymnasium would wrap single environments in a TimeLimit and hand the number to
the vector one's constructor; `episode_length` says the same to both.
"""

import difflib
import functools
import importlib
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec

from groundling.envs.digits.options import DIGITS
from groundling.envs.errors import UserError
from groundling.envs.faults import naming_faults
from groundling.envs.rooms.options import TASKS

MINIGRID = ("MiniGrid-", "BabyAI-")
"""Ids that begin so are of the optional package minigrid, and seen through `envs.minigrid`."""

PLUG_INS = "groundling.envs"
"""Entry-point group of installed distributions that bring environments: "module", whose import
registers them, or "module:callable", which is called to register them."""


def register_environments() -> None:
    """Make Gymnasium know the environments. Doing so twice is harmless."""
    for name, task in TASKS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="groundling.envs.rooms.single:RoomsEnv",
                vector_entry_point="groundling.envs.rooms.vector:RoomsVectorEnv",
                kwargs={"task": task},
            )
    if DIGITS not in gymnasium.registry:
        gymnasium.register(
            DIGITS,
            entry_point="groundling.envs.digits.single:ClutteredDigitsEnv",
            vector_entry_point="groundling.envs.digits.vector:ClutteredDigitsVectorEnv",
        )


def is_ours(name: str) -> bool:
    """Whether an id is one of this package's own worlds."""
    return name.rpartition(":")[2].startswith("Groundling/")


def find(name: str) -> EnvSpec | Callable[..., Any]:
    """What an id stands for.

    Args:
        name: `Namespace/Name-v0`, known to Gymnasium; `module:Name-v0`, known to Gymnasium or, as
            a parallel environment, to PettingZoo (`pettingzoo:sisl/pursuit_v5`) once the
            module is imported; or `module:callable`, which makes an environment of either kind
            (`pettingzoo.butterfly.pistonball_v6:parallel_env`). An id that nobody knows is looked
            for among the plug-ins.

    Returns:
        Gymnasium's specification, or something that makes the environment from keywords.

    Raises:
        UserError: nobody knows it; names the nearest, and plug-ins that could not be loaded.
    """
    module, _, known = name.rpartition(":")
    home = _imported(module, name) if module else None
    if known.startswith(MINIGRID):
        importlib.import_module("groundling.envs.minigrid")  # which registers them
    found = _known(known, home)
    if found is None:
        broken = [one.fault for one in plug_ins() if one.fault]
        found = _known(known, home)
        if found is None:
            raise UserError("; ".join([_unknown(name, module, known), *broken]))
    return found


def _imported(module: str, name: str) -> ModuleType:
    with naming_faults(name, "import"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # It is there, and misses something of its own.
            raise UserError(f"env.id {name!r} is unknown; {_missing(module, error)}") from error


def _missing(module: str, error: ModuleNotFoundError) -> str:
    if module.partition(".")[0] == "minigrid":
        return 'expected minigrid to be installed: pip install "groundling[minigrid]"'
    return f"expected a registered id or module:Id ({error})"


def _known(known: str, home: ModuleType | None) -> EnvSpec | Callable[..., Any] | None:
    if known in gymnasium.registry:
        return gymnasium.spec(known)
    if _normal(known) in parallel_ids():
        return functools.partial(sys.modules["pettingzoo"].make, "parallel", known)
    made_by = getattr(home, known, None) if known.isidentifier() else None
    return made_by if callable(made_by) else None


def _normal(known: str) -> str:
    """`simple_spread_v3`, the name of a module of PettingZoo's, as its id `simple_spread-v3`."""
    return re.sub(r"_v(\d+)$", r"-v\1", known)


def parallel_ids() -> list[str]:
    """The parallel environments that PettingZoo knows, if anybody has imported it so far."""
    pettingzoo = sys.modules.get("pettingzoo")
    return list(getattr(pettingzoo, "parallel_registry", ()))


def _unknown(name: str, module: str, known: str) -> str:
    ids = [*gymnasium.registry, *parallel_ids()]
    near = difflib.get_close_matches(known, ids, n=1) or difflib.get_close_matches(name, ids, n=1)
    hint = "expected a registered id or module:Id"
    if near:
        outside = module and near[0] not in gymnasium.registry
        hint = f"did you mean {module + ':' if outside else ''}{near[0]}?"
    return f"env.id {name!r} is unknown; {hint}"


class PlugIn(NamedTuple):
    """An installed distribution's entry point in the group `groundling.envs`."""

    name: str
    ids: tuple[str, ...]
    """What it registered with Gymnasium, or as parallel with PettingZoo."""
    fault: str | None
    """Why it could not be loaded, or None."""


@functools.cache
def plug_ins() -> tuple[PlugIn, ...]:
    """Load every plug-in, once. One that fails keeps the others from nothing."""
    loaded = []
    for entry in entry_points(group=PLUG_INS):
        before = {*gymnasium.registry, *parallel_ids()}
        fault = None
        try:
            with naming_faults(entry.name, "import", kind="plug-in"):
                registers = entry.load()
                if entry.attr:
                    registers()
        except UserError as error:
            fault = str(error)
        ids = (one for one in [*gymnasium.registry, *parallel_ids()] if one not in before)
        loaded.append(PlugIn(entry.name, tuple(ids), fault))
    return tuple(loaded)
