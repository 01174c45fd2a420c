"""`ClutteredDigitsEnv`: one canvas, for checkers and other people's trainers.

It draws as `ClutteredDigitsVectorEnv` does, so both give the same episodes. The vector environment
is the fast one.
"""

from operator import index
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from groundling.envs.digits.canvases import Canvases
from groundling.envs.digits.images import CLASSES
from groundling.envs.digits.options import DigitsOptions
from groundling.envs.episodes import check_render_mode

RENDER_MODES = ["rgb_array"]
RENDER_FPS = 8

_ALL = np.ones(1, np.bool_)


def observation_space_of(options: DigitsOptions) -> spaces.Space[NDArray[np.uint8]]:
    """Give the space of a canvas: uint8 [canvas, canvas, 1], from 0, background, to 255, ink."""
    return spaces.Box(0, 255, (options.canvas, options.canvas, 1), np.uint8)


def action_space() -> spaces.Discrete:
    """Give the space of actions: the digit that one takes it for."""
    return spaces.Discrete(CLASSES)


class ClutteredDigitsEnv(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """One canvas, which stays the same for an episode of `glimpses` steps.

    The action (0 to 9) of the last step earns 1 if it names the digit, and ends (terminates) the
    episode; earlier ones change nothing. It is a task for an agent that sees the canvas glimpse by
    glimpse. `reset(seed=s)` begins episode 0 of seed s, `reset()` the next episode.

    `info` tells the `label` (int64), the `target` (float32 [2]: row and column of the digit's
    centre, -1 the canvas's top or left edge, 1 its bottom or right edge) and the `digit` (int64:
    which image of the data set it is).

    Keywords are the fields of `DigitsOptions`; a wrong one raises ValueError.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": RENDER_FPS}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        self.digits = DigitsOptions.from_keywords(options)
        check_render_mode(render_mode, RENDER_MODES)
        self.render_mode = render_mode
        self.observation_space = observation_space_of(self.digits)
        self.action_space = action_space()
        self.canvases = Canvases(1, self.digits)
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode. Without a seed it is the next one; at first, one of a fresh seed."""
        super().reset(seed=seed, options=options)
        self.canvases.reset(seed, _ALL, self.np_random)
        self._running = True
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Act once. Raises ResetNeeded if no episode is under way.

        An action that is not 0 … 9 is a ValueError, one that is no integer a TypeError.
        """
        if not self._running:
            raise ResetNeeded("call reset() first: no episode is under way")
        rewards, over = self.canvases.step(np.full(1, index(action), np.int64))
        self._running = not over[0]
        return self._observation(), float(rewards[0]), bool(over[0]), False, self._info()

    def render(self) -> Any:
        """Give a picture, uint8 [height, width, 3]."""
        return None if self.render_mode is None else self.canvases.picture(0)

    def _observation(self) -> NDArray[np.uint8]:
        return self.canvases.pixels[0, ..., None].copy()

    def _info(self) -> dict[str, Any]:
        return {name: values[0] for name, values in self.canvases.about().items()}
