"""Foresight sorts cells by what predicting them takes, and finds them where they lie."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from groundling.agents.agent import Rows
from groundling.agents.config import AgentConfig, GlimpseConfig, PredictionConfig
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.evaluation.foresight import KINDS, _moment, measure_foresight
from groundling.evaluation.imagination import Imagination
from groundling.evaluation.walks import Reader, at_random, walk
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.loop import train
from groundling.training.run import make_agent

ROOMS = RoomsOptions(size=4, objects=2, shapes=3, colours=2, view_size=3, episode_length=24)
CONFIG = TrainConfig(
    frames=1024,
    env=EnvironmentConfig(rooms=ROOMS),
    agent=AgentConfig(prediction=PredictionConfig(loss="simcore")),
)


def test_places_are_where_the_cells_of_a_view_lie() -> None:
    environment = RoomsVectorEnv(16, **dataclasses.asdict(ROOMS))
    observation, _ = environment.reset(seed=0)
    reader = Reader(make_agent(CONFIG, torch.device("cpu")), 16)
    for step in range(12):
        view = observation["view"].reshape(16, 9, 3).astype(np.int64)
        moment = _moment(view, reader, Rows({}, *torch.zeros(3, 16)), environment.world, ROOMS)
        # As in the notes of what was seen there is one cell more: what lies beyond the grid.
        cells = np.pad(environment.world.cells.reshape(16, -1, 3), ((0, 0), (0, 1), (0, 0)))
        truth = np.take_along_axis(cells, moment.places[..., None], axis=1)
        visible = view[..., 0] != 0
        assert np.array_equal(view[visible], truth[visible])
        seen = np.take_along_axis(moment.seen_at, moment.places, axis=1)
        assert (seen[visible] == step).all()
        observation, *_ = environment.step(np.random.default_rng(step).integers(4, size=16))


def attending(*, privileged: bool) -> TrainConfig:
    """Through glimpses, of which 4 cells are sharp."""
    prediction = PredictionConfig(loss="simcore", privileged=privileged)
    glimpse = GlimpseConfig(size=2, scales=2)
    agent = AgentConfig(attention="foveal", glimpse=glimpse, prediction=prediction)
    return dataclasses.replace(CONFIG, agent=agent)


@pytest.mark.parametrize(
    ("config", "cells"),
    [(CONFIG, 9), (attending(privileged=True), 9), (attending(privileged=False), 4)],
    ids=["all", "privileged", "glimpse"],
)
def test_imagining_no_step_is_reading_the_belief_and_one_step_takes_what_was_decided(
    config: TrainConfig, cells: int
) -> None:
    environment = make_environment(config.env, num_envs=1)
    reader = Reader(make_agent(config, torch.device("cpu")), 1)
    imagination = Imagination(reader)
    choose = at_random(environment, np.random.default_rng(0))
    elsewhere = False
    for step, row in enumerate(walk(environment, seed=0, choose=choose, readers=(reader,))):
        before = imagination.past[-1][0] if imagination.past else None
        imagination.follow()
        assert imagination.expected(0) is not None
        assert (imagination.expected(1) is None) == (step == 0)
        if before is not None:
            where = reader.row.location
            where = None if where is None else where.unsqueeze(0)
            state = imagination.simulator(before, row.previous_action.unsqueeze(0), where)[-1]
            seen_through = reader.row.location
            scored = imagination.decoder.log_probs(state, imagination.sensor, location=seen_through)
            what = scored[0].argmax(-1)
            expected = imagination.expected(1)
            in_the_centre = imagination.decoder.log_probs(state, imagination.sensor)
            elsewhere |= not torch.equal(scored[0], in_the_centre[0])
            assert np.array_equal(expected[..., 0].ravel(), what[0, :cells].numpy())
        if step == 5:
            break
    # Of a glimpse it matters where it is taken.
    assert elsewhere == (cells == 4)


def test_foresight_is_of_whole_views_whoever_predicts_them(tmp_path: Path) -> None:
    run = train(attending(privileged=True), tmp_path / "privileged", show_progress=False)
    results = measure_foresight(run.path, rooms=16, horizons=(2,), show_progress=False)
    assert sum(scores["share"] for scores in results["horizons"]["2"].values()) == pytest.approx(1)
    run = train(attending(privileged=False), tmp_path / "glimpses", show_progress=False)
    with pytest.raises(UserError, match="generates glimpses"):
        measure_foresight(run.path, rooms=16, show_progress=False)


def test_foresight_of_a_short_run(tmp_path: Path) -> None:
    run = train(CONFIG, tmp_path / "run", show_progress=False)
    results = measure_foresight(run.path, rooms=32, horizons=(1, 4), show_progress=False)
    for kinds in results["horizons"].values():
        assert sum(scores["share"] for scores in kinds.values()) == pytest.approx(1.0)
        assert set(kinds) <= set(KINDS)
        for scores in kinds.values():
            assert scores["model"] > 0
            assert scores["marginal"] > 0
    # One step ahead most cells were in view already; four steps ahead fewer are.
    near, far = (results["horizons"][k]["in view"]["share"] for k in ("1", "4"))
    assert near > far


def test_the_explorer_takes_every_agent_along_and_an_agent_may_choose_its_own_way(
    tmp_path: Path,
) -> None:
    run = train(CONFIG, tmp_path / "run", show_progress=False)

    def shares(walker):
        results = measure_foresight(
            run.path, rooms=32, walker=walker, horizons=(4,), show_progress=False
        )
        assert results["walker"] == walker
        return [scores["share"] for scores in results["horizons"]["4"].values()]

    assert shares("explorer") == shares("explorer")
    assert shares("explorer") != shares("agent")


def test_only_agents_that_generate_can_be_asked(tmp_path: Path) -> None:
    plain = dataclasses.replace(CONFIG, agent=AgentConfig())
    run = train(plain, tmp_path / "run", show_progress=False)
    with pytest.raises(ValueError, match="expected a run with SimCore"):
        measure_foresight(run.path, rooms=8, show_progress=False)
