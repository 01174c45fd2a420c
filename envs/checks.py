"""What is looked at to tell whether an environment is fit to train in.

Each check takes a `Subject` and says what it found; it raises `Nothing` if there is nothing to
check, and `Wrong` (or what the environment itself raises) if something is.
"""

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from groundling.envs.adapters import (
    Environment,
    has_vector_form,
    make_native,
    make_single,
    make_vector,
    same_step,
)
from groundling.envs.faults import GuardedVectorEnv
from groundling.envs.questions import QuestionSource
from groundling.envs.registration import find

STEPS = 400
"""Steps that a check walks."""


class Nothing(Exception):
    """There is nothing to check; says why."""


class Wrong(Exception):
    """The check did not pass; says why."""


class Subject:
    """An environment to be checked, made anew for every check.

    Args:
        name: its id.
        options: its keyword arguments.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name, self.options = name, options
        found = find(name)
        self.is_batch = isinstance(found, EnvSpec) and has_vector_form(found)
        self.has_single = not isinstance(found, EnvSpec) or found.entry_point is not None
        self.rows_of_one = 1
        self._open: list[Any] = []

    def single(self) -> Any:
        """One copy, as it is; raises Nothing for one that exists as a batch only."""
        if not self.has_single:
            raise Nothing("it has a vector form only")
        return self._kept(make_single(self.name, self.options))

    def batch(self, copies: int) -> Environment:
        """So many copies, as they are trained in."""
        rows = copies * self.rows_of_one
        return cast(Environment, self._kept(make_vector(self.name, rows, self.options)))

    def native(self, copies: int) -> Environment:
        """So many copies in a vector form of their own, as it is."""
        native = self._kept(make_native(self.name, copies, self.options))
        return GuardedVectorEnv(native, self.name)

    def _kept(self, environment: Any) -> Any:
        self._open.append(environment)
        return environment

    def close(self) -> None:
        """Close all that was made since the last time."""
        while self._open:
            self._open.pop().close()


def made_in(subject: Subject) -> str:
    """What kind of environment it is."""
    environment = subject.batch(1)
    subject.rows_of_one = environment.num_envs
    if subject.rows_of_one > 1:
        return f"{subject.rows_of_one} agents, each a row"
    return "with a vector form of its own" if subject.is_batch else "one agent, copied"


def interface(subject: Subject) -> str:
    """What the checker of Gymnasium or of PettingZoo says of one copy."""
    single = subject.single()
    if isinstance(single, gymnasium.Env):
        from gymnasium.utils.env_checker import check_env

        check_env(single.unwrapped, skip_render_check=True)
        return "Gymnasium's check_env passes"
    try:
        from pettingzoo.test import parallel_api_test
    except ImportError as error:
        raise Nothing(f'{error}; its checker needs pip install "pettingzoo[testing]"') from error
    parallel_api_test(single, num_cycles=STEPS)
    return "PettingZoo's parallel_api_test passes"


class _Step(NamedTuple):
    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: Any


def _walk(environment: Environment, seed: int = 0, steps: int = STEPS) -> Iterator[_Step]:
    """Resets and acts at random, the same under the same seed."""
    environment.action_space.seed(seed)
    nothing = np.zeros(environment.num_envs)
    observation, info = environment.reset(seed=seed)
    yield _Step(observation, nothing, nothing > 0, nothing > 0, info)
    for _ in range(steps):
        yield _Step(*environment.step(environment.action_space.sample()))


def determinism(subject: Subject) -> str:
    """Whether two environments, and one that is reset again, go the same way under a seed."""
    environment, other = subject.batch(2), subject.batch(2)
    first = [deepcopy(step[:4]) for step in _walk(environment)]
    for where, again in (("in another copy", other), ("after another reset", environment)):
        for number, (was, now) in enumerate(zip(first, _walk(again), strict=True)):
            for part, one, two in zip(_Step._fields[:4], was, now[:4], strict=True):
                if not _same(one, two):
                    raise Wrong(f"{part} of step {number} is another one {where}")
    return f"{STEPS} steps of 2 copies"


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_same(one[name], two[name]) for name in one)
    return bool(np.array_equal(one, two))


def autoreset(subject: Subject) -> str:
    """Whether what ends begins again, and whether its own vector form does so as it says."""
    if subject.is_batch:
        native = subject.native(4)
        same_step(native, subject.name)  # Raises for a mode that is none.
        mode = AutoresetMode(native.metadata["autoreset_mode"])
        ended, kind = _native_ends(native, mode), mode.name
    else:
        kind = "SAME_STEP"
        ended = sum((step.terminated | step.truncated).sum() for step in _walk(subject.batch(4)))
    if not ended:
        raise Nothing(f"no episode ended in {STEPS} random steps of 4 copies")
    return f"{kind}: {ended} episodes in {STEPS} steps of 4 copies"


def _native_ends(environment: Environment, mode: AutoresetMode) -> int:
    """Episodes that ended in a vector form of the environment's own, each of them checked."""
    environment.action_space.seed(0)
    environment.reset(seed=0)
    ended, number = np.zeros(environment.num_envs, np.bool_), 0
    for _ in range(STEPS):
        observation, reward, terminated, truncated, _ = environment.step(
            environment.action_space.sample()
        )
        resetting, ended = ended, terminated | truncated
        if mode == AutoresetMode.NEXT_STEP and (resetting & (ended | (reward != 0))).any():
            raise Wrong("the step that only resets has a reward or an end")
        number += int(ended.sum())
        if mode == AutoresetMode.DISABLED and ended.any():
            before = deepcopy(observation)
            fresh, _ = environment.reset(options={"reset_mask": ended.copy()})
            if not _same_rows(before, fresh, ~ended):
                raise Wrong("options['reset_mask'] resets rows that it does not choose")
    return number


def _same_rows(one: Any, two: Any, chosen: NDArray[np.bool_]) -> bool:
    if isinstance(one, dict):
        return all(_same_rows(one[name], two[name], chosen) for name in one)
    return bool(np.array_equal(one[chosen], two[chosen]))


def fresh_buffers(subject: Subject) -> str:
    """Whether an observation stays what it was when the next one is there."""
    steps = _single_walk(subject.single()) if subject.has_single else _native_walk(subject)
    kept, copied = next(steps), None
    copied = deepcopy(kept)
    for number, observation in enumerate(steps):
        if not _same(copied, kept):
            raise Wrong(f"the observation before step {number} is written over in it")
        kept, copied = observation, deepcopy(observation)
    return "no observation is written over"


def _native_walk(subject: Subject) -> Iterator[Any]:
    for step in _walk(same_step(subject.native(2), subject.name), steps=50):
        yield step.observation


def _single_walk(single: Any) -> Iterator[Any]:
    """The observations of one copy, of all its agents, while it lasts; then of the next episode."""
    is_alone = isinstance(single, gymnasium.Env)
    observation, _ = single.reset(seed=0)
    yield observation
    for _ in range(50):
        if is_alone:
            observation, _, terminated, truncated, _ = single.step(single.action_space.sample())
            over = terminated or truncated
        else:
            actions = {agent: single.action_space(agent).sample() for agent in single.agents}
            observation, *_ = single.step(actions)
            over = not single.agents
        yield observation
        if over:
            observation, _ = single.reset()
            yield observation


def questions(subject: Subject) -> str:
    """Whether it can be asked, and whether what it asks makes sense."""
    environment = subject.batch(4)
    source = environment.unwrapped
    if not isinstance(source, QuestionSource):
        raise Nothing("it answers none: it can be trained in, but no memory of it can be probed")
    generator, number = np.random.default_rng(0), 0
    words, kinds = len(source.vocabulary), len(source.question_types)
    for _ in _walk(environment, steps=20):
        asked = source.ask(generator)
        number += len(asked)
        for part, values, end in (
            ("world", asked.world, environment.num_envs),
            ("type", asked.type, kinds),
            ("tokens", asked.tokens, words),
            ("answer", asked.answer, words),
        ):
            if len(asked) and not 0 <= values.min() <= values.max() < end:
                raise Wrong(
                    f"{part} goes from {values.min()} to {values.max()}; expected 0 to {end - 1}"
                )
    if not number:
        raise Wrong("it asked nothing in 20 steps")
    return f"{kinds} types, {number} questions in 21 moments of {environment.num_envs} worlds"


def speed(subject: Subject, seconds: float = 0.5) -> str:
    """Steps per second of one copy and of sixteen, one process, random actions."""
    rates = [_rate(subject.batch(copies), seconds) for copies in (1, 16)]
    return f"{rates[0]:,.0f} steps/s of one copy, {rates[1]:,.0f} of 16"


def _rate(environment: Environment, seconds: float) -> float:
    actions = [environment.action_space.sample() for _ in range(50)]
    environment.reset(seed=0)
    environment.step(actions[0])
    steps, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        environment.step(actions[steps % len(actions)])
        steps += 1
    return steps * environment.num_envs / elapsed
