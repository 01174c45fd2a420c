"""A directory of runs that belong together: what they may all use is written down once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundling.envs.errors import UserError
from groundling.training.run import write_text


def begin(directory: Path, what: str, given: Mapping[str, Any]) -> None:
    """Writes down what the runs of a directory have in common, or refuses to mix them with others.

    Args:
        directory: made if it is not there.
        what: is done here: `study`, `sweep`; the file is `WHAT.json`.
        given: plain values by the names of their flags.

    Raises:
        UserError: the directory holds runs that were begun with other values, or cannot be written.
    """
    file = directory / f"{what}.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if any(directory.glob("*/config.json")):
                raise UserError(
                    f"--directory {directory} holds runs that no {what} began; expected a "
                    f"{what}'s, or a new one"
                )
            write_text(file, json.dumps(given) + "\n")
        begun = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"--directory {directory} cannot be used ({error}); expected one you may write to"
        ) from error
    # As JSON has them: a tuple comes back as a list.
    now_given = json.loads(json.dumps(given))
    for name in now_given | begun:
        now, then = (values.get(name) for values in (now_given, begun))
        if now != then:
            is_now = "not given" if now is None else now
            was_then = "without" if then is None else f"with {then}"
            raise UserError(
                f"--{name.replace('_', '-')} is {is_now}, but {directory} was begun {was_then}; "
                "expected the same, or another --directory"
            )
