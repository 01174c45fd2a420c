"""What runs with workers are tested with: a configuration."""

import pytest

from groundling.training.config import RolloutConfig


@pytest.fixture(scope="session")
def config_of(small_config):
    """Makes the configuration of a run of so many updates, with one worker."""

    def make(updates=6, *, rollout=(), **fields):
        rollout = RolloutConfig(**({"workers": 1} | dict(rollout)))
        frames = updates * 3 * 5  # environments × steps
        return small_config(rollout=rollout, **({"frames": frames, "save_every": 1e9} | fields))

    return make
