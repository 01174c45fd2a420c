"""What environments of this package do alike: seeds, numbers of episodes, states to go on from.

Environment i under `reset(seed=s)` uses seed s + i, and its episode k depends on (s + i, k) alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundling.envs.errors import UserError

LARGEST_SEED = 2**63 - 1

Seeds = int | Sequence[int | None] | None
"""As `VectorEnv.reset` takes them: one to count up from, one for each row, or none."""


def check_render_mode(render_mode: str | None, known: Sequence[str]) -> None:
    """Raise ValueError for a render mode that is not among the known ones."""
    if render_mode is not None and render_mode not in known:
        raise UserError(f"render_mode={render_mode!r}, expected one of {', '.join(known)}")


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that an environment cannot store."""
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed={seed}, expected an integer from 0 to 2**63 - 1")


def chosen_rows(options: dict[str, Any] | None, num_envs: int) -> NDArray[np.bool_]:
    """Give the rows to reset as a mask [B]: `options["reset_mask"]`, or all of them.

    Raises TypeError or ValueError for something that is no such mask.
    """
    if options is None or "reset_mask" not in options:
        return np.ones(num_envs, np.bool_)
    mask = options["reset_mask"]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"options['reset_mask'] is {mask!r}, expected a bool array")
    if mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f"options['reset_mask'] is {mask}, expected shape ({num_envs},) and at least one true"
        )
    return mask


def number_episodes(
    seed: NDArray[np.int64],
    episode: NDArray[np.int64],
    seeded: NDArray[np.bool_],
    *,
    asked: Seeds,
    chosen: NDArray[np.bool_],
    generator: np.random.Generator,
) -> None:
    """Say which episode begins in each chosen row.

    With a seed s row i begins episode 0 of seed s + i, with a sequence that of its own seed. A row
    without a seed begins its next episode; at first, one of a fresh seed.

    Args:
        seed: [B], of each row; written.
        episode: [B], counted from 0 under that seed; written.
        seeded: [B], whether a row ever began; written.
        asked: seeds as `reset` was given them.
        chosen: [B], the rows that begin.
        generator: draws fresh seeds.

    Raises:
        ValueError: a seed that does not fit, or not one for each row.
    """
    for row, own in enumerate(_one_for_each(asked, len(seed))):
        if not chosen[row]:
            continue
        if own is None and seeded[row]:
            episode[row] += 1
            continue
        fresh = int(generator.integers(LARGEST_SEED)) if own is None else own
        check_seed(fresh)
        seed[row] = fresh
        episode[row] = 0
    seeded |= chosen


def _one_for_each(asked: Seeds, num_envs: int) -> Sequence[int | None]:
    if asked is None:
        return [None] * num_envs
    if isinstance(asked, int):
        return [asked + row for row in range(num_envs)]
    if len(asked) != num_envs:
        raise ValueError(f"{len(asked)} seeds, expected {num_envs}: one for each environment")
    return asked


def restore(arrays: Mapping[str, NDArray[Any]], state: Mapping[str, NDArray[Any]]) -> None:
    """Write a state into an environment's arrays, or nothing of it.

    Raises ValueError if it is of another kind of environment.
    """
    if state.keys() != arrays.keys():
        raise ValueError(f"state has {sorted(state)}, expected {sorted(arrays)}")
    for name, array in arrays.items():
        if state[name].shape != array.shape or state[name].dtype != array.dtype:
            given = f"{state[name].dtype} {state[name].shape}"
            raise ValueError(f"state[{name!r}] is {given}, expected {array.dtype} {array.shape}")
    for name, array in arrays.items():
        array[...] = state[name]
