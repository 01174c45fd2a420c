"""A grid of flags of `train`: every combination of their values, read by the same parser."""

import itertools
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from groundling.envs.errors import UserError
from groundling.settings import train_flags
from groundling.training.config import TrainConfig, to_json

if TYPE_CHECKING:
    from groundling.evaluation.sweeps import Point


def grid_points(preset: str, grid: Sequence[str], rest: Sequence[str]) -> list["Point"]:
    """Every combination of a grid's values, checked by the parser of `train`.

    Args:
        preset: that is changed.
        grid: FIELD=VALUE,VALUE,... each.
        rest: flags of `train` that all have in common.

    Raises:
        UserError: a field is unknown or named twice, or two points are the same; names it.
        SystemExit: a value is malformed.
    """
    axes = [parsed(one) for one in grid]
    names = [field for field, _ in axes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--grid names {twice[0]} twice; expected all of its values at once")
    from groundling.evaluation.sweeps import Point

    points: list[Point] = []
    for values in itertools.product(*(values for _, values in axes)):
        words = list(rest)
        for name, value in zip(names, values, strict=True):
            words += [f"--{name}", *value.split()]
        config = train_flags(preset, words, command="sweep").settings
        point = Point(_name(names, values) or preset, tuple(words), config)
        for other in points:
            if point.config == other.config or point.name == other.name:
                raise UserError(
                    f"--grid has {other.name} and {point.name}, which are the same; expected "
                    "different values"
                )
        points.append(point)
    return points


def parsed(one: str) -> tuple[str, list[str]]:
    """The field and the values of FIELD=VALUE,VALUE,...

    Raises:
        UserError: there is no such field; names the nearest.
    """
    name, _, listed = one.partition("=")
    field = dashed(name)
    values = [value.strip() for value in listed.split(",")]
    if not field or not all(values):
        raise UserError(f"--grid is {one!r}; expected FIELD=VALUE,VALUE,...")
    known = _fields()
    # An environment's options, and the weights of one's own losses, have names of their own.
    free = field.rpartition(".")[0] in ("env.options", "agent.sensors", "learner.losses")
    if field in ("seed", "run-dir"):
        raise UserError(f"--grid names {field}; expected --seeds N for several seeds")
    if field not in known and not free:
        near = get_close_matches(field, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "expected a flag of train"
        raise UserError(f"--grid names {field}, which is no field; {hint}")
    return field, values


def dashed(name: str) -> str:
    """As the command line has it: an underscore in the end stays."""
    return re.sub(r"_(?=\w)", "-", name)


def _fields() -> list[str]:
    """Flags of train, without the dashes before them."""

    def leaves(values: dict[str, object], prefix: str = "") -> list[str]:
        found = []
        for key, value in values.items():
            name = prefix + dashed(key)
            found += leaves(value, f"{name}.") if isinstance(value, dict) and value else [name]
        return found

    return [*leaves(to_json(TrainConfig())), "agent.prediction"]


def _name(names: Sequence[str], values: Sequence[str]) -> str:
    """Of a point, for its directories: its values; a number, or a value of several fields, with the
    name of its own."""
    parts = []
    for name, value in zip(names, values, strict=True):
        short = re.sub(r"[^\w.+-]+", "_", value)
        is_word = bool(re.match(r"[A-Za-z]", value)) and value not in ("True", "False")
        last = name.rpartition(".")[2]
        parts.append(short if is_word and list(values).count(value) == 1 else f"{last}-{short}")
    return "-".join(parts)


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Flags without their dashes, and what stands behind them; of several the last one counts."""
    found: dict[str, str] = {}
    for word in words:
        if word.startswith("--"):
            flag, _, value = word.removeprefix("--").partition("=")
            found.pop(flag, None)
            found[flag] = value
        elif found:
            last = next(reversed(found))
            found[last] = f"{found[last]} {word}".strip()
    return found
