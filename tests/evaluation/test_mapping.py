"""The map probe finds what a memory holds, and nothing in one that holds nothing."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from groundling.agents.agent import Agent, AgentOutput, Rows
from groundling.agents.cores import CoreState
from groundling.envs.maps import NEVER_SEEN, OUTSIDE, Maps, cells_around
from groundling.envs.rooms.options import MARGIN, RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import NEVER
from groundling.evaluation import mapping
from groundling.evaluation.mapping import (
    Drawing,
    MapFit,
    MapSettings,
    Sizes,
    collect_moments,
    draw,
    log_probability_of_cells,
    prior_of,
    score_map,
    targets_of,
)
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import make_environment

CPU = torch.device("cpu")
KINDS, COLOURS = 5, 4
SIZES = Sizes(KINDS, COLOURS, places=9)
SETTINGS = MapSettings(size=128, passes=6, batch=32, learning_rate=3e-3)


def random_maps(number: int, generator: np.random.Generator) -> Maps:
    """3 × 3 cells, two things among them, each cell seen some steps ago or never."""
    kind, colour = np.zeros((2, number, 9), np.int64)
    for one in range(number):
        cells = generator.choice(9, 2, replace=False)
        kind[one, cells] = generator.integers(2, KINDS, 2)
        colour[one, cells] = generator.integers(1, COLOURS, 2)
    return Maps(
        kind.reshape(number, 3, 3),
        colour.reshape(number, 3, 3),
        generator.choice([NEVER_SEEN, 0, 3, 7, 12], (number, 3, 3)),
        generator.integers(0, 9, number),
        generator.integers(0, 4, number),
    )


def remembered(maps: Maps, oldest: int) -> torch.Tensor:
    """A belief that is a table of the cells seen at most so many steps ago, and of the pose."""
    known = torch.from_numpy((maps.age <= oldest) & (maps.age != NEVER_SEEN)).flatten(1)[..., None]
    targets = targets_of(maps, CPU)
    parts = [F.one_hot(targets.kind, KINDS) * known, F.one_hot(targets.colour, COLOURS) * known]
    pose = [F.one_hot(targets.place, 9), F.one_hot(targets.heading, 4)]
    return torch.cat([*(part.flatten(1) for part in parts), *pose], dim=1).half()


def scores_of(beliefs, maps: list[Maps]) -> dict:
    """Fits a decoder to a kind of belief and scores it."""
    learnt, stopping, test = maps
    fit = MapFit(targets_of(learnt, CPU), targets_of(stopping, CPU), SIZES, SETTINGS)
    decoder = fit.run(beliefs(learnt), beliefs(stopping), "it", shown=False)
    prior = prior_of(learnt, SIZES, CPU)
    room = np.arange(len(test.place))
    return score_map(draw(decoder, beliefs(test)), prior, test, room)


@pytest.fixture(scope="module")
def maps() -> list[Maps]:
    generator = np.random.default_rng(0)
    return [random_maps(number, generator) for number in (6000, 500, 1000)]


def test_what_was_seen_up_to_five_steps_ago_is_drawn_and_nothing_older(maps: list[Maps]) -> None:
    scores = scores_of(lambda some: remembered(some, 4), maps)
    for age in ("0", "1-4"):
        assert scores["things"][age]["drawn"] > 0.97
        assert scores["bits"][age] > 1.3
    for age in ("5-9", "10-19", "5+", "never"):
        assert scores["things"][age]["drawn"] < 0.05
        assert scores["things"][age]["named"] < 0.25  # Of 3 kinds in 3 colours, by chance 0.11.
        low, high = scores["things"][age]["interval"]
        assert low < scores["things"][age]["named"] < high
        assert scores["bits"][age] < 0.3  # Two things are known not to be elsewhere.
    assert scores["place"] > 0.98
    assert scores["heading"] > 0.98


def test_nothing_is_drawn_from_noise(maps: list[Maps]) -> None:
    def noise(some: Maps) -> torch.Tensor:
        return torch.randn(len(some.place), 64, generator=torch.Generator().manual_seed(1)).half()

    scores = scores_of(noise, maps)
    assert all(bits < 0.01 for bits in scores["bits"].values())
    assert all(things["drawn"] < 0.02 for things in scores["things"].values())
    assert abs(scores["place"] - 1 / 9) < 0.05
    assert abs(scores["heading"] - 1 / 4) < 0.06


def test_likelihood_prior_and_scores_by_hand() -> None:
    # Two maps of two cells: floor and a thing; a wall and a thing.
    kind, colour = np.array([[[0, 2]], [[1, 2]]]), np.array([[[0, 1]], [[0, 1]]])
    age = np.array([[[0, 0]], [[2, NEVER_SEEN]]])
    maps = Maps(kind, colour, age, np.zeros(2, int), np.ones(2, int))
    prior = prior_of(maps, Sizes(3, 2, 2), CPU)
    # Counts and one each: cell 0 (2, 2, 1) / 5 and (3, 1) / 4; cell 1 (1, 1, 3) / 5 and (1, 3) / 4.
    found = log_probability_of_cells(prior, targets_of(Maps(*(part[:1] for part in maps)), CPU))
    np.testing.assert_allclose(found.exp().numpy(), [[0.4 * 0.75, 0.6 * 0.75]], rtol=1e-6)
    sure = Drawing(
        torch.log(F.one_hot(torch.tensor([[0, 2], [0, 2]]), 3).float() + 1e-9),
        torch.log(F.one_hot(torch.tensor([[0, 1], [0, 0]]), 2).float() + 1e-9),
        torch.zeros(2, 2),
        torch.zeros(2, 4),
    )
    scores = score_map(sure, prior, maps, np.arange(2))
    assert scores["bits"]["0"] == pytest.approx(-np.log2([0.3, 0.45]).mean(), rel=1e-5)
    assert scores["bits"]["1-4"] < -20  # Sure of floor where a wall is.
    assert scores["bits"]["never"] < -20  # The right kind in the wrong colour.
    assert scores["things"] == {
        "0": {"drawn": 1.0, "named": 1.0, "interval": None, "cells": 1},
        # Drawn as floor; of things it would be the right one.
        "never": {"drawn": 0.0, "named": 1.0, "interval": None, "cells": 1},
    }


def test_the_prior_knows_nothing_of_what_is_outside() -> None:
    kind, colour = np.array([[[0, 2]], [[1, 1]]]), np.array([[[0, 1]], [[0, 0]]])
    age = np.array([[[0, NEVER_SEEN]], [[4, OUTSIDE]]])
    maps = Maps(kind, colour, age, np.zeros(2, int), np.ones(2, int))
    prior = prior_of(maps, Sizes(3, 2, 2), CPU)
    expected = [[[2 / 5, 2 / 5, 1 / 5], [1 / 4, 1 / 4, 2 / 4]]]
    np.testing.assert_allclose(prior.kind.exp().numpy(), expected, rtol=1e-6)


def test_the_rooms_are_drawn_as_they_are() -> None:
    options = RoomsOptions(layout="l_shape", size=6, objects=5, view_size=3)
    environment = RoomsVectorEnv(4, **dataclasses.asdict(options))
    environment.reset(seed=3)
    for _ in range(9):
        environment.step(environment.explorer_actions())
    maps, world, margin = environment.draw_maps(), environment.world, MARGIN
    assert environment.map_codes == (10, 7)
    for room in range(4):
        things = {}
        for row, column, shape, colour, _ in world.objects[
            room, : world.object_count[room]
        ].tolist():
            things[row - margin, column - margin] = (2 + shape, 1 + colour)
        for row in range(6):
            for column in range(6):
                cell = world.cells[room, row + margin, column + margin]
                plain = (1, 0) if cell[0] == 2 else (0, 0)
                found = maps.kind[room, row, column], maps.colour[room, row, column]
                assert found == things.get((row, column), plain)
                seen = world.seen_at[room, row + margin, column + margin]
                age = NEVER_SEEN if seen == NEVER else world.elapsed[room] - seen
                assert maps.age[room, row, column] == age
        row, column, heading = world.agent[room].tolist()
        assert maps.place[room] == (row - margin) * 6 + column - margin
        assert maps.heading[room] == heading
    assert (maps.kind == 1).any()
    assert (maps.age == NEVER_SEEN).any()


CONFIG = TrainConfig(
    frames=512,
    env=EnvironmentConfig(
        rooms=RoomsOptions(size=3, objects=2, shapes=3, colours=3, view_size=3, episode_length=16)
    ),
)
FEW = MapSettings(rooms=64, validation_rooms=32, test_rooms=32, draw_every=4, passes=1, size=32)


class Compass(Agent):
    """Remembers where it looks now, and nothing else."""

    def step(self, row: Rows, state: CoreState) -> tuple[AgentOutput, CoreState]:
        output, state = super().step(row, state)
        hidden = torch.zeros_like(state.hidden)
        hidden[:, 0] = row.observation["direction"]
        return output, CoreState(hidden, hidden)


def test_beliefs_and_maps_are_of_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "ROOMS_AT_ONCE", 8)
    world = make_environment(CONFIG.env, num_envs=1)
    agent = Compass(world.single_observation_space, world.single_action_space, CONFIG.agent, seed=0)
    world.close()
    once = collect_moments(
        {"it": agent}, CONFIG.env, "probe-test", 40, FEW, device=CPU, shown=False
    )
    np.testing.assert_array_equal(once.beliefs["it"][:, 0].numpy(), once.maps.heading)
    assert len(np.unique(once.maps.heading)) == 4
    # Rooms are numbered as they are entered; one room's things stay where they are.
    where = cells_around(once.maps.place, once.maps.heading, 3, 3)
    kind = np.take_along_axis(once.maps.kind.reshape(len(once.room), -1), where, axis=1)
    for room in np.unique(once.room):
        assert len(np.unique(kind[once.room == room], axis=0)) == 1
    assert len(np.unique(kind, axis=0)) > 20
    assert once.sizes == (5, 4, 9)


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    config = EnvironmentConfig(id="CartPole-v1")
    with pytest.raises(ValueError, match="CartPole-v1 draws no maps"):
        collect_moments({}, config, "probe-test", 4, FEW, device=CPU, shown=False)
