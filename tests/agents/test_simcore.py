"""Likelihoods by hand: every decoder scores what was seen, by as much as it should."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Normal
from torch.testing import assert_close

from groundling.agents.cells_decoder import (
    CellsDecoder,
    GlimpseDecoder,
    kind_counts,
    kind_weights,
)
from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.agents.decoders import (
    CategoryDecoder,
    ImageDecoder,
    NumbersDecoder,
    TokensDecoder,
    discretised_logistic,
)
from groundling.agents.glimpse import OUTSIDE, CellsGlimpse, Fovea
from groundling.agents.sensors import Sensors, leaf_sensor
from groundling.agents.simcore import SimCoreHead

SIZE = 5
HIGH = np.zeros((2, 3, 2), np.uint8) + np.array([3, 1], np.uint8)
CELLS = spaces.Box(0, HIGH, dtype=np.uint8)
"""Two rows of three cells; four kinds, two colours."""


def make_config(**switches):
    return AgentConfig(
        core_size=4,
        feature_size=6,
        sensor_size=7,
        embedding_size=SIZE,
        prediction=PredictionConfig(loss="simcore", **switches),
    )


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def cells_decoder(**switches):
    config = make_config(**switches)
    sensor = leaf_sensor(CELLS, config)
    decoder = CellsDecoder(sensor, CELLS.shape, config)
    for bias in decoder.biases:
        torch.nn.init.normal_(bias)
    return sensor, decoder


def random_cells(N):
    kinds, colours = torch.randint(4, (N, 2, 3)), torch.randint(2, (N, 2, 3))
    return torch.stack([kinds, colours], -1).to(torch.uint8)


def nats_slowly(decoder, tables, state, view, weights):
    """Of a single view [2, 3, 2]: category by category."""
    hidden = decoder.hidden(state)
    generated = decoder.generate(hidden).reshape(6, 2, SIZE)
    link = decoder.links[0](hidden).reshape(SIZE, SIZE)
    total = 0.0
    for i, cell in enumerate(view.reshape(6, 2).tolist()):
        nats = 0.0
        linked = tables[0].weight[cell[0]] @ link / math.sqrt(SIZE)
        for channel, category in enumerate(cell):
            table, bias = tables[channel].weight, decoder.biases[channel]
            vector = generated[i, channel] + channel * linked
            scores = [
                (vector @ table[j]).item() / math.sqrt(SIZE) + bias[j].item()
                for j in range(len(table))
            ]
            nats -= scores[category] - math.log(sum(math.exp(score) for score in scores))
        total += weights[cell[0]].item() * nats
    return total / 6


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_cells_are_scored_as_by_a_loop_over_cells_channels_and_categories(tied, folds):
    sensor, decoder = cells_decoder(tied=tied)
    assert decoder.folds
    decoder.folds = folds
    state, views, weights = torch.randn(5, 4), random_cells(5), torch.tensor([1.0, 2.0, 0.5, 3.0])
    tables = sensor.embeddings if tied else decoder.tables
    expected = [nats_slowly(decoder, tables, *pair, weights) for pair in zip(state, views)]  # noqa: B905
    assert_close(decoder(state, views, sensor, weights), torch.tensor(expected))


def test_folded_or_not_the_gradients_are_the_same():
    sensor, decoder = cells_decoder()
    views, weights = random_cells(5), torch.tensor([1.0, 2.0, 0.5, 3.0])
    state = torch.randn(5, 4, requires_grad=True)
    learning = [state, *decoder.parameters(), *sensor.embeddings.parameters()]
    gradients = []
    for folds in (True, False):
        decoder.folds = folds
        nats = decoder(state, views, sensor, weights).square().sum()
        gradients.append(torch.autograd.grad(nats, learning))
    for folded, plain in zip(*gradients, strict=True):
        assert_close(folded, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint16, torch.int64])
def test_cells_cost_the_same_whatever_integers_tell_of_them(kind):
    sensor, decoder = cells_decoder()
    state, views, weights = torch.randn(5, 4), random_cells(5), torch.ones(4)
    told = views.to(kind)
    assert torch.equal(
        decoder(state, told, sensor, weights), decoder(state, views, sensor, weights)
    )
    assert torch.equal(decoder.kind_counts(told), decoder.kind_counts(views))


def test_more_categories_than_numbers_are_not_folded():
    config = make_config()
    for highest, folds in ((SIZE - 1, True), (SIZE, False)):
        space = spaces.Box(0, np.full((2, 3, 1), highest, np.uint8), dtype=np.uint8)
        assert CellsDecoder(leaf_sensor(space, config), space.shape, config).folds == folds


def test_what_cells_cost_can_be_read_off_their_categories_probabilities():
    """With nothing generated the biases alone decide, and they are known."""
    sensor, decoder = cells_decoder()
    kinds, colours = torch.tensor([0.5, 0.25, 0.125, 0.125]), torch.tensor([0.75, 0.25])
    with torch.no_grad():
        for layer in (decoder.generate, decoder.links[0]):
            layer.weight.zero_()
            layer.bias.zero_()
        decoder.biases[0].copy_(kinds.log())
        decoder.biases[1].copy_(colours.log())
    view = torch.zeros(1, 2, 3, 2, dtype=torch.uint8)  # kind 0 of colour 0 everywhere but
    view[0, 1, 2] = torch.tensor([2, 1])  # in the last cell
    nats = decoder(torch.randn(1, 4), view, sensor, torch.tensor([1.0, 1.0, 10.0, 1.0]))
    empty, thing = -math.log(0.5 * 0.75), -math.log(0.125 * 0.25)
    assert nats.item() == pytest.approx((5 * empty + 10 * thing) / 6, rel=1e-5)


def test_a_thing_s_colour_is_told_from_what_it_is_wherever_it_stands():
    """Nothing generated for any cell: the link alone makes things of kind 1 colour 1."""
    sensor, decoder = cells_decoder(tied=False)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.zero_()
        names, colours = (table.weight for table in decoder.tables)
        names.copy_(torch.eye(4, SIZE))
        colours.copy_(torch.eye(2, SIZE))
        decoder.links[0].bias.view(SIZE, SIZE)[1, 1] = 50.0
    kinds = torch.tensor([[0, 1, 2, 3, 1, 0]])
    told = decoder.log_probs(torch.randn(1, 4), sensor, kinds)[1].exp()
    assert_close(told[0, [1, 4], 1], torch.ones(2), atol=1e-3, rtol=0)
    assert_close(told[0, [0, 2, 3, 5], 1], torch.full((4,), 0.5))


def test_untold_the_likeliest_kind_decides_the_colour():
    sensor, decoder = cells_decoder()
    state = torch.randn(5, 4)
    untold = decoder.log_probs(state, sensor)
    told = decoder.log_probs(state, sensor, untold[0].argmax(-1))
    other = decoder.log_probs(state, sensor, (untold[0].argmax(-1) + 1) % 4)
    assert torch.equal(untold[1], told[1])
    assert torch.equal(untold[0], other[0])
    assert not torch.equal(untold[1], other[1])


def test_cells_of_a_single_channel_have_nothing_to_link():
    config = make_config()
    space = spaces.Box(0, 3, (2, 3, 1), np.uint8)
    sensor = leaf_sensor(space, config)
    decoder = CellsDecoder(sensor, space.shape, config)
    nats = decoder(torch.randn(5, 4), random_cells(5)[..., :1], sensor, torch.ones(4))
    nats.sum().backward()
    assert nats.shape == (5,)


def test_tied_cells_are_named_by_the_sensor_s_own_embeddings():
    sensor, decoder = cells_decoder(tied=True)
    state, views, weights = torch.randn(5, 4), random_cells(5), torch.ones(4)
    own = {name for name, _ in decoder.named_parameters()}
    assert not any("tables" in name for name in own)
    nats = decoder(state, views, sensor, weights)
    nats.sum().backward()
    for table in sensor.embeddings:
        assert (table.weight.grad != 0).any(dim=1).all()
        with torch.no_grad():
            table.weight.add_(torch.randn_like(table.weight))
    assert (decoder(state, views, sensor, weights) != nats).all()


def test_untied_cells_know_nothing_of_the_sensor():
    sensor, decoder = cells_decoder(tied=False)
    state, views, weights = torch.randn(5, 4), random_cells(5), torch.ones(4)
    nats = decoder(state, views, sensor, weights)
    nats.sum().backward()
    assert [table.weight.shape for table in decoder.tables] == [(4, SIZE), (2, SIZE)]
    assert all((table.weight.grad != 0).any(dim=1).all() for table in decoder.tables)
    for table in sensor.embeddings:
        assert table.weight.grad is None
        with torch.no_grad():
            table.weight.add_(1.0)
    assert torch.equal(decoder(state, views, sensor, weights), nats)


@pytest.mark.parametrize("tied", [True, False])
def test_a_loss_that_may_not_reach_the_agent_leaves_its_embeddings_alone(tied):
    sensor, decoder = cells_decoder(tied=tied, reaches_agent=False)
    nats = decoder(torch.randn(5, 4), random_cells(5), sensor, torch.ones(4))
    nats.sum().backward()
    assert all(table.weight.grad is None for table in sensor.embeddings)
    assert all((weight.grad != 0).any() for weight in decoder.parameters())


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        (0.0, [1.0, 1.0, 1.0, 1.0]),
        (0.5, [1.0, 2.0, math.sqrt(8), math.sqrt(8)]),
        (1.0, [1.0, 4.0, 8.0, 8.0]),
    ],
)
def test_rare_kinds_weigh_more_by_a_power_of_their_frequency(balance, expected):
    """Eight cells of kind 0, two of kind 1, one of kind 3, and none of kind 2, which counts as
    one."""
    kinds = torch.tensor([0] * 8 + [1] * 2 + [3])
    colours = torch.randint(9, (11,))
    views = torch.stack([kinds, colours], -1).reshape(1, 11, 1, 2).to(torch.uint8)
    assert_close(kind_weights(kind_counts(views[..., 0], 4), balance), torch.tensor(expected))


def test_the_commonest_kind_weighs_one_whichever_it_is():
    views = torch.tensor([2, 2, 2, 0]).reshape(1, 2, 2, 1)
    assert_close(kind_weights(kind_counts(views[..., 0], 3), 1.0), torch.tensor([3.0, 3.0, 1.0]))


@pytest.mark.parametrize("start", [0, 5, -2])
def test_a_category_is_counted_from_the_start_of_its_space(start):
    config = make_config()
    decoder = CategoryDecoder(leaf_sensor(spaces.Discrete(3, start=start), config), config)
    probabilities = torch.tensor([0.7, 0.2, 0.1])
    with torch.no_grad():
        decoder.score.weight.zero_()
        decoder.score.bias.copy_(probabilities.log())
    nats = decoder(torch.randn(3, 4), torch.arange(start, start + 3))
    assert_close(nats, -probabilities.log())


def test_a_category_is_read_from_the_state():
    config = make_config()
    decoder = CategoryDecoder(leaf_sensor(spaces.Discrete(3), config), config)
    assert (decoder(torch.randn(2, 4), torch.tensor([1, 1])).diff() != 0).all()


TOKEN_SPACES = {
    "a row of words": spaces.Box(0, 4, (3,), np.int64),
    "many discrete": spaces.MultiDiscrete([5, 3, 5]),
    "many discrete that count from elsewhere": spaces.MultiDiscrete([5, 3, 5], start=[2, 7, -1]),
    "a table of many discrete": spaces.MultiDiscrete([[5, 2], [3, 5]], start=[[0, 1], [2, 3]]),
}


@pytest.mark.parametrize("name", TOKEN_SPACES)
def test_tokens_cost_the_mean_over_their_places(name):
    space, config = TOKEN_SPACES[name], make_config()
    decoder = TokensDecoder(leaf_sensor(space, config), config)
    space.seed(0)
    tokens = torch.from_numpy(np.stack([space.sample() for _ in range(6)]))
    state = torch.randn(6, 4)
    nats = decoder(state, tokens)
    start = getattr(space, "start", np.zeros(space.shape, np.int64))
    places = (tokens - torch.from_numpy(start)).reshape(6, -1)
    logits = decoder.score(state).reshape(6, places.shape[1], 5)
    expected = torch.zeros(6)
    for n in range(6):
        for i, token in enumerate(places[n].tolist()):
            expected[n] -= torch.log_softmax(logits[n, i], 0)[token] / places.shape[1]
    assert_close(nats, expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_numbers_cost_the_mean_of_gaussians_of_learned_width(shape):
    decoder = NumbersDecoder(shape, make_config())
    size = math.prod(shape)
    with torch.no_grad():
        decoder.log_width.normal_()
    state, target = torch.randn(5, 4), torch.randn(5, *shape, dtype=torch.double)
    mean, width = decoder.mean(state), decoder.log_width.exp()
    expected = -Normal(mean, width).log_prob(target.float().reshape(5, size)).mean(-1)
    nats = decoder(state, target)
    assert_close(nats, expected)
    nats.sum().backward()
    assert (decoder.log_width.grad != 0).all()


def log_prob_slowly(value, mean, log_scale):
    """A bin's mass under a logistic, from its cumulative distribution in double precision."""

    def below(x):
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0

    centre, scale = value / 127.5 - 1.0, math.exp(log_scale)
    upper = (centre + 1 / 255 - mean) / scale if value < 255 else math.inf
    lower = (centre - 1 / 255 - mean) / scale if value > 0 else -math.inf
    if lower > 0:  # A logistic is symmetric: its upper tail is more exact as a lower one.
        upper, lower = -lower, -upper
    return math.log(below(upper) - below(lower))


@pytest.mark.parametrize("mean", [-1.4, -1.0, -0.3, 0.0, 0.62, 1.0, 2.0])
@pytest.mark.parametrize("log_scale", [-4.0, -2.0, 0.0, 2.0])
def test_the_discretised_logistic_agrees_with_a_slow_reference(mean, log_scale):
    values = torch.arange(256)
    log_probs = discretised_logistic(
        values, torch.full((256,), mean), torch.full((256,), log_scale)
    )
    expected = torch.tensor([log_prob_slowly(v, mean, log_scale) for v in values.tolist()])
    assert_close(log_probs, expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.501, 0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("log_scale", [-7.0, -5.0, -2.0, 0.0, 3.0])
def test_the_256_probabilities_add_up_to_one(mean, log_scale):
    log_probs = discretised_logistic(
        torch.arange(256).double(),
        torch.full((256,), mean).double(),
        torch.full((256,), log_scale).double(),
    )
    assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("mean", [-50.0, -1.0, 0.0, 1.0, 50.0])
@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 9.0])
def test_likelihood_and_gradient_are_finite_however_wrong_the_prediction(mean, log_scale):
    centre = torch.full((256,), mean, requires_grad=True)
    width = torch.full((256,), log_scale, requires_grad=True)
    log_probs = discretised_logistic(torch.arange(256), centre, width)
    log_probs.sum().backward()
    for numbers in (log_probs, centre.grad, width.grad):
        assert torch.isfinite(numbers).all()
    assert (log_probs <= 0).all()


@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.0])
@pytest.mark.parametrize("mean", [-0.9, 0.9])
def test_however_wrong_and_certain_a_prediction_is_it_is_drawn_towards_the_truth(mean, log_scale):
    """Every value on the other side pulls, and none of them lets go because it is too far."""
    values = torch.arange(0, 100) if mean > 0 else torch.arange(156, 256)
    centre = torch.full((100,), mean, requires_grad=True)
    width = torch.full((100,), log_scale, requires_grad=True)
    discretised_logistic(values, centre, width).sum().backward()
    assert (torch.sign(centre.grad) == -math.copysign(1.0, mean)).all()
    assert (width.grad > 0).all()  # less certain would have been better


@pytest.mark.parametrize("shape", [(7, 9, 3), (8, 8, 1), (21, 12, 4)])
def test_an_image_costs_the_mean_over_its_values(shape):
    decoder = ImageDecoder(shape, make_config())
    state, target = torch.randn(2, 4), torch.randint(256, (2, *shape), dtype=torch.uint8)
    mean, log_scale = decoder.parameters_of_values(state)
    assert mean.shape == log_scale.shape == (2, *shape)
    values = zip(target[1].flatten(), mean[1].flatten(), log_scale[1].flatten(), strict=True)
    nats = [-log_prob_slowly(*(number.item() for number in value)) for value in values]
    assert decoder(state, target)[1].item() == pytest.approx(np.mean(nats), rel=1e-4)


def test_an_image_decoder_can_learn_a_picture():
    torch.manual_seed(1)
    decoder = ImageDecoder((7, 7, 3), make_config())
    target = torch.randint(256, (2, 7, 7, 3), dtype=torch.uint8)
    state = torch.eye(2, 4)
    optimiser = torch.optim.Adam(decoder.parameters(), 1e-2)
    before = decoder(state, target).mean().item()
    for _ in range(300):
        optimiser.zero_grad()
        loss = decoder(state, target).mean()
        loss.backward()
        optimiser.step()
    assert before > 5.0
    assert loss.item() < 2.5  # to a few values: log 256 is 5.5


EVERYTHING = spaces.Dict(
    OrderedDict(  # which keeps its order; a plain dict is sorted by name
        view=CELLS,
        direction=spaces.Discrete(4),
        words=spaces.Box(0, 9, (3,), np.int64),
        instruction=spaces.Box(0, 9, (2,), np.int64),
        screen=spaces.Box(0, 255, (7, 7, 3), np.uint8),
        body=spaces.Dict(
            pulse=spaces.Box(-1, 1, (), np.float32),
            switches=spaces.MultiBinary(2),
        ),
    )
)


def everything(N):
    return {
        "view": random_cells(N),
        "direction": torch.randint(4, (N,)),
        "words": torch.randint(10, (N, 3)),
        "instruction": torch.randint(10, (N, 2)),
        "screen": torch.randint(256, (N, 7, 7, 3), dtype=torch.uint8),
        "body/pulse": torch.randn(N),
        "body/switches": torch.randint(2, (N, 2), dtype=torch.int8),
    }


def test_a_head_adds_up_what_its_decoders_make_of_the_leaf_of_their_name():
    config = make_config()
    sensors = Sensors(EVERYTHING, config)
    head = SimCoreHead(EVERYTHING, sensors, config)
    observation, state = everything(5), torch.randn(5, 4)
    weights = head.cell_weights(observation)
    assert list(weights) == ["view"]
    counts = kind_counts(observation["view"][..., 0], 4)
    assert_close(weights["view"], kind_weights(counts, config.prediction.balance))
    kinds = [CellsDecoder, CategoryDecoder, TokensDecoder, ImageDecoder, *[NumbersDecoder] * 2]
    expected = torch.zeros(5)
    assert head.decoder("instruction") is None  # Nothing is learned from what never changes.
    predicted = [name for name in observation if name != "instruction"]
    for kind, name in zip(kinds, predicted, strict=True):
        decoder = head.decoder(name)
        assert type(decoder) is kind
        more = (sensors.leaf(name), weights[name]) if kind is CellsDecoder else ()
        expected = expected + decoder(state, observation[name], *more)
    assert_close(head(state, observation, sensors, weights), expected)


def test_a_head_owns_no_part_of_the_agent():
    config = make_config()
    sensors = Sensors(EVERYTHING, config)
    head = SimCoreHead(EVERYTHING, sensors, config)
    theirs = {id(parameter) for parameter in sensors.parameters()}
    assert not any(id(parameter) in theirs for parameter in head.parameters())


def test_uniform_weights_are_a_switch():
    config = make_config(balance=0.0)
    sensors = Sensors(EVERYTHING, config)
    head = SimCoreHead(EVERYTHING, sensors, config)
    assert head.cell_weights(everything(5))["view"].tolist() == [1.0] * 4


VIEW = spaces.Box(0, np.zeros((5, 4, 2), np.uint8) + np.array([3, 1], np.uint8), dtype=np.uint8)
"""Five rows of four cells; four kinds, two colours."""


def glimpse_decoder(scales, size=2, **switches):
    config = make_config(**switches)
    fovea = Fovea(5, 4, size, scales)
    sensor = CellsGlimpse(VIEW, fovea, config)
    decoder = GlimpseDecoder(sensor, config)
    for bias in decoder.biases:
        torch.nn.init.normal_(bias)
    return fovea, sensor, decoder


def random_views(N):
    kinds, colours = torch.randint(4, (N, 5, 4)), torch.randint(2, (N, 5, 4))
    return torch.stack([kinds, colours], -1).to(torch.uint8)


def told_slowly(fovea, unbinding, hidden, coordinates):
    """What is told of every place of a single glimpse, one after the other."""
    for k, (rows, columns) in enumerate(zip(*fovea.middles(coordinates), strict=True)):
        assert rows.min() >= k * fovea.height
        for row in rows.tolist():
            for column in columns.tolist():
                codes = unbinding.rows.weight[row] * unbinding.columns.weight[column]
                yield unbinding.what(hidden * codes).reshape(2, SIZE)


def glimpse_nats_slowly(fovea, decoder, names, state, coordinates, read, weights):
    """Of a single glimpse [read, 2]: place by place, cell by cell.

    A place's nats are the mean over its cells, of which those beyond the border cost nothing; they
    weigh as the mean of the cells that are there.
    """
    hidden = decoder.hidden(state)
    generated = list(told_slowly(fovea, decoder.generate, hidden, coordinates))
    link = decoder.links[0](hidden).reshape(SIZE, SIZE)
    total, place, cells = 0.0, 0, read.tolist()
    for area in fovea.areas:
        for _ in range(fovea.size**2):
            held, cells = [cell for cell in cells[:area] if cell[0] != OUTSIDE], cells[area:]
            known = sum((names[0][kind] for kind, _ in held), torch.zeros(SIZE)) / area
            nats, weight = 0.0, 0.0
            for kind, colour in held:
                for channel, category in ((0, kind), (1, colour)):
                    vector = generated[place][channel]
                    if channel == 1:
                        vector = vector + known @ link / math.sqrt(SIZE)
                    scores = names[channel] @ vector / math.sqrt(SIZE) + decoder.biases[channel]
                    nats -= float(torch.log_softmax(scores, 0)[category]) / area
                weight += float(weights[kind]) / len(held)
            total += weight * nats
            place += 1
    assert not cells
    return total / place


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scales", [1, 3])
def test_a_glimpse_is_scored_as_by_a_loop_over_places_and_their_cells(scales, tied):
    fovea, sensor, decoder = glimpse_decoder(scales, tied=tied)
    coordinates = torch.tensor([[0.0, 0.0], [-1.0, 1.0], [1.0, 0.3], [0.7, -0.9]])
    read = fovea.cells(random_views(4), coordinates)
    assert (read == OUTSIDE).any(1).any(1).tolist()[1:] == [True] * 3
    state, weights = torch.randn(4, 4), torch.tensor([1.0, 2.0, 0.5, 3.0])
    tables = sensor.embeddings if tied else decoder.tables
    names = [table.weight for table in tables]
    with torch.no_grad():
        expected = [
            glimpse_nats_slowly(fovea, decoder, names, state[n], coordinates[n], read[n], weights)
            for n in range(4)
        ]
        scored = decoder(state, read, sensor, weights, coordinates)
        assert_close(scored, torch.tensor(expected))
        in_the_centre = decoder(state, read, sensor, weights)
        assert_close(in_the_centre[0], scored[0])
        assert (in_the_centre[1:] != scored[1:]).any()


def test_one_sharp_patch_inside_the_view_is_scored_as_cells_are():
    fovea, sensor, decoder = glimpse_decoder(scales=1)
    config = make_config()
    other = CellsDecoder(sensor, (2, 2, 2), config)
    del other.generate
    other.load_state_dict(decoder.state_dict(), strict=False)
    other._generated, other.folds = decoder._generated, False
    views, state, weights = random_views(6), torch.randn(6, 4), torch.tensor([1.0, 2.0, 0.5, 3.0])
    read = fovea.cells(views, torch.zeros(6, 2))
    assert (read != OUTSIDE).all()
    expected = other(state, read.unflatten(1, (2, 2)), sensor, weights)
    assert_close(decoder(state, read, sensor, weights), expected)


def test_the_weights_of_a_glimpse_are_counted_in_its_sharp_places_within_the_view():
    fovea, _, decoder = glimpse_decoder(scales=2)
    read = fovea.cells(random_views(12).reshape(3, 4, 5, 4, 2), torch.rand(3, 4, 2) * 2.4 - 1.2)
    sharp = read[..., : fovea.size**2, 0]
    assert (sharp == OUTSIDE).any()
    kinds = sharp[sharp != OUTSIDE]
    assert decoder.kind_counts(read).tolist() == [int((kinds == kind).sum()) for kind in range(4)]
    nothing = torch.full_like(read, OUTSIDE)
    assert torch.equal(kind_weights(decoder.kind_counts(nothing), 0.5), torch.ones(4))


def test_what_lies_beyond_the_border_is_not_predicted():
    _, sensor, decoder = glimpse_decoder(scales=2)
    read = torch.full((3, sensor.fovea.read, 2), OUTSIDE, dtype=torch.int16)
    nats = decoder(torch.randn(3, 4), read, sensor, torch.ones(4))
    assert torch.equal(nats, torch.zeros(3))
    nats.sum().backward()
    assert all(
        torch.isfinite(one.grad).all() for one in decoder.parameters() if one.grad is not None
    )
