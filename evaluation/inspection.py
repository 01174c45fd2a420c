"""Looking inside a frozen agent: which analyses there are, and where what they find is kept."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from groundling.envs.errors import UserError
from groundling.evaluation.attention import inspect_attention
from groundling.evaluation.finding import Finding, read_finding, write_finding
from groundling.evaluation.gaze import inspect_gaze
from groundling.evaluation.intervention import check_can_change, inspect_cause
from groundling.evaluation.minds_eye import inspect_map
from groundling.evaluation.states import find_tsne, inspect_states
from groundling.training.config import TrainConfig
from groundling.training.run import RunDirectory

Part = Literal["map", "gaze", "attention", "states", "cause"]

PARTS: tuple[Part, ...] = get_args(Part)
"""In the order in which they are made and shown."""

_INSPECT: Mapping[Part, Callable[..., Finding]] = {
    "map": inspect_map,
    "gaze": inspect_gaze,
    "attention": inspect_attention,
    "states": inspect_states,
    "cause": inspect_cause,
}


def inspect_run(
    run_dir: Path | str,
    parts: Sequence[Part] = (),
    *,
    device: str = "cpu",
    show_progress: bool = True,
) -> dict[Part, Finding]:
    """Analyses a run's frozen agent; each finding is written as soon as it is made.

    Args:
        run_dir: of the run.
        parts: which analyses; none: all but those that are `left_out`.
        device: where to compute.
        show_progress: a live display on stderr.

    Raises:
        ValueError: this is no run, or a part needs what the run or its world does not have.
    """
    run = RunDirectory(run_dir)
    left = left_out(run.read_config())  # What is no run gets no directory of its own.
    # What is missing is better said now than after the parts before it.
    if never := [part for part in parts if part in left]:
        raise UserError(left[never[0]])
    parts = parts or [part for part in PARTS if part not in left]
    if "states" in parts:
        find_tsne()
    if "cause" in parts:
        check_can_change(run)
    run.make(run.inspection)
    found = {}
    for part in dict.fromkeys(parts):
        found[part] = _INSPECT[part](run.path, device=device, show_progress=show_progress)
        write_finding(found[part], run.finding(part))
    return found


def left_out(config: TrainConfig) -> dict[Part, str]:
    """The parts that an agent does not have, and in a sentence each why."""
    attention = config.agent.attention
    if attention == "none":
        return {
            "gaze": "No gaze: agent.attention is none, the agent reads all that it observes; "
            "expected tile or foveal in training."
        }
    return {
        "attention": f"No Jacobians: agent.attention is {attention}, what the agent attends to is "
        "where it looks; expected gaze."
    }


def findings_of(run: RunDirectory) -> dict[Part, Finding]:
    """What was found so far."""
    return {part: read_finding(run.finding(part)) for part in PARTS if run.finding(part).exists()}
