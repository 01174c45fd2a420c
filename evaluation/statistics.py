"""How sure a comparison of agents is.

The unit of analysis is the agent's seed: what is claimed of a way of learning must hold for seeds
that were never trained. So the figure to report first is the difference of two groups' means over
seeds, with Welch's interval and an exact permutation p. The interquartile mean, the probability
of improvement and their bootstrap stand beside it. All agents are asked about the same rooms, so
the bootstrap draws rooms once for all of them; and the questions of one room are not independent,
so an interval of a single agent's accuracy counts rooms, not questions.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from groundling.envs.errors import UserError

Array = NDArray[np.float64]

Statistic = Callable[..., float]
"""A number computed from the scores of one or more groups, an array [runs, types] for each."""

RELABELLINGS = 100_000
"""A permutation test goes through all relabellings of seeds up to this many, else draws so many."""


class Difference(NamedTuple):
    """Of the means of two groups of seeds."""

    mean: float
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end."""
    separated: bool
    """Every seed of one group lies above every seed of the other."""
    p: float
    """Of a difference as large as this, or larger, if the groups' names meant nothing."""


class Interval(NamedTuple):
    """A number that was measured and the interval around it."""

    value: float
    low: float
    high: float


def difference(one: ArrayLike, other: ArrayLike, level: float = 0.95) -> Difference:
    """Mean of `one` minus mean of `other`, with Welch's t-interval and the permutation's p.

    Args:
        one: a score for each seed, two at least.
        other: the same for the other group; the groups may differ in size.
        level: how often such intervals hold the true difference, above 0 and below 1.

    Raises:
        UserError: fewer than two seeds in a group, a score that is not finite, or no such level.
    """
    left, right = _seeds(one), _seeds(other)
    _check_level(level)
    with warnings.catch_warnings():
        # Seeds that agree exactly rightly have no spread; SciPy suspects a loss of precision.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(left, right, equal_var=False)
        interval = test.confidence_interval(level)
    return Difference(
        mean=float(left.mean() - right.mean()),
        low=float(interval.low),
        high=float(interval.high),
        separated=bool(left.min() > right.max() or right.min() > left.max()),
        p=permutation_p(left, right),
    )


def mean_interval(scores: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over seeds with Student's t-interval.

    Args:
        scores: one for each seed, two at least.
        level: see `difference`.

    Raises:
        UserError: as `difference`.
    """
    values = _seeds(scores)
    _check_level(level)
    reach = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return Interval(
        float(values.mean()), float(values.mean() - reach), float(values.mean() + reach)
    )


def permutation_p(one: ArrayLike, other: ArrayLike) -> float:
    """Share of the relabellings of seeds whose means differ as much as those found, or more.

    Two-sided: what counts is the size of the difference, not its sign. Of groups of equal size
    this is also twice the smaller one-sided p; of others it need not be. The p can be no smaller
    than the number of relabellings lets it: with 5 + 5 seeds there are 252, the found one and its
    mirror image are always among them, and so p is 2 / 252 = 0.0079 at the least; with 3 + 3
    seeds it is 0.1.

    Exact up to `RELABELLINGS` of them (9 + 9 seeds have 48,620). Beyond, it is estimated from
    that many random ones, the same in every call, with the found one counted among them.

    Args:
        one: a score for each seed, two at least.
        other: the same for the other group.

    Raises:
        UserError: fewer than two seeds in a group, or a score that is not finite.
    """
    left, right = _seeds(one), _seeds(other)
    found = abs(left.mean() - right.mean())
    # Means of the same numbers, summed in another order, differ in their last bits.
    tolerance = 1e-12 * max(np.abs(left).max(), np.abs(right).max())

    def as_large(left: Array, right: Array, axis: int) -> Array:
        differences = np.abs(left.mean(axis) - right.mean(axis))
        return np.asarray(differences >= found - tolerance, np.float64)

    test = stats.permutation_test(
        (left, right),
        as_large,
        permutation_type="independent",
        alternative="greater",
        vectorized=True,
        n_resamples=RELABELLINGS,
        batch=10_000,
        random_state=np.random.default_rng(0),  # Called `rng` since SciPy 1.15; both are taken.
    )
    return float(test.pvalue)


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores (Agarwal et al. 2021, arXiv 2108.13264, section 4.3).

    Args:
        scores: [runs, types], or of any other shape; not empty. A quarter of all of them, rounded
            down, is left out at either end.

    Raises:
        UserError: no scores.
    """
    values = np.asarray(scores, np.float64)
    if not values.size:
        raise UserError("scores are empty; expected at least one")
    return float(stats.trim_mean(values, 0.25, axis=None))


def probability_of_improvement(one: ArrayLike, other: ArrayLike) -> float:
    """How often a run of `one` beats a run of `other`, a tie being half; mean over types.

    For each type this is Mann and Whitney's U divided by the number of pairs of runs (Agarwal et
    al. 2021, arXiv 2108.13264, section 4.3).

    Args:
        one: scores [runs, types].
        other: scores [other runs, types].

    Returns:
        0 to 1; 0.5 where neither is better.

    Raises:
        UserError: the shapes are not those.
    """
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        shapes = f"{list(left.shape)} and {list(right.shape)}"
        raise UserError(f"scores are {shapes}; expected [runs, types] with the same types")
    if not left.size or not right.size:
        raise UserError("scores are empty; expected at least one run and one type")
    wins = np.sign(left[:, None] - right[None, :])  # [runs, other runs, types]
    return float((wins.mean() + 1) / 2)


def bootstrap(
    groups: Sequence[ArrayLike],
    asked: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic, over runs and rooms that might have been others.

    Stratified (Agarwal et al. 2021, arXiv 2108.13264, section 4.1): every resample draws the runs
    of each group anew, among themselves. Rooms it draws once: all runs of all groups meet the
    same, so a set of rooms that happens to be hard is hard for everybody, and a difference
    between groups does not suffer from it. A single run is a group too; the interval then speaks
    of rooms only.

    With few runs the intervals are too narrow (of five normal scores, 95 % ones hold the true mean
    83 times in 100): `difference` has a fair one.

    Args:
        groups: questions answered right, [runs, rooms, types] for each group, 0 to `asked`.
        asked: questions asked, [rooms, types]; the same for every run.
        statistic: is given the scores of each group, [runs, types], as one argument each, such as
            `numpy.mean`, `interquartile_mean` or `probability_of_improvement`.
        resamples: number of draws.
        level: share of the resamples that the interval holds, above 0 and below 1.
        seed: of the draws.

    Returns:
        The statistic of all runs and rooms, and its interval.

    Raises:
        UserError: shapes or numbers are not as above, or a resample held no question of some type.
    """
    _check_level(level)
    if resamples < 1:
        raise UserError(f"resamples is {resamples}; expected at least 1")
    questions = np.asarray(asked, np.float64)
    answers = _answers(groups, questions)
    generator = np.random.default_rng(seed)
    rooms, values = len(questions), np.empty(resamples)
    for index in range(resamples):
        # Scores need only know how often each room was drawn: one product, and no room is copied.
        times = np.bincount(generator.integers(rooms, size=rooms), minlength=rooms)
        scores = _scores(answers, questions, times.astype(np.float64))
        values[index] = statistic(*(_redrawn(group, generator) for group in scores))
    value = statistic(*_scores(answers, questions, np.ones(rooms)))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def _answers(groups: Sequence[ArrayLike], asked: Array) -> list[Array]:
    """The groups as arrays [runs, rooms, types], checked against what was asked."""
    if asked.ndim != 2 or not asked.size:
        raise UserError(f"asked is {list(asked.shape)}; expected [rooms, types], not empty")
    answers = [np.asarray(group, np.float64) for group in groups]
    if not answers:
        raise UserError("groups are empty; expected at least one")
    for place, right in enumerate(answers):
        if right.ndim != 3 or right.shape[1:] != asked.shape or not len(right):
            expected = f"[runs, {asked.shape[0]}, {asked.shape[1]}], as asked is"
            raise UserError(f"group {place} is {list(right.shape)}; expected {expected}")
        _check_counts(right, asked)
    return answers


def _scores(answers: Sequence[Array], asked: Array, times: Array) -> list[Array]:
    """Share of right answers, [runs, types] for each group, with every room counted so often."""
    total = times @ asked
    if not total.all():
        rare = int(np.argmin(total))
        rooms = np.count_nonzero(asked[:, rare])
        raise UserError(f"question type {rare} is asked in {rooms} rooms; expected more of them")
    return [times @ right / total for right in answers]


def _redrawn(scores: Array, generator: np.random.Generator) -> Array:
    return scores[generator.integers(len(scores), size=len(scores))]


def bonferroni(level: float, comparisons: int) -> float:
    """Level that each of so many intervals needs so that, at `level`, all of them hold at once.

    Raises:
        UserError: no such level, or fewer than one comparison.
    """
    _check_level(level)
    if comparisons < 1:
        raise UserError(f"comparisons is {comparisons}; expected at least 1")
    return 1 - (1 - level) / comparisons


def proportion_interval(right: int, asked: int, level: float = 0.95) -> Interval:
    """Share of right answers to independent questions, with Wilson's interval (1927).

    Args:
        right: answers that were right, 0 to `asked`.
        asked: questions, one at least.
        level: how often such intervals hold the true share, above 0 and below 1.

    Raises:
        UserError: no such counts, or no such level.
    """
    _check_level(level)
    if asked < 1:
        raise UserError(f"asked is {asked}; expected at least 1")
    _check_counts(np.asarray(right, np.float64), np.asarray(asked, np.float64))
    found = stats.binomtest(right, asked).proportion_ci(level, method="wilson")
    return Interval(right / asked, float(found.low), float(found.high))


def clustered_interval(right: ArrayLike, asked: ArrayLike, level: float = 0.95) -> Interval:
    """Share of right answers, where questions about the same room stand or fall together.

    The share is a ratio of two sums over rooms, each of which varies: the delta method's standard
    error of it, and Student's t with as many degrees of freedom as rooms, less one (Cochran,
    Sampling Techniques, 1977, chapter 6; as cluster-robust errors in Miller 2024, arXiv
    2411.00640). Meant for many rooms (of 20 that differ much, 95 % intervals hold the true share 94
    times in 100) and shares away from 0 and 1: where every answer is right, or none, rooms do not
    differ and the interval has no width.

    Args:
        right: right answers in each room, [rooms], 0 to `asked`.
        asked: questions in each room, [rooms]; rooms without any are left out.
        level: how often such intervals hold the true share, above 0 and below 1.

    Returns:
        The share, and its interval cut off at 0 and 1.

    Raises:
        UserError: no such counts, fewer than two rooms with questions, or no such level.
    """
    _check_level(level)
    answers, questions = np.asarray(right, np.float64), np.asarray(asked, np.float64)
    if answers.ndim != 1 or answers.shape != questions.shape:
        shapes = f"{list(answers.shape)} and {list(questions.shape)}"
        raise UserError(f"right and asked are {shapes}; expected [rooms] both")
    _check_counts(answers, questions)
    rooms = np.count_nonzero(questions)
    if rooms < 2:
        raise UserError(f"asked has questions in {rooms} rooms; expected at least 2")
    share = answers.sum() / questions.sum()
    residuals = answers - share * questions  # 0 in rooms without questions, and 0 on average.
    error = np.sqrt(rooms / (rooms - 1) * np.square(residuals).sum()) / questions.sum()
    reach = stats.t.ppf((1 + level) / 2, rooms - 1) * error
    return Interval(float(share), float(max(share - reach, 0)), float(min(share + reach, 1)))


def _seeds(scores: ArrayLike) -> Array:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise UserError(f"scores are {list(values.shape)}; expected [seeds], two of them at least")
    if not np.isfinite(values).all():
        raise UserError("scores hold a value that is not finite; expected one number for each seed")
    return values


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UserError(f"level is {level}; expected a number above 0 and below 1, such as 0.95")


def _check_counts(right: NDArray[Any], asked: NDArray[Any]) -> None:
    # Said this way round, a count that is not a number fails too.
    if not ((right >= 0) & (right <= asked)).all():
        raise UserError("right is below 0 or above asked somewhere; expected 0 to asked")
