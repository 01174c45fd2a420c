"""On a GPU nobody waits for the other within an episode, but where worlds are stepped."""

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch

from groundling.agents.config import GlimpseConfig, PredictionConfig
from groundling.training.loop import Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

BOUNDARY = {"stepping.py", "actions.py"}
"""Where observations go to the GPU, and actions come from it."""
CUDA = torch.device("cuda")


@pytest.fixture(params=["none", "foveal", "tile"])
def training(request, small_config, small_agent):
    agent = dataclasses.replace(
        small_agent,
        attention=request.param,
        glimpse=GlimpseConfig(size=2, scales=1),
        prediction=PredictionConfig(loss="simcore", first_limit=4),
    )
    return Training(
        small_config(
            agent=agent,
            device="cuda",
            probe={"online": False},
            rooms={"episode_length": 10_000},  # No episode is cut off on the way.
        ),
        CUDA,
    )


def waits(training, steps):
    """The files from which one waited while so many steps were walked."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            training.actor.collect(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [Path(one.filename).name for one in caught if "synchronizing" in str(one.message)]


def test_waiting_is_noticed():
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchronizing"):
            torch.ones(3, device=CUDA).sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_no_step_waits_for_the_gpu_but_at_the_environment(training):
    training.learner.step(training.actor.collect(4))  # What is sent once is there.
    few, many = ([file for file in waits(training, n) if file not in BOUNDARY] for n in (4, 16))
    assert len(few) == len(many), many


def test_an_agent_on_a_gpu_walks_and_learns_there(training):
    unroll = training.actor.collect(6)
    assert all(weight.is_cuda for weight in training.learner.agent.parameters())
    assert unroll.rows.is_first.is_cuda
    before = [weight.clone() for weight in training.learner.agent.parameters()]
    measured = training.learner.step(unroll)
    assert all(torch.isfinite(torch.tensor(one.value)) for one in measured.values())
    after = training.learner.agent.parameters()
    assert any(not torch.equal(*pair) for pair in zip(before, after, strict=True))
