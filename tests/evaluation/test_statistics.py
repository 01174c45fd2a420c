"""Intervals and p-values against slow references, SciPy, and simulations whose truth is known."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from groundling.envs.errors import UserError
from groundling.evaluation import statistics
from groundling.evaluation.statistics import (
    bonferroni,
    bootstrap,
    clustered_interval,
    difference,
    interquartile_mean,
    mean_interval,
    permutation_p,
    probability_of_improvement,
    proportion_interval,
)


def mean_difference(one, other):
    return one.mean() - other.mean()


def by_enumeration(one, other):
    """Permutation p by going through all relabellings; a difference is as large up to 1e-9."""
    pooled = [*one, *other]
    found = abs(np.mean(one) - np.mean(other))
    as_large = []
    for chosen in combinations(range(len(pooled)), len(one)):
        rest = [pooled[place] for place in range(len(pooled)) if place not in chosen]
        between = np.mean([pooled[place] for place in chosen]) - np.mean(rest)
        as_large.append(abs(between) >= found - 1e-9)
    return np.mean(as_large)


def answered(runs, rooms, types, *, seed=0, chance=0.6):
    """Right answers [runs, rooms, types] and questions [rooms, types], one to three in a cell."""
    generator = np.random.default_rng(seed)
    asked = generator.integers(1, 4, (rooms, types))
    return generator.binomial(asked, chance, (runs, rooms, types)), asked


def resampled(groups, asked, **settings):
    """The scores that `bootstrap` handed to its statistic, of every resample, and its interval."""
    seen = []

    def statistic(*scores):
        seen.append(scores)
        return float(np.mean(scores[0]))

    interval = bootstrap(groups, asked, statistic, **settings)
    return seen[:-1], interval  # The last are those of all runs and rooms.


def test_a_difference_is_welch_s() -> None:
    """By hand: s² = 0.04 / 3 + 0.005 / 2, Welch's ν = 2.6350, t(0.975; ν) = 3.4469."""
    found = difference([0.6, 0.8, 1.0], [0.2, 0.3])
    assert found.mean == pytest.approx(0.55)
    assert found.high - found.mean == pytest.approx(3.446938 * math.sqrt(0.04 / 3 + 0.005 / 2))
    assert found.low == pytest.approx(1.1 - found.high)
    assert found.p == pytest.approx(0.1)
    assert found.separated
    assert difference([0.2, 0.3], [0.6, 0.8]).separated
    assert not difference([0.7, 0.3], [0.2, 0.3]).separated


def test_a_difference_is_scipy_s_at_any_level() -> None:
    one, other = [0.61, 0.70, 0.66, 0.58, 0.73], [0.55, 0.59, 0.64, 0.52]
    found = difference(one, other, level=0.99)
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.99)
    assert found[:3] == pytest.approx((np.mean(one) - np.mean(other), low, high))
    assert found.p == permutation_p(one, other)


def test_seeds_that_agree_exactly_differ_without_doubt() -> None:
    assert difference([0.5, 0.5], [0.25, 0.25])[:4] == (0.25, 0.25, 0.25, True)
    assert difference([1.0, 1.0], [1.0, 1.0]) == (0.0, 0.0, 0.0, False, 1.0)


@pytest.mark.parametrize("sizes", [(2, 2), (2, 3), (3, 5), (5, 5), (6, 2)])
def test_the_permutation_p_is_that_of_all_relabellings(sizes: tuple[int, int]) -> None:
    """Scores are tenths: many differences tie, but for the last bits of their sums."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = (generator.integers(1, 10, size) / 10 for size in sizes)
        assert permutation_p(one, other) == pytest.approx(by_enumeration(one, other))


def test_the_permutation_p_of_equal_groups_is_scipy_s() -> None:
    one, other = np.random.default_rng(1).normal(size=(2, 5))
    test = stats.permutation_test((one, other), mean_difference, n_resamples=np.inf)
    assert permutation_p(one, other) == pytest.approx(test.pvalue)


def test_the_permutation_p_counts_both_signs() -> None:
    """Of 2 + 3 seeds only the found relabelling of 10 differs so much: SciPy would double it."""
    assert permutation_p([8, 9], [1, 2, 3]) == pytest.approx(1 / 10)
    assert permutation_p([1, 2, 3], [8, 9]) == pytest.approx(1 / 10)


def test_five_seeds_and_five_can_give_two_in_252() -> None:
    assert permutation_p([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == pytest.approx(2 / 252)
    assert permutation_p([6, 7, 8], [1, 2, 3]) == pytest.approx(0.1)


def test_equal_means_have_a_p_of_one() -> None:
    """In binary these sums differ by 1e-16, and of other relabellings by 0."""
    one, other = [0.5, 0.6, 0.3], [0.3, 0.6, 0.5]
    assert np.mean(one) != np.mean(other)
    assert permutation_p(one, other) == 1
    assert permutation_p(np.zeros(3), np.zeros(4)) == 1


def test_of_too_many_relabellings_a_sample_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = np.random.default_rng(2).normal([[0.8], [0.0]], size=(2, 6))
    exact = permutation_p(one, other)
    monkeypatch.setattr(statistics, "RELABELLINGS", 900)  # Of 924.
    sampled = permutation_p(one, other)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 900))
    assert sampled == permutation_p(one, other)
    assert permutation_p(range(50, 100), range(50)) == pytest.approx(1 / 901)


@pytest.mark.parametrize(
    "scores",
    [([0.5], [0.1, 0.2]), ([0.1, 0.2], []), ([[0.1, 0.2]], [0.1, 0.2]), ([0.1, np.nan], [0, 1])],
)
@pytest.mark.parametrize("function", [difference, permutation_p])
def test_a_group_without_two_seeds_is_refused(function, scores) -> None:
    with pytest.raises(UserError, match="scores"):
        function(*scores)


def test_the_interquartile_mean_is_of_the_middle_half() -> None:
    assert interquartile_mean([[9, 1], [-50, 3], [4, 5], [2, 900]]) == np.mean([2, 3, 4, 5])
    scores = np.random.default_rng(0).normal(size=(5, 9))  # 45: eleven go at either end.
    assert interquartile_mean(scores) == pytest.approx(np.sort(scores.ravel())[11:-11].mean())
    assert interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))


def test_the_probability_of_improvement_is_that_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.integers(6, size=(5, 4)), generator.integers(5, size=(3, 4))
    by_pair = [
        float(a > b) + (a == b) / 2
        for kind in range(4)
        for a in one[:, kind]
        for b in other[:, kind]
    ]
    assert probability_of_improvement(one, other) == pytest.approx(np.mean(by_pair))
    counted = stats.mannwhitneyu(one, other, axis=0).statistic / (5 * 3)
    assert probability_of_improvement(one, other) == pytest.approx(counted.mean())
    assert probability_of_improvement(other, one) == pytest.approx(1 - counted.mean())
    assert probability_of_improvement(one, one) == 0.5


def test_scores_that_cannot_be_compared_are_refused() -> None:
    for one, other in [((2, 3), (2, 4)), ((2,), (2,)), ((0, 3), (2, 3))]:
        with pytest.raises(UserError, match="scores are"):
            probability_of_improvement(np.zeros(one), np.zeros(other))
    with pytest.raises(UserError, match="scores are empty"):
        interquartile_mean([])


def test_the_bootstrap_is_the_slow_one() -> None:
    """The same draws, room by room and run by run: rooms first, then the runs of each group."""
    one, asked = answered(3, 20, 2)
    other, _ = answered(4, 20, 2, seed=1)
    other = np.minimum(other, asked)
    generator = np.random.default_rng(5)
    values = []
    for _ in range(50):
        rooms = generator.integers(20, size=20)
        means = []
        for group in (one, other):
            runs = generator.integers(len(group), size=len(group))
            scores = [
                sum(group[run, room, kind] for room in rooms)
                / sum(asked[room, kind] for room in rooms)
                for run in runs
                for kind in range(2)
            ]
            means.append(np.mean(scores))
        values.append(means[0] - means[1])
    found = bootstrap([one, other], asked, mean_difference, resamples=50, level=0.8, seed=5)
    scores = [group.sum(1) / asked.sum(0) for group in (one, other)]
    assert found.value == pytest.approx(mean_difference(*scores))
    assert found[1:] == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])))


def test_a_hard_set_of_rooms_is_hard_for_all_runs_of_all_groups() -> None:
    right, asked = answered(1, 30, 3)
    twins = np.repeat(right, 2, axis=0)
    seen, interval = resampled([right, twins], asked, resamples=100)
    assert interval.low < interval.high
    for one, other in seen:
        assert np.array_equal(np.repeat(one, 2, axis=0), other)


def test_runs_are_drawn_within_their_group_and_each_as_often() -> None:
    """Every room alike: the scores then tell which runs were drawn."""
    asked = np.full((4, 1), 100)
    levels = [np.array([10, 20, 30]), np.array([70, 80])]
    groups = [np.broadcast_to(runs[:, None, None], (len(runs), 4, 1)) for runs in levels]
    seen, _ = resampled(groups, asked, resamples=3000)
    for place, runs in enumerate(levels):
        drawn = np.concatenate([scores[place].ravel() for scores in seen])
        found, counts = np.unique(drawn.round(9), return_counts=True)
        assert found == pytest.approx(runs / 100)
        assert counts / len(drawn) == pytest.approx(1 / len(runs), abs=0.03)
        # Each group of three has 27 draws, of two 4: runs are put back.
        draws = {tuple(scores[place].ravel().round(9)) for scores in seen}
        assert len(draws) == len(runs) ** len(runs)
    one, other = (np.array([scores[place].mean() for scores in seen]) for place in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.06


def test_a_single_run_varies_as_its_rooms_do() -> None:
    right, asked = answered(1, 400, 1)
    found = bootstrap([right], asked, np.mean)
    analytic = clustered_interval(right[0, :, 0], asked[:, 0])
    assert found.value == pytest.approx(analytic.value)
    assert found.high - found.low == pytest.approx(analytic.high - analytic.low, rel=0.08)


def test_the_interval_narrows_as_the_groups_share_rooms() -> None:
    """Half the rooms are hopeless, and all runs agree: a mean is unsure, a difference is not."""
    asked = np.full((100, 1), 10)
    one = np.where(np.arange(100) % 2, 9, 1).reshape(1, 100, 1)
    mean = bootstrap([one], asked, np.mean)
    assert mean.high - mean.low > 0.1
    assert bootstrap([one, one - 1], asked, mean_difference)[1:] == pytest.approx((0.1, 0.1))


def test_any_statistic_of_the_groups_has_an_interval() -> None:
    right, asked = answered(5, 50, 3)
    better = np.minimum(right + 1, asked)
    for statistic, groups in [
        (np.mean, [right]),
        (interquartile_mean, [right]),
        (probability_of_improvement, [better, right]),
    ]:
        value, low, high = bootstrap(groups, asked, statistic, resamples=50)
        assert low <= value <= high


def test_the_seed_decides_the_draws() -> None:
    right, asked = answered(3, 40, 2)
    first, again, another = (bootstrap([right], asked, np.mean, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != another
    assert first.value == another.value


def test_what_the_bootstrap_cannot_use_is_refused() -> None:
    right, asked = answered(2, 10, 3)
    rare = asked * [[1, 1, 0]]
    rare[0, 2] = 1
    for groups, questions, settings, said in [
        ([], asked, {}, "groups are empty"),
        ([right[0]], asked, {}, "group 0 is .* expected .runs, 10, 3."),
        ([right, right[:, 1:]], asked, {}, "group 1 is"),
        ([right[:0]], asked, {}, "group 0 is"),
        ([right], asked[0], {}, "asked is"),
        ([right + 9], asked, {}, "right is below 0 or above asked"),
        ([right - 9], asked, {}, "right is below 0 or above asked"),
        ([right * 0], asked * [[1, 1, 0]], {}, "question type 2 is asked in 0 rooms"),
        ([right * 0], rare, {}, "question type 2 is asked in 1 rooms"),
        ([right], asked, {"resamples": 0}, "resamples is 0"),
        ([right], asked, {"level": 95}, "level is 95"),
    ]:
        with pytest.raises(UserError, match=said):
            bootstrap(groups, questions, np.mean, **settings)


def test_of_several_intervals_each_is_wider() -> None:
    assert bonferroni(0.95, 1) == pytest.approx(0.95)
    assert bonferroni(0.95, 10) == pytest.approx(0.995)
    with pytest.raises(UserError, match="comparisons is 0"):
        bonferroni(0.95, 0)
    with pytest.raises(UserError, match="level is 1"):
        bonferroni(1, 2)


def test_a_mean_over_seeds_has_scipy_s_t_interval() -> None:
    scores = [5.1, 4.7, 5.6]
    expected = stats.ttest_1samp(scores, 0.0).confidence_interval(0.9)
    found = mean_interval(scores, level=0.9)
    assert found == pytest.approx((np.mean(scores), expected.low, expected.high))
    with pytest.raises(UserError, match="two of them at least"):
        mean_interval([1.0])
    with pytest.raises(UserError, match="level is 1"):
        mean_interval(scores, level=1.0)


def test_a_share_has_wilson_s_interval() -> None:
    """By hand: z = 1.959964, centre (k + z²/2) / (n + z²)."""
    square = 1.959964**2
    centre = (8 + square / 2) / (10 + square)
    reach = math.sqrt(square * (8 * 2 / 10 + square / 4)) / (10 + square)
    expected = (0.8, centre - reach, centre + reach)
    assert proportion_interval(8, 10) == pytest.approx(expected, rel=1e-6)
    narrow = stats.binomtest(8, 10).proportion_ci(0.5, method="wilson")
    assert proportion_interval(8, 10, level=0.5)[1:] == pytest.approx((narrow.low, narrow.high))
    for right, asked in [(11, 10), (-1, 10), (0, 0)]:
        with pytest.raises(UserError, match=r"right|asked"):
            proportion_interval(right, asked)


def test_rooms_of_one_question_have_the_t_interval() -> None:
    right = np.random.default_rng(0).integers(2, size=40)
    found = clustered_interval(right, np.ones(40), level=0.9)
    low, high = stats.ttest_1samp(right, 0).confidence_interval(0.9)
    assert found == pytest.approx((right.mean(), low, high))


def test_the_same_question_asked_twice_says_nothing_new() -> None:
    right, asked = (array[..., 0] for array in answered(1, 40, 1))
    found = clustered_interval(right[0], asked)
    assert clustered_interval(2 * right[0], 2 * asked) == pytest.approx(found)
    padded = clustered_interval(np.append(right[0], [0, 0]), np.append(asked, [0, 0]))
    assert padded == pytest.approx(found)


def test_the_clustered_interval_is_the_bootstrap_s() -> None:
    """Rooms with more questions are the harder ones: the ratio's two sums vary together."""
    generator = np.random.default_rng(0)
    asked = generator.integers(1, 9, 300)
    right = generator.binomial(asked, 0.9 - asked / 16)
    drawn = generator.integers(300, size=(4000, 300))
    shares = right[drawn].sum(1) / asked[drawn].sum(1)
    found = clustered_interval(right, asked)
    assert found.value == right.sum() / asked.sum()
    assert found.high - found.low == pytest.approx(2 * 1.968 * shares.std(), rel=0.03)


def test_the_clustered_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Questions of a room share its difficulty; rooms and their numbers of questions vary.

    Wilson's interval takes the same questions as independent, and is wrong far too often.
    """
    generator = np.random.default_rng(0)
    covered = {"clustered": 0, "independent": 0}
    trials = 1000
    for _ in range(trials):
        asked = generator.integers(0, 10, 100)
        right = generator.binomial(asked, generator.beta(1.2, 0.8, 100))
        clustered = clustered_interval(right, asked)
        independent = proportion_interval(int(right.sum()), int(asked.sum()))
        covered["clustered"] += clustered.low <= 0.6 <= clustered.high
        covered["independent"] += independent.low <= 0.6 <= independent.high
    assert 0.93 < covered["clustered"] / trials < 0.97
    assert covered["independent"] / trials < 0.8


def test_the_clustered_interval_stays_between_0_and_1() -> None:
    assert clustered_interval([9, 9, 1], [9, 9, 9]).high == 1
    assert clustered_interval([0, 0, 8], [9, 9, 9]).low == 0
    assert clustered_interval([9, 9], [9, 9]) == (1, 1, 1)


def test_counts_that_cannot_be_are_refused() -> None:
    for right, asked, said in [
        ([1, 2], [1, 1], "right is"),
        ([1, np.nan], [1, 1], "right is"),
        ([1, 1], [1, 1, 1], "right and asked"),
        ([[1, 1]], [[1, 1]], "right and asked"),
        ([1, 0], [1, 0], "asked has questions in 1 rooms"),
    ]:
        with pytest.raises(UserError, match=said):
            clustered_interval(right, asked)
