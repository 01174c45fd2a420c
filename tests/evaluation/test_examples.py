"""Questions and beliefs are of one moment, and only whole rooms are asked about."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from groundling.agents.agent import Rows
from groundling.agents.cores import CoreState
from groundling.envs.questions import NOT_SEEN, Questions
from groundling.evaluation.examples import _ask_on_the_way, _through_rooms
from groundling.evaluation.walks import Reader

B, EPISODE = 3, 4


class Clock:
    """A world, and a reader of it, in which everything tells the step and the environment."""

    def __init__(self) -> None:
        self.step = -1

    def rows(self, steps: int) -> Iterator[Rows]:
        for self.step in range(steps):
            is_first = torch.full((B,), self.step % EPISODE == 0)
            observation = {"step": torch.full((B,), self.step)}
            yield Rows(observation, is_first, torch.zeros(B, dtype=torch.int64), torch.zeros(B))

    def ask(self, generator: np.random.Generator) -> Questions:
        world = np.repeat(np.arange(B), 2)  # Two of each environment.
        told = np.stack([np.full(2 * B, self.step), world], axis=1)
        nothing = np.zeros(2 * B, np.int64)
        return Questions(
            world, nothing, told, told, nothing, nothing == 0, np.full(2 * B, NOT_SEEN)
        )

    @property
    def state(self) -> CoreState:
        told = torch.tensor([[self.step, environment] for environment in range(B)])
        return CoreState(told, told)


@pytest.mark.parametrize("every", [1, 3])
def test_a_question_is_put_to_the_belief_of_its_own_step_and_environment(every: int) -> None:
    clock = Clock()
    reader: Reader = clock  # type: ignore[assignment]
    asked, beliefs = _ask_on_the_way(
        clock,  # type: ignore[arg-type]
        clock.rows(40),
        {"a": reader},
        every=every,
        generator=np.random.default_rng(0),
    )
    assert len(asked) == 40 if every == 1 else 5 < len(asked) < 30
    believed = torch.cat(beliefs["a"])
    for questions in asked:
        told = believed[torch.from_numpy(questions.world)]
        assert told[:, :2].tolist() == questions.arguments.tolist()


@pytest.mark.parametrize(("rooms", "rows"), [(1, 4), (3, 4), (4, 8), (6, 8), (7, 12)])
def test_walks_end_with_the_last_room_that_was_wanted(rooms: int, rows: int) -> None:
    progress: list[float] = []

    def advance(done: float, note: str = "") -> None:
        progress.append(done)

    steps = [
        int(row.observation["step"][0]) for row in _through_rooms(Clock().rows(100), rooms, advance)
    ]
    assert steps == list(range(rows))
    assert progress == sorted(progress)
    assert progress[-1] == rooms
