"""From words on the command line to the configuration of a run: `train` and `sweep` share it."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import tyro

from groundling.agents.config import PredictionConfig
from groundling.envs.errors import UserError
from groundling.envs.registration import find
from groundling.training.config import TrainConfig, from_json, to_json
from groundling.training.presets import FAMILIES, PRESETS, VARIANTS, preset


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """Trains an agent. The same command again resumes; Ctrl-C saves first."""

    run_dir: Path
    """Where the run lives."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]


def preset_name(command: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The preset, and the words after it. Asked for help without one, lists them all.

    Raises:
        UserError: there is no preset.
        SystemExit: after help.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: groundling {command} PRESET [--any.field value] [--config FILE]\n\npresets:")
        for name, make in PRESETS.items():
            print(f"  {name:25} {(make.__doc__ or '').splitlines()[0]}")
        for name, make in FAMILIES.items():
            print(f"\n{name}: {(make.__doc__ or '').splitlines()[0]}")
        print(f"\ngroundling {command} PRESET --help shows every field.")
        if arguments:
            raise SystemExit(0)
        raise UserError(f"{command} needs a preset; expected one of {', '.join(PRESETS)}")
    return arguments[0], list(arguments[1:])


def train_flags(name: str, words: Sequence[str], *, command: str = "train") -> TrainFlags:
    """What `groundling train NAME WORDS` would do.

    Args:
        name: of a preset.
        words: the flags, `--config FILE` and `--agent.prediction VARIANT` among them.
        command: that is being parsed for, as usage shows it.

    Raises:
        UserError: a value cannot be meant; names the field.
        SystemExit: a flag is unknown or malformed, or help was asked for.
    """
    config, rest = _with_config_file(preset(name), list(words))
    config, rest = _with_variant(config, rest)
    flags = tyro.cli(
        TrainFlags,
        prog=f"groundling {command} {name}",
        description=f"{TrainFlags.__doc__} Another --config FILE (JSON) changes the preset first, "
        "then --agent.prediction VARIANT all of the prediction.",
        default=TrainFlags(Path("runs") / name, config),
        args=rest,
        config=(tyro.conf.FlagConversionOff,),
    )
    _check_heeded(flags.settings, rest)
    return flags


def taken(words: Sequence[str], flag: str, expected: str) -> tuple[str | None, list[str]]:
    """The value of a flag (`--flag VALUE` or `--flag=VALUE`), and the words without it.

    Raises:
        UserError: it has no value.
    """
    for at, word in enumerate(words):
        if word == flag:
            if at + 1 == len(words):
                raise UserError(f"{flag} has no value; expected {expected}")
            return words[at + 1], [*words[:at], *words[at + 2 :]]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}="), [*words[:at], *words[at + 1 :]]
    return None, list(words)


def _with_config_file(config: TrainConfig, words: list[str]) -> tuple[TrainConfig, list[str]]:
    """Takes `--config FILE` out of the flags and lays the file's fields over the configuration."""
    name, rest = taken(words, "--config", "a JSON file")
    if name is None:
        return config, rest
    path = Path(name)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"--config {path} cannot be read ({error}); expected JSON") from error
    if isinstance(values, dict):
        values = values.get("config", values)  # a run's own config.json
    return from_json(_merged(to_json(config), values)), rest


def _with_variant(config: TrainConfig, words: list[str]) -> tuple[TrainConfig, list[str]]:
    """Takes `--agent.prediction VARIANT` out of the flags: the prediction of the presets' variant
    of that name, whatever it was before."""
    name, rest = taken(words, "--agent.prediction", "a variant such as simcore")
    if name is None:
        return config, rest
    if name not in VARIANTS:
        near = get_close_matches(name, VARIANTS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"agent.prediction is {name!r}; {hint}expected one of {', '.join(VARIANTS)}"
        )
    agent = dataclasses.replace(config.agent, prediction=PredictionConfig(**VARIANTS[name]))
    return dataclasses.replace(config, agent=agent), rest


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: _merged(base.get(key), value) for key, value in over.items()}


def _check_heeded(config: TrainConfig, rest: list[str]) -> None:
    """Raises UserError for a flag about the world that would come to nothing."""
    env, other = config.env, {"--env.id": "--env.rooms.task", "--env.rooms.task": "--env.id"}
    heeded = {"--env.id": env.id, "--env.rooms.task": env.rooms.task}
    for word, following in itertools.pairwise([*rest, ""]):
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
