"""Distributions over places to look at, beside PyTorch's own, and the fixed paths."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.testing import assert_close

from groundling.agents.locations import Points, Tiles

VIEWS = [(7, 7, 3), (6, 6, 3), (5, 8, 2), (4, 4, 4), (3, 9, 1), (2, 2, 5)]
STD = 0.2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def policies(outputs, *dims, scale=1.5):
    return scale * torch.randn(*dims, outputs, generator=seeded(1))


def test_tiles_are_scored_as_by_a_categorical_distribution():
    tiles = Tiles(7, 5, 2)
    policy = policies(tiles.outputs, 4, 3)
    locations = torch.randint(tiles.outputs, (4, 3), generator=seeded())
    expected = Categorical(logits=policy)
    assert tiles.outputs == 12
    assert_close(tiles.log_probs(policy, locations), expected.log_prob(locations))
    assert_close(tiles.entropy(policy), expected.entropy())


def test_points_are_scored_as_by_a_gaussian_around_the_squashed_outputs():
    points = Points(STD)
    policy = policies(2, 4, 3)
    locations = 2.0 * torch.randn(4, 3, 2, generator=seeded())  # also far outside the view
    assert (locations.abs() > 1.0).any()
    expected = Independent(Normal(torch.tanh(policy), STD), 1)
    assert_close(points.log_probs(policy, locations), expected.log_prob(locations))


def test_the_entropy_of_points_is_relative_to_a_standard_normal_around_the_centre():
    points = Points(STD)
    policy = policies(2, 4, 3)
    prior = Independent(Normal(torch.zeros(4, 3, 2), 1.0), 1)
    divergence = kl_divergence(Independent(Normal(torch.tanh(policy), STD), 1), prior)
    centred = kl_divergence(Independent(Normal(torch.zeros(4, 3, 2), STD), 1), prior)
    assert_close(points.entropy(policy), centred - divergence)


def test_tiles_are_drawn_as_often_as_the_policy_says():
    tiles, draws = Tiles(4, 6, 2), 40_000
    policy = policies(tiles.outputs, 2)
    drawn = tiles.sample(policy.unsqueeze(1).expand(2, draws, -1), seeded())
    assert drawn.dtype == torch.int64
    assert drawn.shape == (2, draws)
    for row, logits in zip(drawn, policy, strict=True):
        share = torch.bincount(row, minlength=tiles.outputs) / draws
        expected = torch.softmax(logits, -1)
        five_deviations = 5.0 * (expected * (1.0 - expected) / draws).sqrt()
        assert ((share - expected).abs() <= five_deviations).all()


def test_points_are_drawn_around_the_policy_as_wide_as_told_and_may_leave_the_view():
    points, draws = Points(STD), 40_000
    policy = torch.tensor([0.3, 2.0])
    drawn = points.sample(policy.expand(draws, 2), seeded())
    error = 5.0 * STD / math.sqrt(draws)
    assert_close(drawn.mean(0), torch.tanh(policy), atol=error, rtol=0)
    assert_close(drawn.std(0), torch.full((2,), STD), atol=error, rtol=0)
    assert abs(torch.corrcoef(drawn.t())[0, 1].item()) < 5.0 / math.sqrt(draws)
    beyond = (drawn[:, 1] > 1.0).float().mean().item()
    expected = 1.0 - Normal(math.tanh(2.0), STD).cdf(torch.tensor(1.0)).item()
    assert beyond == pytest.approx(expected, abs=0.02)


def test_what_was_drawn_is_scored_and_only_what_is_looked_at_is_clamped():
    points = Points(STD)
    policy = torch.tensor([[3.0, -3.0]]).expand(200, 2)
    drawn = points.sample(policy, seeded())
    outside = (drawn.abs() > 1.0).any(-1)
    assert 0.5 < outside.float().mean() < 1.0
    assert (points.coordinates(drawn).abs() <= 1.0).all()
    assert_close(points.coordinates(drawn), drawn.clamp(-1.0, 1.0))
    scored = points.log_probs(policy, drawn)
    clamped = points.log_probs(policy, points.coordinates(drawn))
    assert (scored[outside] != clamped[outside]).all()


@pytest.mark.parametrize("locations", [Tiles(6, 6, 2), Points(STD)], ids=["tile", "foveal"])
def test_draws_carry_no_gradient_and_come_from_the_generator_given(locations):
    policy = policies(locations.outputs, 5).requires_grad_()
    before = torch.get_rng_state()
    drawn = locations.sample(policy, seeded(3))
    assert not drawn.requires_grad
    assert torch.equal(drawn, locations.sample(policy, seeded(3)))
    assert torch.equal(locations.uniform(9, seeded(3)), locations.uniform(9, seeded(3)))
    assert torch.equal(torch.get_rng_state(), before)
    (gradient,) = torch.autograd.grad(locations.log_probs(policy, drawn).sum(), policy)
    assert (gradient != 0).any(-1).all()


@pytest.mark.parametrize(("height", "width", "size"), VIEWS)
def test_the_nearest_tile_is_the_one_that_holds_a_place(height, width, size):
    tiles = Tiles(height, width, size)
    everyone = torch.arange(tiles.outputs)
    assert torch.equal(tiles.nearest(tiles.coordinates(everyone)), everyone)
    for row in range(height):
        for column in range(width):
            middle = torch.tensor([2 * (row + 0.5) / height - 1, 2 * (column + 0.5) / width - 1])
            assert tiles.nearest(middle) == row // size * tiles.columns + column // size
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-9.0, 9.0]])
    last = tiles.outputs - 1
    assert tiles.nearest(corners).tolist() == [0, last, tiles.columns - 1]


@given(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32))
@settings(max_examples=20)
def test_the_nearest_point_is_the_place_itself(row, column):
    place = torch.tensor([[row, column]])
    points = Points(STD)
    assert torch.equal(points.coordinates(points.nearest(place)), place)


def walk(locations, steps):
    """The path from the centre on, [steps, *location shape]."""
    here, places = locations.centre[None], []
    for _ in range(steps):
        places.append(here[0])
        here = locations.next_on_path(here)
    return torch.stack(places)


@pytest.mark.parametrize(("height", "width", "size"), VIEWS)
def test_the_fixed_path_visits_every_tile_once_begins_in_the_middle_and_begins_anew(
    height, width, size
):
    tiles = Tiles(height, width, size)
    places = walk(tiles, 2 * tiles.outputs)
    assert sorted(places[: tiles.outputs].tolist()) == list(range(tiles.outputs))
    assert torch.equal(places[: tiles.outputs], places[tiles.outputs :])
    middle = tiles.coordinates(tiles.centre)
    reach = tiles.step.on("cpu") / 2 + 1e-6  # The centre of the view lies in it, or on its border.
    assert (middle.abs() <= reach).all() or tiles.outputs == 1


def test_the_fixed_path_of_a_fovea_visits_nine_places_step_by_step_from_the_centre():
    points = Points(STD)
    places = walk(points, 18)
    assert torch.equal(places[:9], places[9:])
    assert places[0].tolist() == [0.0, 0.0]
    assert len({tuple(place) for place in places[:9].tolist()}) == 9
    assert_close(places[:9].abs().unique(), torch.tensor([0.0, 2 / 3]))
    steps = places[:9].diff(dim=0).norm(dim=-1)
    assert_close(steps, torch.full((8,), 2 / 3))


def test_every_row_of_a_batch_follows_the_path_by_itself():
    tiles = Tiles(6, 6, 2)
    after = {int(here): int(tiles.next_on_path(here[None])) for here in torch.arange(9)}
    together = tiles.next_on_path(torch.arange(9))
    assert together.tolist() == [after[i] for i in range(9)]


def test_uniform_locations_cover_the_view_alike():
    draws = 9_000
    tiles = Tiles(6, 6, 2)
    shares = torch.bincount(tiles.uniform(draws, seeded()), minlength=9) / draws
    assert_close(shares, torch.full((9,), 1 / 9), atol=5 * math.sqrt(8 / 81 / draws), rtol=0)
    places = Points(STD).uniform(draws, seeded())
    assert places.shape == (draws, 2)
    assert (places.abs() <= 1.0).all()
    assert_close(places.mean(0), torch.zeros(2), atol=5 / math.sqrt(3 * draws), rtol=0)
    assert_close(places.var(0), torch.full((2,), 1 / 3), atol=0.02, rtol=0)
    assert places.min() < -0.99
    assert places.max() > 0.99
