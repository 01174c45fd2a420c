import os
import subprocess
import sys

import gymnasium
import pytest

import groundling.envs as envs
import groundling.envs.rooms as rooms
from groundling.envs.registration import register_environments
from groundling.envs.rooms.options import TASKS

EXPLORE = "Groundling/Explore-v0"


def test_every_public_name_is_there():
    for name in envs.__all__:
        assert getattr(envs, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Rooms'"):
        envs.Rooms  # noqa: B018


def test_importing_registers_and_loads_no_compiler():
    code = (
        "import sys, groundling.envs, gymnasium;"
        f"assert {EXPLORE!r} in gymnasium.registry;"
        "print([name for name in ('numba', 'torch', 'PIL') if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


def test_gymnasium_can_be_told_where_to_look():
    code = f"import gymnasium; print(gymnasium.make('groundling.envs:{EXPLORE}').reset(seed=0)[1])"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "{}"


def test_registering_twice_is_harmless():
    register_environments()
    for name, task in TASKS.items():
        spec = gymnasium.spec(name)
        assert spec.max_episode_steps is None
        assert gymnasium.make(name).unwrapped.rooms.task == task


def test_kernels_compiled_from_older_sources_are_discarded(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    files = [tmp_path / "layout.py", cache / "kernels.step.nbi", cache / "kernels.step.1.nbc"]
    for age, path in zip((30, 20, 10), files, strict=True):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    rooms._discard_stale_kernels(tmp_path)
    assert all(path.exists() for path in files)
    os.utime(files[0])
    rooms._discard_stale_kernels(tmp_path)
    assert [path.exists() for path in files] == [True, False, False]


def test_a_kernel_that_another_process_discards_meanwhile_is_no_error(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    (tmp_path / "layout.py").touch()
    # Listed, but not there: what a file deleted between the two looks like.
    (cache / "kernels.step.nbi").symlink_to(tmp_path / "gone")
    (cache / "kernels.step.1.nbc").touch()
    rooms._discard_stale_kernels(tmp_path)
    assert not list(cache.iterdir())
