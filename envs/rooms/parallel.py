"""`HouseEnv`: several agents in one house, a PettingZoo parallel environment.

It runs the kernels of `house.py` on a batch of one house. With one agent it is `RoomsEnv`, step for
step.
"""

from operator import index
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from groundling.envs.episodes import LARGEST_SEED, check_render_mode, check_seed
from groundling.envs.errors import UserError
from groundling.envs.questions import Questions
from groundling.envs.rooms.company import Results, company_of
from groundling.envs.rooms.house import Houses
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.house_render import describe_house, draw_house, house_as_observed
from groundling.envs.rooms.kernels import ACTIONS
from groundling.envs.rooms.oracle import guess
from groundling.envs.rooms.questions import sample_questions
from groundling.envs.rooms.single import (
    RENDER_FPS,
    RENDER_MODES,
    largest_codes,
    observation_space_of,
    view_space_of,
)
from groundling.envs.rooms.typed import typed_question
from groundling.envs.rooms.window import Window
from groundling.envs.rooms.wording import QUESTION_TYPES
from groundling.envs.rooms.world import CHANNELS, World
from groundling.envs.vocabulary import VOCABULARY, Vocabulary

NAME = "groundling_house_v0"

Observation = dict[str, Any]
HEADINGS = 4
"""Codes of how another agent looks, from 1 on."""


def house_observation_space_of(options: HouseOptions) -> spaces.Dict:
    """Give the space of one agent's observations: that of `RoomsEnv`, and in `view` the codes of
    other agents (`house.py`), where there are others."""
    space = observation_space_of(options)
    if options.agents > 1:
        company = company_of(options)
        codes = company.what, company.colour + options.agents - 1, HEADINGS
        space = spaces.Dict({**space.spaces, "view": view_space_of(options, codes)})
    return space


class HouseEnv(ParallelEnv):  # type: ignore[misc]  # PettingZoo has no types.
    """One house and the agents in it: "agent_0", "agent_1", …

    Keywords are the fields of `HouseOptions`, those of `RoomsOptions` among them, and `max_cycles`,
    PettingZoo's name for `episode_length`; a wrong one raises ValueError. Actions: 0 turn left, 1
    turn right, 2 forward, 3 interact. Whoever walks first against an object that nobody has reached
    since the last refresh earns 1 for itself (competitive) or for everybody in the house
    (cooperative). An agent that was rewarded `quota` times is terminated and leaves; after
    `episode_length` steps all that are left are truncated. `reset(seed=s)` begins episode 0 of seed
    s, `reset()` the next episode. Each agent can be asked about its house (`QuestionSource`, world
    i is what agent i knows).

    With `render_mode="human"` every reset and step is shown in a window, at 8 steps a second.
    """

    metadata = {  # noqa: RUF012
        "name": NAME,
        "render_modes": RENDER_MODES,
        "render_fps": RENDER_FPS,
        "is_parallelizable": True,
    }

    def __init__(
        self, render_mode: str | None = None, max_cycles: int | None = None, **options: Any
    ) -> None:
        if max_cycles is not None:
            if "episode_length" in options:
                raise UserError(
                    f"max_cycles={max_cycles!r}, expected only one of it and episode_length"
                )
            options["episode_length"] = max_cycles
        self.rooms = HouseOptions.from_keywords(options)
        check_render_mode(render_mode, RENDER_MODES)
        self.render_mode = render_mode
        self.possible_agents = [f"agent_{number}" for number in range(self.rooms.agents)]
        self.agents: list[str] = []
        self.houses = Houses(1, self.rooms)
        self.state_space = self._state_space()
        self._observation_spaces = {
            agent: house_observation_space_of(self.rooms) for agent in self.possible_agents
        }
        self._action_spaces = {agent: spaces.Discrete(ACTIONS) for agent in self.possible_agents}
        self._seeded = False
        self._shown: list[int] = []
        """Rows of who acted last: they are in the picture, even if they have just left."""
        self._window = Window(RENDER_FPS) if render_mode == "human" else None

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Give an agent's space, always the same object: see `house_observation_space_of`."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Give an agent's space, always the same object."""
        return self._action_spaces[agent]

    @property
    def world(self) -> World:
        """The house as each agent knows it: row i is agent i's."""
        return self.houses.world

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Begin an episode. Without a seed it is the next one; at first, one of a fresh seed."""
        if seed is None and self._seeded:
            self.world.episode[0] += 1
        else:
            fresh = int(np.random.default_rng().integers(LARGEST_SEED)) if seed is None else seed
            check_seed(fresh)
            self.world.seed[0] = fresh
            self.world.episode[0] = 0
        self._seeded = True
        self.houses.begin(np.ones(1, np.bool_))
        self.agents = list(self.possible_agents)
        self._shown = list(range(len(self.agents)))
        observations = self._observations(self.houses.look())
        self._show()
        return observations, {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Act once with all `agents`; gives values for each of them.

        Raises ResetNeeded if nobody is left, ValueError unless there is an action for every agent
        that is left, for nobody else, and each 0 … 3; one that is no integer is a TypeError.
        """
        if not self.agents:
            raise ResetNeeded("call reset() first: no episode is under way")
        if set(actions) != set(self.agents):
            raise ValueError(f"actions of {list(actions)}, expected those of {self.agents}")
        chosen = [index(actions.get(agent, 0)) for agent in self.possible_agents]
        self._shown = [self._row(agent) for agent in self.agents]
        results = self.houses.step(np.array(chosen, np.int64))
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        found = (
            self._observations(results.views),
            self._by_agent(results.rewards),
            self._by_agent(results.terminations),
            self._by_agent(results.truncations),
            infos,
        )
        self.agents = self._left(results)
        self._show()
        return found

    def _left(self, results: Results) -> list[str]:
        over = self._by_agent(results.terminations | results.truncations)
        return [agent for agent in self.agents if not over[agent]]

    def _by_agent(self, values: NDArray[Any]) -> dict[str, Any]:
        """Give those who are left their value as a Python number."""
        return {agent: values[self._row(agent)].item() for agent in self.agents}

    def _row(self, agent: str) -> int:
        return self.possible_agents.index(agent)

    def _observations(self, codes: NDArray[np.uint8]) -> dict[str, Observation]:
        views = house_as_observed(codes, self.rooms)
        observations: dict[str, Observation] = {}
        for agent in self.agents:
            row = self._row(agent)
            observations[agent] = {"view": views[row].copy()}
            if self.rooms.compass:
                observations[agent]["direction"] = np.int64(self.world.agent[row, 2])
        return observations

    def _state_space(self) -> spaces.Box:
        cell = [*largest_codes(self.rooms), 1, self.rooms.agents, HEADINGS]
        most = np.broadcast_to(np.array(cell, np.uint8), (*self.rooms.grid_shape, len(cell)))
        return spaces.Box(0, most, dtype=np.uint8)

    def state(self) -> NDArray[np.uint8]:
        """Give the whole house, uint8 [rows, columns, 6] of the grid, walls included.

        Channels: what, colour and size as in `world.py`; whether the object was reached since the
        last refresh; number of the agent there, from 1; its direction, from 1 (east).
        """
        state = np.zeros((*self.rooms.grid_shape, CHANNELS + 3), np.uint8)
        state[..., :CHANNELS] = self.world.cells[0]
        for row, column in self.world.objects[0, self.world.reached[0], :2].tolist():
            state[row, column, CHANNELS] = 1
        for number in np.flatnonzero(self.houses.members.present):
            row, column, direction = self.world.agent[number].tolist()
            state[row, column, CHANNELS + 1 :] = number + 1, direction + 1
        return state

    def render(self) -> Any:
        """Give a picture, uint8 [height, width, 3], or with `ansi` a map in letters.

        It shows the agents that acted last, and what they have seen. With `human` there is nothing
        to give, and nothing to do: reset and step show the house. Raises ResetNeeded before them.
        """
        if self.render_mode in (None, "human"):
            return None
        if not self._shown:
            raise ResetNeeded("call reset() first: nobody is in the house")
        draw = describe_house if self.render_mode == "ansi" else draw_house
        return draw(self.world, self._shown, self.rooms)

    def close(self) -> None:
        """Close the window, where there is one."""
        if self._window is not None:
            self._window.close()

    def _show(self) -> None:
        if self._window is not None and self._window.is_open:
            self._window.show(draw_house(self.world, self._shown, self.rooms))

    @property
    def attended(self) -> bool:
        """Whether `attend` tells what the agents sensed; else all in sight counts."""
        return self.houses.attended

    @attended.setter
    def attended(self, attended: bool) -> None:
        self.houses.attended = attended

    def attend(self, sensed: NDArray[np.bool_]) -> None:
        """Note what the agents sensed: see `AttendedSource`. Row i is agent i's view; that of an
        agent that has left says nothing."""
        self.houses.attend(sensed)

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of questions and answers."""
        return VOCABULARY

    @property
    def question_types(self) -> tuple[str, ...]:
        """Give the names of the question types; `Questions.type` counts in them."""
        return QUESTION_TYPES

    def ask(self, generator: np.random.Generator) -> Questions:
        """Give questions to every agent in the house; `world` is the agent's number."""
        return self._to_present(sample_questions(self.world, self.rooms, generator))

    def typed_question(self, text: str) -> Questions:
        """Give a question in words to every agent in the house (`rooms/typed.py`)."""
        return self._to_present(typed_question(self.world, self.rooms, text))

    def _to_present(self, questions: Questions) -> Questions:
        return questions[self.houses.members.present[questions.world]]

    def guess(self, questions: Questions, generator: np.random.Generator) -> NDArray[np.int64]:
        """Answer questions from all that the asked agent has sensed: words [N]."""
        return guess(self.world, self.rooms, questions, generator)
