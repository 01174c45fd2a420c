"""MiniGrid and BabyAI: the mission as an instruction, and worlds that can be asked about.

What an agent is given of such a world: `view`, what MiniGrid calls the image; `direction`; and
`instruction`, the mission as words of a closed vocabulary. It is read anew at every step, since
missions may change within an episode.

The wrapper also follows what the agent has sensed through that view, so that questions know what it
can know (see `minigrid_questions`).
"""

import contextlib
import io
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray
from scipy import ndimage

from groundling.envs.errors import UserError
from groundling.envs.minigrid_questions import (
    KINDS,
    QUESTION_TYPES,
    VOCABULARY,
    Scene,
    Thing,
    sample_questions,
)
from groundling.envs.questions import Questions
from groundling.envs.vocabulary import Vocabulary

try:
    from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, OBJECT_TO_IDX, STATE_TO_IDX
except ImportError as error:
    raise UserError(
        'MiniGrid and BabyAI are not installed; expected pip install "groundling[minigrid]"'
    ) from error

INSTRUCTION_LENGTH = 72
"""Words an instruction has room for: BabyAI's longest mission puts four things next to four others,
two before two, and tells all eight by where they are; shorter ones are padded with 0."""

_UNSEEN, _WALL = OBJECT_TO_IDX["unseen"], OBJECT_TO_IDX["wall"]
_THINGS = {OBJECT_TO_IDX[kind]: kind for kind in KINDS}
_COLOURS = {code: colour for colour, code in COLOR_TO_IDX.items()}

_NEVER = -1
"""In `_Sensed.at`: the cell was not sensed in this episode."""

_Observation = dict[str, Any]


class _Sensed:
    """What an agent has sensed of a world in one episode.

    What it sees it knows, and what is under its own feet: MiniGrid shows what it carries there, but
    nothing can be there that it did not step on.

    Args:
        world: a MiniGridEnv that was just reset.
    """

    def __init__(self, world: Any) -> None:
        self.world = world
        grid = self._grid()
        self.at = np.full(grid.shape[:2], _NEVER)
        """[columns, rows]: the step at which each cell was sensed last."""
        self.content = np.zeros_like(grid)
        """[columns, rows, 2]: the kind and colour that were seen then."""
        self.places = _places(grid, world.agent_pos)
        self.elapsed = 0

    def look(self, image: NDArray[np.uint8]) -> None:
        """Take note of what the agent sees now: MiniGrid's image, [V, V, 3]."""
        side = len(image)
        ahead = np.asarray(DIR_TO_VEC[self.world.agent_dir])
        right, here = np.array([-ahead[1], ahead[0]]), np.asarray(self.world.agent_pos)
        # Columns of a view go from left to right, its rows towards the agent.
        aside, forward = np.mgrid[:side, :side]
        aside, forward = aside - side // 2, side - 1 - forward
        cells = here + forward[..., None] * ahead + aside[..., None] * right
        is_inside = ((cells >= 0) & (cells < self.at.shape)).all(axis=-1)
        visible = is_inside & (image[..., 0] != _UNSEEN)
        visible[side // 2, side - 1] = False
        columns, rows = cells[visible].T
        self.at[columns, rows] = self.elapsed
        self.content[columns, rows] = image[visible][:, :2]
        self._stand(here)

    def _stand(self, here: NDArray[Any]) -> None:
        place = tuple(here)
        under = self.world.grid.get(*place)
        content = under.encode()[:2] if under else (OBJECT_TO_IDX["empty"], 0)
        # A door the agent stands in was last seen before it stepped there.
        if self.at[place] == _NEVER or tuple(self.content[place]) != content:
            self.at[place], self.content[place] = self.elapsed, content

    def scene(self) -> Scene:
        """The world as it is now, and what is still known of it."""
        grid = self._grid()
        known = (self.at != _NEVER) & (self.content == grid).all(axis=-1)
        things = [
            Thing(
                _THINGS[grid[i, j, 0]],
                _COLOURS[grid[i, j, 1]],
                (i, j),
                self.elapsed - int(self.at[i, j]) if known[i, j] else None,
            )
            for i, j in np.argwhere(np.isin(grid[..., 0], list(_THINGS))).tolist()
        ]
        carried = self.world.carrying
        if carried is not None and carried.type in KINDS:
            i, j = self.world.agent_pos
            things.append(Thing(carried.type, carried.color, (int(i), int(j)), 0))
        unsensed = [(i, j) for i, j in np.argwhere(self.places & ~known).tolist()]
        return Scene(things, unsensed, self.elapsed)

    def _grid(self) -> NDArray[np.uint8]:
        """The kind and colour in every cell now, [columns, rows, 2]."""
        return np.asarray(self.world.grid.encode()[..., :2])


def _places(grid: NDArray[np.uint8], agent: tuple[int, int]) -> NDArray[np.bool_]:
    """The cells [columns, rows] that may hold a thing: all that is no wall, but for what lies
    behind walls on all sides and holds nothing, as around the rooms of MultiRoom."""
    regions, _ = ndimage.label(grid[..., 0] != _WALL)
    inhabited = np.unique(regions[np.isin(grid[..., 0], list(_THINGS))])
    return np.isin(regions, [*inhabited, regions[tuple(agent)]])


class MinigridEnv(gymnasium.Wrapper[_Observation, Any, Any, Any], RecordConstructorArgs):
    """A MiniGrid or BabyAI environment that an agent can act in and that can be asked questions.

    Observations: `view` uint8 [V, V, 3], kind, colour and state of each cell by row and column,
    the agent at the bottom centre (MiniGrid's image is by column and row); `direction` int64, 0
    east, 1 south, 2 west, 3 north; `instruction` uint8 [INSTRUCTION_LENGTH], word ids of
    `vocabulary`, padded with 0.

    As a `QuestionSource` it is a batch of one world, number 0.

    Raises UserError, from `reset` and `step`, if the mission has an unknown word or too many, or if
    the environment needs a package that is not there.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)  # Gymnasium makes copies of an environment by it.
        gymnasium.Wrapper.__init__(self, env)
        self._world = cast(Any, env.unwrapped)  # minigrid, optional, shows no types
        self._name = self.spec.id if self.spec else type(self._world).__name__
        self._mission: str | None = None
        side = int(self._world.agent_view_size)
        highest = [max(codes.values()) for codes in (OBJECT_TO_IDX, COLOR_TO_IDX, STATE_TO_IDX)]
        view = np.broadcast_to(np.array(highest, np.uint8), (side, side, 3))
        words = np.full(INSTRUCTION_LENGTH, len(VOCABULARY) - 1, np.uint8)
        self.observation_space = spaces.Dict(
            {
                "view": spaces.Box(np.zeros_like(view), view, dtype=np.uint8),
                "direction": spaces.Discrete(4),
                "instruction": spaces.Box(np.zeros_like(words), words, dtype=np.uint8),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[_Observation, dict[str, Any]]:
        """Begin an episode."""
        # BabyAI prints every world that it throws away, into the middle of anybody's tables.
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                given, info = self.env.reset(seed=seed, options=options)
            except gymnasium.error.DependencyNotInstalled as error:
                raise UserError(f"environment {self._name}: {error}") from error
        self._sensed = _Sensed(self._world)
        self._sensed.look(given["image"])
        return self._observation(given), info

    def step(self, action: Any) -> tuple[_Observation, Any, bool, bool, dict[str, Any]]:
        """Act once."""
        given, reward, terminated, truncated, info = self.env.step(action)
        self._sensed.elapsed += 1
        self._sensed.look(given["image"])
        return self._observation(given), reward, terminated, truncated, info

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of instructions, questions and answers."""
        return VOCABULARY

    @property
    def question_types(self) -> tuple[str, ...]:
        """Names of the question types; `Questions.type` counts in them."""
        return QUESTION_TYPES

    def ask(self, generator: np.random.Generator) -> Questions:
        """Draw at most one question of each type about the world as it is now."""
        return sample_questions([self._sensed.scene()], generator)

    def scene(self) -> Scene:
        """The things of the world as it is now, and what was sensed of it in this episode."""
        return self._sensed.scene()

    def _observation(self, given: dict[str, Any]) -> _Observation:
        if given["mission"] != self._mission:
            self._mission = given["mission"]
            self._instruction = self._words_of(given["mission"])
        return {
            "view": np.ascontiguousarray(given["image"].swapaxes(0, 1)),
            "direction": np.int64(given["direction"]),
            "instruction": self._instruction.copy(),
        }

    def _words_of(self, mission: str) -> NDArray[np.uint8]:
        text = mission.lower().replace(",", " ,")
        try:
            return np.array(VOCABULARY.encode(text, INSTRUCTION_LENGTH), np.uint8)
        except ValueError as error:
            raise UserError(f"environment {self._name}: mission {mission!r}: {error}") from error
