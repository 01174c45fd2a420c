"""Films: what stands beside the picture, and the window they are shown in."""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from groundling.agents.agent import Rows
from groundling.agents.config import AgentConfig
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import draw_scene, tile_of
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.evaluation import film
from groundling.evaluation.film import _Tally, environment_frames, film_run, run_frames, show
from groundling.evaluation.mapping import MapSettings
from groundling.evaluation.minds_eye import inspect_map
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train

GO_TO = RoomsOptions(layout="two_rooms", doors=True, size=3, objects=2, episode_length=50)


def row(reward: float, *, is_first: bool) -> Rows:
    return Rows({}, torch.tensor([is_first]), torch.tensor([0]), torch.tensor([reward]))


def test_the_caption_counts_an_episode_and_tells_what_the_last_one_brought() -> None:
    tally, texts = _Tally(), []
    for reward, is_first in [(0, True), (1, False), (0.5, False), (1, True), (0, False), (0, True)]:
        tally.follow(row(reward, is_first=is_first), np.zeros(1, bool))
        texts.append(tally.text)
    assert texts == [
        "return 0",
        "return 1",
        "return 1.5",
        "return 0 (last: 2.5)",
        "return 0 (last: 2.5)",
        "return 0 (last: 0)",
    ]


def test_the_caption_tells_what_each_of_several_agents_earned() -> None:
    """The second one leaves with a reward while the first goes on; then both begin again."""
    tally = _Tally(2)
    steps = [
        ([0, 0], [True, True], [False, False]),
        ([1, 2], [False, True], [False, True]),
        ([1, 0], [False, True], [False, True]),
        ([3, 0], [True, True], [False, False]),
        ([1, 1], [False, False], [False, False]),
    ]
    texts = []
    for rewards, first, absent in steps:
        rows = Rows({}, torch.tensor(first), torch.zeros(2), torch.tensor(rewards).float())
        tally.follow(rows, np.array(absent))
        texts.append(tally.text)
    assert texts == [
        "return 0  0",
        "return 1  0 (last: 2)",
        "return 2  0 (last: 2)",
        "return 0 (last: 5)  0 (last: 2)",
        "return 1 (last: 5)  1 (last: 2)",
    ]


def test_a_house_of_several_agents_is_filmed_and_one_of_them_asked(tmp_path: Path) -> None:
    config = EnvironmentConfig(
        id="groundling.envs.groundling_house_v0:parallel_env",
        num_envs=2,
        options={"agents": 2, "size": 3, "objects": 2, "quota": 2, "view_size": 3},
    )
    assert len(list(islice(environment_frames(config), 12))) == 12
    small = TrainConfig(frames=256, env=config, agent=AgentConfig(core_size=16))
    run = train(small, tmp_path / "run", show_progress=False)
    assert len(list(islice(run_frames(run.path), 12))) == 12


def test_a_film_of_going_to_things_shows_house_and_instruction() -> None:
    config = EnvironmentConfig(id="Groundling/GoTo-v0", rooms=GO_TO)
    world = RoomsVectorEnv(1, **vars(config.rooms))
    world.reset(seed=3)
    for frame in islice(environment_frames(config, seed=3), 20):
        scene = draw_scene(world.world, 0, world.rooms)
        np.testing.assert_array_equal(np.asarray(frame)[: len(scene)], scene)
        world.step(world.explorer_actions())


def test_what_is_filmed_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(RoomsVectorEnv, "close", lambda self, **_: closed.append(self))
    frames = environment_frames(EnvironmentConfig(), seed=0)
    next(frames)
    assert not closed
    frames.close()  # type: ignore[attr-defined]
    assert closed


def test_a_film_ends_with_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setattr(film, "FRAME_MILLISECONDS", 1)
    shown = []

    def frames() -> Iterator[Image.Image]:
        for number in range(10):
            shown.append(number)
            if number == 3:
                pygame.event.post(pygame.event.Event(pygame.QUIT))
            yield Image.new("RGB", (40 + number, 30), (number, 0, 0))

    show(frames())
    assert shown == [0, 1, 2, 3]
    assert not pygame.display.get_init()
    show(islice(frames(), 2))
    assert not pygame.display.get_init()


@pytest.mark.parametrize(
    ("name", "rooms"),
    [
        ("Groundling/GoTo-v0", GO_TO),
        (
            "Groundling/Explore-v0",
            RoomsOptions(
                layout="corridor", doors=True, size=(3, 4), wall_colours=True, episode_length=9
            ),
        ),
    ],
)
def test_an_agent_in_a_house_is_filmed_with_its_view_and_memory(
    name: str, rooms: RoomsOptions, tmp_path: Path, small_agent: AgentConfig
) -> None:
    env = EnvironmentConfig(id=name, rooms=rooms)
    config = TrainConfig(frames=64, env=env, agent=small_agent)
    run = train(config, tmp_path / "run", show_progress=False)
    few = MapSettings(rooms=16, validation_rooms=16, test_rooms=16, draw_every=1, passes=1, size=16)
    found = inspect_map(run.path, few, show_progress=False)
    with Image.open(io.BytesIO(found.pictures["episode"])) as strip:
        rows, columns = rooms.grid_shape
        assert strip.height == 26 + 2 * (26 * rows + 12)
    (frame,) = islice(run_frames(run.path), 1)
    view = 40 * rooms.view_size
    assert frame.width == 2 * columns * tile_of(rooms) + view + 2 * film.MARGIN
    path = film_run(run.path, tmp_path / "film.gif", steps=5)
    with Image.open(path) as moving:
        assert getattr(moving, "n_frames", 1) <= 5
        assert moving.width == frame.width
