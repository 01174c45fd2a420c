"""Observations become numbers from which every one of them can be told."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from groundling.agents.agent import Rows
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
