"""What somebody else's environment does wrong, said in one line that names it.

A fault of ours keeps its traceback; a fault of an environment that a user brought along is theirs
to mend, and they need to know which environment, what it was doing, and where.
"""

import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from groundling.envs.errors import UserError

RESET_SECONDS = 60.0
"""An environment that takes longer than this to reset is taken to be stuck."""

RESET = ("observation", "info")
STEP = ("observation", "reward", "terminated", "truncated", "info")

_BYSTANDERS = ("gymnasium", "pettingzoo", "numpy")
"""Packages whose lines tell a user less than the line of their own that called them."""


class _OutOfTime(BaseException):
    """Not an Exception: an environment that catches those must not catch this."""


@contextmanager
def naming_faults(
    name: str, doing: str, seconds: float = 0.0, *, kind: str = "environment"
) -> Iterator[None]:
    """Turns whatever is raised inside into one line about the environment.

    Args:
        name: of the environment, or of another `kind` of thing.
        doing: make, reset, step, …
        seconds: how long that may take (0: for ever). Only where the system has interval timers,
            in the main thread, and if nobody else has set one.

    Raises:
        UserError: names the environment, what it was doing, the exception, and where it came from.
    """
    try:
        with _time_limit(seconds):
            yield
    except UserError:
        raise
    except _OutOfTime:
        raise UserError(
            f"{kind} {name} took more than {seconds:g} s to {doing}; expected it to be quicker"
        ) from None
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{kind} {name} raised {type(error).__name__} in {doing}: {said} ({_place(error)})"
        ) from error


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    possible = (
        seconds > 0
        and hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
    )
    if not possible:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _place(error: BaseException) -> str:
    """File and line of the last call in the user's own code, or of the last call at all."""
    frames = traceback.extract_tb(error.__traceback__)
    if error.__cause__ is not None:  # Gymnasium raises some errors again, from elsewhere.
        frames.extend(traceback.extract_tb(error.__cause__.__traceback__))
    ours = Path(__file__).parent
    theirs = [
        frame
        for frame in frames
        if not any(f"site-packages/{one}/" in frame.filename for one in _BYSTANDERS)
        and ours not in Path(frame.filename).parents
        and Path(frame.filename).name != "contextlib.py"
    ]
    last = (theirs or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def unpacked(name: str, doing: str, result: Any, parts: Sequence[str]) -> Any:
    """The result of a call, if it is a tuple of so many parts; raises UserError if not."""
    if not (isinstance(result, tuple) and len(result) == len(parts)):
        given = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise UserError(f"environment {name}: {doing} gave {given}; expected {', '.join(parts)}")
    return result


def check_observation(
    name: str, observation: Any, space: spaces.Space[Any], leaf: str = ""
) -> None:
    """Raises UserError unless every leaf has the shape of its space, and a dtype that fits."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            inner = f"{leaf}/{key}" if leaf else key
            if not isinstance(observation, dict) or key not in observation:
                raise UserError(f"environment {name}: observation {inner!r} is missing")
            check_observation(name, observation[key], child, inner)
        return
    given = np.asarray(observation)
    if fault := leaf_fault(given.shape, given.dtype, space):
        raise UserError(f"environment {name}: observation {leaf or 'observation'!r} {fault}")


def leaf_fault(
    shape: tuple[int, ...], dtype: np.dtype[Any], space: spaces.Space[Any]
) -> str | None:
    """What is wrong with the shape or the dtype of an observation, or None.

    A dtype fits if it is of the space's kind, or a less general one: float64 or int64 for float32,
    not int64 for uint8.
    """
    if space.shape is not None and shape != space.shape:
        return f"has shape {shape}; its space says {space.shape}"
    if space.dtype is not None and not np.can_cast(dtype, space.dtype, "same_kind"):
        return f"has dtype {dtype}; its space says {space.dtype}"
    return None


def copied(observation: Any) -> Any:
    """An observation that the next reset cannot write into."""
    if isinstance(observation, dict):
        return {name: copied(part) for name, part in observation.items()}
    return np.array(observation)


class GuardedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Somebody else's single environment: whatever it does wrong is a UserError that names it."""

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self.name = name
        with naming_faults(name, "make"):
            self._spaces = (env.observation_space, env.action_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's; raises UserError for any fault, or after RESET_SECONDS."""
        with naming_faults(self.name, "reset", RESET_SECONDS):
            result = self.env.reset(seed=seed, options=options)
            now = (self.env.observation_space, self.env.action_space)
        observation, info = unpacked(self.name, "reset", result, RESET)
        check_spaces(self.name, self._spaces, now)
        check_observation(self.name, observation, self._spaces[0])
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's; raises UserError for any fault."""
        with naming_faults(self.name, "step"):
            result = self.env.step(action)
        observation, reward, terminated, truncated, info = unpacked(self.name, "step", result, STEP)
        check_observation(self.name, observation, self._spaces[0])
        for part, value in zip(STEP[1:4], (reward, terminated, truncated), strict=True):
            check_number(self.name, part, value)
        if terminated or truncated:
            observation = copied(observation)  # Whoever keeps it resets before reading it.
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """As the environment's; raises UserError for any fault."""
        with naming_faults(self.name, "close"):
            self.env.close()


class GuardedVectorEnv(VectorWrapper[Any, Any, Any, Any, Any]):
    """Somebody else's vector environment: whatever it does wrong is a UserError that names it."""

    def __init__(self, env: VectorEnv[Any, Any, Any], name: str) -> None:
        super().__init__(env)
        self.name = name
        with naming_faults(name, "make"):
            self._given = self._spaces_now()

    def _spaces_now(self) -> tuple[spaces.Space[Any], ...]:
        return (
            self.env.observation_space,
            self.env.single_observation_space,
            self.env.single_action_space,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's; raises UserError for any fault, or after RESET_SECONDS."""
        with naming_faults(self.name, "reset", RESET_SECONDS):
            result = self.env.reset(seed=seed, options=options)
            now = self._spaces_now()
        observation, info = unpacked(self.name, "reset", result, RESET)
        check_spaces(self.name, self._given, now)
        check_observation(self.name, observation, self._given[0])
        return observation, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As the environment's; raises UserError for any fault."""
        with naming_faults(self.name, "step"):
            result = self.env.step(actions)
        observation, reward, terminated, truncated, info = unpacked(self.name, "step", result, STEP)
        check_observation(self.name, observation, self._given[0])
        reward, terminated, truncated = map(np.asarray, (reward, terminated, truncated))
        for part, value, kind in zip(
            STEP[1:4], (reward, terminated, truncated), ("float64", "bool", "bool"), strict=True
        ):
            self._check_batch(part, value, kind)
        if self.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
            self._check_final(info, terminated | truncated)
        return observation, reward, terminated, truncated, info

    def _check_batch(self, part: str, value: np.ndarray[Any, Any], kind: str) -> None:
        if value.shape != (self.num_envs,) or not np.can_cast(value.dtype, kind, "same_kind"):
            raise UserError(
                f"environment {self.name}: {part} is {value.dtype} {value.shape}; expected {kind} "
                f"({self.num_envs},)"
            )

    def _check_final(self, info: dict[str, Any], ended: np.ndarray[Any, Any]) -> None:
        for row in np.flatnonzero(ended):
            final = info.get("final_obs", [None] * self.num_envs)[row]
            if final is None:
                raise UserError(
                    f"environment {self.name}: an episode ended without info['final_obs'] of its "
                    "row; expected it, as the autoreset mode is SAME_STEP"
                )
            check_observation(self.name, final, self._given[1])

    def close(self, **options: Any) -> None:
        """As the environment's; raises UserError for any fault."""
        with naming_faults(self.name, "close"):
            self.env.close(**options)


def check_number(name: str, part: str, value: Any) -> None:
    """Raises UserError unless a reward, or whether an episode ended, is one number."""
    if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "fiub":
        raise UserError(f"environment {name}: {part} is {value!r}; expected one number or bool")


def check_spaces(
    name: str, given: Sequence[spaces.Space[Any]], now: Sequence[spaces.Space[Any]]
) -> None:
    """Raises UserError if spaces are other ones than they were when the environment was made."""
    for before, after in zip(given, now, strict=True):
        if after is not before and after != before:
            raise UserError(
                f"environment {name} changed a space from {before} to {after}; expected the ones "
                "it was made with"
            )
