"""The command line: find the command, parse, call, and turn a mistake into one line.

The flags of training (`settings.py`), of sweeps (`sweep.py`) and of its timing (`bench.py`) are
configurations; the other commands are functions in `commands.py`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches

import tyro

from groundling import __version__, commands
from groundling.bench import bench
from groundling.envs.errors import UserError
from groundling.settings import preset_name, train_flags
from groundling.sweep import sweep
from groundling.training.errors import Interrupted, LearnerLost, NonFiniteLoss
from groundling.training.memory import keep_freed_memory

FAILED, USER_ERROR, STOPPED = 1, 2, 130


def train(arguments: Sequence[str]) -> None:
    """Train an agent: groundling train PRESET [--any.field value]."""
    name, words = preset_name("train", arguments)
    flags = train_flags(name, words)
    from groundling.training.loop import train as train_run

    run = train_run(flags.settings, flags.run_dir)
    print(f"trained: {run.path}  (next: groundling probe {run.path})")


WITH_PRESETS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "sweep": sweep,
    "bench": bench,
}
"""Commands whose flags are a configuration."""

COMMANDS: dict[str, Callable[..., None]] = WITH_PRESETS | commands.COMMANDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Exit codes: 0 done, 1 training diverged or lost a learner, or a run of a sweep failed, 2 a
    user's mistake, 130 stopped by Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Threads that spin while they wait slow each other down a hundredfold on a busy machine. Read
    # when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
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
    if name in WITH_PRESETS:
        WITH_PRESETS[name](arguments[1:])
    else:
        tyro.cli(COMMANDS[name], prog=f"groundling {name}", args=arguments[1:])


def _usage() -> str:
    return "usage: groundling COMMAND ..."


def _commands() -> str:
    return "\n".join(
        f"  {name:10} {(command.__doc__ or '').splitlines()[0]}"
        for name, command in COMMANDS.items()
    )
