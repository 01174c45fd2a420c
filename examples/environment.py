"""An environment of your own: a corridor with a lamp at one end, which can be asked about.

In this directory:

    groundling train any --env.id environment:Corridor-v0 --run-dir runs/corridor

Nothing but Gymnasium is needed to be trained in. The last three members make it a `QuestionSource`,
so that `groundling probe runs/corridor` can ask the agent's memory where the lamp was.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

from groundling.envs.questions import QUESTION_LENGTH, UNUSED, Questions
from groundling.envs.vocabulary import Vocabulary

LENGTH = 9
SIDES = ("left", "right")


class Corridor(gymnasium.Env):
    """The lamp shows at the first step only; walking to its end is worth 1."""

    observation_space = spaces.MultiDiscrete([LENGTH, 3])  # where one is; no lamp, left, right
    action_space = spaces.Discrete(2)
    vocabulary = Vocabulary(("where", "is", "the", "lamp", "?", *SIDES))
    question_types = ("lamp",)

    def reset(self, *, seed=None, options=None):
        """Begin in the middle."""
        super().reset(seed=seed)
        self.place, self.elapsed = LENGTH // 2, 0
        self.lamp = int(self.np_random.integers(2))
        return self._observation(), {}

    def step(self, action):
        """Walk left or right."""
        self.place += 2 * int(action) - 1
        self.elapsed += 1
        there = self.place in (0, LENGTH - 1)
        found = there and self.lamp == (self.place > 0)
        return self._observation(), float(found), there, self.elapsed >= 3 * LENGTH, {}

    def _observation(self):
        return np.array([self.place, 0 if self.elapsed else 1 + self.lamp])

    def ask(self, generator):
        """The one question there is; the lamp was seen when the episode began."""
        asked = self.vocabulary.encode("where is the lamp ?", QUESTION_LENGTH)
        return Questions(
            world=np.zeros(1, np.int64),
            type=np.zeros(1, np.int64),
            arguments=np.full((1, 2), UNUSED),
            tokens=np.array([asked]),
            answer=np.array([self.vocabulary.index(SIDES[self.lamp])]),
            answerable=np.ones(1, bool),
            steps_since_seen=np.array([self.elapsed]),
        )


gymnasium.register("Corridor-v0", entry_point=Corridor)
