"""The command line: find the command, parse, call, and turn a mistake into one line.

Training's flags are its configuration; the other commands are functions in `commands.py`.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import tyro

from groundling import __version__, commands
from groundling.envs.errors import UserError
from groundling.envs.registration import find
from groundling.training.config import TrainConfig, from_json, to_json
from groundling.training.errors import Interrupted, LearnerLost, NonFiniteLoss
from groundling.training.presets import FAMILIES, PRESETS, preset

FAILED, USER_ERROR, STOPPED = 1, 2, 130


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """Trains an agent. The same command again resumes; Ctrl-C saves first."""

    run_dir: Path
    """Where the run lives."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]


def train(arguments: Sequence[str]) -> None:
    """Train an agent: groundling train PRESET [--any.field value]."""
    name, rest = _preset_name(arguments)
    config, rest = _with_config_file(preset(name), rest)
    flags = tyro.cli(
        TrainFlags,
        prog=f"groundling train {name}",
        description=f"{TrainFlags.__doc__} Another --config FILE (JSON) changes the preset first.",
        default=TrainFlags(Path("runs") / name, config),
        args=rest,
        config=(tyro.conf.FlagConversionOff,),
    )
    _check_heeded(flags.settings, rest)
    from groundling.training.loop import train as train_run

    run = train_run(flags.settings, flags.run_dir)
    print(f"trained: {run.path}  (next: groundling probe {run.path})")


def _check_heeded(config: TrainConfig, rest: list[str]) -> None:
    """Raises UserError for a flag about the world that would come to nothing."""
    env, other = config.env, {"--env.id": "--env.rooms.task", "--env.rooms.task": "--env.id"}
    heeded = {"--env.id": env.id, "--env.rooms.task": env.rooms.task}
    for word, following in zip(rest, [*rest[1:], ""], strict=True):
        flag, _, value = word.partition("=")
        value = value or following
        if flag.startswith("--env.rooms.") and not env.is_rooms:
            find(env.id)  # An id that nobody knows has no options either.
            raise UserError(f"{flag} says nothing of {env.id}; expected --env.options KEY {value}")
        if heeded.get(flag, value) != value:
            raise UserError(
                f"{flag} is {value}, but {other[flag]} is {heeded[other[flag]]}; "
                "expected both to name the same task"
            )


def _preset_name(arguments: Sequence[str]) -> tuple[str, list[str]]:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: groundling train PRESET [--any.field value] [--config FILE]\n\npresets:")
        for name, make in PRESETS.items():
            print(f"  {name:25} {(make.__doc__ or '').splitlines()[0]}")
        for name, make in FAMILIES.items():
            print(f"\n{name}: {(make.__doc__ or '').splitlines()[0]}")
        print("\ngroundling train PRESET --help shows every field.")
        if arguments:
            raise SystemExit(0)
        raise UserError(f"train needs a preset; expected one of {', '.join(PRESETS)}")
    return arguments[0], list(arguments[1:])


def _with_config_file(config: TrainConfig, rest: list[str]) -> tuple[TrainConfig, list[str]]:
    """Takes `--config FILE` out of the flags and lays the file's fields over the configuration."""
    if "--config" not in rest:
        return config, rest
    at = rest.index("--config")
    if at + 1 == len(rest):
        raise UserError("--config has no value; expected a JSON file")
    path = Path(rest[at + 1])
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"--config {path} cannot be read ({error}); expected JSON") from error
    if isinstance(values, dict):
        values = values.get("config", values)  # a run's own config.json
    return from_json(_merged(to_json(config), values)), rest[:at] + rest[at + 2 :]


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: _merged(base.get(key), value) for key, value in over.items()}


COMMANDS: dict[str, Callable[..., None]] = {"train": train} | commands.COMMANDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Exit codes: 0 done, 1 training diverged or lost a learner, 2 a user's mistake, 130 stopped by
    Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Threads that spin while they wait slow each other down a hundredfold on a busy machine. Read
    # when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Files of the current directory can be named (`module:Id`), as after `python -m`; last, so that
    # none of them hides an installed module.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        _dispatch(arguments)
    except UserError as error:
        print(f"groundling: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except NonFiniteLoss as error:
        print(f"groundling: {error}", file=sys.stderr)
        raise SystemExit(FAILED) from None
    except LearnerLost as error:
        print(f"groundling: {error}; the same command goes on", file=sys.stderr)
        raise SystemExit(FAILED) from None
    except Interrupted as error:
        print(f"groundling: {error}; the same command goes on", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    except KeyboardInterrupt:
        print("groundling: stopped", file=sys.stderr)
        raise SystemExit(STOPPED) from None


def _dispatch(arguments: list[str]) -> None:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(f"{_usage()}\n\n{_commands()}\n\ngroundling COMMAND --help explains each.")
        return
    if name == "--version":
        print(__version__)
        return
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown command {name!r}; {hint}expected one of {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    if command is train:
        train(arguments[1:])
    else:
        tyro.cli(command, prog=f"groundling {name}", args=arguments[1:])


def _usage() -> str:
    return "usage: groundling COMMAND ..."


def _commands() -> str:
    return "\n".join(
        f"  {name:10} {(command.__doc__ or '').splitlines()[0]}"
        for name, command in COMMANDS.items()
    )
