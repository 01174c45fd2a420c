"""What runs with workers are tested with: a configuration, and one Ray cluster for all."""

import os

import pytest

from groundling.training.cluster import cluster
from groundling.training.config import RolloutConfig


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory):
    """Ray on this machine, whose start takes seconds. Runs inside a test leave it running."""
    here = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cluster"))  # Ray has its workers look for modules there.
    try:
        with cluster():
            os.chdir(here)
            yield
    finally:
        os.chdir(here)


@pytest.fixture(scope="session")
def config_of(small_config):
    """Makes the configuration of a run of so many updates, with one worker."""

    def make(updates=6, *, rollout=(), **fields):
        rollout = RolloutConfig(**({"workers": 1} | dict(rollout)))
        frames = updates * 3 * 5  # environments × steps
        return small_config(rollout=rollout, **({"frames": frames, "save_every": 1e9} | fields))

    return make
