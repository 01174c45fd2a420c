"""Whether an environment is fit to train in: what was found about it, check by check."""

import contextlib
import io
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from groundling.envs import checks
from groundling.envs.adapters import Environment
from groundling.envs.checks import Nothing, Subject, Wrong
from groundling.envs.errors import UserError


class Finding(NamedTuple):
    """What one check found."""

    what: str
    passed: bool | None
    """None: there is nothing to pass."""
    found: str
    advice: str
    """What to do about it, if it did not pass."""
    notes: tuple[str, ...]
    """What was warned of on the way."""


def check_environment(
    name: str, options: dict[str, Any], suits_agent: Callable[[Environment], str]
) -> list[Finding]:
    """Everything that can be found out about an environment, in the order of the table.

    Args:
        name: its id, see `registration.find`.
        options: its keyword arguments.
        suits_agent: says what an agent senses and does there; raises UserError if it cannot.

    Raises:
        UserError: nobody knows the id.
    """
    subject = Subject(name, options)
    made = _finding("made", _of(checks.made_in, subject), "mend what is raised where it says")
    if not made.passed:
        return [made]
    rest = (
        (
            "interface",
            checks.interface,
            "gymnasium.farama.org/introduction/create_custom_env, or for several agents "
            "pettingzoo.farama.org/api/parallel",
        ),
        (
            "spaces",
            lambda subject: suits_agent(subject.batch(2)),
            "declare what reset and step return",
        ),
        (
            "same seed, same episodes",
            checks.determinism,
            "draw from self.np_random, which reset(seed=...) seeds, and nowhere else",
        ),
        (
            "autoreset",
            checks.autoreset,
            'metadata["autoreset_mode"] must say how step resets; see AutoresetMode in '
            "gymnasium.farama.org/api/vector",
        ),
        ("own observations", checks.fresh_buffers, "return a copy: observation.copy()"),
        ("questions", checks.questions, "see QuestionSource in groundling.envs.questions"),
        ("speed", checks.speed, ""),
    )
    return [made, *(_finding(what, _of(check, subject), advice) for what, check, advice in rest)]


def _of(check: Callable[[Subject], str], subject: Subject) -> Callable[[], str]:
    def closing() -> str:
        try:
            return check(subject)
        finally:
            subject.close()

    return closing


def _finding(what: str, check: Callable[[], str], advice: str) -> Finding:
    """Runs one check. Whatever it raises is what it found, warnings are notes."""
    passed: bool | None = True
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            found = check()
        except Nothing as nothing:
            passed, found = None, str(nothing)
        except (Wrong, UserError, AssertionError) as error:
            passed, found = False, str(error) or type(error).__name__
        except Exception as error:  # A checker of somebody else's raises whatever it likes.
            passed, found = False, f"{type(error).__name__}: {error}"
    notes = dict.fromkeys(_line(str(warning.message)) for warning in caught)
    return Finding(what, passed, _line(found), "" if passed is not False else advice, tuple(notes))


def _line(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[\d+m|WARN: ", "", text).split())
