"""Procedurally generated rooms: their options, their compiled kernels, and the environments."""

from pathlib import Path

from groundling.envs.compiled import discard_stale_kernels

discard_stale_kernels(Path(__file__).parent)
