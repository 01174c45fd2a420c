"""What maps of sensitivity say, as numbers: where in the view, how long ago, and of which thing."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from groundling.evaluation.sensitivity import shares_of_rows

Array = NDArray[np.float64]

RESAMPLES = 2000
AROUND = 8
"""Steps on either side of the last sight of a thing for which the share is told."""


def shares_of_cells(found: Tensor) -> Array:
    """Each cell's share of the sensitivity to the last row, [S, V, W], from [T, S, V, W]."""
    last = found[-1].double()
    shares: Array = (last / last.sum((-2, -1), keepdim=True).clamp(min=1e-300)).numpy()
    return shares


def on_things(maps: Array, things: NDArray[np.bool_], room: NDArray[np.int64]) -> dict[str, Any]:
    """How much more a cell counts while a thing stands in it than the same cell without one.

    Nearness explains nothing of it: each cell that holds a thing is held against the same place
    of the view where it holds none.

    Args:
        maps: [S, V, W]; shares of the view, so that every moment counts alike.
        things: [S, V, W]: where things are.
        room: [S]; rooms are the independent units.

    Returns:
        "ratio", with its 95 % "interval"; None where nothing can be compared.
    """
    parts = np.stack([things * maps, things, ~things * maps, ~things], axis=1, dtype=float)
    return _resampled(parts, room, _matched_ratio)


def _matched_ratio(sums: Array) -> Array:
    """[…, 4, V, W]: sums and numbers with a thing, and without → […]."""
    held, holding, bare, empty = np.moveaxis(sums, -3, 0)
    both = (holding > 0) & (empty > 0)
    expected = holding * bare / np.maximum(empty, 1)
    return np.asarray((held * both).sum((-2, -1)) / (expected * both).sum((-2, -1)))


def _resampled(
    parts: Array, room: NDArray[np.int64], ratio: Callable[[Array], Array]
) -> dict[str, Any]:
    """A ratio of sums over moments, [S, …], and its percentile interval over rooms drawn again."""
    _, which = np.unique(room, return_inverse=True)
    rooms = int(which.max()) + 1
    sums = np.zeros((rooms, *parts.shape[1:]))
    np.add.at(sums, which, parts)
    times = np.random.default_rng(0).multinomial(rooms, np.full(rooms, 1 / rooms), RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        found, drawn = float(ratio(sums.sum(0))), ratio(np.tensordot(times.astype(float), sums, 1))
    if not np.isfinite(found):
        return {"ratio": None, "interval": None}
    return {"ratio": found, "interval": np.nanquantile(drawn, [0.025, 0.975]).tolist()}


def differences(of_value: Array, of_policy: Array, room: NDArray[np.int64]) -> dict[str, float]:
    """`unlike` of maps, [S, V, W] each.

    Returns:
        "same moment": of value and policy, mean over moments; "mean maps": of their means;
        "halves", the control: of the value's means over even and over odd rooms.
    """
    even = np.unique(room, return_inverse=True)[1] % 2 == 0
    return {
        "same moment": float(unlike(of_value, of_policy).mean()),
        "mean maps": float(unlike(of_value.mean(0), of_policy.mean(0))),
        "halves": float(unlike(of_value[even].mean(0), of_value[~even].mean(0))),
    }


def unlike(one: Array, other: Array) -> Array:
    """One minus the cosine between maps, […, V, W] each → […]."""
    lengths = np.sqrt(np.square(one).sum((-2, -1)) * np.square(other).sum((-2, -1)))
    return np.asarray(1 - (one * other).sum((-2, -1)) / np.maximum(lengths, 1e-300))


def steps_back(found: Tensor) -> Array:
    """Mean share of the sensitivity by steps back, [T]; 0 steps back is the moment itself."""
    return np.asarray(shares_of_rows(found.double()).mean(1).flip(0).numpy())


def within(shares: Sequence[float]) -> int:
    """Steps back within which 90 % of the sensitivity lies, from `steps_back`."""
    return int(np.searchsorted(np.cumsum(shares), 0.9 * sum(shares) - 1e-9))


def answers_hang_on(
    found: Tensor, shown: NDArray[np.bool_], room: NDArray[np.int64]
) -> dict[str, Any]:
    """Whether answers hang on the rows that showed what was asked about.

    Args:
        found: [T, N, V, W] sensitivities of the answers; questions 2k and 2k + 1 are about two
            things at the same moment.
        shown: [T, N]: in which rows the asked thing was in view.
        room: [N].

    Returns:
        "asked": mean share of the sensitivity on those rows; "other": the same of the answer about
        the other thing; "ratio" of the two and its "interval"; "rows": their share of all rows;
        "around": for both, mean share of a row by steps after the last that showed the thing;
        "steps": as `steps_back`; "questions".
    """
    asked = shares_of_rows(found.double()).numpy()
    shares = {"asked": asked, "other": asked[:, np.arange(len(room)) ^ 1]}
    on = np.stack([(one * shown).sum(0) for one in shares.values()], axis=1)
    return {
        "questions": len(room),
        **dict(zip(shares, on.mean(0).tolist(), strict=True)),
        "rows": float(shown.mean()),
        **_resampled(on, room, lambda sums: np.asarray(sums[..., 0] / sums[..., 1])),
        "around": {name: _around(one, shown) for name, one in shares.items()},
        "steps": steps_back(found).tolist(),
    }


def _around(shares: Array, shown: NDArray[np.bool_]) -> dict[str, float]:
    """Mean share by steps after the last row that showed it, [T, N] both."""
    rows = len(shown)
    last = rows - 1 - shown[::-1].argmax(0)
    table = {}
    for after in range(-AROUND, AROUND + 1):
        (there,) = np.nonzero((last + after >= 0) & (last + after < rows))
        if len(there):
            table[str(after)] = float(shares[last[there] + after, there].mean())
    return table
