"""Learners that learn as one: each from environments of its own, all with the same weights.

A mean over all environments is made of sums and counts that are added up over the learners; their
means are not averaged. Gradients are added up, too. What comes out is bitwise the same in every one
of them, and each clips it and steps its own optimisers alike. torch.distributed carries the numbers
(gloo, from one processor's memory to another's), in two calls per update, and one more for each
part of an observation whose cells SimCore weighs by how rare they are.

What is called here must not depend on what was seen: if one learner asked for a sum and another did
not, each would wait for the other.
"""

import socket
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from groundling.agents.losses import Mean

PATIENCE = 180.0
"""Seconds that a learner waits for the others within an update, and when it joins them."""


class GroupBroken(RuntimeError):
    """Another learner is gone, or silent; nothing was learned from this update."""


class Group:
    """One learner alone: what is its own is all there is."""

    rank = 0
    """From 0: which of them this one is."""
    size = 1
    """How many there are."""

    def total(self, counts: Tensor) -> Tensor:
        """The sum over all learners; the tensor may be changed in place."""
        return counts

    def means(self, means: Mapping[str, Mean]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The learners' means as one, by name.

        Args:
            means: of this learner; all have the same names.

        Returns:
            Scalars, each with the gradient of this learner's share in it; and what the means are,
            without gradient.
        """
        values = {name: mean.value for name, mean in means.items()}
        return values, values

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds to each gradient those of the other learners."""

    def check_alike(self, parameters: Iterable[nn.Parameter]) -> None:
        """Raises RuntimeError if weights are no longer bitwise the same everywhere."""

    def close(self) -> None:
        """Leaves; whoever waits for this learner waits no more."""


class Joined(Group):
    """One of several learners.

    Args:
        store: of torch.distributed, by which they find each other.
        host: address of this machine at which the others reach it; nothing listens elsewhere.
        rank: of this one.
        size: how many there are.
        patience: seconds to wait for the others.

    Raises:
        GroupBroken: not all came in time.
    """

    def __init__(
        self, store: Any, host: str, rank: int, size: int, *, patience: float = PATIENCE
    ) -> None:
        from torch.distributed import ProcessGroupGloo

        self.rank, self.size = rank, size
        gloo: Any = ProcessGroupGloo
        options = gloo._Options()
        options._devices = [gloo.create_device(hostname=host)]
        options._timeout = timedelta(seconds=patience)
        try:
            # None of the process's own groups, which are left alone.
            self._group: Any = gloo(store, rank, size, options)
        except RuntimeError as error:
            raise GroupBroken(_first_line(error)) from error

    def _reduce(self, values: Tensor, *, largest: bool = False) -> Tensor:
        """Sums (or the largest) over all learners, bitwise the same in each, where `values` are."""
        from torch.distributed import AllreduceOptions, ReduceOp

        options: Any = AllreduceOptions()
        options.reduceOp = ReduceOp.MAX if largest else ReduceOp.SUM
        carried = values.contiguous().cpu()
        try:
            self._group.allreduce([carried], options).wait()
        except RuntimeError as error:
            raise GroupBroken(_first_line(error)) from error
        return carried.to(values.device)

    def total(self, counts: Tensor) -> Tensor:
        """See `Group.total`."""
        return self._reduce(counts)

    def means(self, means: Mapping[str, Mean]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Group.means`. One call for all of them."""
        own = torch.stack([mean.value.detach() for mean in means.values()]).double()
        counts = own.new_tensor([float(mean.number) for mean in means.values()])
        # Whatever is not finite in one of them is not finite in the sum: all get to know.
        sums, of_all = self._reduce(torch.cat([own * counts, counts])).chunk(2)
        of_all = of_all.clamp(min=1.0)
        parts = (counts / of_all).to(torch.float32)
        shares = {
            name: mean.value * part for (name, mean), part in zip(means.items(), parts, strict=True)
        }
        return shares, dict(zip(means, sums / of_all, strict=True))

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """See `Group.add_gradients`. One call for all of them.

        A weight without a gradient anywhere is left without one: an optimiser leaves it alone.
        """
        weights = list(parameters)
        given = torch.tensor([float(weight.grad is not None) for weight in weights])
        gradients = [
            torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights
        ]
        flat = [gradient.flatten() for gradient in gradients]
        added = self._reduce(torch.cat([*flat, given.to(flat[0].device)]))
        *sums, somewhere = added.split([*(len(one) for one in flat), len(given)])
        for weight, part, is_given in zip(weights, sums, somewhere.tolist(), strict=True):
            weight.grad = part.view_as(weight).to(weight.dtype) if is_given else None

    def check_alike(self, parameters: Iterable[nn.Parameter]) -> None:
        """See `Group.check_alike`. Sums of all bytes are compared."""
        parts = [weight.detach().contiguous().flatten() for weight in parameters]
        sums = torch.stack([part.view(torch.uint8).sum(dtype=torch.int64) for part in parts])
        highest, lowest = self._reduce(torch.stack([sums, -sums]), largest=True)
        if not torch.equal(highest, -lowest):
            raise RuntimeError(
                "the learners' weights are no longer the same; expected machines, and versions of "
                "torch, that round alike"
            )

    def close(self) -> None:
        """See `Group.close`."""
        if self._group is not None:
            self._group.abort()
            self._group = None  # Its connections close with it: that is what the others hear.


def make_store(host: str) -> tuple[Any, int]:
    """A store of torch.distributed that listens at this address alone, and its port."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    listener = socket.create_server((host, 0))
    port = listener.getsockname()[1]
    store = TCPStore(
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    return store, port


def join_store(host: str, port: int, *, patience: float = PATIENCE) -> tuple[Any, str]:
    """The store at this address, and the address of this machine on the way there.

    Raises:
        GroupBroken: nothing answers there.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    try:
        with socket.create_connection((host, port), patience) as connection:
            own = connection.getsockname()[0]
        seconds = timedelta(seconds=patience)
        return TCPStore(host, port, is_master=False, timeout=seconds, wait_for_workers=False), own
    except (OSError, RuntimeError) as error:
        raise GroupBroken(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]
