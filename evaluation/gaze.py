"""Where an agent with attention looks: over many episodes, and at each step of one.

The agent walks as it likes and looks where it decides; the same agent before its first update reads
along and decides where to look itself. The first look of an episode is always at the centre and
nobody's decision: it is not counted.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundling.agents.agent import Agent
from groundling.agents.generators import named_generator
from groundling.agents.sensors import is_cells
from groundling.envs.errors import UserError
from groundling.envs.rooms.world import FIRST_SHAPE, WHAT
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.examples import through_rooms
from groundling.evaluation.finding import Finding
from groundling.evaluation.gaze_measures import Array, Bins, Looks, averaged, measure
from groundling.evaluation.gaze_pictures import draw_gaze, draw_gaze_steps
from groundling.evaluation.walks import Reader, by_agent, walk
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import make_environment
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device
from groundling.training.seeds import environment_seed

SAYS = (
    "{looks:,} looks in {episodes:,} episodes it never trained on, walked with its own policy; the "
    "untrained agent read along and looked where it would. The first look of an episode, always "
    "at the centre, is not counted. The maps are of the view{upwards}: {scene}the share of looks "
    "whose centre lies at a place, and the share that shows the place sharply. Entropy is of the "
    "centres: {most:.1f} bits if it looked everywhere alike. The curves tell it over episodes, "
    "step by step, and how far the look moves from one step to the next."
)


@dataclass(frozen=True)
class GazeSettings:
    """How much is looked at."""

    episodes: int = 512
    """Of the test set, at least."""
    environments: int = 64
    """Walked through side by side."""
    seed: int = 0
    """Of the actions."""


class Notebook:
    """Takes notes of a walk for one of its readers.

    Args:
        reader: with attention.
        is_room: whether its views are of our rooms.
    """

    def __init__(self, reader: Reader, *, is_room: bool) -> None:
        assert reader.agent.attention is not None
        self.reader, self.fovea = reader, reader.agent.attention.fovea
        self.is_room = is_room
        self.before: Array | None = None
        self.notes: dict[str, list[NDArray[Any]]] = {"location": [], "moved": [], "step": []}
        self.to_target: list[Array] = []
        self.sharp = np.zeros((self.fovea.height, self.fovea.width))
        self.cells = self.things = 0

    def note(
        self,
        views: NDArray[Any],
        step: NDArray[np.int64],
        counted: NDArray[np.bool_],
        target: Array | None,
    ) -> None:
        """Takes in the row that the reader has just read.

        Args:
            views: [B, H, W, C]: all there was to see.
            step: [B]: of the episode.
            counted: [B]: which environments count.
            target: [B, 2]: coordinates of what there is to find, if the environment tells.
        """
        location = self.reader.row.location
        assert location is not None
        here = location.cpu().double().numpy()
        before = here if self.before is None else self.before
        self.before = here
        chosen = counted & (step > 0)
        if not chosen.any():
            return
        self.notes["location"].append(here[chosen])
        self.notes["moved"].append(self._places(here, before)[chosen])
        self.notes["step"].append(step[chosen])
        if target is not None:
            self.to_target.append(self._places(here, target)[chosen])
        sensed = self.fovea.sensed(location)[chosen]
        self.sharp += sensed.sum(0)
        if self.is_room:
            things = views[chosen][..., WHAT] >= FIRST_SHAPE
            self.cells, self.things = self.cells + sensed.sum(), self.things + things[sensed].sum()

    def _places(self, one: Array, other: Array) -> Array:
        """Distances [B] of coordinates [B, 2], in places."""
        sides = np.array([self.fovea.height, self.fovea.width])
        return np.asarray(np.linalg.norm((one - other) / 2 * sides, axis=-1))

    def looks(self) -> Looks:
        """All of them."""
        joined = {name: np.concatenate(parts) for name, parts in self.notes.items()}
        return Looks(
            **joined,
            sharp=self.sharp / len(joined["step"]),
            things=float(self.things / max(self.cells, 1)) if self.is_room else None,
            to_target=np.concatenate(self.to_target) if self.to_target else None,
        )


@dataclass(frozen=True)
class Gazes:
    """Where some agents looked on one walk."""

    looks: Mapping[str, Looks]
    """By agent."""
    scene: Array | None
    """[H, W]: how often there is a thing, or how bright an image is (0 to 255) on average; None of
    other cells."""


def collect_gazes(
    agents: Mapping[str, Agent],
    config: EnvironmentConfig,
    settings: GazeSettings,
    *,
    device: Any,
    shown: bool = True,
) -> Gazes:
    """Walks episodes of the test set with the policy of the first agent; the others read along.

    Raises:
        UserError: no episode had a second step.
    """
    world = make_environment(config, num_envs=min(settings.episodes, settings.environments))
    readers = {name: Reader(agent, world.num_envs) for name, agent in agents.items()}
    leader = next(iter(readers.values()))
    attention = leader.agent.attention
    assert attention is not None
    steps = walk(
        world,
        seed=environment_seed("probe-test"),
        choose=by_agent(leader, named_generator(settings.seed, "gaze", device)),
        readers=tuple(readers.values()),
        device=device,
    )
    books = [Notebook(reader, is_room=config.is_rooms) for reader in readers.values()]
    step, scene, rows = np.zeros(world.num_envs, np.int64), np.zeros(()), 0
    with progress("looks", settings.episodes, shown=shown) as advance:
        for row, wanted in through_rooms(steps, settings.episodes, advance):
            step = np.where(row.is_first.cpu().numpy(), 0, step + 1)
            views = row.observation[attention.part].cpu().numpy()
            told = steps.stepper.target
            target = None if told is None else told.cpu().double().numpy()
            counted = wanted & ~steps.absent
            for book in books:
                book.note(views, step, counted, target)
            scene, rows = scene + _shown(views[counted], config).sum(0), rows + counted.sum()
    world.close()
    if not books[0].notes["step"]:
        raise UserError(f"{config.id}: no episode had a second step; there is nowhere to look")
    is_drawn = config.is_rooms or not is_cells(attention.space)
    looks = {name: book.looks() for name, book in zip(readers, books, strict=True)}
    return Gazes(looks, scene / rows if is_drawn else None)


def _shown(views: NDArray[Any], config: EnvironmentConfig) -> Array:
    """What is averaged of views [n, H, W, C]: whether there is a thing, or how bright it is."""
    return np.asarray(views[..., WHAT] >= FIRST_SHAPE if config.is_rooms else views.mean(-1), float)


def inspect_gaze(
    run_dir: Path | str,
    settings: GazeSettings | None = None,
    *,
    device: str = "cpu",
    show_progress: bool = True,
) -> Finding:
    """Where a run's agent, and the same agent before its first update, look.

    Returns:
        Numbers are {"agent", "untrained agent": see `measure`}, "scene" (see `Gazes`; blocks of a
        large view), "bins" (rows and columns), "most" (bits, if it looked everywhere alike),
        "looks", "episodes" (of two steps or more), "things" (share of all places of the view),
        "settings".

    Raises:
        UserError: this is no run, or its agent has no attention.
    """
    run, place = RunDirectory(run_dir), resolve_device(device)
    agent, config = load_agent(run.path, device=device)
    if agent.attention is None:
        raise UserError(
            f"{run.path} reads all that it observes (agent.attention none), so that it has no "
            "gaze; expected a run with agent.attention tile or foveal"
        )
    settings = settings or GazeSettings()
    agents = {AGENT: agent, UNTRAINED: load_agent(run.path, device=device, untrained=True)[0]}
    gazes = collect_gazes(agents, config.env, settings, device=place, shown=show_progress)
    bins, is_room = Bins.of(agent.attention), config.env.is_rooms
    of_each = {name: measure(looks, bins) for name, looks in gazes.looks.items()}
    numbers = of_each | {
        "scene": None if gazes.scene is None else averaged(gazes.scene).tolist(),
        "things": None if gazes.scene is None or not is_room else float(gazes.scene.mean()),
        "bins": list(bins.shape),
        "most": float(np.log2(np.prod(bins.shape))),
        "looks": len(gazes.looks[AGENT].step),
        "episodes": int((gazes.looks[AGENT].step == 1).sum()),
        "settings": dataclasses.asdict(settings),
    }
    return Finding(
        title="Where it looks",
        says=SAYS.format(
            looks=numbers["looks"],
            episodes=numbers["episodes"],
            most=numbers["most"],
            upwards=", the agent at the bottom centre, looking up" if is_room else "",
            scene=_words_of_scene(gazes.scene, is_room=is_room),
        ),
        table=_table(numbers),
        pictures={
            "maps": draw_gaze(numbers, gazes.scene, is_room=is_room),
            "steps": draw_gaze_steps(numbers),
        },
        numbers=numbers,
    )


def _words_of_scene(scene: Array | None, *, is_room: bool) -> str:
    if scene is None:
        return ""
    return "how often a thing is in sight there, " if is_room else "the mean picture, "


def _table(numbers: Mapping[str, Any]) -> list[list[str]]:
    agents = (AGENT, UNTRAINED)

    def line(title: str, key: str, tell: str) -> list[str]:
        return [title, *(tell.format(numbers[name][key]) for name in agents)]

    rows = [
        ["", *agents],
        line("entropy of where it looks, bits", "entropy", "{:.2f}"),
        line("the look moves from step to step, places", "movement", "{:.2f}"),
    ]
    if (everywhere := numbers["things"]) is not None:
        title = f"things among what it sees sharply ({everywhere:.1%} of the view)"
        rows.append(line(title, "things", "{:.1%}"))
    if numbers[AGENT]["distance"] is not None:
        rows.append(line("distance to what there is to find, places", "distance", "{:.1f}"))
    return rows
