"""`ClutteredDigitsVectorEnv`: a batch of canvases, a Gymnasium vector environment.

Autoreset is SAME_STEP, told as by `RoomsVectorEnv` and `gymnasium.vector.SyncVectorEnv`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from groundling.envs.digits.canvases import Canvases
from groundling.envs.digits.options import DigitsOptions
from groundling.envs.digits.single import (
    RENDER_FPS,
    RENDER_MODES,
    action_space,
    observation_space_of,
)
from groundling.envs.episodes import check_render_mode, chosen_rows, restore


class ClutteredDigitsVectorEnv(VectorEnv[NDArray[np.uint8], NDArray[Any], NDArray[Any]]):
    """B canvases; see `ClutteredDigitsEnv` for what happens in front of each.

    Keywords are the fields of `DigitsOptions`; a wrong one raises ValueError. Actions, int [B]: 0
    to 9. Observations: uint8 [B, canvas, canvas, 1]; new arrays every step. `info` tells of the
    observations that were just given: `label` int64 [B], `target` float32 [B, 2], `digit` int64
    [B], and whether it does (`_label`, …: bool [B]).
    """

    metadata = {  # noqa: RUF012
        "render_modes": RENDER_MODES,
        "render_fps": RENDER_FPS,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **options: Any) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}, expected at least 1")
        self.digits = DigitsOptions.from_keywords(options)
        check_render_mode(render_mode, RENDER_MODES)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = observation_space_of(self.digits)
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.canvases = Canvases(num_envs, self.digits)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode on every canvas, or where `options["reset_mask"]` (bool [B]) is true.

        With a seed s canvas i begins episode 0 of seed s + i, with a sequence that of its own seed.
        One without a seed begins its next episode; at first, one of a fresh seed.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        chosen = chosen_rows(options, self.num_envs)
        self.canvases.reset(seed, chosen, self.np_random)
        return self.observe(), _told(self.canvases.about(), chosen)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act once on every canvas.

        Gives observation, rewards float64 [B], terminations and truncations bool [B], and info.
        Raises ValueError unless actions are [B] integers 0 … 9, and ResetNeeded where no episode is
        under way.
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            given = f"{actions.dtype} {actions.shape}"
            raise ValueError(f"actions are {given}, expected integers ({self.num_envs},)")
        if not self.canvases.seeded.all():
            raise ResetNeeded("call reset() first: no episode is under way")
        rewards, over = self.canvases.step(actions)
        info = self._next_episodes(over) if over.any() else {}
        info |= _told(self.canvases.about(), np.ones(self.num_envs, np.bool_))
        return self.observe(), rewards, over, np.zeros(self.num_envs, np.bool_), info

    def observe(self) -> NDArray[np.uint8]:
        """Give the current observation again, in a new array."""
        return self.canvases.pixels[..., None].copy()

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Give copies of all arrays that determine what happens next."""
        return {name: array.copy() for name, array in self.canvases.state.items()}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from a state that `get_state` gave, with the same options. Raises ValueError if it
        is of another environment."""
        restore(self.canvases.state, state)
        self.canvases.seeded[:] = True
        self.canvases.draw(self.canvases.seeded)

    def render(self) -> Any:
        """Give a tuple of B pictures, uint8 [height, width, 3]."""
        if self.render_mode is None:
            return None
        return tuple(self.canvases.picture(row) for row in range(self.num_envs))

    def _next_episodes(self, over: NDArray[np.bool_]) -> dict[str, Any]:
        """Begin anew where episodes are over, and tell how they ended, as SyncVectorEnv does."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(over):
            final_obs[row] = self.canvases.pixels[row, ..., None].copy()
        final_info = _told(self.canvases.about(), over)
        self.canvases.episode += over
        self.canvases.begin(over)
        return {
            "final_obs": final_obs,
            "_final_obs": over.copy(),
            "final_info": final_info,
            "_final_info": over.copy(),
        }


def _told(about: dict[str, NDArray[Any]], rows: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """What is told of some rows, zero for the others, and beside it of which."""
    told: dict[str, NDArray[Any]] = {}
    for name, values in about.items():
        values[~rows] = 0
        told |= {name: values, f"_{name}": rows.copy()}
    return told
