"""Returns are those of whole episodes, equally many from every environment."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from groundling.agents.config import AgentConfig
from groundling.envs.rooms.options import RoomsOptions
from groundling.evaluation.episodes import episode_returns, evaluate
from groundling.evaluation.states import StatesSettings, collect_states
from groundling.evaluation.walks import at_random, by_explorer
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.loop import train
from groundling.training.run import load_agent
from groundling.training.seeds import environment_seed

ROOMS = EnvironmentConfig(rooms=RoomsOptions(episode_length=20))


def test_returns_are_the_sums_of_raw_rewards_of_each_episode() -> None:
    environment = make_environment(ROOMS, num_envs=3)
    found = episode_returns(environment, by_explorer(environment), 6, shown=False)
    environment.reset(seed=environment_seed("evaluation"))
    expected = np.zeros((2, 3))
    for episode in range(2):
        for _ in range(20):
            _, reward, *_ = environment.step(by_explorer(environment)())
            expected[episode] += reward
    assert np.array_equal(found, expected.T)


def test_short_episodes_are_not_favoured() -> None:
    environment = make_environment(EnvironmentConfig(id="CartPole-v1"), num_envs=4)
    choose = at_random(environment, np.random.default_rng(0))
    assert episode_returns(environment, choose, 10, shown=False).shape == (4, 3)


def test_the_explorer_earns_far_more_than_chance() -> None:
    environment = make_environment(ROOMS, num_envs=16)
    random = at_random(environment, np.random.default_rng(0))
    by_chance = episode_returns(environment, random, 16, shown=False).mean()
    by_knowledge = episode_returns(environment, by_explorer(environment), 16, shown=False).mean()
    assert by_knowledge > 5 * by_chance


def test_there_is_no_explorer_for_other_worlds() -> None:
    environment = make_environment(EnvironmentConfig(id="CartPole-v1"), num_envs=1)
    with pytest.raises(ValueError, match="CartPole-v1 has no scripted explorer"):
        by_explorer(environment)


def test_returns_have_intervals_and_a_split_of_novel_rooms(tmp_path: Path) -> None:
    small = {"size": 3, "objects": 2, "shapes": 3, "colours": 3, "view_size": 3}
    rooms = RoomsOptions.from_keywords(small | {"episode_length": 8, "combinations": "familiar"})
    config = TrainConfig(frames=512, env=EnvironmentConfig(rooms=rooms))
    run = train(config, tmp_path / "run", show_progress=False)
    results = evaluate(run.path, episodes=128, show_progress=False)
    for split in ("returns", "novel_returns"):
        assert list(results[split]) == ["agent", "random", "explorer"]
        score = results[split]["agent"]
        low, high = score["interval"]
        assert (low + high) / 2 == pytest.approx(score["mean"])
        expected = 2 * stats.t.ppf(0.975, 127) * score["standard_error"]
        assert high - low == pytest.approx(expected)
    assert results["returns"]["explorer"] != results["novel_returns"]["explorer"]


def test_three_agents_of_a_house_fill_no_round_number_of_rows(tmp_path: Path) -> None:
    """Evaluation asks for 64 rows and gets 66: as many as whole houses take."""
    house = EnvironmentConfig(
        id="groundling.envs.groundling_house_v0:parallel_env",
        num_envs=6,
        options={"agents": 3, "size": 3, "objects": 2, "view_size": 3, "episode_length": 8},
    )
    config = TrainConfig(frames=192, env=house, agent=AgentConfig(core_size=16))
    run = train(config, tmp_path / "run", show_progress=False)
    returns = evaluate(run.path, episodes=66, show_progress=False)["returns"]
    assert set(returns) == {"agent", "random"}
    settings = StatesSettings(moments=60, environments=8, draw_every=2)
    agent, _ = load_agent(run.path)
    states = collect_states({"agent": agent}, house, settings, device=torch.device("cpu"))
    assert len(states.beliefs["agent"]) == 60
