"""A gaze that is known gives the map, the entropy and the movement that can be worked out."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from groundling.agents.attention import Attention
from groundling.agents.config import AgentConfig, GlimpseConfig
from groundling.agents.sensors import leaf_spaces
from groundling.cli import main
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions
from groundling.evaluation.controls import AGENT, UNTRAINED
from groundling.evaluation.gaze import GazeSettings, collect_gazes, inspect_gaze
from groundling.evaluation.gaze_measures import Bins, Looks, averaged, entropy, measure
from groundling.evaluation.inspection import PARTS, inspect_run, left_out
from groundling.evaluation.report import write_report
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.environments import make_environment
from groundling.training.loop import train
from groundling.training.run import RunDirectory, make_agent

CPU = torch.device("cpu")
ROOMS = RoomsOptions(size=4, view_size=5, episode_length=12)


def config_of(attention: str, policy: str = "learned", **glimpse: int) -> TrainConfig:
    return TrainConfig(
        frames=64,
        env=EnvironmentConfig(num_envs=2, rooms=ROOMS),
        agent=AgentConfig(
            core_size=16, attention=attention, glimpse=GlimpseConfig(policy=policy, **glimpse)
        ),
    )


def looks_of(location: list[list[float]], step: list[int]) -> Looks:
    number = len(step)
    sharp = np.zeros((4, 6))
    return Looks(np.array(location), np.arange(number) * 1.0, np.array(step), sharp, None, None)


def test_looks_are_counted_where_they_are_and_cut_up_by_step() -> None:
    # A view of 4 rows and 6 columns: the centres of (0, 0), twice (3, 5), and the very corner.
    upper, lower = [-0.75, -1 + 1 / 6], [0.75, 1 - 1 / 6]
    looks = looks_of([upper, lower, lower, [1.0, 1.0]], [1, 1, 2, 2])
    found = measure(looks, Bins(4, 6, 1))
    expected = np.zeros((4, 6))
    expected[0, 0], expected[3, 5] = 0.25, 0.75
    assert np.array_equal(found["looks"], expected)
    assert found["entropy"] == pytest.approx(0.75 * np.log2(4 / 3) + 0.5)
    assert found["by step"] == {"step": [1, 2], "entropy": [1.0, 0.0], "movement": [0.5, 2.5]}
    assert found["movement"] == 1.5


def test_a_step_that_few_episodes_reach_is_not_in_the_curve() -> None:
    found = measure(looks_of([[0.0, 0.0]] * 6, [1, 1, 1, 2, 2, 3]), Bins(4, 6, 1))
    assert found["by step"]["step"] == [1, 2]


def test_entropy_is_that_of_as_many_places_as_are_looked_at_alike() -> None:
    assert entropy(np.full((4, 8), 1 / 32)) == pytest.approx(5.0)
    assert entropy(np.array([[1.0, 0.0]])) == 0.0


@pytest.mark.parametrize(
    ("attention", "size", "shape"),
    [("tile", 3, (2, 2)), ("tile", 2, (3, 3)), ("foveal", 3, (5, 5))],
)
def test_a_bin_is_a_tile_or_a_place(attention: str, size: int, shape: tuple[int, int]) -> None:
    config = config_of(attention, size=size)
    environment = make_environment(config.env, num_envs=1)
    environment.close()
    eyes = Attention(environment.single_observation_space, config.agent)
    bins = Bins.of(eyes)
    assert bins.shape == shape
    assert leaf_spaces(environment.single_observation_space)[eyes.part].shape[:2] == (5, 5)
    if attention == "tile":  # Each tile in a bin of its own, in order.
        for place, coordinates in enumerate(
            eyes.locations.coordinates(torch.arange(np.prod(shape)))
        ):
            assert bins.shares(coordinates[None].numpy()).ravel().argmax() == place


def test_a_large_view_is_told_in_blocks() -> None:
    assert (
        averaged(np.arange(12.0).reshape(3, 4)).tolist() == np.arange(12.0).reshape(3, 4).tolist()
    )
    large = np.arange(40.0)[:, None].repeat(20, axis=1)
    blocks = averaged(large)
    assert blocks.shape == (14, 7)  # 3 to a side; one is left over below, two to the right.
    assert (blocks[0] == 1.0).all()
    assert (blocks[-1] == 39.0).all()


def gazes_of(policy: str, **glimpse: int):
    config = config_of("tile", policy, **glimpse)
    agents = {AGENT: make_agent(config, CPU), UNTRAINED: make_agent(config, CPU)}
    settings = GazeSettings(episodes=8, environments=4)
    return collect_gazes(agents, config.env, settings, device=CPU, shown=False)


def test_a_scan_visits_every_tile_and_its_maps_are_known() -> None:
    looks = gazes_of("scan", size=3).looks[AGENT]
    # 8 episodes of 12 looks: the first, at the last of four tiles, is not counted; then follow the
    # others, again and again.
    assert np.array_equal(np.bincount(looks.step), [0] + 11 * [8])
    found = measure(looks, Bins(5, 5, 3))
    visits = np.bincount([(3 + step) % 4 for step in range(1, 12)], minlength=4)
    assert np.allclose(np.ravel(found["looks"]), visits / 11)
    assert found["by step"]["entropy"] == [0.0] * 11
    sharp = np.array(found["sharp"])
    assert np.allclose(sharp[:3, :3], visits[0] / 11)
    assert np.allclose(sharp[3:, :3], visits[2] / 11)
    assert np.allclose(sharp[3:, 3:], visits[3] / 11)
    far, near = 3 * 2**0.5, 3.0  # To the tile across, or beside.
    assert np.allclose(found["by step"]["movement"], [far, near] * 5 + [far])


def test_who_looks_at_the_centre_does_not_move_and_sees_what_is_there() -> None:
    gazes = gazes_of("centre", size=1)
    looks = gazes.looks[AGENT]
    assert not looks.moved.any()
    assert looks.sharp[2, 2] == 1.0
    assert looks.sharp.sum() == 1.0
    assert looks.to_target is None
    assert gazes.scene is not None
    # Of the first rows the looks are not counted, what there is to see is.
    assert looks.things == pytest.approx(gazes.scene[2, 2], abs=0.1)


def test_what_there_is_to_see_is_counted_by_cell() -> None:
    config = config_of("foveal")
    agent = make_agent(config, CPU)
    settings = GazeSettings(episodes=2, environments=2)
    gazes = collect_gazes({AGENT: agent}, config.env, settings, device=CPU, shown=False)
    assert gazes.scene is not None
    assert gazes.scene.shape == (5, 5)
    assert gazes.scene[4, 2] == 0.0  # Where the agent stands.
    assert 0 < gazes.scene.max() <= 1


def test_the_gaze_of_a_run_is_told_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config_of("foveal"), tmp_path / "run", show_progress=False)
    settings = GazeSettings(episodes=8, environments=4)
    monkeypatch.setattr(
        "groundling.evaluation.inspection._INSPECT",
        {"gaze": lambda path, **more: inspect_gaze(path, settings, **more)},
    )
    main(["inspect", str(run.path), "gaze"])
    assert "entropy of where it looks" in capsys.readouterr().out
    found = json.loads(run.finding("gaze").read_text())
    numbers = found["numbers"]
    assert np.sum(numbers[AGENT]["looks"]) == pytest.approx(1.0)
    assert numbers["looks"] == 8 * 11
    for name in ("maps", "steps"):
        Image.open(io.BytesIO((run.inspection / f"gaze-{name}.png").read_bytes())).load()
    page = write_report(run.path).read_text()
    assert "Where it looks" in page
    assert "No Jacobians" in page
    assert "The squares are its present glimpse" in page
    assert "inspect " + str(run.path) + " map states cause" in page
    with pytest.raises(UserError, match="expected gaze"):
        inspect_run(run.path, ("attention",), show_progress=False)


def test_an_agent_without_attention_has_no_gaze(tmp_path: Path) -> None:
    run = train(config_of("none"), tmp_path / "run", show_progress=False)
    with pytest.raises(UserError, match="the agent reads all"):
        inspect_run(run.path, ("gaze",), show_progress=False)
    with pytest.raises(UserError, match="so that it has no gaze"):
        inspect_gaze(run.path, show_progress=False)
    assert not run.inspection.exists()
    assert set(left_out(RunDirectory(run.path).read_config())) == {"gaze"}
    assert "gaze" in PARTS
    page = write_report(run.path).read_text()
    assert "No gaze" in page
    assert "The squares" not in page
