"""Changing a frozen agent's mind: what an intervention on its memory does, with its controls."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from groundling.agents.agent import Agent
from groundling.agents.generators import named_generator, named_seed
from groundling.agents.probe import Probe
from groundling.agents.simcore import SimCoreHead
from groundling.envs.errors import UserError
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.cause import (
    Trials,
    answers_after,
    astray,
    behaviour_after,
    collect_trials,
    expected_colours,
    towards,
)
from groundling.evaluation.controls import AGENT
from groundling.evaluation.decoding import Fit, Lessons, Vectors, updates_of
from groundling.evaluation.examples import Walk, collect_examples
from groundling.evaluation.figures import png
from groundling.evaluation.finding import Finding
from groundling.evaluation.probing import load_probe
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.walks import Reader
from groundling.training.config import EnvironmentConfig
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device

BEFORE, TOWARDS, ASTRAY = "unchanged", "towards the answer", "in a random direction"
SAYS = (
    "In {trials} rooms the agent's memory was changed so that one thing should have another "
    "colour: along the gradient of the decoder that was fitted by probing, at right angles to "
    "those of its answers about the room's other things, until it was {sure:.0%} sure of the new "
    "answer. The judge is a second decoder with other initial weights, which had no part in the "
    "change. The control goes as far in a random direction. Other answers are the colours of the "
    "room's other things, where they were known before. {expectation} The policy's change is its "
    "divergence KL(before, after)."
)
EXPECTATION = (
    "The simulator's expectation is the probability of either colour where it expects to see such "
    "a thing within {ahead} steps."
)
NO_EXPECTATION = (
    "What the simulator expects is left out: with attention that hangs on where the agent would "
    "look."
)


@dataclass(frozen=True)
class CauseSettings:
    """How beliefs are changed, and what is watched."""

    rooms: int = 1024
    """Rooms in which something may be asked."""
    sure: float = 0.9
    """Probability of the new answer at which a belief is let be."""
    ahead: int = 4
    """Steps of random actions over which the simulator's expectation is watched."""
    seed: int = 0
    """Of questions, new answers, random directions and actions."""


def inspect_cause(
    run_dir: Path | str,
    settings: CauseSettings | None = None,
    *,
    device: str = "cpu",
    show_progress: bool = True,
) -> Finding:
    """Moves the beliefs of a probed run, and watches answers, simulator and behaviour.

    Returns:
        Numbers are {"unchanged", "towards the answer", "in a random direction": {"decoder" and
        "judge": see `answers_after`; "behaviour": see `behaviour_after`; "expected": the
        simulator's mean probabilities of the old and the new colour, see `_expected`}},
        "trials", "length" (median, in standard deviations of a belief) and "settings".

    Raises:
        ValueError: this is no run, was not probed, or its world is not one of our rooms.
    """
    settings = settings or CauseSettings()
    run, place = RunDirectory(run_dir), resolve_device(device)
    agent, config = load_agent(run.path, device=device)
    check_can_change(run)
    decoder = load_probe(run, agent, len(VOCABULARY))
    assert decoder is not None
    decoder = decoder.to(place)
    judge = fit_judge(run, agent, config.env, place, shown=show_progress)
    trials = collect_trials(
        Reader(agent, settings.rooms),
        (decoder, judge),
        config.env,
        rooms=settings.rooms,
        generator=np.random.default_rng(named_seed(settings.seed, "trials")),
        device=place,
    )
    numbers = intervene(agent, decoder, judge, trials, settings)
    return Finding(
        title="What follows when its memory is changed",
        says=SAYS.format(
            trials=len(trials.belief),
            sure=settings.sure,
            expectation=(EXPECTATION if agent.attention is None else NO_EXPECTATION).format(
                ahead=settings.ahead
            ),
        ),
        table=_table(numbers),
        pictures={"effects": _effects(numbers)},
        numbers=numbers | {"settings": dataclasses.asdict(settings)},
    )


def check_can_change(run: RunDirectory) -> None:
    """Raises UserError if a run was not probed, or its world is not one of our rooms."""
    environment = run.read_config().env
    if not environment.is_rooms:
        raise UserError(f"{environment.id} is not one of our rooms; beliefs are changed there")
    if not (run.results().exists() and run.decoder.exists()):
        raise UserError(f"{run.path} was not probed; expected `groundling probe {run.path}`")


def fit_judge(
    run: RunDirectory,
    agent: Agent,
    environment: EnvironmentConfig,
    device: torch.device,
    *,
    shown: bool = True,
) -> Probe:
    """A second decoder like the one that probing fitted, from other initial weights and in another
    order. What probing walked through is used if it was kept."""
    walked = _protocol_of(run)
    settings = dataclasses.replace(walked, seed=walked.seed + 1)
    kept = run.probe / "kept"
    lessons = []
    for purpose, rooms in (
        ("probe-train", walked.rooms),
        ("probe-validation", walked.validation_rooms),
    ):
        examples = collect_examples(
            {AGENT: agent},
            Walk(environment, purpose, rooms, walked),  # type: ignore[arg-type]
            device=device,
            kept=kept if kept.exists() else None,
            shown=shown,
        )
        reading = Vectors(examples.memories[AGENT].belief)
        lessons.append(Lessons(examples.questions, reading, device))
    fit = Fit(lessons[0], lessons[1], settings.decoders[0], len(VOCABULARY), settings)
    done = 0

    def advanced() -> None:
        nonlocal done
        done += 1
        advance(done)

    with progress("judge", updates_of(lessons[0].moments, settings), shown=shown) as advance:
        return fit.run(advanced)


def _protocol_of(run: RunDirectory) -> ProbeSettings:
    """How the run was probed."""
    probed = json.loads(run.results().read_text(encoding="utf-8"))["settings"]
    try:
        return ProbeSettings(**probed)
    except TypeError as error:
        raise UserError(
            f"{run.path} was measured by an earlier version; expected `groundling probe "
            f"{run.path}` again"
        ) from error


def intervene(
    agent: Agent, decoder: Probe, judge: Probe, trials: Trials, settings: CauseSettings
) -> dict[str, Any]:
    """Changes the beliefs with the decoder and with the control; see `inspect_cause`."""
    device = trials.belief.device
    moved = towards(decoder, trials, sure=settings.sure)
    turned = astray(decoder, trials.belief, moved, named_generator(settings.seed, "astray"))
    actions = torch.randint(
        agent.actions.outputs,
        (settings.ahead, len(trials.belief)),
        generator=named_generator(settings.seed, "actions"),
    ).to(device)
    length = ((moved - trials.belief) / decoder.scale).norm(dim=-1).median()
    numbers: dict[str, Any] = {"trials": len(trials.belief), "length": float(length)}
    for name, belief in ((BEFORE, trials.belief), (TOWARDS, moved), (ASTRAY, turned)):
        numbers[name] = {
            "decoder": answers_after(decoder, trials, belief),
            "judge": answers_after(judge, trials, belief),
            "behaviour": behaviour_after(agent, trials.belief, belief),
            "expected": _expected(agent, trials, belief, actions),
        }
    return numbers


def _expected(agent: Agent, trials: Trials, belief: Tensor, actions: Tensor) -> list[float] | None:
    """Mean probabilities of the old and the new colour; None without SimCore, and with attention:
    what is expected then depends on where the agent is going to look."""
    if agent.prediction is None or not isinstance(agent.prediction.head, SimCoreHead):
        return None
    if agent.attention is not None:
        return None
    means: list[float] = expected_colours(agent, trials, belief, actions).mean(0).tolist()
    return means


def _table(numbers: dict[str, Any]) -> list[list[str]]:
    """What is watched, before and after either change."""
    changes = (BEFORE, TOWARDS, ASTRAY)

    def line(title: str, read: Any, digits: str = ".2f") -> list[str]:
        return [title, *(format(read(numbers[change]), digits) for change in changes)]

    table = [
        ["share of trials", *changes],
        line("asked answer is the new one, decoder", lambda found: found["decoder"]["target"]),
        line("asked answer is the new one, judge", lambda found: found["judge"]["target"]),
        line("other answers changed, decoder", lambda found: found["decoder"]["others"]),
        line("other answers changed, judge", lambda found: found["judge"]["others"]),
    ]
    if numbers[BEFORE]["expected"] is not None:
        table += [
            line("simulator expects the old colour", lambda found: found["expected"][0]),
            line("simulator expects the new colour", lambda found: found["expected"][1]),
        ]
    return [
        *table,
        line("change of the policy, nats", lambda found: found["behaviour"]["policy"], ".3f"),
        line("change of the value, reward", lambda found: found["behaviour"]["value"], ".3f"),
    ]


PANELS: dict[str, tuple[str, dict[Any, str]]] = {
    "judge": (
        "answers, by the judge",
        {"target": "asked answer\nis the new one", "others": "other answers\nchanged"},
    ),
    "expected": ("what the simulator expects", {0: "old colour", 1: "new colour"}),
    "behaviour": ("change of behaviour", {"policy": "policy\n(nats)", "value": "value\n(reward)"}),
}
"""Of the picture: title, and what each group of bars is."""


def _effects(numbers: dict[str, Any]) -> bytes:
    """Bars: answers as the judge reads them, what the simulator expects, and the behaviour."""
    shown = [kind for kind in PANELS if numbers[BEFORE][kind] is not None]
    figure = Figure(figsize=(9.6, 3.0), dpi=144, layout="constrained")
    grid = figure.subplots(1, len(shown))
    for axes, kind in zip(grid, shown, strict=True):
        _draw_changes(axes, kind, numbers)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return png(figure)


def _draw_changes(axes: Axes, kind: str, numbers: dict[str, Any]) -> None:
    """A group of bars for each thing that is watched, a bar for each change."""
    title, labels = PANELS[kind]
    for index, (change, colour) in enumerate(
        ((BEFORE, "#c9ced8"), (TOWARDS, "#2a6fbb"), (ASTRAY, "#d39b3c"))
    ):
        heights = [numbers[change][kind][key] for key in labels]
        places = [place + (index - 1) * 0.27 for place in range(len(labels))]
        axes.bar(places, heights, 0.25, color=colour, label=change)
    axes.set_xticks(range(len(labels)), list(labels.values()), fontsize=8)
    axes.set_title(title, fontsize=10)
    if kind != "behaviour":
        axes.set_ylim(0, 1)
