"""Readers follow a walk exactly as the agent would have walked it."""

import numpy as np
import torch

from groundling.agents.agent import Agent
from groundling.evaluation.walks import Reader, at_random, by_explorer, walk
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.run import make_agent

CONFIG = TrainConfig()


def agents(*seeds: int) -> list[Agent]:
    made = [make_agent(CONFIG, torch.device("cpu")) for _ in seeds]
    for seed, agent in zip(seeds, made, strict=True):
        torch.nn.init.normal_(
            agent.policy[-1].weight, generator=torch.Generator().manual_seed(seed)
        )
    return made


def test_a_second_reader_changes_nothing_about_the_first() -> None:
    def beliefs(number: int) -> torch.Tensor:
        environment = make_environment(EnvironmentConfig(), num_envs=4)
        readers = tuple(Reader(agent, 4) for agent in agents(*range(number)))
        choose = at_random(environment, np.random.default_rng(0))
        rows = walk(environment, seed=0, choose=choose, readers=readers)
        for _, _ in zip(range(70), rows, strict=False):
            pass
        return readers[0].state.belief

    assert torch.equal(beliefs(1), beliefs(2))


def test_the_reader_forgets_when_an_episode_begins() -> None:
    environment = make_environment(EnvironmentConfig(), num_envs=3)
    (agent,) = agents(0)
    reader, fresh = Reader(agent, 3), Reader(agent, 3)
    rows = walk(environment, seed=0, choose=by_explorer(environment), readers=(reader,))
    for step, row in enumerate(rows):
        if step == 64:
            assert row.is_first.all()
            fresh.read(row, rows.stepper)
            assert torch.equal(reader.state.belief, fresh.state.belief)
            break
        assert bool(row.is_first.all()) == (step == 0)


def test_a_row_holds_what_the_previous_action_brought() -> None:
    environment = make_environment(EnvironmentConfig(), num_envs=5)
    chosen: list[np.ndarray] = []
    explore = by_explorer(environment)

    def choose() -> np.ndarray:
        chosen.append(explore())
        return chosen[-1]

    rows = walk(environment, seed=1, choose=choose)
    assert not next(rows).previous_reward.any()
    earned = 0.0
    for _, row in zip(range(60), rows, strict=False):
        assert np.array_equal(row.previous_action.numpy(), chosen[-1])
        earned += float(row.previous_reward.sum())
    assert earned > 5 * 5
