"""The configuration of a run: frozen, complete, and described where it is declared.

Imports nothing heavy, so that `--help` is there at once. The docstring under a field is its help
on the command line.
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from groundling.agents.config import AgentConfig
from groundling.envs.digits.options import DIGITS
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import TASKS, RoomsOptions

Scalar = bool | int | float | str
"""On the command line the first of these that a word can be."""


def _expect(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise UserError(f"{name} is {value}; expected {expected}")


@dataclass(frozen=True)
class EnvironmentConfig:
    """Which world, and how many of it at once."""

    id: str = "Groundling/Explore-v0"
    """Any id that Gymnasium knows; "module:Id" imports the module first, "module:callable" calls
    something of it, "pettingzoo:Id" is a parallel environment of PettingZoo."""
    num_envs: int = 16
    """Environments stepped together. Of several agents in one environment each counts."""
    rooms: RoomsOptions = field(default_factory=RoomsOptions)
    """The rooms, where the id is of ours that have them (others read `options` instead)."""
    options: dict[str, Scalar] = field(default_factory=dict)
    """Keyword arguments for an environment without rooms, as `key value` pairs."""

    def __post_init__(self) -> None:
        _expect(self.num_envs >= 1, "env.num-envs", self.num_envs, "at least 1")
        self._agree_on_task()
        if self.is_rooms and self.options:
            name = next(iter(self.options))
            raise UserError(f"env.options has {name!r}; expected --env.rooms.{name} for {self.id}")

    def _agree_on_task(self) -> None:
        """Id and rooms both name the task; whichever is not the default one says which it is."""
        prefix, known = self.id.rpartition(":")[::2]
        if known not in TASKS or TASKS[known] == self.rooms.task:
            return
        if self.rooms.task == RoomsOptions.task:
            object.__setattr__(self, "rooms", replace(self.rooms, task=TASKS[known]))
        else:
            (named,) = (name for name, task in TASKS.items() if task == self.rooms.task)
            object.__setattr__(self, "id", f"{prefix}:{named}" if prefix else named)

    @property
    def is_rooms(self) -> bool:
        """Whether the world is rooms of this package's own."""
        return self.id.rpartition(":")[2] in TASKS

    @property
    def is_digits(self) -> bool:
        """Whether the world is this package's handwritten digits."""
        return self.id.rpartition(":")[2] == DIGITS

    @property
    def with_novel_combinations(self) -> "EnvironmentConfig | None":
        """The same world with combinations of shape and colour that it leaves out, if it does."""
        if not self.is_rooms or self.rooms.combinations == "all":
            return None
        return replace(self, rooms=replace(self.rooms, combinations="all"))


@dataclass(frozen=True)
class LearnerConfig:
    """V-trace actor-critic (Espeholt et al. 2018) with Adam."""

    unroll_length: int = 32
    """Steps of every environment per update (T)."""
    exploration: float = 0.1
    """Share of actions that are drawn uniformly instead of from the policy. V-trace corrects for
    it; an agent that always walks the same way knows only what lies along it."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    adam_epsilon: float = 1e-6
    """Adam's ε."""
    max_gradient_norm: float = 5.0
    """The agent's gradient is scaled down to this norm."""
    discount: float = 0.97
    """γ of the return."""
    lambda_: float = 0.95
    """λ of V-trace."""
    policy_weight: float = 1.0
    """Weight of the policy gradient."""
    baseline_weight: float = 1.0
    """Weight of the baseline's half squared error."""
    entropy_weight: float = 0.04
    """Weight of the entropy bonus."""
    location_weight: float = 1.0
    """Weight of the policy gradient of locations (with attention)."""
    location_entropy_weight: float = 0.01
    """Weight of the entropy bonus of locations; of a fovea, whose spread is fixed, it pulls towards
    the centre of the view."""
    label_weight: float = 0.0
    """Weight of the cross-entropy of actions that end an episode, where the environment tells which
    was the right one (`info["label"]`)."""
    losses: dict[str, float] = field(default_factory=dict)
    """Losses of your own, as `module:function weight` pairs."""

    def __post_init__(self) -> None:
        _expect(self.unroll_length >= 1, "learner.unroll-length", self.unroll_length, "at least 1")
        for name in ("learning_rate", "adam_epsilon", "max_gradient_norm"):
            value = getattr(self, name)
            _expect(value > 0, f"learner.{name.replace('_', '-')}", value, "a positive number")
        for name in ("exploration", "discount", "lambda_"):
            value = getattr(self, name)
            _expect(0 <= value <= 1, f"learner.{name.strip('_')}", value, "a number in [0, 1]")
        for name in (
            "policy_weight",
            "baseline_weight",
            "entropy_weight",
            "location_weight",
            "location_entropy_weight",
            "label_weight",
        ):
            value = getattr(self, name)
            _expect(value >= 0, f"learner.{name.replace('_', '-')}", value, "0 or more")
        for name, weight in self.losses.items():
            _expect(weight >= 0, f"learner.losses {name}", weight, "0 or more")


@dataclass(frozen=True)
class OnlineProbeConfig:
    """The monitor: a small decoder that is asked while the agent trains and never teaches it."""

    online: bool | Literal["auto"] = True
    """Whether the monitor runs; auto: where the environment answers questions. It changes no number
    of the agent."""
    decoder: Literal["lstm", "mlp"] = "lstm"
    """The paper's LSTM, or a perceptron."""
    size: int = 128
    """Width of the decoder."""
    every: int = 5
    """Updates between two rounds of questions: a monitor should cost little."""
    learning_rate: float = 1e-3
    """Step size of the monitor's own Adam."""
    max_gradient_norm: float = 5.0
    """Clip of the monitor's own gradient."""
    answers_reach_agent: bool = False
    """Let the answers' gradient into the agent, on purpose: the upper bound, not a probe."""
    answer_weight: float = 1.0
    """Weight of that gradient in the agent (only with answers-reach-agent)."""

    def __post_init__(self) -> None:
        for name in ("size", "every"):
            _expect(getattr(self, name) >= 1, f"probe.{name}", getattr(self, name), "at least 1")
        for name in ("learning_rate", "max_gradient_norm"):
            value = getattr(self, name)
            _expect(value > 0, f"probe.{name.replace('_', '-')}", value, "a positive number")
        _expect(self.answer_weight >= 0, "probe.answer-weight", self.answer_weight, "0 or more")
        if self.answers_reach_agent and self.online is not True:
            raise UserError(
                "probe.answers-reach-agent is True; expected probe.online True beside it"
            )


@dataclass(frozen=True)
class RolloutConfig:
    """Who walks: this process, or workers behind Ray."""

    workers: Annotated[int, tyro.conf.arg(aliases=["--workers"])] = 0
    """Processes that act while this one learns (0: this one does both, in turn). Each has
    `env.num_envs` environments of its own, so that an update learns from as much as without."""
    ray_address: Annotated[str, tyro.conf.arg(aliases=["--ray-address"])] = ""
    """The Ray cluster to work on: auto, or HOST:PORT (empty: one is started on this machine, which
    nobody else can reach, and stopped in the end)."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where a worker's copy of the agent acts."""
    num_gpus: float = 0.0
    """Share of a GPU that each worker reserves (with device cuda)."""
    max_lag: int = 20
    """An unroll that was walked with weights this many updates old is still learned from; an older
    one is dropped. With N workers they are seldom more than 2 N updates old."""
    in_order: bool = False
    """Learn from unrolls in the order in which they were asked for: as long as no worker is lost
    the same run again, at the pace of the slowest worker. (With one worker they always are.)"""
    max_failures: int = 3
    """Failures of one worker, with no unroll in between, that stop the run."""
    stalled_after: float = 180.0
    """Seconds without an unroll after which a worker is replaced; its start counts, too."""

    def __post_init__(self) -> None:
        _expect(self.workers >= 0, "rollout.workers", self.workers, "0 or more")
        _expect(self.max_lag >= 0, "rollout.max-lag", self.max_lag, "0 or more updates")
        _expect(self.max_failures >= 1, "rollout.max-failures", self.max_failures, "at least 1")
        _expect(
            self.stalled_after > 0, "rollout.stalled-after", self.stalled_after, "positive seconds"
        )
        on_gpu = self.device == "cuda"
        expected = "more than 0 (such as 0.25) beside" if on_gpu else "0 beside"
        _expect(
            self.num_gpus > 0 if on_gpu else self.num_gpus == 0,
            "rollout.num-gpus",
            self.num_gpus,
            f"{expected} rollout.device {self.device}",
        )
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            # Learners beside the first are on that cluster, too (`TrainConfig`).
            if not self.workers and value != one.default and one.name != "ray_address":
                name = f"rollout.{one.name.replace('_', '-')}"
                raise UserError(f"{name} is {value}; expected workers to be 1 or more beside it")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. The same configuration gives the same run."""

    seed: int = 0
    """Decides initial weights, rooms and every draw; runs with different seeds share nothing."""
    frames: int = 1_000_000
    """Environment steps to train for, all environments together."""
    max_minutes: float = 0.0
    """Minutes of acting and learning after which the run is over all the same (0: no limit)."""
    device: str = "cpu"
    """Where the networks live: cpu, cuda, cuda:1, mps, …"""
    learners: int = 1
    """Processes that learn at once, each from as many of the environments, with one sum of all
    their gradients: the same updates, but for rounding (and with CPC|A negatives from fewer
    environments). This process is the first; on a GPU they take the machine's GPUs in turns."""
    threads: int = 1
    """Processor threads for the networks. The matrices of one batch are small: one thread is
    fastest, and leaves the other cores for other runs. (Of each learner, if there are several.)"""
    log_every: int = 50
    """Updates per row of metrics.jsonl."""
    save_every: float = 60.0
    """Seconds between checkpoints; one more is written at the end and on Ctrl-C."""
    snapshot_every: int = 0
    """Frames between checkpoints that are kept for ever, to be probed later (0: none)."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl; each needs the extra of its name."""
    env: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """The world."""
    agent: AgentConfig = field(default_factory=AgentConfig)
    """The networks."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """The reinforcement learner."""
    probe: OnlineProbeConfig = field(default_factory=OnlineProbeConfig)
    """The online monitor."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Who walks."""

    def __post_init__(self) -> None:
        _expect(self.seed >= 0, "seed", self.seed, "0 or more")
        _expect(self.frames >= 1, "frames", self.frames, "at least 1")
        _expect(self.max_minutes >= 0, "max-minutes", self.max_minutes, "0 or more")
        self._check_learners()
        _expect(self.threads >= 1, "threads", self.threads, "at least 1")
        _expect(self.log_every >= 1, "log-every", self.log_every, "at least 1")
        _expect(self.snapshot_every >= 0, "snapshot-every", self.snapshot_every, "0 or more frames")
        _expect(self.save_every >= 0, "save-every", self.save_every, "0 or more seconds")

    def _check_learners(self) -> None:
        number, environments = self.learners, self.env.num_envs
        if number < 1 or environments % number:
            raise UserError(
                f"learners is {number}; expected a number from 1 on that divides env.num-envs "
                f"({environments})"
            )
        if self.rollout.ray_address and not self.rollout.workers and number == 1:
            raise UserError(
                f"rollout.ray-address is {self.rollout.ray_address}; expected workers to be 1 or "
                "more beside it, or learners 2 or more"
            )
        if self.agent.prediction.shuffled and number == environments:
            raise UserError(
                f"env.num-envs is {environments}; expected more than learners ({number}), as "
                "agent.prediction.shuffled predicts another environment of the same learner"
            )

    @property
    def frames_per_update(self) -> int:
        """Environment steps that one update learns from."""
        return self.env.num_envs * self.learner.unroll_length


MAPPINGS = frozenset({"options", "sensors", "losses"})
"""Fields whose keys are the user's."""

MAY_CHANGE = frozenset(
    {"frames", "max_minutes", "threads", "log_every", "save_every", "snapshot_every", "track"}
    | {f"rollout.{name}" for name in ("workers", "device", "num_gpus", "ray_address")}
    | {f"rollout.{name}" for name in ("max_failures", "stalled_after")}
)
"""Fields of TrainConfig that a resumed run may set anew: they decide how long, how often and where,
not what is learned. The device is none of them: a generator's state fits its own kind of device
only. But workers begin anew: there may be another number of them, elsewhere (none is no number:
without workers episodes go on).
"""


def to_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    return dataclasses.asdict(config)


def from_json(values: Any, kind: type[Any] = TrainConfig, name: str = "") -> Any:
    """The inverse of `to_json`; left-out fields keep their defaults.

    Raises:
        ValueError: names the field and says what was expected.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{name.rstrip('.') or 'the configuration'} is {values!r}; expected an object"
        )
    hints = typing.get_type_hints(kind)
    known = {one.name for one in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; expected one of {sorted(known)}"
            raise UserError(f"unknown field {name}{key}{hint}")
    return kind(**{key: _value(value, hints[key], name + key) for key, value in values.items()})


def _value(value: Any, hint: Any, name: str) -> Any:
    """One JSON value as the type its field declares."""
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return from_json(value, hint, f"{name}.")
    if isinstance(value, list):
        value = tuple(value)
    if hint is float and type(value) is int:
        value = float(value)
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        each = typing.get_args(hint)[1]
        value = {key: _value(item, each, f"{name} {key}") for key, item in value.items()}
    if not _fits(value, hint):
        raise UserError(f"{name} is {value!r}; expected {_described(hint)}")
    return value


def _described(hint: Any) -> str:
    """What a field takes, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(arguments)}" if len(arguments) > 1 else repr(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_described(argument) for argument in arguments)
    if origin is tuple:
        return f"a list (each {_described(arguments[0])})"
    if origin is dict:
        return f"an object (each value {_described(arguments[1])})"
    return str(hint.__name__)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    return type(value) is hint


def differences(stored: TrainConfig, wanted: TrainConfig) -> list[str]:
    """What a resumed run may not change but `wanted` would: "field: stored → wanted" lines."""

    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        leaves: dict[str, Any] = {}
        for key, value in values.items():
            nested = isinstance(value, dict) and key not in MAPPINGS
            leaves |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
        return leaves

    old, new = flat(to_json(stored)), flat(to_json(wanted))
    may_change = MAY_CHANGE
    if 0 in (stored.rollout.workers, wanted.rollout.workers):
        may_change = may_change - {"rollout.workers"}
    return [
        f"{name}: {old[name]} → {new[name]}"
        for name in old
        if old[name] != new[name] and name not in may_change
    ]
