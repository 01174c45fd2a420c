"""Worlds, language about worlds, and adapters for anybody's environment.

Importing this registers the environments with Gymnasium and nothing more: the names below are
imported when they are first used, since the compiled kernels take a second to load.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from groundling.envs.registration import register_environments

if TYPE_CHECKING:
    from groundling.envs.digits.options import DigitsOptions as DigitsOptions
    from groundling.envs.digits.single import ClutteredDigitsEnv as ClutteredDigitsEnv
    from groundling.envs.digits.vector import ClutteredDigitsVectorEnv as ClutteredDigitsVectorEnv
    from groundling.envs.rooms.options import RoomsOptions as RoomsOptions
    from groundling.envs.rooms.single import RoomsEnv as RoomsEnv
    from groundling.envs.rooms.vector import RoomsVectorEnv as RoomsVectorEnv

_HOMES = {
    "ClutteredDigitsEnv": "groundling.envs.digits.single",
    "ClutteredDigitsVectorEnv": "groundling.envs.digits.vector",
    "DigitsOptions": "groundling.envs.digits.options",
    "RoomsEnv": "groundling.envs.rooms.single",
    "RoomsOptions": "groundling.envs.rooms.options",
    "RoomsVectorEnv": "groundling.envs.rooms.vector",
}

__all__ = [
    "ClutteredDigitsEnv",
    "ClutteredDigitsVectorEnv",
    "DigitsOptions",
    "RoomsEnv",
    "RoomsOptions",
    "RoomsVectorEnv",
]

register_environments()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
