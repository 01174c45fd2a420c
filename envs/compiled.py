"""Machine code that numba keeps between processes, and when it is too old."""

from collections.abc import Iterable
from pathlib import Path


def discard_stale_kernels(folder: Path, others: Iterable[Path] = ()) -> None:
    """Delete numba's cached machine code in a folder if a source there is newer.

    numba compares a kernel only with its own file. But kernels contain the kernels they call and
    the constants they read, whichever file those come from; after an edit there the old code would
    run on, silently.

    Args:
        folder: of a package with kernels.
        others: sources elsewhere whose kernels those of the folder contain.
    """
    cached = [path for path in folder.glob("__pycache__/*.nb?") if path.suffix in (".nbi", ".nbc")]
    if not cached:
        return
    oldest = min((_modified(path) for path in cached if path.suffix == ".nbi"), default=0.0)
    if any(_modified(source) > oldest for source in (*folder.glob("*.py"), *others)):
        for path in cached:
            path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    """When a file was last written; never, if another process that just started deleted it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
