"""Observations become numbers from which every one of them can be told."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from groundling.agents.agent import Rows
from groundling.agents.attention import Attention
from groundling.agents.config import AgentConfig, GlimpseConfig
from groundling.agents.glimpse import CellsGlimpse
from groundling.evaluation.observed import ObservationCode


def row(observation: dict[str, torch.Tensor], first: list[bool], action: list[int]) -> Rows:
    return Rows(observation, torch.tensor(first), torch.tensor(action), torch.zeros(len(first)))


def test_categories_become_one_hot_and_the_action_before_an_episode_is_nothing() -> None:
    space = spaces.Dict(
        {
            "heading": spaces.Discrete(3, start=5),
            "view": spaces.Box(0, np.array([[1, 2]], np.uint8), (1, 2), np.uint8),
        }
    )
    code = ObservationCode(space, spaces.Discrete(2))
    observation = {
        "heading": torch.tensor([5, 7]),
        "view": torch.tensor([[[0, 2]], [[1, 1]]], dtype=torch.uint8),
    }
    kept = code.encode(row(observation, [False, True], [1, 1]))
    assert kept.dtype == torch.uint8
    heading, left, right, action = [1, 0, 0], [1, 0], [0, 0, 1], [0, 1]
    assert code.decode(kept[:, None])[0].tolist() == [*heading, *left, *right, *action]
    heading, left, right, action = [0, 0, 1], [0, 1], [0, 1, 0], [0, 0]
    assert code.decode(kept[:, None])[1].tolist() == [*heading, *left, *right, *action]


def test_several_observations_stand_side_by_side_and_nothing_is_a_row_of_zeros() -> None:
    code = ObservationCode(spaces.Discrete(4), spaces.Discrete(3))
    kept = code.encode(row({"observation": torch.tensor([2])}, [False], [0]))
    both = code.decode(torch.stack([torch.zeros_like(kept), kept], dim=1))
    assert both.tolist() == [[0] * 7 + [0, 0, 1, 0, 1, 0, 0]]


def test_numbers_and_images_are_kept_as_they_are() -> None:
    space: gymnasium.Space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (1, 1, 3), np.uint8),
            "speed": spaces.Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    code = ObservationCode(space, spaces.Discrete(2))
    observation = {
        "image": torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8),
        "speed": torch.tensor([[-2.5, 40.0]]),
    }
    kept = code.encode(row(observation, [False], [0]))
    assert kept.dtype == torch.float16
    found = code.decode(kept[:, None])
    assert torch.allclose(found, torch.tensor([[0.0, 0.2, 1.0, -2.5, 40.0, 1.0, 0.0]]), atol=1e-3)


def eyes_of(space: gymnasium.Space, attention: str = "foveal", **glimpse: int) -> Attention:
    return Attention(space, AgentConfig(attention=attention, glimpse=GlimpseConfig(**glimpse)))


def seen_row(eyes: Attention, whole: dict[str, torch.Tensor], location: list[float]) -> Rows:
    coordinates = torch.tensor([location] * len(next(iter(whole.values()))))
    number = len(coordinates)
    flags = torch.zeros(number, dtype=torch.bool)
    actions = torch.ones(number, dtype=torch.int64)
    return Rows(eyes.see(whole, coordinates), flags, actions, torch.zeros(number), coordinates)


CELLS = spaces.Dict({"view": spaces.Box(0, np.full((5, 5, 2), [3, 2]), (5, 5, 2), np.uint8)})


@pytest.mark.parametrize("location", [[0.0, 0.0], [-1.0, 1.0], [0.9, -0.3]])
def test_through_a_glimpse_it_is_what_the_agent_reads_sharp_and_coarse(location) -> None:
    eyes = eyes_of(CELLS, size=2, scales=2)
    code = ObservationCode(CELLS, spaces.Discrete(2), eyes)
    view = torch.randint(0, 3, (4, 5, 5, 2), generator=torch.Generator().manual_seed(0))
    row = seen_row(eyes, {"view": view}, location)
    kept = code.encode(row)
    assert kept.dtype == torch.uint8
    found = code.decode(kept[:, None])
    sensor = eyes.make_sensor(AgentConfig(), 0)
    assert isinstance(sensor, CellsGlimpse)
    expected = sensor.shares(row.observation["view"]).flatten(1)  # [4, places · categories]
    assert torch.equal(found[:, : expected.shape[1]], expected)
    where = found[:, expected.shape[1] : -2]
    assert (where.sum(-1) == 4).all()  # Two corners of row and column.
    assert found[:, -2:].tolist() == [[0.0, 1.0]] * 4


def test_through_a_glimpse_nothing_outside_of_it_is_seen() -> None:
    eyes = eyes_of(CELLS, size=2, scales=1)
    code = ObservationCode(CELLS, spaces.Discrete(2), eyes)
    one, other = torch.zeros(1, 5, 5, 2), torch.full((1, 5, 5, 2), 2.0)
    other[:, :2, :2] = 0
    both = torch.cat([one, other]).to(torch.uint8)
    codes = code.encode(seen_row(eyes, {"view": both}, [-0.6, -0.6]))
    assert torch.equal(codes[0], codes[1])
    codes = code.encode(seen_row(eyes, {"view": both}, [0.6, 0.6]))
    assert not torch.equal(codes[0], codes[1])


def test_where_a_glimpse_lies_is_told_of_every_tile_and_place() -> None:
    space = spaces.Box(0, 3, (9, 9, 1), np.uint8)
    nothing = {"observation": torch.zeros(1, 9, 9, 1, dtype=torch.uint8)}
    for attention, size in (("tile", 4), ("foveal", 1)):
        eyes = eyes_of(space, attention, size=size, scales=3)
        code = ObservationCode(space, spaces.Discrete(2), eyes)
        if attention == "tile":
            places = eyes.locations.coordinates(torch.arange(9)).tolist()
        else:
            steps = np.linspace(-1, 1, 9)
            places = [[float(row), float(column)] for row in steps for column in steps]
        rows = [code.encode(seen_row(eyes, nothing, place))[:, None] for place in places]
        found = {tuple(code.decode(row)[0].tolist()) for row in rows}
        assert len(found) == len(places)
        assert all(one[-2:] == (0.0, 1.0) for one in found)  # The action's columns are its own.


def test_a_glimpse_beside_numbers_is_kept_as_shares_and_coordinates() -> None:
    speed = spaces.Box(-1, 1, (1,), np.float32)
    space = spaces.Dict({"speed": speed, "view": spaces.Box(0, 1, (4, 4, 1), np.uint8)})
    eyes = eyes_of(space, size=1, scales=2)
    view = torch.zeros(1, 4, 4, 1, dtype=torch.uint8)
    view[0, 2, 2] = 1
    row = seen_row(eyes, {"speed": torch.tensor([[0.5]]), "view": view}, [0.2, 0.2])
    code = ObservationCode(space, spaces.Discrete(2), eyes)
    kept = code.encode(row)
    assert kept.dtype == torch.float16
    sharp, coarse = [0.0, 1.0], [0.75, 0.25]
    expected = torch.tensor([[0.5, *sharp, *coarse, 0.2, 0.2, 0.0, 1.0]])
    assert torch.allclose(code.decode(kept[:, None]), expected, atol=1e-3)


def test_a_glimpse_of_an_image_is_its_patches_and_where_it_lies() -> None:
    space = spaces.Box(0, 255, (8, 8, 1), np.uint8)
    eyes = eyes_of(space, size=1, scales=2)
    image = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    image[0, 4, 4] = 204
    code = ObservationCode(space, spaces.Discrete(2), eyes)
    found = code.decode(code.encode(seen_row(eyes, {"observation": image}, [0.1, 0.1]))[:, None])
    expected = torch.tensor([[0.8, 0.2, 0.1, 0.1, 0.0, 1.0]])
    assert torch.allclose(found, expected, atol=1e-3)
