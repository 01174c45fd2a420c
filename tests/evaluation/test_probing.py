"""A run is probed without being changed; what is done stays done; what leaks is refused."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from groundling.agents.config import PredictionConfig
from groundling.agents.probe import DecoderName
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.vocabulary import VOCABULARY
from groundling.evaluation import fitting, probing
from groundling.evaluation.episodes import evaluate
from groundling.evaluation.examples import Examples
from groundling.evaluation.probing import check_splits, load_probe, probe_run
from groundling.evaluation.protocol import ProbeSettings
from groundling.evaluation.report import write_report
from groundling.training.config import EnvironmentConfig, OnlineProbeConfig, TrainConfig
from groundling.training.loop import train
from groundling.training.run import RunDirectory, load_agent

TINY = ProbeSettings(
    rooms=64,
    validation_rooms=32,
    test_rooms=32,
    ask_every=4,
    remembered=3,
    passes=1,
    size=32,
    decoders=("mlp",),
    controls="few",
)
EVERYTHING = dataclasses.replace(TINY, decoders=("mlp", "linear", "lstm"), controls="all")


def config(**changes: object) -> TrainConfig:
    rooms = RoomsOptions(size=3, objects=2, shapes=3, colours=3, view_size=3, episode_length=16)
    env = EnvironmentConfig(rooms=dataclasses.replace(rooms, **changes.pop("rooms", {})))  # type: ignore[arg-type]
    return TrainConfig(frames=1024, env=env, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train(config(), tmp_path_factory.mktemp("runs") / "run", show_progress=False)


def probed(run: RunDirectory, settings: ProbeSettings, **options: object) -> dict:
    return probe_run(run.path, settings, show_progress=False, **options)  # type: ignore[arg-type]


def test_probing_leaves_results_a_decoder_and_the_agent_as_it_was(run: RunDirectory) -> None:
    before = run.checkpoint.read_bytes()
    run.picture().unlink(missing_ok=True)
    results = probed(run, TINY, keep=False)
    assert run.checkpoint.read_bytes() == before
    assert json.loads(run.results().read_text()) == json.loads(json.dumps(results))
    assert list(results["rows"]) == [
        "agent",
        "untrained agent",
        "question only",
        "majority",
        "oracle",
    ]
    assert results["frames"] == 1024
    assert results["settings"]["walker"] == "explorer"
    assert not any("explorer" in said or "oracle" in said for said in results["left_out"])
    assert probed(run, TINY, keep=False)["rows"] == results["rows"]
    assert not (run.probe / "kept").exists()
    agent, _ = load_agent(run.path)
    assert load_probe(run, agent, len(VOCABULARY)) is not None
    with Image.open(run.picture()) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500


def test_every_row_is_there_and_the_sceptics_questions_have_answers(run: RunDirectory) -> None:
    results = probed(run, EVERYTHING, keep=False)
    assert list(results["rows"]) == [
        "agent",
        "agent's encoder",
        "current observation",
        "last 3 observations",
        "untrained agent",
        "shuffled belief",
        "question only",
        *(
            f"{name}, {decoder}"
            for decoder in ("linear", "lstm")
            for name in ("agent", "untrained agent", "question only")
        ),
        "majority",
        "oracle",
    ]
    assert set(results["control_task"]) == set(results["rows"]["agent"])
    assert results["held_out"]["strength"] == 1
    assert list(results["held_out"]["familiar"]) == list(results["held_out"]["held_out"])
    assert set(results["held_out"]["held_out"]) <= {
        "attribute_colour",
        "attribute_shape",
        "near_colour",
        "near_shape",
    }
    oracle = results["rows"]["oracle"]
    assert all(scores["answerable"] == 1.0 for scores in oracle.values())
    assert all("bits" in scores for scores in results["rows"]["agent"].values())
    assert all(scores["bits"] == 0 for scores in results["rows"]["question only"].values())


def test_what_was_fitted_is_not_fitted_again(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []
    answer = fitting.Bench.answer

    def counted(bench, row, advance=lambda: None):  # type: ignore[no-untyped-def]
        if len(fitted) == 2 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        fitted.append(row.name)
        return answer(bench, row, advance)

    stopped: list[bool] = []
    monkeypatch.setattr(fitting.Bench, "answer", counted)
    with pytest.raises(KeyboardInterrupt):
        probed(run, TINY)
    results = probed(run, TINY)
    assert fitted == ["agent", "untrained agent", "question only"]
    assert results["rows"] == probed(run, TINY, keep=False)["rows"]
    fitted.clear()
    # The same rooms and fits serve a larger table; another budget does not.
    probed(run, dataclasses.replace(TINY, decoders=("mlp", "linear")))
    assert fitted == ["agent, linear", "untrained agent, linear", "question only, linear"]
    fitted.clear()
    probed(run, dataclasses.replace(TINY, passes=2))
    assert len(fitted) == 3


def test_an_agent_that_has_learned_further_is_asked_anew(run: RunDirectory, tmp_path: Path) -> None:
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    probed(copy, TINY)
    train(dataclasses.replace(config(), frames=2048), copy.path, show_progress=False)
    again = probed(copy, TINY)
    assert again["frames"] > 1024
    assert again["rows"] == probed(copy, TINY, keep=False)["rows"]


def test_other_rooms_decide_when_to_stop(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = []

    class Watched(fitting.Fit):
        def run(self, advance=lambda: None):  # type: ignore[no-untyped-def]
            moments.append((self.train.moments, self.validation.moments))
            return super().run(advance)

    monkeypatch.setattr(fitting, "Fit", Watched)
    probed(run, TINY, keep=False)
    assert len(moments) == 3
    for fitted, deciding in moments:
        assert 0 < deciding < 0.75 * fitted  # Of half as many rooms.


def test_every_decoder_has_its_place_among_the_longest() -> None:
    assert set(fitting.LONGEST_FIRST) == set(get_args(DecoderName))


def test_numbers_are_kept_if_the_picture_fails(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.results().unlink(missing_ok=True)
    monkeypatch.setattr(probing, "probe_overview", None)
    with pytest.raises(TypeError):
        probed(run, TINY, keep=False)
    assert run.results().exists()


@pytest.mark.slow
def test_processes_side_by_side_find_what_one_does(run: RunDirectory) -> None:
    alone = probed(run, TINY, keep=False)
    together = probed(run, TINY, keep=False, workers=2)
    assert alone["rows"] == together["rows"]


def test_another_run_is_a_row_beside_the_agent(run: RunDirectory, tmp_path: Path) -> None:
    other = train(config(seed=1), tmp_path / "other", show_progress=False)
    results = probed(run, TINY, others=[other.path], keep=False)
    assert list(results["rows"])[:2] == ["agent", "other"]
    alone = probed(other, TINY, keep=False)
    assert results["rows"]["other"] == alone["rows"]["agent"]
    assert results["rows"]["agent"] != results["rows"]["other"]


def test_a_run_of_another_world_is_no_row_beside_the_agent(
    run: RunDirectory, tmp_path: Path
) -> None:
    other = train(config(rooms={"objects": 1}), tmp_path / "other", show_progress=False)
    with pytest.raises(ValueError, match="another world"):
        probed(run, TINY, others=[other.path])


def test_an_agent_that_never_met_some_combinations_is_asked_about_them_elsewhere(
    tmp_path: Path,
) -> None:
    familiar = config(rooms={"combinations": "familiar"})
    run = train(familiar, tmp_path / "run", show_progress=False)
    settings = dataclasses.replace(TINY, controls="all")
    results = probed(run, settings, keep=False)
    assert results["held_out"]["strength"] == 2
    assert results["held_out"]["held_out"]


def test_a_run_that_cannot_be_written_is_told_before_anything_is_walked(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    shutil.rmtree(copy.probe, ignore_errors=True)
    copy.probe.touch()
    monkeypatch.setattr(probing, "collect_examples", None)
    with pytest.raises(ValueError, match="cannot be written"):
        probed(copy, TINY)


def test_what_is_no_run_gets_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run"):
        probe_run(tmp_path / "nothing", TINY)
    assert list(tmp_path.iterdir()) == []


def test_rooms_shared_between_fitting_and_scoring_are_found() -> None:
    def rooms(*pairs: tuple[int, int]) -> Examples:
        return Examples(None, np.array(pairs), torch.zeros(0), None)  # type: ignore[arg-type]

    check_splits({"train": rooms((1, 0), (1, 1), (1, 1)), "test": rooms((2, 0), (1, 2))})
    with pytest.raises(RuntimeError, match="train and test share the room of seed 1, episode 1"):
        check_splits({"train": rooms((1, 0), (1, 1)), "test": rooms((2, 0), (1, 1))})


def test_a_planted_leak_is_found_before_anything_is_fitted(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from groundling.evaluation import examples

    seed = examples.environment_seed
    leaky = {"probe-test": "probe-train"}
    monkeypatch.setattr(
        examples, "environment_seed", lambda purpose: seed(leaky.get(purpose, purpose))
    )
    with pytest.raises(RuntimeError, match="share the room"):
        probed(run, TINY, keep=False)


def test_a_world_without_questions_is_refused(tmp_path: Path) -> None:
    settings = TrainConfig(
        frames=512,
        env=EnvironmentConfig(id="CartPole-v1"),
        probe=OnlineProbeConfig(online=False),
    )
    run = train(settings, tmp_path / "run", show_progress=False)
    with pytest.raises(ValueError, match="CartPole-v1 answers no questions"):
        probed(run, TINY)


@pytest.mark.slow
def test_an_agent_that_was_trained_in_babyai_is_probed_evaluated_filmed_and_reported(
    tmp_path: Path, small_config: Callable[..., TrainConfig]
) -> None:
    options = {"room_size": 5, "num_dists": 2}
    env = {"id": "BabyAI-GoToLocal-v0", "options": options, "num_envs": 8}
    agent = dataclasses.replace(small_config().agent, prediction=PredictionConfig(loss="simcore"))
    run = train(
        small_config(env=env, agent=agent, frames=8 * 5 * 8), tmp_path / "run", show_progress=False
    )
    settings = dataclasses.replace(TINY, controls="all", rooms=160)
    results = probed(run, settings, keep=False)
    assert results["settings"]["walker"] == "random"
    rows = results["rows"]
    assert {"agent", "untrained agent", "current observation", "majority"} < set(rows)
    assert "oracle" not in rows
    kinds = set(rows["agent"])
    assert {"attribute_colour", "existence_key", "count_box", "near_shape"} <= kinds
    assert not {"existence_door", "count_door"} & kinds
    said = " ".join(results["left_out"])
    for part in ("no scripted explorer", "No oracle", "Not asked: existence door, count door"):
        assert part in said
    own = dataclasses.replace(TINY, walker="agent", controls="none")
    assert list(probed(run, own, keep=False)["rows"]) == ["agent", "majority"]
    with pytest.raises(UserError, match="GoToLocal-v0 has no scripted explorer"):
        probed(run, dataclasses.replace(TINY, walker="explorer"), keep=False)
    assert set(evaluate(run.path, episodes=64, show_progress=False)["returns"]) == {
        "agent",
        "random",
    }
    page = write_report(run.path).read_text()
    assert "walked by the agent" in page
    assert "The explorer" not in page and "Oracle" not in page  # noqa: PT018
    with Image.open(run.media / "episode.gif") as film:
        assert film.n_frames > 30
