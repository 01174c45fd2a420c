"""Moments of an agent's own walks, each with the rows that led to it.

Its own policy walks, not the explorer: what decisions hang on is asked where it takes them. Beside
the moments there are questions about what their rows showed and is out of view by then.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.agent import Agent, Rows, join_rows
from groundling.agents.cores import CoreState
from groundling.agents.generators import named_generator, named_seed
from groundling.agents.probe import Probe
from groundling.envs.errors import UserError
from groundling.envs.questions import Questions, concatenate
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.evaluation.cause import COLOUR_OF
from groundling.evaluation.examples import through_rooms
from groundling.evaluation.walks import Reader, by_agent, walk
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import make_environment
from groundling.training.progress import progress
from groundling.training.seeds import environment_seed

ROOMS_AT_ONCE = 128
"""Fewer than probing takes: rooms walked together are looked at in the same steps."""


@dataclass(frozen=True)
class Pasts:
    """What led to one step of a walk, in S of its environments: T rows each."""

    rows: Rows
    """[T, S, …]: the last is the step's own."""
    before: Mapping[str, CoreState]
    """[S, core_size] each, by agent: the state before the first row."""
    room: NDArray[np.int64]
    """[S]: which room, counted from 0 in the order they were entered."""


def collect_pasts(
    agents: Mapping[str, Agent],
    config: EnvironmentConfig,
    probe: Probe | None = None,
    *,
    rooms: int,
    steps: int,
    draw_every: int,
    seed: int,
    device: torch.device,
    shown: bool = True,
) -> tuple[list[Pasts], list[tuple[Pasts, Questions]]]:
    """Walks rooms of the test set with the policy of the first agent; the others read along.

    For `rooms`, `steps`, `draw_every` and `seed` see `attention.AttentionSettings`.

    Returns:
        The pasts of all moments; and, if there is a probe (the first agent's), those of
        `pairs_of_questions`.

    Raises:
        ValueError: fewer than two rooms have a moment with so many steps of its episode before it.
    """
    world = make_environment(config, num_envs=min(rooms, ROOMS_AT_ONCE))
    readers = {name: Reader(agent, world.num_envs) for name, agent in agents.items()}
    leader = next(iter(readers.values()))
    walked = walk(
        world,
        seed=environment_seed("probe-test"),
        choose=by_agent(leader, named_generator(seed, "attention", device)),
        readers=tuple(readers.values()),
        device=device,
    )
    generator = np.random.default_rng(named_seed(seed, "moments"))
    window = Window(readers, steps)
    pasts: list[Pasts] = []
    asked: list[tuple[Pasts, Questions]] = []
    with progress("walks", rooms, shown=shown) as advance:
        for row, wanted in through_rooms(walked, rooms, advance):
            window.note(row)
            # Row 0 may begin the episode.
            (old,) = np.nonzero((window.age >= steps - 1) & wanted)
            if len(old) and generator.random() < 1.0 / draw_every:
                pasts.append(window.pasts(old))
                if probe is not None and isinstance(source := world.unwrapped, RoomsVectorEnv):
                    questions = pairs_of_questions(source, old, probe, leader, steps, generator)
                    if len(questions):
                        asked.append((window.pasts(questions.world), questions))
    world.close()
    if len({room for past in pasts for room in past.room}) < 2:
        raise UserError(
            f"steps is {steps}, and fewer than two rooms had a moment with so many before it; "
            "expected fewer steps than an episode has, or more rooms"
        )
    return pasts, asked


class Window:
    """The last `steps` rows of a walk, and the states that its readers had on the way."""

    def __init__(self, readers: Mapping[str, Reader], steps: int) -> None:
        self.readers = readers
        self.rows: deque[Rows] = deque(maxlen=steps)
        # One more than there are rows: the first is what the first row was read with.
        self.states = deque([self._states()], maxlen=steps + 1)
        batch = len(next(iter(readers.values())).state.cell)
        self.room, self.age = np.full(batch, -1), np.zeros(batch, np.int64)

    def _states(self) -> dict[str, CoreState]:
        return {name: reader.state for name, reader in self.readers.items()}

    def note(self, row: Rows) -> None:
        """Takes in a row after the readers have read it."""
        self.rows.append(row)
        self.states.append(self._states())
        starting = row.is_first.cpu().numpy()
        self.room[starting] = self.room.max() + 1 + np.arange(starting.sum())
        self.age = np.where(starting, 0, self.age + 1)

    def pasts(self, environments: NDArray[np.int64]) -> Pasts:
        """What led to the present in some environments, each as often as it is named."""

        rows = [row.map(lambda part: part[environments]) for row in self.rows]
        before = {
            name: CoreState(*(part[environments] for part in state))
            for name, state in self.states[0].items()
        }
        return Pasts(join_rows(rows, torch.stack), before, self.room[environments])


def pairs_of_questions(
    source: RoomsVectorEnv,
    environments: NDArray[np.int64],
    probe: Probe,
    reader: Reader,
    steps: int,
    generator: np.random.Generator,
) -> Questions:
    """Asks for the colours of two things in each environment where there are two to ask about.

    Such a thing is out of view, was in view in one of the last `steps` rows, and is remembered by
    the decoder. Questions 2k and 2k + 1 are about two things in one environment, each the other's
    control: so both sides are known as well and as recent on average.
    """
    texts = [COLOUR_OF.format(shape) for shape in source.rooms.shape_names]
    questions = concatenate([source.typed_question(text) for text in texts])
    age = questions.steps_since_seen
    questions = questions[questions.answerable & (age > 0) & (age < steps)]
    tokens = torch.from_numpy(questions.tokens).to(reader.state.cell.device)
    words = probe(reader.state.belief[questions.world], tokens).argmax(-1).cpu().numpy()
    known = questions[words == questions.answer]
    pairs: list[int] = []
    for environment in environments:
        (here,) = np.nonzero(known.world == environment)
        if len(here) > 1:
            pairs += generator.choice(here, 2, replace=False).tolist()
    return known[np.array(pairs, np.int64)]
