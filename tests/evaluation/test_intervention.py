"""An intervention on a memory is judged by who had no part in it, and beside its controls."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from groundling.agents.agent import Agent
from groundling.agents.probe import Probe
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation.cause import Trials, collect_trials
from groundling.evaluation.finding import Finding
from groundling.evaluation.intervention import (
    ASTRAY,
    BEFORE,
    TOWARDS,
    CauseSettings,
    _expected,
    fit_judge,
    inspect_cause,
    intervene,
)
from groundling.evaluation.probing import load_probe, probe_run
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.walks import Reader
from groundling.training.config import EnvironmentConfig, OnlineProbeConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.presets import preset
from groundling.training.run import RunDirectory, load_agent

CPU = torch.device("cpu")
ROOMS = RoomsOptions(size=4, objects=3, shapes=4, colours=3, view_size=3, episode_length=32)
CONFIG = TrainConfig(
    frames=1024,
    env=EnvironmentConfig(rooms=ROOMS),
    agent=preset("know-small-simcore").agent,
)
PROBED = ProbeSettings(
    rooms=128,
    validation_rooms=32,
    test_rooms=32,
    size=64,
    batch=8,
    passes=4,
    decoders=("mlp",),
    controls="none",
)
FEW = CauseSettings(rooms=128)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = train(CONFIG, tmp_path_factory.mktemp("runs") / "run", show_progress=False)
    probe_run(run.path, PROBED, show_progress=False)
    return run


@pytest.fixture(scope="module")
def found(run: RunDirectory) -> Finding:
    return inspect_cause(run.path, FEW, show_progress=False)


def trials_of(agent: Agent, decoder: Probe) -> Trials:
    return collect_trials(
        Reader(agent, 128),
        (decoder,),
        CONFIG.env,
        rooms=128,
        generator=np.random.default_rng(0),
        device=CPU,
    )


def test_every_change_is_watched_in_every_way(found: Finding) -> None:
    numbers = found.numbers
    assert numbers["trials"] > 10
    for reader in ("decoder", "judge"):
        assert numbers[BEFORE][reader] == {
            "target": 0.0,
            "changed": 0.0,
            "others": 0.0,
            "all others": 0.0,
        }
    assert numbers[TOWARDS]["decoder"]["target"] > 0.9
    assert numbers[ASTRAY]["decoder"]["target"] < 0.5
    assert 0 < numbers[TOWARDS]["judge"]["target"] < 1  # It is another decoder.
    assert numbers[BEFORE]["behaviour"]["policy"] == pytest.approx(0, abs=1e-6)
    assert numbers[TOWARDS]["behaviour"]["policy"] > 0
    assert all(0 < share < 1 for share in numbers[BEFORE]["expected"])
    for change in (TOWARDS, ASTRAY):
        assert numbers[change]["expected"] != numbers[BEFORE]["expected"]
    titles = [line[0] for line in found.table]
    assert "simulator expects the new colour" in titles
    shown = found.table[titles.index("asked answer is the new one, judge")]
    assert shown[2] == f"{numbers[TOWARDS]['judge']['target']:.2f}"
    assert Image.open(io.BytesIO(found.pictures["effects"])).width > 800


def test_the_judge_is_another_decoder_of_the_same_kind_and_repeatable(run: RunDirectory) -> None:
    agent, config = load_agent(run.path)
    decoder = load_probe(run, agent, len(VOCABULARY))
    assert decoder is not None
    judges = [fit_judge(run, agent, config.env, CPU, shown=False) for _ in range(2)]
    weights, again = (dict(judge.state_dict()) for judge in judges)
    theirs = dict(decoder.state_dict())
    assert weights.keys() == theirs.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not torch.equal(
        torch.cat([one.flatten() for one in weights.values()]),
        torch.cat([one.flatten() for one in theirs.values()]),
    )
    # Both saw the same beliefs.
    assert torch.equal(weights["mean"], theirs["mean"])


def test_numbers_of_an_earlier_version_are_not_guessed_at(
    run: RunDirectory, tmp_path: Path
) -> None:
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    results = json.loads(copy.results().read_text())
    results["settings"]["decoder"] = results["settings"].pop("decoders")[0]
    copy.results().write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"earlier version; expected `groundling probe"):
        inspect_cause(copy.path, FEW, show_progress=False)
    copy.decoder.unlink()
    with pytest.raises(ValueError, match=r"was not probed; expected `groundling probe"):
        inspect_cause(copy.path, FEW, show_progress=False)


def test_the_simulator_of_an_untrained_agent_expects_nothing_else(run: RunDirectory) -> None:
    agent, config = load_agent(run.path, untrained=True)
    decoder = fit_judge(run, agent, config.env, CPU, shown=False)
    trials = trials_of(agent, decoder)
    numbers = intervene(agent, decoder, decoder, trials, FEW)
    assert numbers[TOWARDS]["decoder"]["target"] > 0.9
    for colour in (0, 1):
        before, moved, control = (
            numbers[change]["expected"][colour] for change in (BEFORE, TOWARDS, ASTRAY)
        )
        assert abs(moved - before) < 0.02 + abs(control - before)


def test_only_what_was_known_counts_among_other_answers(run: RunDirectory) -> None:
    agent, _ = load_agent(run.path)
    decoder = load_probe(run, agent, len(VOCABULARY))
    assert decoder is not None
    trials = trials_of(agent, decoder)
    assert (trials.asked | ~trials.known).all()
    assert 0 < trials.known.sum() < trials.asked.sum()


def test_without_simcore_there_is_no_expectation(tmp_path: Path) -> None:
    config = TrainConfig(frames=512, env=EnvironmentConfig(rooms=ROOMS))
    run = train(config, tmp_path / "run", show_progress=False)
    with pytest.raises(ValueError, match=r"was not probed; expected `groundling probe"):
        inspect_cause(run.path, FEW, show_progress=False)
    probe_run(run.path, PROBED, keep=False, show_progress=False)
    found = inspect_cause(run.path, FEW, show_progress=False)
    assert found.numbers[TOWARDS]["expected"] is None
    assert not any("simulator" in line[0] for line in found.table)
    assert not (run.probe / "kept").exists()


def test_other_worlds_are_refused(tmp_path: Path) -> None:
    online = OnlineProbeConfig(online=False)
    config = TrainConfig(frames=512, env=EnvironmentConfig(id="CartPole-v1"), probe=online)
    run = train(config, tmp_path / "run", show_progress=False)
    with pytest.raises(ValueError, match="CartPole-v1 is not one of our rooms"):
        inspect_cause(run.path, FEW, show_progress=False)


def test_with_attention_the_simulator_is_left_out(tmp_path: Path) -> None:
    agent = dataclasses.replace(CONFIG.agent, attention="tile", core_size=16)
    config = dataclasses.replace(CONFIG, agent=agent)
    run = train(config, tmp_path / "run", show_progress=False)
    probe_run(run.path, PROBED, show_progress=False)
    agent, _ = load_agent(run.path)
    nobody = torch.zeros(0)
    assert _expected(agent, nobody, nobody, nobody) is None  # type: ignore[arg-type]
    with contextlib.suppress(UserError):  # So short a training may have taught it nothing.
        found = inspect_cause(run.path, FEW, show_progress=False)
        assert "What the simulator expects is left out" in found.says
        assert not any("simulator" in line[0] for line in found.table)
