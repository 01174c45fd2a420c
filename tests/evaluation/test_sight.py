"""Squares and trail are drawn where the agent looked, and nowhere else."""

from itertools import islice
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image

from groundling.agents.agent import Rows
from groundling.agents.attention import Attention
from groundling.agents.config import AgentConfig, GlimpseConfig, PredictionConfig
from groundling.agents.glimpse import OUTSIDE
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.tiles import EDGE_COLOUR
from groundling.evaluation.film import film_run, run_frames
from groundling.evaluation.sight import (
    TRAIL,
    Sight,
    boxes,
    colourful,
    darkness,
)
from groundling.training.config import EnvironmentConfig, OnlineProbeConfig, TrainConfig
from groundling.training.loop import train

IMAGE = spaces.Box(0, 255, (20, 30, 1), np.uint8)
CELLS = spaces.Box(0, 4, (7, 7, 3), np.uint8)


def sight_of(space: spaces.Box, scales: int = 2, size: int = 3) -> Sight:
    glimpse = GlimpseConfig(size=size, scales=scales)
    return Sight(Attention(space, AgentConfig(attention="foveal", glimpse=glimpse)), None)


def row_of(sight: Sight, whole: np.ndarray, row: float, column: float, *, first: bool) -> Rows:
    """One row as the agent sees it; a second environment looks elsewhere."""
    location = torch.tensor([[row, column], [-1.0, -1.0]])
    observation = {"observation": torch.from_numpy(np.stack([whole, whole]))}
    seen = sight.attention.see(observation, location)
    flags = torch.tensor([first, True])
    return Rows(seen, flags, torch.zeros(2), torch.zeros(2), location)


def is_ink(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour, np.uint8)).all(-1)


def test_squares_of_all_scales_lie_around_what_was_read() -> None:
    sight = sight_of(IMAGE)
    whole = np.zeros((20, 30, 1), np.uint8)
    # Places: row 15.0, column 7.5. A patch of 3 begins at 14 and 6, one of 6 at 12 and 5.
    sight.follow(row_of(sight, whole, 0.5, -0.5, first=True))
    picture, zoom = sight.looking(whole), sight.zoom
    assert picture.shape == (20 * zoom, 30 * zoom, 3)
    assert boxes(sight.attention.fovea, sight.corners, 1) == [(6, 14, 8, 16), (5, 12, 10, 17)]
    ink = is_ink(picture, EDGE_COLOUR)
    expected = np.zeros_like(ink)
    for (left, top, side), width in (((6, 14, 3), 2), ((5, 12, 6), 1)):
        outer = slice(top * zoom, (top + side) * zoom), slice(left * zoom, (left + side) * zoom)
        inner = tuple(slice(one.start + width, one.stop - width) for one in outer)
        frame = np.zeros_like(ink)
        frame[outer], frame[inner] = True, False
        expected |= frame
    assert np.array_equal(ink, expected)


def test_squares_are_cut_off_at_the_border_of_the_view() -> None:
    sight = sight_of(CELLS, scales=3)
    whole = np.ones((7, 7, 3), np.uint8)
    sight.follow(row_of(sight, whole, -1.0, 1.0, first=True))
    assert boxes(sight.attention.fovea, sight.corners, 10) == [
        (60, 0, 69, 19),
        (40, 0, 69, 29),
        (10, 0, 69, 59),
    ]
    assert sight.looking(whole).shape == (7 * sight.zoom, 7 * sight.zoom, 3)


def test_what_is_read_sharply_is_bright_and_the_rest_the_darker_the_coarser() -> None:
    sight = sight_of(CELLS, size=1, scales=3)
    whole = np.ones((7, 7, 3), np.uint8)
    sight.follow(row_of(sight, whole, 0.0, 0.0, first=True))
    dark = darkness(sight.attention.fovea, sight.corners)
    assert dark[3, 3] == 0
    assert (dark == 0).sum() == 1
    levels = np.unique(dark)
    assert [int((dark == level).sum()) for level in levels] == [1, 4 - 1, 16 - 4, 49 - 16]


def test_the_trail_is_of_this_episode_and_begins_anew() -> None:
    sight = sight_of(IMAGE, size=1, scales=1)
    whole = np.zeros((20, 30, 1), np.uint8)

    def dots(*looks: tuple[float, float], first: bool = False) -> np.ndarray:
        for place, look in enumerate(looks):
            sight.follow(row_of(sight, whole, *look, first=first and place == 0))
        drawn = sight.looking(whole).astype(int)
        return drawn[..., 0] - drawn[..., 1] > 20  # Reddish.

    def has(drawn: np.ndarray, row: float, column: float) -> bool:
        y, x = int((row + 1) / 2 * 20 * sight.zoom), int((column + 1) / 2 * 30 * sight.zoom)
        return bool(drawn[y - 2 : y + 3, x - 2 : x + 3].any())

    drawn = dots((0.0, 0.0), (0.5, 0.5), (-0.5, 0.5), first=True)
    assert has(drawn, 0.0, 0.0)
    assert has(drawn, 0.5, 0.5)
    assert has(drawn, 0.0, 0.5)  # The line between the last two.
    assert not has(drawn, -0.5, -0.5)
    drawn = dots((-0.5, -0.5), first=True)
    assert not has(drawn, 0.0, 0.0)
    assert not has(drawn, 0.5, 0.5)
    dots(*[(0.5, -0.5)] * (TRAIL + 1))
    assert len(sight.trail) == TRAIL


def test_what_an_agent_gets_of_an_image_is_sharp_inside_and_coarse_around() -> None:
    sight = sight_of(IMAGE, size=2, scales=2)
    whole = np.random.default_rng(0).integers(0, 256, (20, 30, 1)).astype(np.uint8)
    sight.follow(row_of(sight, whole, 0.0, 0.0, first=True))
    picture, zoom = sight.received(), sight.zoom
    assert picture is not None
    middles = picture[zoom // 2 :: zoom, zoom // 2 :: zoom]
    assert np.array_equal(middles[9:11, 14:16], colourful(whole[9:11, 14:16]))
    corner = whole[8:10, 13:15].mean().round()
    assert (middles[8, 13:15] == corner).all()
    assert (middles[0, 0] == middles[19, 29]).all()  # Nothing was read there.


def test_the_finest_patch_of_cells_is_what_lies_there() -> None:
    sight = sight_of(CELLS)
    whole = np.random.default_rng(0).integers(0, 5, (7, 7, 3)).astype(np.uint8)
    sight.follow(row_of(sight, whole, 0.0, -1.0, first=True))
    assert sight.received() is None
    sharp = sight.sharp_cells()
    assert (sharp[:, 1:] == whole[2:5, :2]).all() or (sharp[:, 1:] == whole[3:6, :2]).all()
    assert (sight.glimpse.reshape(-1, 3)[:9].reshape(3, 3, 3)[:, 0] == OUTSIDE).all()
    assert (sharp[:, 0] == 0).all()


def test_films_of_attention_show_where_it_looks(tmp_path: Path) -> None:
    rooms = RoomsOptions(size=4, view_size=5, episode_length=16)
    prediction = PredictionConfig(loss="simcore")
    agent = AgentConfig(
        core_size=16, attention="foveal", glimpse=GlimpseConfig(scales=2), prediction=prediction
    )
    config = TrainConfig(frames=64, env=EnvironmentConfig(num_envs=2, rooms=rooms), agent=agent)
    run = train(config, tmp_path / "run", show_progress=False)
    plain = next(run_frames(run.path))
    imagined = next(run_frames(run.path, imagine=True))
    assert imagined.height > plain.height
    for frame in islice(run_frames(run.path, seed=1), 3):
        view = np.asarray(frame)[:, -5 * 40 :][: 6 * 40]
        assert is_ink(view, EDGE_COLOUR).sum() > 4 * 40
    with Image.open(film_run(run.path, tmp_path / "film.gif", steps=3)) as film:
        assert film.n_frames == 3


class Canvas(gymnasium.Env):
    """A grey image in which nothing happens."""

    observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.full((16, 16, 3), 90, np.uint8), {}

    def step(self, action):
        self.steps += 1
        return np.full((16, 16, 3), 90, np.uint8), 0.0, self.steps > 5, False, {}

    def render(self):
        return np.full((64, 64, 3), 90, np.uint8)


@pytest.mark.parametrize("attention", ["tile", "foveal"])
def test_anybodys_image_is_filmed_with_what_the_agent_gets(attention, tmp_path, register) -> None:
    register("Canvas-v0", Canvas)
    config = TrainConfig(
        frames=64,
        env=EnvironmentConfig(id="Canvas-v0", num_envs=2),
        agent=AgentConfig(core_size=16, attention=attention),
        probe=OnlineProbeConfig(online="auto"),
    )
    run = train(config, tmp_path / "run", show_progress=False)
    frame = np.asarray(next(run_frames(run.path)))
    zoom = 400 // 16
    assert frame.shape[1] == 64 + 2 * (20 + 16 * min(zoom, 40))
    sides = frame[:, 64 + 20 : 64 + 20 + 16 * zoom], frame[:, -16 * zoom :]
    assert all(is_ink(side, EDGE_COLOUR).any() for side in sides)
