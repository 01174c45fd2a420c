"""One Ray cluster for all tests of a session; starting it takes seconds."""

import os

import pytest

from groundling.training.cluster import cluster


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory):
    """Ray on this machine. Runs inside a test use it, and leave it running."""
    here = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cluster"))  # Ray has its workers look for modules there.
    try:
        with cluster():
            os.chdir(here)
            yield
    finally:
        os.chdir(here)
