"""A rollout worker, in this process: what it walks, and what it makes of an exception."""

import pickle
import sys

import numpy as np
import pytest
import torch

from groundling.envs.errors import UserError
from groundling.training.accounting import UnrollId
from groundling.training.config import RolloutConfig
from groundling.training.loop import Training
from groundling.training.rollouts import FIRST, Identity, make_actor
from groundling.training.worker import (
    Delivery,
    Failure,
    RolloutWorker,
    WorkerTraceback,
    to_arrays,
    to_tensors,
    weights_of,
)

CPU = torch.device("cpu")


@pytest.fixture
def config(small_config):
    return small_config(rollout=RolloutConfig(workers=2))


@pytest.fixture
def training(small_config):
    return Training(small_config(), CPU)


def worker_of(config, worker=0, incarnation=0):
    return RolloutWorker(config, Identity(worker, incarnation), True, ())


def leaves(part, name=""):
    """Every leaf of a nest by its path."""
    if isinstance(part, tuple):
        part = part._asdict()
    if not isinstance(part, dict):
        return {name: part}
    return {
        k: leaf for key, one in part.items() for k, leaf in leaves(one, f"{name}/{key}").items()
    }


def test_an_unroll_travels_as_arrays_of_the_same_kind_and_comes_back(training):
    unroll = training.actor.collect(5, policy_version=3, ask=True)
    arrays = to_arrays(unroll)
    there = leaves(arrays)
    assert not any(torch.is_tensor(leaf) for leaf in there.values())
    assert there["/rows/observation/view"].dtype == np.uint8
    for leaf in there.values():
        if isinstance(leaf, np.ndarray):
            leaf.setflags(write=False)  # as in shared memory
    back = to_tensors(arrays, CPU)
    assert back.policy_version == 3
    ours, theirs = leaves(unroll), leaves(back)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        if torch.is_tensor(leaf):
            assert leaf.dtype == theirs[name].dtype
            assert torch.equal(leaf, theirs[name]), name
    back.rows.previous_reward.zero_()  # in memory of its own


def test_a_delivery_says_whose_it_is_and_how_many_steps_were_taken(config, training):
    worker, weights = worker_of(config, 1, 2), weights_of(training.learner.agent)
    first, second = (worker.collect(0, weights, False) for _ in range(2))
    assert [first.id, second.id] == [UnrollId(Identity(1, 2), number) for number in range(2)]
    assert [first.steps, second.steps] == [15, 30]
    assert first.size == second.size == 15
    assert isinstance(pickle.loads(pickle.dumps(first)), Delivery)


def test_newer_weights_are_taken_and_older_ones_are_not(config, training):
    worker, weights = worker_of(config), weights_of(training.learner.agent)
    zeros = {name: np.zeros_like(array) for name, array in weights.items()}
    assert worker.collect(1, weights, False).unroll.policy_version == 1
    worker.collect(1, zeros, False)
    kept = worker._actor.agent.state_dict()
    assert all(np.array_equal(kept[name].numpy(), array) for name, array in weights.items())
    worker.collect(2, zeros, False)
    assert not any(weight.any() for weight in worker._actor.agent.parameters())


def test_a_worker_computes_with_one_thread(config, training):
    torch.set_num_threads(2)
    try:
        worker_of(config).collect(0, weights_of(training.learner.agent), False)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def seeds_of(config, identity):
    actor = worker_of(config, *identity)._make()
    return actor.environment.unwrapped.get_state()["seed"].tolist()


def test_the_first_worker_begins_as_the_loop_in_one_process(config, training):
    assert (
        seeds_of(config, FIRST) == training.actor.environment.unwrapped.get_state()["seed"].tolist()
    )
    ours = worker_of(config).collect(0, weights_of(training.learner.agent), True).unroll
    walked = training.actor.collect(5, ask=True)
    theirs = to_arrays(walked._replace(trace=None))  # It is not sent.
    for (name, one), other in zip(leaves(ours).items(), leaves(theirs).values(), strict=True):
        assert np.array_equal(one, other), name


def test_every_environment_of_every_worker_has_its_own_episodes(config):
    first, second = seeds_of(config, (0, 0)), seeds_of(config, (1, 0))
    assert second == [seed + len(first) for seed in first]
    fresh = [seeds_of(config, (worker, 1)) for worker in range(2)]
    assert not set(first + second) & set(fresh[0] + fresh[1])
    assert fresh[1] == [seed + len(first) for seed in fresh[0]]


def test_workers_and_their_successors_draw_apart(config, training):
    drawn = set()
    for identity in ((0, 0), (1, 0), (0, 1), (1, 1)):
        actor = worker_of(config, *identity)._make()
        drawn.add(int(torch.randint(2**62, (), generator=actor.generator)))
        drawn.add(int(actor.question_generator.integers(2**62)))
    drawn.add(int(torch.randint(2**62, (), generator=training.learner.generator)))
    assert len(drawn) == 9


def test_an_actor_that_is_not_asked_has_no_questions(config, training):
    agent, environment = training.learner.agent, training.actor.environment
    assert make_actor(config, environment, agent, asked=False).question_generator is None


class Stubborn(Exception):
    """Cannot be made of its words alone, as pickle would."""

    def __init__(self, one, two):
        super().__init__(one)


def failing(config, error, *, at_once=False):
    """What comes of an exception in the agent's step, or when it is made."""
    worker = worker_of(config)

    def fail(*arguments, **keywords):
        raise error

    if at_once:
        worker._make = fail
    else:
        worker._actor = worker._make()
        worker._actor.collect = fail
    return worker.collect(-1, {}, False)


def test_an_exception_travels_with_its_traceback(config):
    failure = failing(config, KeyError("lost"))
    assert isinstance(failure, Failure)
    assert repr(failure.error) == "KeyError('lost')"
    assert not failure.making
    assert "raise error" in failure.traceback
    assert "raise error" in str(WorkerTraceback(failure.traceback))
    assert failing(config, UserError("no"), at_once=True).making


@pytest.mark.parametrize("at_once", [False, True])
def test_an_exception_that_cannot_travel_sends_its_words(config, at_once):
    failure = failing(config, Stubborn("lost", "found"), at_once=at_once)
    assert repr(failure.error) == "RuntimeError('Stubborn: lost')"
    assert isinstance(pickle.loads(pickle.dumps(failure)), Failure)


def test_a_users_mistake_stays_one(config):
    class Local(UserError):
        """Nobody else can import it."""

    assert type(failing(config, Local("no")).error) is UserError


def test_modules_are_looked_for_where_the_learner_finds_them_but_last(config, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/mine"])
    RolloutWorker(config, FIRST, True, ("/theirs", "/mine"))
    assert sys.path == ["/mine", "/theirs"]


def test_a_worker_says_where_it_is(config):
    import os

    process, machine = worker_of(config).whereabouts()
    assert process == os.getpid()
    assert machine
