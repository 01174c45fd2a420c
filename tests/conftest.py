"""What tests of several layers share: one thread, patient hypothesis, small configurations."""

import os
import signal
import threading
from contextlib import contextmanager

import gymnasium
import pytest
import torch
from hypothesis import settings

from groundling.agents.config import AgentConfig
from groundling.envs.rooms.options import RoomsOptions
from groundling.training.cluster import cluster
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # Windows are opened on no display.
torch.set_num_threads(1)
settings.register_profile("house", deadline=None)
settings.load_profile("house")

SMALL_ROOM = {
    "size": 3,
    "objects": 3,
    "shapes": 3,
    "colours": 3,
    "view_size": 3,
    "episode_length": 7,
}


@pytest.fixture(scope="session")
def small_agent():
    """Sizes of an agent that runs in no time; all different, so that none is mixed up."""
    return AgentConfig(core_size=8, feature_size=6, sensor_size=7, embedding_size=5)


@pytest.fixture(scope="session")
def small_config(small_agent):
    """Makes the configuration of a run of a few updates; keywords replace fields, part by part."""

    def make(*, rooms=(), env=(), learner=(), probe=(), **fields):
        room_options = RoomsOptions(**(SMALL_ROOM | dict(rooms)))
        parts = {
            "env": EnvironmentConfig(**({"num_envs": 3, "rooms": room_options} | dict(env))),
            "learner": LearnerConfig(**({"unroll_length": 5} | dict(learner))),
            "probe": OnlineProbeConfig(**({"size": 8, "every": 2} | dict(probe))),
            "agent": small_agent,
        }
        return TrainConfig(**({"frames": 3 * 5 * 8, "log_every": 1} | parts | fields))

    return make


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
def ended():
    """The exit code of a command line."""

    def end(*arguments):
        from groundling.cli import main

        try:
            main(arguments)
        except SystemExit as exit_:
            return exit_.code
        return 0

    return end


@pytest.fixture(scope="session")
def interrupted_when():
    """While inside, this process is interrupted, as by Ctrl-C, as soon as something is true."""

    @contextmanager
    def interrupted(is_time):
        over = threading.Event()

        def interrupt():
            while not is_time() and not over.wait(0.2):
                pass
            if not over.is_set():
                os.kill(os.getpid(), signal.SIGINT)

        watcher = threading.Thread(target=interrupt)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    return interrupted


@pytest.fixture
def register():
    """Registers an environment for the length of a test."""
    names = []

    def add(name, entry_point=None, **options):
        gymnasium.register(name, entry_point=entry_point, **options)
        names.append(name)

    yield add
    for name in names:
        del gymnasium.registry[name]
