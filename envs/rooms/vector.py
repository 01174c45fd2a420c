"""`RoomsVectorEnv`: a batch of rooms stepped by compiled kernels, a Gymnasium vector environment.

Autoreset is SAME_STEP: the observation after the last step of an episode is the next episode's
first, and the last one is in `info["final_obs"]`, as `gymnasium.vector.SyncVectorEnv` gives them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from groundling.envs.episodes import check_render_mode, chosen_rows, number_episodes, restore
from groundling.envs.maps import NEVER_SEEN, Maps
from groundling.envs.questions import Questions
from groundling.envs.rooms.explorer import explorer_actions
from groundling.envs.rooms.house import Houses
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.kernels import (
    ACTIONS,
    Arrays,
    begin_rooms,
    look_around,
    sight_of,
    step_rooms,
)
from groundling.envs.rooms.layout import empty_world
from groundling.envs.rooms.letters import describe_room
from groundling.envs.rooms.options import MARGIN, RoomsOptions
from groundling.envs.rooms.oracle import guess
from groundling.envs.rooms.pixels import as_observed
from groundling.envs.rooms.questions import sample_questions
from groundling.envs.rooms.render import draw_scene
from groundling.envs.rooms.rules import absent_kinds, rules_of, words_of
from groundling.envs.rooms.sensing import note_sensed, noting_elsewhere, sensed_cells
from groundling.envs.rooms.single import (
    BATCH_RENDER_MODES,
    RENDER_FPS,
    empty_outcome,
    observation_space_of,
)
from groundling.envs.rooms.typed import typed_question
from groundling.envs.rooms.wording import QUESTION_TYPES
from groundling.envs.rooms.world import COLOUR, FIRST_SHAPE, FLOOR, NEVER, WHAT
from groundling.envs.vocabulary import VOCABULARY, Vocabulary

Observation = dict[str, NDArray[Any]]


class RoomsVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """B houses.

    Keywords are the fields of `RoomsOptions`; a wrong one raises ValueError. Actions, int [B]:
    0 turn left, 1 turn right, 2 forward, 3 interact. Observations: `view` uint8 [B, V, V, 3] (or an
    image), with a compass `direction` int64 [B], with a task to go to something `instruction` uint8
    [B, L]; new arrays every step. Episodes are truncated after `episode_length` steps; those of the
    explore task never terminate, those of go-to do with the first object that is walked against.
    """

    metadata = {  # noqa: RUF012
        "render_modes": BATCH_RENDER_MODES,
        "render_fps": RENDER_FPS,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **options: Any) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}, expected at least 1")
        self.rooms = RoomsOptions.from_keywords(options)
        check_render_mode(render_mode, BATCH_RENDER_MODES)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = observation_space_of(self.rooms)
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.world = empty_world(num_envs, self.rooms)
        self._arrays: Arrays = tuple(self.world)
        self.attended = False
        self._unnoted = noting_elsewhere(self.world)
        self._rules = tuple(rules_of(self.rooms))
        self._absent, self._words = absent_kinds(self.rooms), words_of(self.rooms)
        self._sight = tuple(sight_of(self.rooms))
        self._seeded = np.zeros(num_envs, np.bool_)
        last = empty_outcome(num_envs, self.rooms)
        self._final = last.final_views, last.final_directions, last.final_instructions

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in every room, or where `options["reset_mask"]` (bool [B]) is true.

        With a seed s room i begins episode 0 of seed s + i, with a sequence that of its own seed.
        A room without a seed begins its next episode; at first, one of a fresh seed.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        chosen = chosen_rows(options, self.num_envs)
        number_episodes(
            self.world.seed,
            self.world.episode,
            self._seeded,
            asked=seed,
            chosen=chosen,
            generator=self.np_random,
        )
        begin_rooms(self._arrays, self._rules, self._absent, self._words, chosen)
        return self.observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act once in every room. Raises ValueError unless actions are [B] integers 0 … 3.

        Gives observation, rewards float64 [B], terminations and truncations bool [B], and info.
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            given = f"{actions.dtype} {actions.shape}"
            raise ValueError(f"actions are {given}, expected integers ({self.num_envs},)")
        B, views = self.num_envs, self._empty_views()
        rewards, directions = np.empty(B), np.empty(B, np.int64)
        terminations, truncations = np.empty(B, np.bool_), np.empty(B, np.bool_)
        count = step_rooms(
            self._looking,
            self._rules,
            self._absent,
            self._words,
            self._sight,
            np.ascontiguousarray(actions, np.int64),
            True,
            (views, rewards, terminations, truncations, directions, *self._final),
        )
        info = self._end(terminations | truncations) if count else {}
        return self._observation(views, directions), rewards, terminations, truncations, info

    def observe(self) -> Observation:
        """Give the current observation again, in new arrays."""
        return self._observation(self._look(), self.world.agent[:, 2].astype(np.int64))

    def attend(self, sensed: NDArray[np.bool_]) -> None:
        """Note which cells of the present views the agents sensed: see `AttendedSource`."""
        cells = sensed_cells(sensed, self.attended, self.num_envs, self.rooms)
        note_sensed(self._arrays, self._sight, self._look(), cells)

    def _look(self) -> NDArray[np.uint8]:
        """Give what every agent sees now, uint8 [B, V, V, 3] in codes."""
        views = self._empty_views()
        look_around(self._looking, self._sight, views)
        return views

    @property
    def _looking(self) -> Arrays:
        """The world's arrays for kernels that look; an agent that attends says itself what counts.

        These kernels begin episodes, too: then `seen_at` is left for `step` to clear.
        """
        return self._unnoted if self.attended else self._arrays

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of questions and answers."""
        return VOCABULARY

    @property
    def question_types(self) -> tuple[str, ...]:
        """Give the names of the question types; `Questions.type` counts in them."""
        return QUESTION_TYPES

    def ask(self, generator: np.random.Generator) -> Questions:
        """Give questions about the rooms as they are now, with the oracle's answers."""
        return sample_questions(self.world, self.rooms, generator)

    def typed_question(self, text: str) -> Questions:
        """Give a question in words, judged, about each room that admits it (`rooms/typed.py`)."""
        return typed_question(self.world, self.rooms, text)

    @property
    def map_codes(self) -> tuple[int, int]:
        """Give the number of kinds (floor, wall, each shape) and of colours (none, each)."""
        return 2 + len(self.rooms.shape_names), 1 + len(self.rooms.colour_names)

    def draw_maps(self) -> Maps:
        """Draw the houses as they are now, without the walls around them. A closed door is wall."""
        inside = slice(MARGIN, -MARGIN)
        cells = self.world.cells[:, inside, inside].astype(np.int64)
        seen_at = self.world.seen_at[:, inside, inside].astype(np.int64)
        elapsed = self.world.elapsed[:, None, None]
        row, column = (self.world.agent[:, :2].astype(np.int64) - MARGIN).T
        return Maps(
            kind=cells[..., WHAT] - FLOOR,
            colour=np.where(cells[..., WHAT] >= FIRST_SHAPE, cells[..., COLOUR], 0),
            age=np.where(seen_at == NEVER, NEVER_SEEN, elapsed - seen_at),
            place=row * cells.shape[2] + column,
            heading=self.world.agent[:, 2].astype(np.int64),
        )

    def guess(self, questions: Questions, generator: np.random.Generator) -> NDArray[np.int64]:
        """Answer questions about the rooms as they are now from all that was sensed: words [N]."""
        return guess(self.world, self.rooms, questions, generator)

    def explorer_actions(self) -> NDArray[np.int64]:
        """Give [B] the action with which a shortest path begins: to an object not yet reached, or
        to the one that is meant."""
        return explorer_actions(self.world)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Give copies of all arrays that determine what happens next."""
        return {name: array.copy() for name, array in self.world._asdict().items()}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from a state that `get_state` gave. Raises ValueError if it is of other rooms."""
        restore(self.world._asdict(), state)
        self._seeded[:] = True

    def render(self) -> Any:
        """Give a tuple of B pictures, uint8 [height, width, 3], or with `ansi` of B texts."""
        if self.render_mode is None:
            return None
        draw = describe_room if self.render_mode == "ansi" else draw_scene
        return tuple(draw(self.world, room, self.rooms) for room in range(self.num_envs))

    def _empty_views(self) -> NDArray[np.uint8]:
        return np.empty(self._final[0].shape, np.uint8)

    def _observation(self, views: NDArray[np.uint8], directions: NDArray[np.int64]) -> Observation:
        observation: Observation = {"view": as_observed(views, self.rooms)}
        if self.rooms.compass:
            observation["direction"] = directions
        if self.rooms.task == "go_to":
            observation["instruction"] = self.world.instruction.copy()
        return observation

    def _end(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        """Give the info of a step with which episodes ended [B], as SyncVectorEnv does."""
        if self.attended:
            self.world.seen_at[ended] = NEVER
        rooms = ended.nonzero()[0]
        # What is given away is copied: the next step writes where this one did.
        final_views, directions, instructions = self._final
        views = as_observed(final_views.take(rooms, axis=0), self.rooms)
        final_obs = np.empty(self.num_envs, dtype=object)
        for row, room in enumerate(rooms.tolist()):
            final_obs[room] = {"view": views[row]}
            if self.rooms.compass:
                final_obs[room]["direction"] = directions[room]
            if self.rooms.task == "go_to":
                final_obs[room]["instruction"] = instructions[room].copy()
        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": {},
            "_final_info": ended.copy(),
        }


def compile_kernels() -> None:
    """Compile every kernel and leave the machine code in numba's cache.

    Takes some 20 seconds once, and next to nothing afterwards. Installing does it, so that the
    first run need not wait; call it before many processes start, since the cache is not safe
    against several that compile at once.
    """
    environment = RoomsVectorEnv(2, view_size=3)
    environment.reset(seed=0)
    environment.step(environment.explorer_actions())
    generator = np.random.default_rng(0)
    environment.guess(environment.ask(generator), generator)
    houses = Houses(1, HouseOptions(agents=2, view_size=3))
    houses.begin(np.ones(1, np.bool_))
    houses.look()
    houses.step(np.zeros(2, np.int64))
    as_observed(houses.look(), HouseOptions(agents=2, view_size=3, view_pixels=4))
    environment.attended = True
    environment.attend(np.ones((2, 3, 3), np.bool_))
