"""Where an agent looks although nobody told it: its Jacobians over many moments of its own walks.

Four questions are put to them: which cells of the view the value and the policy hang on; whether
that is where things are; which steps of the past a decision still hangs on (the sequential Jacobian
of Graves 2012, section 4.4); and, of a run that was probed, whether an answer about a thing that is
out of view hangs on the steps that showed it. The agent before its first update is the control.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.agent import Agent
from groundling.agents.probe import Probe
from groundling.agents.sensors import Cells
from groundling.envs.questions import Questions
from groundling.envs.rooms.world import FIRST_SHAPE, WHAT
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.attention_measures import (
    answers_hang_on,
    differences,
    on_things,
    shares_of_cells,
    steps_back,
    within,
)
from groundling.evaluation.attention_pictures import draw_maps, draw_steps
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.finding import Finding
from groundling.evaluation.pasts import Pasts, collect_pasts
from groundling.evaluation.probing import load_probe
from groundling.evaluation.sensitivity import (
    Decision,
    answer,
    cells_of,
    chosen_action,
    sensitivity,
    value,
)
from groundling.training.config import EnvironmentConfig
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device

DECISIONS: Mapping[str, Decision] = {"value": value, "policy": chosen_action}

SAYS = (
    "How much the value, and the probability of the likeliest action, would change with each cell "
    "of the view: derivatives, not a mechanism that was built in. The moments drawn show most "
    "things, and of those the value and the policy differ most there; percentages are shares of "
    "the view. The curves tell how much a decision hangs on what was seen so many steps ago. "
    "{moments:,} moments of {rooms:,} rooms of the test set, walked with the agent's own policy; "
    "the untrained agent read along."
)
SAYS_OF_ANSWERS = (
    " Answers are a decoder's, to the colour of a thing that is out of view: what counts more when "
    "that thing is asked about than when another is, is memory of it."
)


@dataclass(frozen=True)
class AttentionSettings:
    """How much is looked at."""

    rooms: int = 2_048
    """Distinct rooms of the test set."""
    steps: int = 32
    """Rows of each moment, its own included; all of one episode. What lies further back is not
    counted."""
    draw_every: int = 32
    """Steps between two moments, on average, once an episode is old enough."""
    seed: int = 0
    """Of the moments, of the actions, and of which thing is asked about."""


def inspect_attention(
    run_dir: Path | str,
    settings: AttentionSettings | None = None,
    *,
    device: str = "cpu",
    show_progress: bool = True,
) -> Finding:
    """What a run's agent, and the same agent before its first update, attend to.

    Returns:
        Numbers, by agent and decision ("value", "policy"): "maps" (mean shares of cells), "steps"
        (`steps_back`), "within" and, in our rooms, "things" (`on_things`); by agent: "differ"
        (`differences`); "moments", "rooms"; if it was probed in them, "answer" (`answers_hang_on`).

    Raises:
        ValueError: this is no run, its observation has no part made of cells, or no episode is as
            long as the settings ask.
    """
    run, place = RunDirectory(run_dir), resolve_device(device)
    agent, config = load_agent(run.path, device=device)
    settings = settings or _usual_settings(config.env)
    agents = {AGENT: agent, UNTRAINED: load_agent(run.path, device=device, untrained=True)[0]}
    part = _part_made_of_cells(agent)
    rooms = config.env.rooms if config.env.is_rooms else None
    probe = None if rooms is None else load_probe(run, agent, len(VOCABULARY))
    probe = probe and probe.to(place)
    much = dataclasses.asdict(settings)
    pasts, asked = collect_pasts(
        agents, config.env, probe, **much, device=place, shown=show_progress
    )
    found: dict[str, dict[str, Tensor]] = {name: {} for name in agents}
    with progress("Jacobians", len(agents) * len(DECISIONS), shown=show_progress) as advance:
        for name, one in agents.items():
            for decided, decision in DECISIONS.items():
                found[name][decided] = look(one, name, pasts, [decision] * len(pasts), part)
                advance(sum(map(len, found.values())))
    views = np.concatenate([past.rows.observation[part][-1].cpu().numpy() for past in pasts])
    things = None if rooms is None else views[..., WHAT] >= FIRST_SHAPE
    numbers = _numbers(found, things, np.concatenate([past.room for past in pasts]))
    if probe is not None and asked:
        numbers["answer"] = _of_answers(agent, asked, probe, part)
    maps = {decided: shares_of_cells(one) for decided, one in found[AGENT].items()}
    return Finding(
        title="What it attends to",
        says=SAYS.format(**numbers) + (SAYS_OF_ANSWERS if "answer" in numbers else ""),
        table=_table(numbers),
        pictures={"maps": draw_maps(maps, views, rooms), "steps": draw_steps(numbers)},
        numbers=numbers,
    )


def _usual_settings(environment: EnvironmentConfig) -> AttentionSettings:
    """Half an episode, if that is shorter than usual."""
    usual = AttentionSettings()
    if not environment.is_rooms:
        return usual
    return dataclasses.replace(usual, steps=min(usual.steps, environment.rooms.episode_length // 2))


def _part_made_of_cells(agent: Agent) -> str:
    names = agent.sensors.names
    part = next((name for name in names if isinstance(agent.sensors.leaf(name), Cells)), "view")
    cells_of(agent, part)  # Says what is missing, before the walk.
    return part


def look(
    agent: Agent, name: str, pasts: Sequence[Pasts], decisions: Sequence[Decision], part: str
) -> Tensor:
    """Sensitivities of decisions, one for each of `pasts`, in which the agent has that name.

    Returns:
        [T, S, V, W] of all their moments, on the CPU: see `sensitivity`.
    """
    found = [
        sensitivity(agent, past.rows, past.before[name], decision, part).cpu()
        for past, decision in zip(pasts, decisions, strict=True)
    ]
    return torch.cat(found, 1)


def _numbers(
    found: Mapping[str, Mapping[str, Tensor]],
    things: NDArray[np.bool_] | None,
    room: NDArray[np.int64],
) -> dict[str, Any]:
    numbers: dict[str, Any] = {"moments": len(room), "rooms": len(np.unique(room))}
    for name, of_agent in found.items():
        maps = {decided: shares_of_cells(one) for decided, one in of_agent.items()}
        steps = {decided: steps_back(one).tolist() for decided, one in of_agent.items()}
        of_each = {
            "maps": {decided: one.mean(0).tolist() for decided, one in maps.items()},
            "differ": differences(maps["value"], maps["policy"], room),
            "steps": steps,
            "within": {decided: within(shares) for decided, shares in steps.items()},
        }
        if things is not None:
            of_each["things"] = {
                decided: on_things(one, things, room) for decided, one in maps.items()
            }
        for group, measured in of_each.items():
            numbers.setdefault(group, {})[name] = measured
    return numbers


def _of_answers(
    agent: Agent, asked: Sequence[tuple[Pasts, Questions]], probe: Probe, part: str
) -> dict[str, Any]:
    decisions, shown = [], []
    for past, questions in asked:
        device = past.rows.is_first.device
        tokens, words = torch.from_numpy(questions.tokens), torch.from_numpy(questions.answer)
        decisions.append(answer(probe, tokens.to(device), words.to(device)))
        kinds = past.rows.observation[part][..., WHAT].cpu().numpy()
        wanted = questions.arguments[:, 0, None, None] + FIRST_SHAPE
        shown.append((kinds == wanted).any((-2, -1)))
    pasts = [past for past, _ in asked]
    found = look(agent, AGENT, pasts, decisions, part)
    room = np.concatenate([past.room for past in pasts])
    return answers_hang_on(found, np.concatenate(shown, 1), room)


def _table(numbers: Mapping[str, Any]) -> list[list[str]]:
    def line(title: str, group: str, key: str, tell: Callable[[Any], str]) -> list[str]:
        return [title, *(tell(numbers[group][name][key]) for name in (AGENT, UNTRAINED))]

    rows = [["", AGENT, UNTRAINED]]
    if "things" in numbers:
        words = "a cell that holds a thing counts so much more"
        rows += [line(f"{one}: {words}", "things", one, _ratio) for one in DECISIONS]
    for title, key in (
        ("value and policy look elsewhere (1 - cosine), in a moment", "same moment"),
        ("the same, of their mean maps", "mean maps"),
        ("of the value's mean maps, two halves of the rooms", "halves"),
    ):
        rows.append(line(title, "differ", key, "{:.4f}".format))
    rows += [line(f"{one}: steps back that hold 90 %", "within", one, str) for one in DECISIONS]
    if found := numbers.get("answer"):
        rows += [
            ["answer: share on the rows that showed the asked thing", f"{found['asked']:.1%}", ""],
            ["the same, asked about another thing", f"{found['other']:.1%}", ""],
            ["the first over the second", _ratio(found), ""],
            ["share of all rows that showed it", f"{found['rows']:.1%}", ""],
        ]
    return rows


def _ratio(found: Mapping[str, Any]) -> str:
    if found["ratio"] is None:
        return "-"
    low, high = found["interval"]
    return f"× {found['ratio']:.2f} ({low:.2f} to {high:.2f})"
