"""Checkpoints: written beside and renamed, read without executing code."""

import io
import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from groundling.envs.errors import UserError

FORMAT = "groundling checkpoint 1"
PACKAGES = ("groundling", "torch", "gymnasium", "numpy", "numba")


class CheckpointError(UserError):
    """A file that is no checkpoint of ours, or no longer whole."""


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain Python values) so that `path` is never half a file."""
    temporary = path.with_name(path.name + ".tmp")
    content = {"format": FORMAT, "packages": package_versions(), **state}
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU. Nothing in the file is executed.

    Raises:
        CheckpointError: the file is truncated, damaged or something else.
    """
    file = io.BytesIO(path.read_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about oddities of files that are refused anyway
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file can break the reader in any way.
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({reason}); expected a file that "
            "`groundling train` wrote"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} is something else; expected a file that `groundling train` wrote"
        )
    return content
