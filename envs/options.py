"""What the options of all our worlds have in common: keywords, and how a wrong one is refused.

Light to import: the command line builds its help from options.
"""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, NoReturn, Self

from groundling.envs.errors import UserError


class Options:
    """A frozen dataclass whose fields a user may choose; each is checked when it is made."""

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Self:
        """Build options from keyword arguments, as `gymnasium.make` passes them on.

        Raises ValueError for a keyword that is no option, naming the nearest one.
        """
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # its subclasses
        for name in keywords:
            if name not in known:
                nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
                expected = f"one of {', '.join(known)} (did you mean {nearest}?)"
                raise UserError(f"unknown option {name!r}, expected {expected}")
        return cls(**keywords)


def refuse(name: str, value: object, expected: str) -> NoReturn:
    """Raise ValueError for the value of an option."""
    raise UserError(f"{name}={value!r}, expected {expected}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        refuse(name, value, f"one of {', '.join(choices)}")


def check_integer(name: str, value: object, low: int, high: int, where: str = "") -> None:
    """Refuse what is no integer from `low` to `high`; `where` says why these."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        refuse(name, value, f"an integer from {low} to {high}{where}")
