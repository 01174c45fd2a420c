"""What an agent can do: one policy for each kind of action space.

============================  ===================================================================
Discrete                      a categorical distribution
MultiDiscrete, MultiBinary    an independent categorical distribution for each component
Box of floats                 an independent Gaussian for each number
============================  ===================================================================

An action is kept as the agent knows it: categories are counted from 0, and a number of a Box is
what the Gaussian gave, before anything was clipped. A bounded number is 1 at its upper bound and
-1 at its lower; one that is bounded on one side counts from there, and others are as they are. Only
the environment gets the clipped number in its own units; scored is what was drawn (Chou et al. 2017
on the bias of scoring otherwise).
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from groundling.envs.errors import UserError

NARROWEST, WIDEST = 0.05, 5.0
"""Bounds of a Gaussian's standard deviation; it starts at their geometric mean, 0.5. Without an
upper bound the entropy bonus would widen it for ever, as what is clipped costs nothing."""


class Actions(ABC):
    """An action space as a policy over it. The leading dimensions of all arguments are free."""

    outputs: int
    """Numbers the policy head gives for each row: what the distribution is made of."""
    width: int
    """Numbers that an action becomes where it is fed to a network."""
    shape: tuple[int, ...]
    """Of one action."""
    dtype: torch.dtype
    """Of an action."""
    categories: tuple[int, ...] | None
    """How many categories each component has; None where it is no category."""

    def nothing(self, *leading: int, device: torch.device | str = "cpu") -> Tensor:
        """A placeholder where nothing was done yet, [*leading, *shape]; never fed to a network."""
        return torch.zeros(*leading, *self.shape, dtype=self.dtype, device=device)

    @abstractmethod
    def encode(self, actions: Tensor) -> Tensor:
        """Actions [..., *shape] as numbers of a sane size, [..., width] float."""

    @abstractmethod
    def sample(
        self, policy: Tensor, generator: torch.Generator, *, exploration: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Draws actions.

        Args:
            policy: [..., outputs].
            generator: on the device of the policy.
            exploration: share of the uniform distribution in the mixture that is drawn from, 0 to
                1; of each component by itself. A Box does without: its Gaussian's width explores.

        Returns:
            Actions, [..., *shape], and the logarithms of the probabilities (densities) with which
            they were drawn, [...] float.
        """

    @abstractmethod
    def log_probs(self, policy: Tensor, actions: Tensor) -> Tensor:
        """log π(a), [...], of actions [..., *shape] under policies [..., outputs]."""

    @abstractmethod
    def entropy(self, policy: Tensor) -> Tensor:
        """H(π) in nats, [...], of policies [..., outputs]; of a density it may be negative."""

    @abstractmethod
    def preference(self, policy: Tensor) -> Tensor:
        """One number, [...], whose derivative tells what the policy hangs on: the log-probability
        of the likeliest action; of a Box, the means in standard deviations."""

    @abstractmethod
    def to_environment(self, actions: Tensor) -> NDArray[Any]:
        """Actions [B, *shape] as the environment takes them: [B, *space shape] of its dtype."""

    @abstractmethod
    def from_environment(self, actions: NDArray[Any], device: torch.device | str) -> Tensor:
        """The inverse of `to_environment` (of what was clipped, the bound)."""

    @abstractmethod
    def random(self, batch: int, generator: np.random.Generator) -> NDArray[Any]:
        """Uniform actions for an environment, [batch, *space shape]; where a number is unbounded,
        of a standard Gaussian."""


def make_actions(space: gymnasium.Space[Any]) -> Actions:
    """The policy that an action space (of a single environment) asks for.

    Raises:
        UserError: there is none.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteActions(space)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscreteActions(space, space.nvec, space.start)
    if isinstance(space, spaces.MultiBinary):
        return MultiDiscreteActions(space, np.full(space.shape, 2), np.zeros(space.shape, np.int64))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return BoxActions(space)
    kind = type(space).__name__
    named = f"{kind} of {space.dtype}" if isinstance(space, spaces.Box) else kind
    raise UserError(
        f"the action space is {named}; expected Discrete, MultiDiscrete, MultiBinary or a Box of "
        "floats"
    )


class DiscreteActions(Actions):
    """One of n actions, [...] int64 from 0 on."""

    def __init__(self, space: spaces.Discrete) -> None:
        self.outputs = self.width = int(space.n)
        self.start = int(space.start)
        self.shape = ()
        self.dtype = torch.int64
        self.categories = (self.outputs,)

    def encode(self, actions: Tensor) -> Tensor:
        """One-hot, [..., n]."""
        return one_hot(actions, self.width)

    def sample(
        self, policy: Tensor, generator: torch.Generator, *, exploration: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See `Actions.sample`."""
        return sample_categories(policy, generator, exploration=exploration)

    def log_probs(self, policy: Tensor, actions: Tensor) -> Tensor:
        """See `Actions.log_probs`."""
        return log_probs_of_categories(policy, actions)

    def entropy(self, policy: Tensor) -> Tensor:
        """See `Actions.entropy`."""
        return entropy_of_categories(policy)

    def preference(self, policy: Tensor) -> Tensor:
        """See `Actions.preference`."""
        return torch.log_softmax(policy, dim=-1).amax(-1)

    def to_environment(self, actions: Tensor) -> NDArray[Any]:
        """[B] int64 from the space's start on."""
        return np.asarray(actions.cpu().numpy() + self.start)

    def from_environment(self, actions: NDArray[Any], device: torch.device | str) -> Tensor:
        """[B] int64 from 0 on."""
        return torch.as_tensor(actions, dtype=self.dtype, device=device) - self.start

    def random(self, batch: int, generator: np.random.Generator) -> NDArray[Any]:
        """See `Actions.random`."""
        return generator.integers(self.start, self.start + self.outputs, size=batch)


class MultiDiscreteActions(Actions):
    """Several choices at once, [..., components] int64, each from 0 on and drawn by itself.

    Args:
        space: of the environment.
        sizes: of the space's shape: how many categories each component has.
        start: of the space's shape: the lowest of them.
    """

    def __init__(
        self, space: gymnasium.Space[Any], sizes: NDArray[Any], start: NDArray[Any]
    ) -> None:
        self.categories = tuple(int(size) for size in np.ravel(sizes))
        self.start = np.ravel(start).astype(np.int64)
        self.outputs = self.width = sum(self.categories)
        self.shape = (len(self.categories),)
        self.dtype = torch.int64
        self.space_shape = np.shape(sizes)
        self.space_dtype = space.dtype

    def _parts(self, policy: Tensor) -> tuple[Tensor, ...]:
        """The logits of each component, [..., categories] each."""
        assert self.categories is not None
        parts: tuple[Tensor, ...] = policy.split(self.categories, dim=-1)
        return parts

    def encode(self, actions: Tensor) -> Tensor:
        """A one-hot vector for each component, joined."""
        assert self.categories is not None
        parts = zip(actions.unbind(-1), self.categories, strict=True)
        return torch.cat([one_hot(part, size) for part, size in parts], -1)

    def sample(
        self, policy: Tensor, generator: torch.Generator, *, exploration: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See `Actions.sample`."""
        drawn = [
            sample_categories(part, generator, exploration=exploration)
            for part in self._parts(policy)
        ]
        actions, log_probs = zip(*drawn, strict=True)
        return torch.stack(actions, -1), torch.stack(log_probs, -1).sum(-1)

    def log_probs(self, policy: Tensor, actions: Tensor) -> Tensor:
        """See `Actions.log_probs`; the sum over components."""
        parts = zip(self._parts(policy), actions.unbind(-1), strict=True)
        return torch.stack([log_probs_of_categories(*part) for part in parts], -1).sum(-1)

    def entropy(self, policy: Tensor) -> Tensor:
        """See `Actions.entropy`; the sum over components."""
        parts = self._parts(policy)
        return torch.stack([entropy_of_categories(part) for part in parts], -1).sum(-1)

    def preference(self, policy: Tensor) -> Tensor:
        """See `Actions.preference`; the sum over components."""
        best = [torch.log_softmax(part, dim=-1).amax(-1) for part in self._parts(policy)]
        return torch.stack(best, -1).sum(-1)

    def to_environment(self, actions: Tensor) -> NDArray[Any]:
        """See `Actions.to_environment`."""
        chosen = actions.cpu().numpy() + self.start
        return chosen.reshape(-1, *self.space_shape).astype(self.space_dtype)

    def from_environment(self, actions: NDArray[Any], device: torch.device | str) -> Tensor:
        """See `Actions.from_environment`."""
        counted = np.asarray(actions).reshape(len(actions), -1).astype(np.int64) - self.start
        return torch.as_tensor(counted, device=device)

    def random(self, batch: int, generator: np.random.Generator) -> NDArray[Any]:
        """See `Actions.random`."""
        drawn = generator.integers(0, self.categories, size=(batch, *self.shape)) + self.start
        return drawn.reshape(-1, *self.space_shape).astype(self.space_dtype)


class BoxActions(Actions):
    """Numbers, [..., n] float32, unclipped; the bounds of a number lie at -1 and 1.

    The policy's outputs are n means and n logarithms of standard deviations, squashed into
    [`NARROWEST`, `WIDEST`].
    """

    def __init__(self, space: spaces.Box) -> None:
        self.space = space
        low, high = (np.ravel(bound).astype(np.float64) for bound in (space.low, space.high))
        below, above = np.isfinite(low), np.isfinite(high)
        self.low, self.high, self.bounded = low, high, below & above
        with np.errstate(invalid="ignore"):  # of an infinite bound the middle is never used
            middle, half = low / 2 + high / 2, high / 2 - low / 2
        one_sided = np.where(below, low, np.where(above, high, 0.0))
        self.origin = np.where(self.bounded, middle, one_sided)
        self.scale = np.where(self.bounded & (half > 0), half, 1.0)
        self.numbers = len(low)
        self.outputs, self.width = 2 * self.numbers, self.numbers
        self.shape = (self.numbers,)
        self.dtype = torch.float32
        self.categories = None

    def _gaussian(self, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of standard deviations, [..., n] each."""
        mean, width = policy.chunk(2, dim=-1)
        return mean, torch.lerp(
            torch.full_like(width, math.log(NARROWEST)),
            torch.full_like(width, math.log(WIDEST)),
            torch.sigmoid(width),
        )

    def encode(self, actions: Tensor) -> Tensor:
        """What the environment made of each number: clipped to its bounds; where it has not two
        of them, its logarithm with its sign, sign(x) · log(1 + |x|)."""

        def tensor(values: NDArray[Any]) -> Tensor:
            return torch.as_tensor(values, dtype=actions.dtype, device=actions.device)

        lowest, highest = ((bound - self.origin) / self.scale for bound in (self.low, self.high))
        clipped = actions.clamp(tensor(lowest), tensor(highest))
        squashed = clipped.sign() * clipped.abs().log1p()
        return torch.where(torch.as_tensor(self.bounded, device=actions.device), clipped, squashed)

    def sample(
        self, policy: Tensor, generator: torch.Generator, *, exploration: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See `Actions.sample`."""
        mean, log_width = self._gaussian(policy)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        actions = (mean + log_width.exp() * noise).detach()
        return actions, self.log_probs(policy, actions)

    def log_probs(self, policy: Tensor, actions: Tensor) -> Tensor:
        """See `Actions.log_probs`; the density of all numbers together."""
        mean, log_width = self._gaussian(policy)
        error = (actions - mean) * torch.exp(-log_width)
        return (-0.5 * error.square() - log_width - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, policy: Tensor) -> Tensor:
        """See `Actions.entropy`; of the density before anything is clipped."""
        _, log_width = self._gaussian(policy)
        return (log_width + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def preference(self, policy: Tensor) -> Tensor:
        """See `Actions.preference`."""
        mean, log_width = self._gaussian(policy)
        return (mean * torch.exp(-log_width).detach()).sum(-1)

    def to_environment(self, actions: Tensor) -> NDArray[Any]:
        """See `Actions.to_environment`: scaled to the bounds and clipped."""
        own = self.origin + self.scale * actions.cpu().numpy().astype(np.float64)
        own = np.clip(own, self.low, self.high).reshape(-1, *self.space.shape)
        return np.asarray(own, self.space.dtype)

    def from_environment(self, actions: NDArray[Any], device: torch.device | str) -> Tensor:
        """See `Actions.from_environment`."""
        own = np.asarray(actions, np.float64).reshape(len(actions), -1)
        return torch.as_tensor((own - self.origin) / self.scale, dtype=self.dtype, device=device)

    def random(self, batch: int, generator: np.random.Generator) -> NDArray[Any]:
        """See `Actions.random`."""
        size = (batch, self.numbers)
        drawn = np.where(self.bounded, generator.uniform(-1, 1, size), generator.normal(size=size))
        return self.to_environment(torch.as_tensor(drawn))


def one_hot(categories: Tensor, number: int) -> Tensor:
    """[...] integers in [0, number) → [..., number] float32.

    torch's own first looks for numbers out of range, for which a GPU has to be waited for.
    """
    return (categories.unsqueeze(-1) == torch.arange(number, device=categories.device)).float()


def sample_categories(
    logits: Tensor, generator: torch.Generator, *, exploration: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Draws categories from a distribution that is mixed with the uniform one.

    Args:
        logits: [..., categories].
        generator: on the device of the logits.
        exploration: share of the uniform distribution in the mixture, 0 to 1.

    Returns:
        Categories, [...] int64, and the logarithms of the probabilities with which they were drawn,
        [...] float.
    """
    probabilities = torch.softmax(logits, dim=-1)
    if exploration:
        uniform = torch.full_like(probabilities, 1.0 / probabilities.shape[-1])
        probabilities = torch.lerp(probabilities, uniform, exploration)
    # Inversion of the cumulative distribution: several times cheaper than torch.multinomial for a
    # handful of actions. Its last step is taken as 1, which rounding may miss.
    reached = probabilities.cumsum(-1)[..., :-1]
    drawn = torch.rand(
        reached.shape[:-1], generator=generator, device=reached.device, dtype=reached.dtype
    )
    chosen = (drawn.unsqueeze(-1) >= reached).sum(-1)
    return chosen, probabilities.gather(-1, chosen.unsqueeze(-1)).squeeze(-1).log()


def log_probs_of_categories(logits: Tensor, chosen: Tensor) -> Tensor:
    """Logarithms of the softmax's probabilities, [...], of categories [...] int64 under logits
    [..., categories]."""
    return torch.log_softmax(logits, dim=-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def entropy_of_categories(logits: Tensor) -> Tensor:
    """Entropy of the softmax in nats: [..., categories] → [...]."""
    log_probs = torch.log_softmax(logits, dim=-1)
    return -(log_probs.exp() * log_probs).sum(-1)
