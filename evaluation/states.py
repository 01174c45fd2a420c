"""The landscape of an agent's states, and which situations have a place of their own in it.

The memory of an agent at some 2,000 moments is laid out in two dimensions, by principal components
and by t-SNE, and coloured by situation, as Jaderberg et al. 2019 (Science 364, 859-865, figure 3)
did with an agent that captures flags. t-SNE shows clusters in anything, so the eye is not asked to
judge: beside the pictures stands how often a moment's neighbours share its situation, for the
agent, for the same agent before its first update, and by chance.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.actions import DiscreteActions
from groundling.agents.agent import Agent, Rows
from groundling.agents.generators import named_generator, named_seed
from groundling.agents.probe import Standardised
from groundling.envs.errors import UserError
from groundling.envs.maps import THING, Maps
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.drawings import NOTHING, Panel, scatter_panels
from groundling.evaluation.finding import Finding
from groundling.evaluation.scores import share_interval
from groundling.evaluation.walks import Reader, by_agent, by_explorer, walk
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import Environment, make_environment
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device
from groundling.training.seeds import environment_seed

HEADING, QUARTER = "heading", "quarter of the room"
IN_VIEW, LEFT = "nearest object in view", "objects left to reach"
STEP, VALUE, ACTION = "step of the episode", "value", "likeliest action"

CHANCE = "chance"
FEW = 6
"""A number with at most so many values makes a class of each; another is cut into quarters."""
ENOUGH = 0.9
"""Share of the variance that principal components are counted for."""

SAYS = (
    "Each dot is what the agent remembers at one of {moments} moments of {rooms} episodes that it "
    "never trained on; dots that lie together are similar memories. Colours are situations: where "
    "a colour has a region of its own, the memory is sorted by that situation. t-SNE makes islands "
    "of anything, so the table counts instead: of the {neighbours} most similar memories from "
    "other episodes, the share that are of the same situation, with its 95 % interval. The "
    "untrained agent shows what comes with the senses alone; chance is what a memory that holds "
    "nothing would score. Steps and values count as the same within a quarter of the moments; the "
    "value is the discounted reward that the trained agent itself expects."
)


@dataclass(frozen=True)
class StatesSettings:
    """Which moments are looked at, and how."""

    moments: int = 2_000
    """How many."""
    draw_every: int = 16
    """Steps between two moments of one room, on average."""
    environments: int = 64
    """Rooms walked through side by side."""
    neighbours: int = 10
    """Of each moment: those whose situations are compared with its own."""
    perplexity: float = 30.0
    """Of t-SNE: about how many neighbours each moment keeps."""
    seed: int = 0
    """Of moments, of the shuffled control, and of t-SNE."""


@dataclass(frozen=True)
class Situation:
    """What may tell S moments apart."""

    values: NDArray[Any]
    """[S]: the number of a class, or an ordered number."""
    labels: tuple[str, ...] = ()
    """Of the classes, by number; none where the values are ordered."""

    @property
    def few(self) -> bool:
        """Whether every value is a class of its own."""
        return bool(self.labels) or len(np.unique(self.values)) <= FEW

    @property
    def classes(self) -> NDArray[Any]:
        """[S]: what counts as the same situation. Many ordered values make four classes of equal
        size, as nearly as they can."""
        if self.few:
            return self.values
        return np.searchsorted(np.quantile(self.values, [0.25, 0.5, 0.75]), self.values, "right")


@dataclass(frozen=True)
class States:
    """S moments of walks: the situation, and what the agents' memories were like."""

    situations: Mapping[str, Situation]
    room: NDArray[np.int64]
    """[S]: which room (or episode), counted from 0 in the order they were entered."""
    beliefs: Mapping[str, Tensor]
    """[S, belief size] by agent."""


def collect_states(
    agents: Mapping[str, Agent],
    config: EnvironmentConfig,
    settings: StatesSettings,
    *,
    device: torch.device,
    shown: bool = True,
) -> States:
    """Takes all agents along the same walks through rooms of the test set.

    The scripted explorer walks in our rooms, the trained agent in any other world.
    """
    environment = make_environment(config, num_envs=settings.environments)
    readers = {name: Reader(agent, environment.num_envs) for name, agent in agents.items()}
    generator = np.random.default_rng(named_seed(settings.seed, "states"))
    draws = named_generator(settings.seed, "states", device)
    ours = isinstance(environment.unwrapped, RoomsVectorEnv)
    steps = walk(
        environment,
        seed=environment_seed("probe-test"),
        choose=by_explorer(environment) if ours else by_agent(readers[AGENT], draws),
        readers=tuple(readers.values()),
        device=device,
    )
    noted: dict[str, list[NDArray[Any]]] = {}
    rooms: list[int] = []
    beliefs: dict[str, list[Tensor]] = {name: [] for name in agents}
    with progress("states", settings.moments, shown=shown) as advance:
        for room, elapsed in counted(steps, environment.num_envs):
            (chosen,) = np.nonzero(generator.random(len(room)) < 1.0 / settings.draw_every)
            rooms.extend(room[chosen])
            for name, values in situations_now(environment, readers[AGENT], elapsed).items():
                noted.setdefault(name, []).append(values[chosen])
            for name, reader in readers.items():
                beliefs[name].append(reader.state.belief.cpu()[torch.from_numpy(chosen)])
            advance(min(len(rooms), settings.moments))
            if len(rooms) >= settings.moments:
                break
    environment.close()
    wanted = slice(settings.moments)
    labels = labels_of(environment, agents[AGENT])
    situations = {
        name: Situation(np.concatenate(values)[wanted], labels.get(name, ()))
        for name, values in noted.items()
    }
    memories = {name: torch.cat(parts)[wanted] for name, parts in beliefs.items()}
    return States(situations, np.array(rooms[wanted]), memories)


def counted(
    steps: Iterator[Rows], batch: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """At every row of a walk of `batch` environments: the room each is in, counted from 0 in the
    order they are entered, and the step of its episode, [B] both."""
    entered = 0
    room, elapsed = np.zeros((2, batch), np.int64)
    for row in steps:
        starting = row.is_first.cpu().numpy()
        numbers = entered + np.cumsum(starting) - 1
        room, elapsed = np.where(starting, numbers, room), np.where(starting, 0, elapsed + 1)
        entered += int(starting.sum())
        yield room, elapsed


def situations_now(
    environment: Environment, reader: Reader, elapsed: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The situation of every environment, by name, [B] each; the fewer the less is known of them.

    Args:
        environment: any.
        reader: the trained agent, which has read the present row.
        elapsed: [B] steps of the episode.
    """
    every = {STEP: elapsed, VALUE: reader.output.baseline.cpu().numpy()}
    world = environment.unwrapped
    if not isinstance(world, RoomsVectorEnv):
        if not isinstance(reader.agent.actions, DiscreteActions):
            return every  # Several choices at once, or numbers, are no classes.
        return every | {ACTION: reader.output.policy.argmax(-1).cpu().numpy()}
    maps = world.draw_maps()
    rows, columns = world.rooms.shape
    row, column = np.divmod(maps.place, columns)
    left = world.world.object_count - world.world.reached.sum(1)
    of_rooms = {
        HEADING: maps.heading,
        # The middle row of an odd house counts as north, its middle column as west.
        QUARTER: 2 * (row >= (rows + 1) // 2) + (column >= (columns + 1) // 2),
        IN_VIEW: nearest_in_view(maps),
        LEFT: left.astype(np.int64),
    }
    return of_rooms | every


def nearest_in_view(maps: Maps) -> NDArray[np.int64]:
    """[B]: 0 where no thing is in view, else 1 + the shape of the nearest (the first, row by row,
    of several that are equally near)."""
    number, rows, columns = maps.kind.shape
    row, column = (part[:, None, None] for part in np.divmod(maps.place, columns))
    distance = (np.arange(rows)[:, None] - row) ** 2 + (np.arange(columns) - column) ** 2
    seen = (maps.kind >= THING) & (maps.age == 0)
    nearest = np.where(seen, distance, np.inf).reshape(number, -1).argmin(-1)
    kind = maps.kind.reshape(number, -1)[np.arange(number), nearest]
    return np.where(seen.any((1, 2)), kind - 1, 0)


def labels_of(environment: Environment, agent: Agent) -> dict[str, tuple[str, ...]]:
    """What the classes of situations are called, by situation."""
    actions, world = agent.actions, environment.unwrapped
    labels: dict[str, tuple[str, ...]] = {}
    if isinstance(actions, DiscreteActions):
        names = range(actions.start, actions.start + actions.outputs)
        labels[ACTION] = tuple(str(number) for number in names)
    if isinstance(world, RoomsVectorEnv):
        labels[HEADING] = ("east", "south", "west", "north")
        labels[QUARTER] = ("north west", "north east", "south west", "south east")
        labels[IN_VIEW] = (NOTHING, *world.rooms.shape_names)
    return labels


def standardised(belief: Tensor) -> Tensor:
    """[S, belief size]: each number with mean 0 and spread 1."""
    ruler = Standardised(belief.shape[1])
    ruler.standardise(belief)
    return ruler.standard(belief)


def principal_components(belief: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where S beliefs lie along the two directions in which they vary most, [S, 2], and the share
    of the variance along every direction, largest first."""
    centred = (belief - belief.mean(0)).double()
    left, strength, _ = torch.linalg.svd(centred, full_matrices=False)
    shares = strength.square() / strength.square().sum()
    return (left * strength)[:, :2].numpy(), shares.numpy()


def neighbours_elsewhere(belief: Tensor, room: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """The nearest moments of other rooms, [S, number] (fewer if a moment has not so many).

    Of its own room a moment's nearest would be those just before and after, and whatever is the
    same all through an episode would seem to be remembered.
    """
    which = torch.from_numpy(room)
    same = which[:, None] == which
    distance = torch.cdist(belief, belief).masked_fill(same, torch.inf)
    number = min(number, int((~same).sum(1).min()))
    return distance.topk(number, largest=False).indices.numpy()


def agreement(
    neighbours: NDArray[np.int64], classes: NDArray[Any], room: NDArray[np.int64]
) -> dict[str, Any]:
    """The "share" of neighbours, [S, k], that are in the same situation as the moment itself, and
    its 95 % "interval" (rooms are the independent units)."""
    same = classes[neighbours] == classes[:, None]
    of_room = np.repeat(room, same.shape[1])
    return {"share": float(same.mean()), "interval": share_interval(same.reshape(-1), of_room)}


def agreements(states: States, settings: StatesSettings) -> dict[str, dict[str, Any]]:
    """`agreement` by situation and row: every agent, and "chance", which is the trained agent's
    beliefs, each given to some other moment."""
    shuffled = np.random.default_rng(named_seed(settings.seed, "shuffled states")).permutation(
        len(states.room)
    )
    rows = {**states.beliefs, CHANCE: states.beliefs[AGENT][torch.from_numpy(shuffled)]}
    near = {
        row: neighbours_elsewhere(standardised(belief), states.room, settings.neighbours)
        for row, belief in rows.items()
    }
    return {
        name: {row: agreement(near[row], situation.classes, states.room) for row in rows}
        for name, situation in states.situations.items()
    }


def tsne(belief: Tensor, settings: StatesSettings) -> NDArray[Any]:
    """S beliefs laid out so that neighbours stay neighbours, [S, 2] (van der Maaten & Hinton 2008).

    Raises:
        UserError: scikit-learn is not installed.
    """
    places: NDArray[Any] = find_tsne()(
        init="pca",
        perplexity=min(settings.perplexity, (len(belief) - 1) / 3),
        random_state=settings.seed,
    ).fit_transform(belief.numpy())
    return places


def find_tsne() -> Any:
    """scikit-learn's TSNE.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UserError('t-SNE needs scikit-learn: pip install "groundling[eval]"') from error
    return TSNE


def inspect_states(
    run_dir: Path | str,
    settings: StatesSettings | None = None,
    *,
    device: str = "cpu",
    show_progress: bool = True,
) -> Finding:
    """Lays out the states of a run's agent, and measures what they are sorted by.

    Returns:
        Pictures "tsne" and "pca", both of the trained agent. Numbers: "agreement": {situation:
        {"agent", "untrained agent", "chance": see `agreement`}}; "components": {agent: how many
        principal components hold 90 % of the variance}; "variance": {agent: shares of the first
        ten}; "moments", "rooms", "settings".

    Raises:
        UserError: this is no run, scikit-learn is not installed, or there are too few moments.
    """
    find_tsne()  # Before the long walk.
    settings = settings or StatesSettings()
    run, place = RunDirectory(run_dir), resolve_device(device)
    agent, config = load_agent(run.path, device=device)
    agents = {AGENT: agent, UNTRAINED: load_agent(run.path, device=device, untrained=True)[0]}
    states = collect_states(agents, config.env, settings, device=place, shown=show_progress)
    rooms = len(np.unique(states.room))
    if rooms < 2:
        raise UserError(f"moments is {settings.moments}; expected enough for two rooms")
    agreed = agreements(states, settings)
    beliefs = {name: standardised(belief) for name, belief in states.beliefs.items()}
    analysed = {name: principal_components(belief) for name, belief in beliefs.items()}
    shares = {name: found[1] for name, found in analysed.items()}
    with progress("t-SNE", 1, shown=show_progress) as advance:
        advance(0)
        laid_out = tsne(beliefs[AGENT], settings)
        advance(1)
    components = {name: components_for(of_agent) for name, of_agent in shares.items()}
    return Finding(
        title="The landscape of its states",
        says=SAYS.format(moments=len(states.room), rooms=rooms, neighbours=settings.neighbours),
        table=_table(agreed, components),
        pictures=_pictures(states.situations, agreed, laid_out, *analysed[AGENT]),
        numbers={
            "agreement": agreed,
            "components": components,
            "variance": {name: of_agent[:10].tolist() for name, of_agent in shares.items()},
            "moments": len(states.room),
            "rooms": rooms,
            "settings": dataclasses.asdict(settings),
        },
    )


def _pictures(
    situations: Mapping[str, Situation],
    agreed: Mapping[str, Any],
    laid_out: NDArray[Any],
    projected: NDArray[Any],
    shares: NDArray[Any],
) -> dict[str, bytes]:
    """Both landscapes, a panel for each situation."""
    panels = [
        Panel(name, _note(agreed[name]), one.values, one.labels, one.few)
        for name, one in situations.items()
    ]
    axes = [
        f"{number} component ({100 * share:.0f} % of the variance)"
        for number, share in zip(("first", "second"), shares, strict=False)
    ]
    return {
        "tsne": scatter_panels(laid_out, panels),
        "pca": scatter_panels(projected, panels, axes),
    }


def components_for(shares: NDArray[Any], enough: float = ENOUGH) -> int:
    """How many directions hold that share of the variance, from their shares, largest first."""
    return int((np.cumsum(shares) < enough).sum()) + 1


def _note(agreed: Mapping[str, Any]) -> str:
    agent, chance = agreed[AGENT]["share"], agreed[CHANCE]["share"]
    return f"neighbours agree: {agent:.2f} (chance {chance:.2f})"


def _table(
    agreed: Mapping[str, Mapping[str, Any]], components: Mapping[str, int]
) -> list[list[str]]:
    rows = (AGENT, UNTRAINED, CHANCE)

    def cell(found: Mapping[str, Any]) -> str:
        low, high = found["interval"]
        return f"{found['share']:.2f} ({low:.2f} to {high:.2f})"

    return [
        ["neighbours that share the", *rows],
        *([name, *(cell(found[row]) for row in rows)] for name, found in agreed.items()),
        ["components with 90 % of variance", *(str(components.get(row, "")) for row in rows)],
    ]
