"""Other people's trainers take our worlds as they are: Stable-Baselines3, if it is there."""

import warnings

import gymnasium
import numpy as np
import pytest

import groundling.envs  # noqa: F401  registers the environments

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env


@pytest.mark.parametrize("name", ["Groundling/Explore-v0", "Groundling/GoTo-v0"])
@pytest.mark.parametrize("layout", ["single", "four_rooms"])
def test_their_checker_has_nothing_but_hints_about_images(name: str, layout: str) -> None:
    environment = gymnasium.make(name, layout=layout, episode_length=300)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(environment.unwrapped)
    # A view of 5 × 5 cells is a box of three dimensions, and they take it for a small picture.
    assert [str(hint.message) for hint in caught if "image" not in str(hint.message)] == []


def test_their_checker_takes_canvases_for_images() -> None:
    """Any hint is an error here."""
    check_env(gymnasium.make("Groundling/ClutteredDigits-v0").unwrapped)


@pytest.mark.slow
def test_their_ppo_learns_in_our_rooms() -> None:
    rooms = make_vec_env("Groundling/Explore-v0", n_envs=8, seed=0, env_kwargs={"size": 4})
    # "normalize_images" would divide codes of things by 255, and "CombinedExtractor" looks for
    # pictures; neither is asked for: the defaults must do.
    learner = PPO(
        "MultiInputPolicy", rooms, n_steps=64, batch_size=128, ent_coef=0.02, seed=0, device="cpu"
    )

    def mean_return() -> float:
        observation, total = rooms.reset(), np.zeros(8)
        for _ in range(64 * 6):
            action, _ = learner.predict(observation, deterministic=False)
            observation, reward, _, _ = rooms.step(action)
            total += reward
        return float(total.mean()) / 6

    before = mean_return()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.learn(20_000)
    assert mean_return() > 1.5 * before
