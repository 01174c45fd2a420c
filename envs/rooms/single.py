"""`RoomsEnv`: one room, for people, checkers and other people's trainers.

It runs the kernels of `RoomsVectorEnv` on a batch of one, so both give the same episodes step for
step. The vector environment is the fast one.
"""

from operator import index
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from groundling.envs.episodes import LARGEST_SEED, check_render_mode, check_seed
from groundling.envs.rooms.instructions import INSTRUCTION_LENGTH
from groundling.envs.rooms.kernels import (
    ACTIONS,
    Arrays,
    Outcome,
    begin_rooms,
    look_around,
    sight_of,
    step_rooms,
)
from groundling.envs.rooms.layout import empty_world
from groundling.envs.rooms.letters import describe_room
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.pixels import BRIGHTEST, as_observed
from groundling.envs.rooms.render import draw_scene
from groundling.envs.rooms.rules import absent_kinds, rules_of, words_of
from groundling.envs.rooms.window import Window
from groundling.envs.rooms.world import CHANNELS, FIRST_SHAPE
from groundling.envs.vocabulary import VOCABULARY

BATCH_RENDER_MODES = ["rgb_array", "ansi"]
RENDER_MODES = [*BATCH_RENDER_MODES, "human"]
RENDER_FPS = 8


def observation_space_of(options: RoomsOptions) -> spaces.Dict:
    """Give the space of one room's observations.

    `view`: uint8 [V, V, 3] (what, colour, size), `high` the largest code in each channel; with
    p = `view_pixels` an image, uint8 [V · p, V · p, 3] (red, green, blue).
    `direction`: 0 east, 1 south, 2 west, 3 north; only with a compass.
    `instruction`: uint8 [11], ids of words, 0 = padding; only where there is one.
    """
    parts: dict[str, spaces.Space[Any]] = {"view": view_space_of(options, largest_codes(options))}
    if options.compass:
        parts["direction"] = spaces.Discrete(4)
    if options.task == "go_to":
        parts["instruction"] = spaces.Box(0, len(VOCABULARY) - 1, (INSTRUCTION_LENGTH,), np.uint8)
    return spaces.Dict(parts)


def largest_codes(options: RoomsOptions) -> tuple[int, int, int]:
    """Give the largest code in each channel of a cell: what, colour, size."""
    shapes, colours, sizes = options.shape_names, options.colour_names, options.size_names
    return FIRST_SHAPE + len(shapes) - 1, len(colours), len(sizes)


def view_space_of(options: RoomsOptions, codes: tuple[int, int, int]) -> spaces.Box:
    """Give the space of views whose channels go up to these codes, or of images of such views."""
    V, p = options.view_size, options.view_pixels
    if p:
        return spaces.Box(0, BRIGHTEST, (V * p, V * p, CHANNELS), np.uint8)
    high = np.broadcast_to(np.array(codes, np.uint8), (V, V, CHANNELS))
    return spaces.Box(0, high, dtype=np.uint8)


def empty_outcome(num_rooms: int, options: RoomsOptions) -> Outcome:
    """Give arrays for the next step to write into."""
    V = options.view_size
    words = INSTRUCTION_LENGTH if options.task == "go_to" else 0
    return Outcome(
        views=np.empty((num_rooms, V, V, 3), np.uint8),
        rewards=np.empty(num_rooms),
        terminations=np.empty(num_rooms, np.bool_),
        truncations=np.empty(num_rooms, np.bool_),
        directions=np.empty(num_rooms, np.int64),
        final_views=np.empty((num_rooms, V, V, 3), np.uint8),
        final_directions=np.empty(num_rooms, np.int64),
        final_instructions=np.empty((num_rooms, words), np.uint8),
    )


class RoomsEnv(gymnasium.Env[dict[str, Any], np.int64]):
    """One house.

    Keywords are the fields of `RoomsOptions`; a wrong one raises ValueError. Actions: 0 turn left,
    1 turn right, 2 forward, 3 interact. Episodes are truncated after `episode_length` steps; those
    of the explore task never terminate, those of go-to do with the first object that is walked
    against. `reset(seed=s)` begins episode 0 of seed s, `reset()` the next episode.

    With `render_mode="human"` every reset and step is shown in a window, at 8 steps a second. If
    somebody closes it the episode goes on unseen and at full speed.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": RENDER_FPS}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        self.rooms = RoomsOptions.from_keywords(options)
        check_render_mode(render_mode, RENDER_MODES)
        self.render_mode = render_mode
        self.observation_space = observation_space_of(self.rooms)
        self.action_space = spaces.Discrete(ACTIONS)
        self.world = empty_world(1, self.rooms)
        self._arrays: Arrays = tuple(self.world)
        self._rules = tuple(rules_of(self.rooms))
        self._absent, self._words = absent_kinds(self.rooms), words_of(self.rooms)
        self._sight = tuple(sight_of(self.rooms))
        self._seeded = False
        self._running = False
        fps = float(self.metadata["render_fps"])
        self._window = Window(fps) if render_mode == "human" else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode. Without a seed it is the next one; at first, one of a fresh seed."""
        super().reset(seed=seed, options=options)
        if seed is None and self._seeded:
            self.world.episode[0] += 1
        else:
            fresh = int(self.np_random.integers(LARGEST_SEED)) if seed is None else seed
            check_seed(fresh)
            self.world.seed[0] = fresh
            self.world.episode[0] = 0
        self._seeded = self._running = True
        begin_rooms(self._arrays, self._rules, self._absent, self._words, np.ones(1, np.bool_))
        views = empty_outcome(1, self.rooms).views
        look_around(self._arrays, self._sight, views)
        self._show()
        return self._observation(views), {}

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act once. Raises ResetNeeded if no episode is under way.

        An action that is not 0 … 3 is a ValueError, one that is no integer a TypeError.
        """
        if not self._running:
            raise ResetNeeded("call reset() first: no episode is under way")
        outcome = empty_outcome(1, self.rooms)
        step_rooms(
            self._arrays,
            self._rules,
            self._absent,
            self._words,
            self._sight,
            np.full(1, index(action), np.int64),
            False,
            tuple(outcome),
        )
        terminated, truncated = bool(outcome.terminations[0]), bool(outcome.truncations[0])
        self._running = not (terminated or truncated)
        reward = float(outcome.rewards[0])
        self._show()
        return self._observation(outcome.views), reward, terminated, truncated, {}

    def render(self) -> Any:
        """Give a picture, uint8 [height, width, 3], or with `ansi` a map in letters.

        With `human` there is nothing to give, and nothing to do: reset and step show the house.
        """
        if self.render_mode in (None, "human"):
            return None
        if self.render_mode == "ansi":
            return describe_room(self.world, 0, self.rooms)
        return draw_scene(self.world, 0, self.rooms)

    def close(self) -> None:
        """Close the window, where there is one."""
        if self._window is not None:
            self._window.close()

    def _show(self) -> None:
        if self._window is not None and self._window.is_open:
            self._window.show(draw_scene(self.world, 0, self.rooms))

    def _observation(self, views: NDArray[np.uint8]) -> dict[str, Any]:
        observation: dict[str, Any] = {"view": as_observed(views, self.rooms)[0]}
        if self.rooms.compass:
            observation["direction"] = np.int64(self.world.agent[0, 2])
        if self.rooms.task == "go_to":
            observation["instruction"] = self.world.instruction[0].copy()
        return observation
