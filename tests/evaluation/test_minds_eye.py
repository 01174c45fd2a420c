"""What is drawn from a memory is what the memory holds."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch.nn import functional as F

from groundling.agents.agent import Agent, AgentOutput, Rows
from groundling.agents.cores import CoreState
from groundling.envs.maps import around_agent
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import draw_map, draw_room
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.evaluation import minds_eye
from groundling.evaluation.film import film_run
from groundling.evaluation.finding import Finding, read_finding, write_finding
from groundling.evaluation.mapping import Drawing, MapDecoder, MapSettings, Sizes
from groundling.evaluation.minds_eye import MindsEye, _likeliest, inspect_map, load_minds_eye
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.run import RunDirectory, load_agent

ROOMS = RoomsOptions(size=3, objects=2, shapes=3, colours=3, view_size=3, episode_length=16)
CONFIG = TrainConfig(frames=512, env=EnvironmentConfig(rooms=ROOMS))
FEW = MapSettings(rooms=64, validation_rooms=32, test_rooms=32, draw_every=4, passes=1, size=32)


def rooms_seen_whole() -> RoomsVectorEnv:
    """Rooms whose every cell is in view."""
    options = RoomsOptions(size=3, objects=3, view_size=7)
    environment = RoomsVectorEnv(8, render_mode="rgb_array", **dataclasses.asdict(options))
    environment.reset(seed=5)
    return environment


def test_a_map_that_is_sure_and_right_looks_like_the_room() -> None:
    environment = rooms_seen_whole()
    maps = environment.draw_maps()
    whole = [room for room in range(8) if (maps.age[room] == 0).all()]
    assert whole
    for room in whole:
        drawn = draw_map(
            maps.kind[room],
            maps.colour[room],
            np.ones((3, 3)),
            int(maps.place[room]),
            int(maps.heading[room]),
            environment.rooms,
            tile=20,
        )
        # As if the walls behind the agent were in view, too: no line is drawn before them.
        environment.world.seen_at[room] = environment.world.elapsed[room]
        true = draw_room(environment.world, room, environment.rooms, tile=20)
        np.testing.assert_array_equal(drawn[20:-20, 20:-20], true[20:-20, 20:-20])


def test_what_is_unsure_is_faint() -> None:
    kind, colour = np.zeros((2, 3, 3), np.int64)
    empty = draw_map(kind, colour, np.ones((3, 3)), 0, 0, ROOMS, tile=20).astype(int)
    kind[2, 2], colour[2, 2] = 2, 1

    def ink(sure: float) -> float:
        drawn = draw_map(kind, colour, np.full((3, 3), sure), 0, 0, ROOMS, tile=20).astype(int)
        assert (drawn[:60, :60] == empty[:60, :60]).all()
        return float(np.abs(drawn - empty)[60:80, 60:80].sum())

    assert ink(0.0) == 0
    assert 0.4 * ink(1.0) < ink(0.5) < 0.6 * ink(1.0)


def drawing_of(environment: RoomsVectorEnv, room: int, sure: float) -> Drawing:
    """Of a decoder that gives the truth a probability and the rest to everything alike."""
    maps = environment.draw_maps()
    around = around_agent(maps)

    def logs(true: np.ndarray, classes: int) -> torch.Tensor:
        right = F.one_hot(torch.from_numpy(true.ravel()), classes).float()
        return (right * sure + (1 - right) * (1 - sure) / (classes - 1)).log()[None]

    kinds, colours = environment.map_codes
    place = np.array([maps.place[room]])
    heading = np.array([maps.heading[room]])
    return Drawing(
        logs(around.kind[room], kinds),
        logs(around.colour[room], colours),
        logs(place, 9)[0],
        logs(heading, 4)[0],
    )


def test_the_minds_eye_draws_what_is_likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = rooms_seen_whole()
    eye = MindsEye(MapDecoder(4, 25, Sizes(*environment.map_codes, 9), 8), environment.rooms)
    for room in range(8):
        maps = environment.draw_maps()
        drawing = drawing_of(environment, room, sure=0.999)
        monkeypatch.setattr(minds_eye, "draw", lambda *_, drawing=drawing: drawing)
        found = eye.picture(torch.zeros(1, 4), tile=20)
        right = draw_map(
            maps.kind[room],
            maps.colour[room],
            np.ones((3, 3)),
            int(maps.place[room]),
            int(maps.heading[room]),
            environment.rooms,
            tile=20,
        )
        assert np.abs(found.astype(int) - right.astype(int)).max() <= 2


def test_a_thing_is_as_faint_as_it_is_unsure_that_anything_is_there() -> None:
    kind = torch.tensor([[[0.7, 0.0, 0.1, 0.2], [0.3, 0.6, 0.1, 0.0], [0.1, 0.4, 0.3, 0.2]]]).log()
    colour = torch.tensor([[[0.3, 0.2, 0.5], [0.9, 0.06, 0.04], [0.5, 0.2, 0.3]]]).log()
    what, which, sure = _likeliest(Drawing(kind, colour, torch.zeros(1, 2), torch.zeros(1, 4)))
    assert what.tolist() == [3, 1, 2]  # A thing, a wall, a thing.
    assert which.tolist() == [2, 1, 2]  # Colour 0 is none.
    np.testing.assert_allclose(sure, [0.3, 0.1, 0.5], rtol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train(CONFIG, tmp_path_factory.mktemp("runs") / "run", show_progress=False)


@pytest.fixture(scope="module")
def found(run: RunDirectory) -> Finding:
    return inspect_map(run.path, FEW, show_progress=False)


def test_a_run_is_mapped_beside_what_it_was_before_training(
    run: RunDirectory, found: Finding
) -> None:
    rows = found.numbers["rows"]
    assert list(rows) == ["agent", "untrained agent", "prior"]
    assert all(abs(bits) < 1e-6 for bits in rows["prior"]["bits"].values())
    assert rows["agent"]["bits"] != rows["untrained agent"]["bits"]
    assert found.numbers == inspect_map(run.path, FEW, show_progress=False).numbers
    assert list(found.table[0][1:]) == list(rows)
    assert all(len(line) == 4 for line in found.table)
    assert found.table[-1][0] == "its own heading"
    assert found.table[-1][1] == f"{rows['agent']['heading']:.2f}"
    for name in ("episode", "fading"):
        assert Image.open(io.BytesIO(found.pictures[name])).width > 400


def test_the_decoder_is_kept_and_the_film_shows_what_it_draws(
    run: RunDirectory, found: Finding, tmp_path: Path
) -> None:
    agent, config = load_agent(run.path)
    eye = load_minds_eye(run, agent, config)
    assert eye is not None
    belief = agent.initial_state(1).belief
    again = load_minds_eye(run, agent, config)
    assert again is not None
    np.testing.assert_array_equal(eye.picture(belief, 10), again.picture(belief, 10))

    def width() -> int:
        with Image.open(film_run(run.path, tmp_path / "film.gif", steps=3)) as film:
            assert len(list(ImageSequence.Iterator(film))) >= 1
            return film.width

    wide = width()
    file = run.finding("map").with_suffix(".pt")
    file.rename(file.with_suffix(".elsewhere"))
    assert load_minds_eye(run, agent, config) is None
    assert width() < wide
    file.with_suffix(".elsewhere").rename(file)


class Forgetful(Agent):
    """Remembers nothing at all."""

    def step(self, row: Rows, state: CoreState) -> tuple[AgentOutput, CoreState]:
        output, state = super().step(row, state)
        nothing = torch.zeros_like(state.hidden)
        return output, CoreState(nothing, nothing)


def test_of_an_agent_without_memory_nothing_is_drawn_beyond_the_prior(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, **keywords: object) -> tuple[Agent, TrainConfig]:
        agent, config = load_agent(path, **keywords)  # type: ignore[arg-type]
        agent.__class__ = Forgetful
        return agent, config

    monkeypatch.setattr(minds_eye, "load_agent", load)
    rows = inspect_map(run.path, FEW, show_progress=False).numbers["rows"]
    for age, bits in rows["agent"]["bits"].items():
        assert bits < 0.02, age
    for age, things in rows["agent"]["things"].items():
        assert things["named"] <= rows["prior"]["things"][age]["named"] + 0.1, age


def test_a_finding_is_read_as_it_was_written(found: Finding, tmp_path: Path) -> None:
    write_finding(found, tmp_path / "map.json")
    again = read_finding(tmp_path / "map.json")
    assert again.pictures == found.pictures
    assert again.table == [list(line) for line in found.table]
    assert (again.title, again.says) == (found.title, found.says)
    assert again.numbers["rows"]["agent"] == found.numbers["rows"]["agent"]
    assert {file.name for file in tmp_path.iterdir()} == {
        "map.json",
        "map-episode.png",
        "map-fading.png",
    }
