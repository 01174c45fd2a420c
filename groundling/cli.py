"""The command line: parse, build, call.

Each command is a function whose arguments are its flags. Torch and numba are imported inside the
commands, so that help is there at once.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from groundling import __version__
from groundling.envs.errors import UserError
from groundling.training.config import EnvironmentConfig, TrainConfig, from_json, to_json
from groundling.training.errors import Interrupted, NonFiniteLoss
from groundling.training.presets import FAMILIES, PRESETS, preset

DIVERGED, USER_ERROR, STOPPED = 1, 2, 130


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
    from groundling.training.loop import train as train_in_process

    run = train_in_process(flags.settings, flags.run_dir)
    print(f"trained: {run.path}  (next: groundling probe {run.path})")


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


def probe(
    run: tyro.conf.Positional[Path],
    /,
    quick: bool = False,
    json: bool = False,
    walker: Literal["explorer", "agent"] = "explorer",
    decoder: Literal["mlp", "lstm"] = "mlp",
    rooms: int | None = None,
    frames: int | None = None,
    controls: bool = True,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Ask a frozen agent what it remembers, beside controls that remember nothing.

    Args:
        run: The run directory.
        quick: Fewer rooms: a look, not the protocol.
        json: Print the results as JSON.
        walker: Who chooses the path through the rooms.
        decoder: What reads the belief: a perceptron, or the paper's LSTM.
        rooms: Rooms to fit the decoder on (default: the protocol's 30,000).
        frames: The snapshot after so many frames instead of the latest checkpoint.
        controls: Whether the untrained agent and the question alone are asked too.
        seed: Of the decoder.
        device: Where to compute.
    """
    from groundling.evaluation.examples import QUICK, ProbeSettings
    from groundling.evaluation.probing import probe_run
    from groundling.training.run import RunDirectory

    settings = dataclasses.replace(
        QUICK if quick else ProbeSettings(),
        walker=walker,
        decoder=decoder,
        controls=controls,
        seed=seed,
    )
    if rooms is not None:
        settings = dataclasses.replace(settings, rooms=rooms)
    results = probe_run(run, settings, frames=frames, device=device)
    if json:
        _print_json(results)
    else:
        _print_probe(results)
        print(f"written: {RunDirectory(run).results(frames)}")


def evaluate(
    run: tyro.conf.Positional[Path],
    /,
    episodes: int = 512,
    snapshots: bool = False,
    json: bool = False,
    device: str = "cpu",
) -> None:
    """Measure an agent's return beside a random policy and the scripted explorer.

    Args:
        run: The run directory.
        episodes: How many episodes each policy plays.
        snapshots: Measure the agent at every snapshot, too (see train --snapshot-every).
        json: Print the results as JSON.
        device: Where to compute.
    """
    from groundling.evaluation.episodes import evaluate as evaluate_run

    if episodes < 2:
        raise UserError(f"--episodes is {episodes}; expected at least 2")
    results = evaluate_run(run, episodes=episodes, snapshots=snapshots, device=device)
    if json:
        _print_json(results)
        return
    earlier = results["snapshots"].items()
    scores = results["returns"] | {f"agent at {int(at):,} frames": score for at, score in earlier}
    rows = [
        [name, f"{score['mean']:.2f}", f"{score['standard_error']:.2f}"]
        for name, score in scores.items()
    ]
    _print_table(["policy", "mean return", "standard error"], rows)


def foresee(
    run: tyro.conf.Positional[Path],
    /,
    rooms: int = 512,
    walker: Literal["explorer", "agent"] = "explorer",
    json: bool = False,
    device: str = "cpu",
) -> None:
    """Measure how well an agent's simulator predicts, and how much of that takes memory.

    Args:
        run: The run directory, trained with SimCore.
        rooms: Rooms to walk through.
        walker: Who chooses the path: the scripted explorer (the same for all agents), or the agent.
        json: Print the results as JSON.
        device: Where to compute.
    """
    from groundling.evaluation.foresight import measure_foresight

    if rooms < 1:
        raise UserError(f"--rooms is {rooms}; expected at least 1")
    results = measure_foresight(run, rooms=rooms, walker=walker, device=device)
    if json:
        _print_json(results)
        return
    names = ("share", "model", "copy", "marginal", "what", "colour")
    rows = [
        [steps, kind, *(f"{scores[name]:.2f}" if name in scores else "" for name in names)]
        for steps, kinds in results["horizons"].items()
        for kind, scores in kinds.items()
    ]
    _print_table(["steps ahead", "cell", *names], rows)


def report(run: tyro.conf.Positional[Path], /) -> None:
    """Write report.html: curves, tables, a film, every setting.

    Args:
        run: The run directory.
    """
    from groundling.evaluation.report import write_report

    print(f"written: {write_report(run)}")


def watch(
    source: tyro.conf.Positional[str],
    /,
    gif: Path,
    steps: int = 64,
    seed: int = 0,
    imagine: bool = False,
) -> None:
    """Film an environment, or a trained agent and what it answers.

    Args:
        source: A run directory, or the id of an environment.
        gif: The file to write.
        steps: Length of the film.
        seed: Which room.
        imagine: Draw what the agent's simulator had expected to see (a run with SimCore).
    """
    from groundling.evaluation.film import film_environment, film_run

    if steps < 1:
        raise UserError(f"--steps is {steps}; expected at least 1")
    if Path(source).is_dir():
        print(f"written: {film_run(source, gif, steps=steps, seed=seed, imagine=imagine)}")
    else:
        config = EnvironmentConfig(id=source)
        print(f"written: {film_environment(config, gif, steps=steps, seed=seed)}")


def envs() -> None:
    """List the environments and what can be chosen about them."""
    import gymnasium

    from groundling.envs.rooms.options import RoomsOptions

    ours = [name for name in gymnasium.registry if name.startswith("Groundling/")]
    _print_table(["id", "make with"], [[name, f'gymnasium.make("{name}")'] for name in ours])
    fields = [[field.name, str(field.default)] for field in dataclasses.fields(RoomsOptions)]
    _print_table(["keyword", "default"], fields)
    print("groundling train demo --help explains each as --env.rooms.KEYWORD")


def bench(
    what: tyro.conf.Positional[Literal["env"]] = "env",
    /,
    num_envs: int = 64,
    seconds: float = 3.0,
    size: int = 5,
    view_size: int = 7,
    json: bool = False,
) -> None:
    """Measure steps per second on this machine.

    Args:
        what: What to measure: the environment under random actions.
        num_envs: Rooms stepped together.
        seconds: For how long.
        size: Interior side length of the room.
        view_size: Side length of the view.
        json: Print the result as JSON.
    """
    from groundling.envs.rooms.options import RoomsOptions
    from groundling.evaluation.throughput import environment_steps_per_second

    rooms = RoomsOptions(size=size, view_size=view_size)
    rate = environment_steps_per_second(rooms, num_envs=num_envs, seconds=seconds)
    if json:
        _print_json({"num_envs": num_envs, "steps_per_second": rate})
    else:
        print(f"{rate:,.0f} steps/s with {num_envs} rooms at once")


def doctor() -> None:
    """Say what is installed, what the machine has, and what to fix."""
    from groundling.evaluation.doctor import examine

    findings = examine()
    _print_table(["what", "found", "advice"], [list(finding) for finding in findings])


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "probe": probe,
    "evaluate": evaluate,
    "foresee": foresee,
    "report": report,
    "watch": watch,
    "envs": envs,
    "bench": bench,
    "doctor": doctor,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Exit codes: 0 done, 1 training diverged, 2 a user's mistake, 130 stopped by Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Threads that spin while they wait slow each other down a hundredfold on a busy machine. Read
    # when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        _dispatch(arguments)
    except UserError as error:
        print(f"groundling: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except NonFiniteLoss as error:
        print(f"groundling: {error}", file=sys.stderr)
        raise SystemExit(DIVERGED) from None
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


def _print_json(results: Any) -> None:
    print(json.dumps(results, indent=2))


def _print_probe(results: dict[str, Any]) -> None:
    scores = results["rows"]
    rows = [
        [kind.replace("_", " "), *(f"{scores[name][kind]['answerable']:.2f}" for name in scores)]
        for kind in scores["agent"]
    ]
    _print_table(["answerable questions", *scores], rows)


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)


if __name__ == "__main__":
    main()
