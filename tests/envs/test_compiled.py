"""Machine code that is older than its sources is never run."""

import os

from groundling.envs.compiled import discard_stale_kernels


def test_kernels_compiled_from_older_sources_are_discarded(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    files = [tmp_path / "layout.py", cache / "kernels.step.nbi", cache / "kernels.step.1.nbc"]
    for age, path in zip((30, 20, 10), files, strict=True):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    discard_stale_kernels(tmp_path)
    assert all(path.exists() for path in files)
    os.utime(files[0])
    discard_stale_kernels(tmp_path)
    assert [path.exists() for path in files] == [True, False, False]


def test_a_kernel_that_another_process_discards_meanwhile_is_no_error(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    (tmp_path / "layout.py").touch()
    # Listed, but not there: what a file deleted between the two looks like.
    (cache / "kernels.step.nbi").symlink_to(tmp_path / "gone")
    (cache / "kernels.step.1.nbc").touch()
    discard_stale_kernels(tmp_path)
    assert not list(cache.iterdir())


def test_kernels_that_contain_older_ones_from_elsewhere_are_discarded(tmp_path):
    cache = tmp_path / "here" / "__pycache__"
    cache.mkdir(parents=True)
    kernel, elsewhere = cache / "kernels.step.nbi", tmp_path / "rng.py"
    for age, path in ((20, elsewhere), (10, kernel)):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    discard_stale_kernels(tmp_path / "here", others=[elsewhere])
    assert kernel.exists()
    os.utime(elsewhere)
    discard_stale_kernels(tmp_path / "here")
    assert kernel.exists()
    discard_stale_kernels(tmp_path / "here", others=[elsewhere])
    assert not kernel.exists()
