"""Handwritten digits among clutter: options, images, canvases, and the environments."""

from pathlib import Path

from groundling.envs.compiled import discard_stale_kernels

_HERE = Path(__file__).parent

discard_stale_kernels(_HERE, others=[_HERE.parent / "rooms" / "rng.py"])
