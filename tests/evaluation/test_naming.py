"""Digits are scored on images never trained on, one path each, and looking is told from luck."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from groundling.agents.agent import Agent
from groundling.envs.digits.images import images_of, side_of
from groundling.envs.digits.options import DigitsOptions
from groundling.envs.errors import UserError
from groundling.evaluation.episodes import evaluate
from groundling.evaluation.naming import information_of, name_digits, score_naming, unseen
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.presets import preset
from groundling.training.run import make_agent


def small(name: str) -> TrainConfig:
    config = preset(f"digits-{name}")
    return dataclasses.replace(
        config,
        frames=2 * config.frames_per_update,
        env=dataclasses.replace(config.env, options=config.env.options | {"fold": 2}),
    )


def agent_of(name: str) -> Agent:
    return make_agent(small(name), torch.device("cpu")).eval()


def test_digits_are_those_of_the_fold_that_was_left_out() -> None:
    world = unseen(small("random").env)
    assert world.options["split"] == "test"
    named = name_digits(agent_of("random"), world, range(200), seed=0, device="cpu")
    allowed = side_of(DigitsOptions(fold=2, split="test"))
    assert set(named.digit) <= set(allowed)
    assert len(set(named.digit)) > 50
    with pytest.raises(
        UserError, match=r"env\.id is Groundling/Explore-v0; expected Groundling/Cl"
    ):
        unseen(EnvironmentConfig())


def test_the_same_seed_is_the_same_canvas_looked_at_along_another_path() -> None:
    named = name_digits(
        agent_of("random"), unseen(small("random").env), [5, 5, 6], seed=0, device="cpu"
    )
    assert named.digit[0] == named.digit[1]
    assert named.locations is not None
    assert named.locations.shape == (3, 7, 2)
    assert (named.locations[0] != named.locations[1]).any()


def test_the_oracle_looks_at_the_digit_from_the_second_glimpse_on() -> None:
    world = unseen(small("oracle").env)
    named = name_digits(agent_of("oracle"), world, range(32), seed=0, device="cpu")
    assert named.distance is not None
    np.testing.assert_allclose(named.distance, 0.0, atol=1e-6)
    centre = name_digits(agent_of("centre"), world, range(32), seed=0, device="cpu")
    assert centre.distance is not None
    assert centre.distance.mean() > 0.2


def test_a_name_is_right_if_it_is_the_digits_own() -> None:
    """An agent that says the same of everything is right where it is so, and else is not."""
    agent = agent_of("random")
    with torch.no_grad():
        agent.policy[-1].weight.zero_()
        agent.policy[-1].bias.copy_(torch.eye(10)[7])
    world = unseen(small("random").env)
    named = name_digits(agent, world, range(300), seed=0, device="cpu")
    label = images_of(DigitsOptions(fold=2)).label[named.digit]
    np.testing.assert_array_equal(named.right, label == 7)
    assert 0 < named.right.sum() < 300


def test_information_is_all_or_nothing_where_the_image_decides_all_or_nothing() -> None:
    generator = np.random.default_rng(0)
    corners = np.array([[-0.9, -0.9], [-0.9, 0.9], [0.9, -0.9], [0.9, 0.9]])
    decided = np.broadcast_to(corners[:, None, None], (4, 32, 3, 2))
    found = information_of(np.tile(decided, (16, 1, 1, 1)), generator)
    assert found["bits"] == pytest.approx(2.0)
    assert found["given_image"] == pytest.approx(0.0)
    assert 0.0 < found["shuffled"] < 0.2
    blind = corners[generator.integers(4, size=(64, 32, 3))]
    found = information_of(blind, generator)
    assert found["entropy"] == pytest.approx(2.0, abs=0.01)
    assert found["bits"] == pytest.approx(found["shuffled"], abs=0.02)


@pytest.mark.parametrize("name", ["learned", "convolution"])
def test_a_run_is_scored_and_what_was_found_is_kept(tmp_path: Path, name: str) -> None:
    train(small(name), tmp_path, show_progress=False)
    results = score_naming(tmp_path, canvases=512, show_progress=False)
    assert json.loads((tmp_path / "evaluation" / "naming.json").read_text()) == results
    assert results["canvases"] == sum(results["asked"]) == 512
    assert results["error"] == pytest.approx(sum(results["wrong"]) / 512)
    assert results["interval"][0] < results["error"] < results["interval"][1]
    assert results["error"] > 0.5, "nothing was learned yet"
    looks = name == "learned"
    assert (results["information"] is not None) == looks
    assert (results["distance"] is not None) == looks


def test_evaluating_digits_names_those_never_seen_and_rooms_have_none(tmp_path: Path) -> None:
    train(small("centre"), tmp_path / "digits", show_progress=False)
    results = evaluate(tmp_path / "digits", episodes=64, show_progress=False)
    assert results["naming"]["canvases"] >= 5_000
    rooms = dataclasses.replace(
        preset("know-small-none"),
        frames=512,
        probe=dataclasses.replace(TrainConfig().probe, online=False),
    )
    train(rooms, tmp_path / "rooms", show_progress=False)
    assert evaluate(tmp_path / "rooms", episodes=64, show_progress=False)["naming"] is None
