"""A member is a run; it takes over the weights, optimiser and hyperparameters of another one."""

import dataclasses
from pathlib import Path

import pytest
import torch

from groundling.agents.config import PredictionConfig
from groundling.envs.errors import UserError
from groundling.training import population as populations
from groundling.training.checkpoint import load_checkpoint
from groundling.training.config import RolloutConfig
from groundling.training.errors import NonFiniteLoss
from groundling.training.loop import Training
from groundling.training.metrics import read_rows
from groundling.training.population import (
    SPREAD,
    Member,
    Population,
    chosen,
    hyperparameters,
    with_hyperparameters,
)
from groundling.training.presets import preset

ROUND = 3 * 5 * 2  # frames: environments × steps × updates


@pytest.fixture
def make(small_config, small_agent, tmp_path):
    def population(*, rounds=3, size=2, every=ROUND, mutated=None, **fields):
        prediction = PredictionConfig(loss="simcore")
        agent = dataclasses.replace(small_agent, prediction=prediction)
        rooms = {"episode_length": 4}
        config = small_config(agent=agent, rooms=rooms, frames=rounds * ROUND, **fields)
        names = tuple(hyperparameters(config)) if mutated is None else mutated
        return Population(config, tmp_path, size, every, names)

    return population


def test_only_what_a_preset_uses_is_explored() -> None:
    assert set(hyperparameters(preset("know-small-none"))) == {
        "learner.learning_rate",
        "learner.entropy_weight",
        "learner.baseline_weight",
    }
    assert "agent.prediction.weight" not in hyperparameters(preset("know-small-present"))
    present = hyperparameters(preset("know-small-present"))
    assert present["agent.prediction.present_weight"] == 0.3
    assert "learner.location_entropy_weight" in hyperparameters(preset("look-foveal"))
    assert "learner.location_entropy_weight" not in hyperparameters(preset("look-random"))


def test_values_find_their_places() -> None:
    config = preset("know-small-simcore")
    values = dict.fromkeys(hyperparameters(config), 7.0)
    changed = with_hyperparameters(config, values)
    assert changed.learner.learning_rate == 7.0
    assert changed.agent.prediction.weight == 7.0
    assert hyperparameters(changed) == values
    assert dataclasses.replace(changed, learner=config.learner, agent=config.agent) == config


def test_a_name_that_does_nothing_is_refused() -> None:
    config = preset("know-small-none")
    assert chosen(config, ["learner.learning-rate"]) == ("learner.learning_rate",)
    assert chosen(config, []) == tuple(hyperparameters(config))
    with pytest.raises(UserError, match=r"did you mean learner\.learning_rate\?"):
        chosen(config, ["learner.learning-rat"])
    with pytest.raises(UserError, match=r"--mutate has agent\.prediction\.weight, which is noth"):
        chosen(config, ["agent.prediction.weight"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 1}, "--population is 1; expected at least 2"),
        ({"every": 14}, r"--perturb-every is 14 frames; expected at least .* \(15: --log-every\)"),
        ({"every": 3 * ROUND}, r"fewer than --frames \(90\)"),
        ({"rollout": RolloutConfig(workers=1)}, "--workers is 1; expected 0 in a population"),
    ],
)
def test_a_population_that_cannot_be_is_refused(make, changed, message) -> None:
    with pytest.raises(UserError, match=message):
        make(**changed)


def test_members_begin_around_the_preset_and_the_first_one_with_it(make) -> None:
    population = make(size=3)
    first, *others = population.members
    assert first.values == hyperparameters(population.config)
    for member in others:
        ratios = [member.values[name] / value for name, value in first.values.items()]
        assert all(1 / SPREAD <= ratio <= SPREAD for ratio in ratios)
        assert len(set(ratios)) == len(ratios)
    again = make(size=3).members
    assert [one.values for one in again] == [one.values for one in (first, *others)]
    assert len({one.config(ROUND).seed for one in population.members}) == 3


def test_what_is_taken_over_reaches_the_learner(make, tmp_path) -> None:
    population = make()
    best, worst = population.members
    for member in (best, worst):
        assert member.live(0)["frames"] == ROUND
    before = load_checkpoint(worst.run.checkpoint)
    handed = tmp_path / "handed"
    handed.mkdir()
    best.hand_on(handed)
    values = {name: value * 1.2 for name, value in best.values.items()}
    heir = Member(population, worst.number, values)
    heir.take_over(handed)
    theirs, now = load_checkpoint(best.run.checkpoint), load_checkpoint(heir.run.checkpoint)
    torch.testing.assert_close(now["learner"]["agent"], theirs["learner"]["agent"], rtol=0, atol=0)
    torch.testing.assert_close(
        now["learner"]["optimiser"]["state"],
        theirs["learner"]["optimiser"]["state"],
        rtol=0,
        atol=0,
    )
    for part in ("environment", "core_state", "generator"):
        torch.testing.assert_close(now["actor"][part], before["actor"][part], rtol=0, atol=0)
    torch.testing.assert_close(now["learner"]["generator"], before["learner"]["generator"])

    training = Training(heir.config(2 * ROUND), torch.device("cpu"))
    training.resume(heir.run)
    learner = training.learner
    assert {group["lr"] for group in learner.optimiser.param_groups} == {
        values["learner.learning_rate"]
    }
    assert learner.weights["entropy"] == values["learner.entropy_weight"]
    assert learner.weights["future"] == values["agent.prediction.weight"]
    training.close()

    row = heir.live(1)
    assert row["parent"] == best.number
    assert heir.lineage[1]["learner.learning_rate"] == values["learner.learning_rate"]
    assert [one["updates"] for one in read_rows(heir.run.metrics)] == [1, 2, 3, 4]
    assert Member(population, heir.number).values == values, "it is found again"
    assert heir.live(2)["parent"] == heir.number
    assert load_checkpoint(heir.run.checkpoint)["frames"] == 3 * ROUND


def test_what_it_handed_on_itself_changes_nothing(make, tmp_path) -> None:
    member = make().members[0]
    member.live(0)
    member.hand_on(tmp_path)
    member.live(1)
    member.take_over(tmp_path)
    assert load_checkpoint(member.run.checkpoint)["frames"] == 2 * ROUND


def test_a_round_is_not_lived_twice(make, monkeypatch) -> None:
    population = make()
    member = population.members[0]
    row = member.live(0)
    monkeypatch.setattr(populations, "train", None)
    assert Member(population, 0).live(0)["score"] == row["score"]
    assert population.rounds_lived == 0, "the other has not come so far"


def test_the_score_is_that_of_the_round(make) -> None:
    member = make().members[0]
    member.live(0)
    score = member.live(1)["score"]
    rows = [row for row in read_rows(member.run.metrics) if row["frames"] > ROUND]
    earned = sum(row["episode_return"] * row["episodes"] for row in rows if row["episodes"])
    assert score == pytest.approx(earned / sum(row["episodes"] for row in rows))


def test_a_member_that_diverges_has_no_score(make, monkeypatch) -> None:
    def diverge(*arguments: object, **options: object) -> None:
        raise NonFiniteLoss("loss is nan")

    monkeypatch.setattr(populations, "train", diverge)
    member = make().members[0]
    assert member.live(0)["score"] is None
    member.hand_on(Path(member.run.path))
    member.take_over(Path(member.run.path))
