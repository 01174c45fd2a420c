"""Telling the true future from the others, against loops that know what each candidate is."""

import math

import pytest
import torch
from torch.testing import assert_close

from groundling.agents.config import AgentConfig
from groundling.agents.cpc import (
    Candidates,
    CPCHead,
    Scores,
    binary_contrast,
    candidates,
    infonce,
    ranked_first,
)

T1, B, F = 5, 3, 4
M = T1 * B


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def views_of(look, absent=None):
    """Views [M] that look so, but for those that are filler."""
    there = torch.ones(M, dtype=torch.bool) if absent is None else ~absent
    looks, found = torch.unique(look[there], return_inverse=True)
    look = torch.zeros(M, dtype=torch.int64).masked_scatter_(there, found)
    counts = torch.zeros(len(looks), B)
    for m in range(M):
        counts[look[m], m % B] += there[m]
    keys = torch.randn(len(looks), F, generator=seeded(1), dtype=torch.double)
    return Candidates(keys, look, counts)


def looks_that_repeat(looks=6, seed=0):
    """Of M views, most of which look like another."""
    return torch.randint(looks, (M,), generator=seeded(seed))


def looks_that_differ(twins=(), of=None):
    """Of M views that all look different, but for some that look like one of them."""
    return torch.tensor([of if m in twins else m for m in range(M)])


def questions(views, N=20, seed=0):
    """Scores of all looks [N, D] and which view is the true one [N]."""
    generator = seeded(seed)
    scores = 2.0 * torch.randn(N, len(views.keys), generator=generator, dtype=torch.double)
    return scores, torch.randint(M, (N,), generator=generator)


def told_apart(scores, true, views):
    """These scores [N, D], as the losses read them."""
    look = views.look[true].unsqueeze(1)
    return Scores(scores.gather(1, look).squeeze(1), scores.scatter(1, look, -math.inf))


def false_ones(views, i, absent=None):
    """Views that look different from the i-th: in its environment, and elsewhere."""
    others = [m for m in range(M) if views.look[m] != views.look[i]]
    others = [m for m in others if absent is None or not absent[m]]
    own = [m for m in others if m % B == i % B]
    return own, [m for m in others if m not in own]


def log_no(score):
    """Minus the log-probability of saying no."""
    return math.log1p(math.exp(score))


def mean(numbers):
    return sum(numbers) / len(numbers) if numbers else 0.0


def binary_slowly(scores, true, views, absent=None):
    """Of scores of all views, [N, M]."""
    losses = []
    for n, i in enumerate(true.tolist()):
        own, elsewhere = (
            mean([log_no(scores[n, m].item()) for m in group])
            for group in false_ones(views, i, absent)
        )
        losses.append(log_no(-scores[n, i].item()) + 0.5 * own + 0.5 * elsewhere)
    return torch.tensor(losses, dtype=torch.double)


def infonce_slowly(scores, true, views, absent=None):
    losses = []
    for n, i in enumerate(true.tolist()):
        own, elsewhere = false_ones(views, i, absent)
        total = sum(math.exp(scores[n, m].item()) for m in [i, *own, *elsewhere])
        losses.append(math.log(total) - scores[n, i].item())
    return torch.tensor(losses, dtype=torch.double)


def ranked_slowly(scores, true, views):
    return torch.tensor(
        [
            all(scores[n, i] > scores[n, m] for group in false_ones(views, i) for m in group)
            for n, i in enumerate(true.tolist())
        ]
    )


@pytest.mark.parametrize("absent", [None, torch.arange(M) % 4 == 1])
@pytest.mark.parametrize("looks", [1, 2, 6, 1000])
@pytest.mark.parametrize(
    ("fast", "slow"), [(binary_contrast, binary_slowly), (infonce, infonce_slowly)]
)
def test_a_loss_agrees_with_a_loop_over_predictions_and_candidates(fast, slow, looks, absent):
    for seed in range(5):
        views = views_of(looks_that_repeat(looks, seed), absent)
        scores, true = questions(views, seed=seed)
        found = fast(told_apart(scores, true, views), true, views)
        assert_close(found, slow(scores[:, views.look], true, views, absent))


@pytest.mark.parametrize("looks", [1, 2, 6, 1000])
def test_ranking_agrees_with_a_loop_over_predictions_and_candidates(looks):
    some = []
    for seed in range(20):
        views = views_of(looks_that_repeat(looks, seed))
        scores, true = questions(views, seed=seed)
        first = ranked_first(told_apart(scores, true, views))
        assert torch.equal(first, ranked_slowly(scores[:, views.look], true, views))
        some += first.tolist()
    assert any(some)
    assert looks == 1 or not all(some)


@pytest.mark.parametrize("loss", [binary_contrast, infonce])
def test_a_candidate_that_looks_like_the_true_future_is_no_negative(loss):
    views = views_of(looks_that_differ(twins=(2, 7, 11), of=4))  # in its own environment and others
    scores, _ = questions(views, N=1)
    scores.requires_grad_()
    loss(told_apart(scores, torch.tensor([4]), views), torch.tensor([4]), views).sum().backward()
    true = views.look[4]
    assert len(scores[0]) == M - 3
    assert scores.grad[0, true] < 0  # more of the true one, less of the others
    assert (scores.grad[0] > 0).sum() == M - 4


def test_a_view_that_is_there_twice_weighs_twice():
    views = views_of(looks_that_differ(twins=(7,), of=10))  # environment 1, as is the true one
    scores = torch.zeros(1, len(views.keys), dtype=torch.double, requires_grad=True)
    for loss in (binary_contrast, infonce):
        true = torch.tensor([4])
        (slopes,) = torch.autograd.grad(loss(told_apart(scores, true, views), true, views), scores)
        twice, once = slopes[0, views.look[10]], slopes[0, views.look[1]]
        assert twice.item() == pytest.approx(2 * once.item())


def test_false_futures_weigh_as_much_as_the_true_one_and_half_of_it_is_the_same_environment_s():
    """Four in the same environment, ten elsewhere; at score 0 every answer costs log 2."""
    views = views_of(looks_that_differ())
    scores = torch.zeros(1, M, dtype=torch.double, requires_grad=True)
    true = torch.tensor([4])
    loss = binary_contrast(told_apart(scores, true, views), true, views)
    assert loss.item() == pytest.approx(2 * math.log(2))
    loss.sum().backward()
    slopes = scores.grad[0]
    own, elsewhere = false_ones(views, 4)
    assert (len(own), len(elsewhere)) == (4, 10)
    assert slopes[4].item() == pytest.approx(-0.5)
    assert slopes[own].tolist() == pytest.approx([0.5 * 0.5 / 4] * 4)
    assert slopes[elsewhere].tolist() == pytest.approx([0.5 * 0.5 / 10] * 10)


def test_where_everything_looks_alike_there_is_nothing_to_tell_apart():
    views = views_of(looks_that_repeat(looks=1))
    scores, true = questions(views)
    found = torch.nn.functional.softplus(-scores[:, 0])
    scores = told_apart(scores, true, views)
    assert_close(binary_contrast(scores, true, views), found)
    assert_close(infonce(scores, true, views), torch.zeros(20, dtype=torch.double))
    assert ranked_first(scores).all()


def random_observation():
    return {
        "view": torch.randint(3, (T1, B, 1, 2, 1), generator=seeded(1), dtype=torch.uint8),
        "direction": torch.randint(2, (T1, B), generator=seeded(2)),
        "pulse": torch.randint(2, (T1, B, 1), generator=seeded(3)) / 7,
    }


def test_views_look_alike_if_and_only_if_every_part_of_the_raw_observation_is_equal():
    observation = random_observation()
    views = candidates(torch.randn(T1, B, F), observation)
    rows = [(t, b) for t in range(T1) for b in range(B)]
    alike = 0
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            equal = all(torch.equal(leaf[one], leaf[other]) for leaf in observation.values())
            assert (views.look[i] == views.look[j]).item() == equal
            alike += equal and i != j
    assert alike > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_zero_looks_like_minus_zero_and_nothing_else_does(dtype):
    numbers = torch.tensor([0.0, -0.0, torch.finfo(dtype).tiny, 1.0], dtype=dtype)
    look = candidates(torch.zeros(4, 1, F), {"number": numbers.view(4, 1)}).look
    assert look[0] == look[1]
    assert len(look.unique()) == 3


@pytest.mark.parametrize(("dtype", "numbers"), [(torch.uint8, 152), (torch.int64, 19)])
def test_views_that_differ_in_two_places_do_not_look_alike_wherever_that_is(dtype, numbers):
    generator = seeded()
    views = torch.zeros(20_000, numbers, dtype=dtype)
    high = 1 if dtype is torch.uint8 else 2**56  # In a word of eight bytes, the last of them.
    last = torch.arange(7, 152, 8) if dtype is torch.uint8 else torch.arange(numbers)
    for _ in range(2):
        where = last[torch.randint(len(last), (len(views),), generator=generator)]
        drawn = torch.randint(1, 100, (len(views), 1), generator=generator) * high
        views.scatter_(1, where.unsqueeze(1), drawn.to(dtype))
    look = candidates(torch.zeros(len(views), 1, F), {"view": views.unsqueeze(1)}).look
    assert len(look.unique()) == len(views.unique(dim=0)) > 10_000


def test_each_look_has_the_key_of_its_first_view_and_is_counted_by_environment():
    keys, observation = torch.randn(T1, B, F, generator=seeded(0)), random_observation()
    absent = torch.rand(T1, B, generator=seeded(4)) < 0.3
    for filler in (torch.zeros(T1, B, dtype=torch.bool), absent):
        views = candidates(keys, observation, filler if filler.any() else None)
        looks, total = views.look.view(T1, B), 0
        for d, key in enumerate(views.keys):
            there = (looks == d) & ~filler
            assert torch.equal(key, keys[there][0])
            assert views.counts[d].tolist() == there.sum(0).tolist()
            total += int(there.sum())
        assert total == (~filler).sum()
        assert len(views.keys) < total


def test_where_there_is_nothing_but_filler_all_numbers_are_finite():
    keys = torch.randn(T1, B, F, generator=seeded(0), requires_grad=True)
    views = candidates(keys, random_observation(), torch.ones(T1, B, dtype=torch.bool))
    scores, true = questions(views)
    for loss in (binary_contrast, infonce):
        nats = loss(told_apart(scores.requires_grad_(), true, views), true, views)
        assert nats.isfinite().all()
        assert torch.autograd.grad(nats.sum(), scores)[0].isfinite().all()


def test_a_score_is_a_product_of_maps_of_state_and_embedding():
    config = AgentConfig(core_size=6, feature_size=F, sensor_size=7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = CPCHead(config)
    with torch.no_grad():
        head.bias.fill_(0.7)
    views = views_of(looks_that_repeat(looks=6), torch.arange(M) < 2)
    features = torch.randn(len(views.keys), F, generator=seeded(1))
    views = views._replace(keys=head.key(features))
    states, true = torch.randn(3, 6, generator=seeded()), torch.tensor([4, 3, 11])
    scores = head.scores(head.query(states), true, views)
    for n, i in enumerate(true.tolist()):
        own, elsewhere = false_ones(views, i, torch.arange(M) < 2)
        false_looks = {int(views.look[m]) for m in own + elsewhere}
        for d in range(len(views.keys)):
            product = (head.query(states[n]) * head.key(features[d])).sum() / math.sqrt(F) + 0.7
            false = product if d in false_looks else torch.tensor(-math.inf)
            assert_close(scores.false[n, d], false)
            if d == views.look[i]:
                assert_close(scores.true[n], product)


def test_where_all_embeddings_are_the_same_none_ranks_first():
    head = CPCHead(AgentConfig(core_size=64, feature_size=64, sensor_size=64))
    generator = seeded()
    keys = head.key(torch.randn(64, generator=generator).expand(168, -1))
    queries, true = head.query(torch.randn(48, 64, generator=generator)), torch.arange(48)
    views = Candidates(keys, torch.arange(168), torch.eye(8).repeat(21, 1))
    assert not ranked_first(head.scores(queries, true, views)).any()


@pytest.mark.parametrize("loss", [binary_contrast, infonce])
def test_what_is_no_false_future_has_no_gradient_and_makes_none_nan(loss):
    head = CPCHead(AgentConfig(core_size=6, feature_size=F, sensor_size=7))
    states, true = torch.randn(3, 6, generator=seeded()), torch.tensor([4, 0, 11])
    views = views_of(looks_that_repeat(looks=3), torch.arange(M) % 4 == 1)
    features = torch.randn(len(views.keys), F, generator=seeded(1), requires_grad=True)
    views = views._replace(keys=head.key(features))
    found = loss(head.scores(head.query(states), true, views), true, views)
    every = head.query(states) @ views.keys.t() * head.scale + head.bias
    expected = loss(told_apart(every, true, views), true, views)
    assert_close(found, expected)
    parts = [features, *head.parameters()]
    for one, other in zip(
        torch.autograd.grad(found.sum(), parts, retain_graph=True),
        torch.autograd.grad(expected.sum(), parts),
        strict=True,
    ):
        assert other.isfinite().all()
        assert_close(one, other, atol=1e-6, rtol=1e-5)
