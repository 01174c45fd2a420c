"""Looking inside a frozen agent: which analyses there are, and where what they find is kept."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from groundling.evaluation.attention import inspect_attention
from groundling.evaluation.finding import Finding, read_finding, write_finding
from groundling.evaluation.intervention import check_can_change, inspect_cause
from groundling.evaluation.minds_eye import inspect_map
from groundling.evaluation.states import find_tsne, inspect_states
from groundling.training.run import RunDirectory

Part = Literal["map", "attention", "states", "cause"]

PARTS: tuple[Part, ...] = get_args(Part)
"""In the order in which they are made and shown."""

_INSPECT: Mapping[Part, Callable[..., Finding]] = {
    "map": inspect_map,
    "attention": inspect_attention,
    "states": inspect_states,
    "cause": inspect_cause,
}


def inspect_run(
    run_dir: Path | str,
    parts: Sequence[Part] = PARTS,
    *,
    device: str = "cpu",
    show_progress: bool = True,
) -> dict[Part, Finding]:
    """Analyses a run's frozen agent; each finding is written as soon as it is made.

    Args:
        run_dir: of the run.
        parts: which analyses.
        device: where to compute.
        show_progress: a live display on stderr.

    Raises:
        ValueError: this is no run, or a part needs what the run or its world does not have.
    """
    run = RunDirectory(run_dir)
    run.read_config()  # What is no run gets no directory of its own.
    # What is missing is better said now than after the parts before it.
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


def findings_of(run: RunDirectory) -> dict[Part, Finding]:
    """What was found so far."""
    return {part: read_finding(run.finding(part)) for part in PARTS if run.finding(part).exists()}
