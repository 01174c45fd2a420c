"""The view as an image: its tiles can be told apart, and it shows what the codes say."""

from itertools import product

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from PIL import Image

from groundling.envs.questions import QuestionSource
from groundling.envs.rooms.glyphs import PALETTE
from groundling.envs.rooms.house_options import HouseOptions
from groundling.envs.rooms.house_render import house_atlas_of
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.parallel import HouseEnv
from groundling.envs.rooms.pixels import as_observed, atlas_of
from groundling.envs.rooms.render import draw_view
from groundling.envs.rooms.single import RoomsEnv
from groundling.envs.rooms.sprites import AGENT_COLOUR, agent_sprite, doorway_sprite
from groundling.envs.rooms.tiles import FLOOR_COLOURS, WALL_COLOUR, paste
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import DOORWAY, FIRST_SHAPE, FLOOR, HIDDEN, WALL, WHAT

VOCABULARY = {"shapes": 24, "colours": 12, "sizes": 2}
MANSION = {
    "layout": "four_rooms",
    "size": 4,
    "doors": True,
    "objects": 8,
    "wall_colours": True,
    "episode_length": 9,
}


def every_cell(options):
    """What, colour and size of all cells that there may be, hidden ones left out."""
    shapes, colours, sizes = options.shape_names, options.colour_names, options.size_names
    things = product(range(len(shapes)), range(len(colours)), range(len(sizes)))
    cells = [(FIRST_SHAPE + s, 1 + c, 1 + z) for s, c, z in things]
    cells += [(FLOOR, 0, 0), (WALL, 0, 0)]
    if options.wall_colours:
        cells += [(WALL, 1 + colour, 0) for colour in range(len(colours))]
    if options.doorways:
        cells.append((FLOOR, 0, DOORWAY))
    if options.doors:
        cells.append((WALL, 0, DOORWAY))
    return np.array(cells)


def tiles_of(options, atlas):
    return atlas[tuple(every_cell(options).T)].astype(int)


@pytest.mark.parametrize("pixels", [4, 8, 16])
@pytest.mark.parametrize("sizes", [1, 2])
def test_different_cells_have_different_tiles(pixels, sizes):
    options = RoomsOptions(**(MANSION | VOCABULARY | {"sizes": sizes}), view_pixels=pixels)
    tiles = tiles_of(options, atlas_of(options))
    assert len(tiles) == 24 * 12 * sizes + 16
    assert tiles.shape[1:] == (pixels, pixels, 3)
    assert len(np.unique(tiles, axis=0)) == len(tiles)
    assert (tiles > 0).any(axis=(1, 2, 3)).all()  # or it would pass for hidden


@pytest.mark.parametrize(
    ("pixels", "sizes", "least"), [(4, 1, 11), (8, 1, 43), (4, 2, 6), (8, 2, 23)]
)
def test_shapes_of_one_colour_differ_as_much_as_is_said(pixels, sizes, least):
    options = RoomsOptions(**(VOCABULARY | {"sizes": sizes}), view_pixels=pixels)
    small = atlas_of(options)[FIRST_SHAPE:, 1:, 1].astype(int)
    differences = np.abs(small[:, None] - small[None]).max(axis=(3, 4, 5))
    differences[np.arange(24), np.arange(24)] = 255
    assert abs(int(differences.min()) - least) <= 3  # as edges are smoothed


def test_a_tile_shows_what_is_in_the_cell():
    options = RoomsOptions(**MANSION, view_pixels=16)
    atlas, names = atlas_of(options), options.colour_names
    assert not atlas[HIDDEN].any()
    assert (atlas[FLOOR, 0, 0] == FLOOR_COLOURS[1]).all()
    assert (atlas[WALL, 0, 0] == WALL_COLOUR).all()
    for colour, name in enumerate(names):
        for tile in (atlas[WALL, 1 + colour, 0], atlas[FIRST_SHAPE, 1 + colour, 1]):
            shown = np.abs(tile[..., None, :].astype(int) - list(PALETTE.values())).sum(axis=-1)
            nearest = np.array(list(PALETTE))[shown.argmin(axis=-1)]
            assert (nearest == name).mean() > 0.1
    for what, ground in ((FLOOR, FLOOR_COLOURS[1]), (WALL, WALL_COLOUR)):
        picture = Image.new("RGB", (16, 16), ground)
        paste(picture, doorway_sprite(True, what == FLOOR, True, 16), 0, 0, 16)
        np.testing.assert_array_equal(atlas[what, 0, DOORWAY], np.array(picture))
    with pytest.raises(ValueError, match="read-only"):
        atlas[0] = 1


def test_an_agent_is_drawn_in_its_colour_as_it_looks():
    options = HouseOptions(agents=4, shapes=24, colours=12, sizes=2, view_pixels=8)
    atlas, alone = house_atlas_of(options), atlas_of(options)
    first = FIRST_SHAPE + 24, 13
    others = atlas[first[0], first[1] :, 1:].reshape(16, 8, 8, 3)
    tiles = np.concatenate([others, tiles_of(options, alone)])
    assert len(np.unique(tiles, axis=0)) == 16 + 24 * 12 * 2 + 2
    np.testing.assert_array_equal(tiles_of(options, atlas), tiles_of(options, alone))
    for size, heading in ((1, 3), (2, 0), (3, 1), (4, 2)):  # up, right, down, left
        picture = Image.new("RGB", (8, 8), FLOOR_COLOURS[1])
        paste(picture, agent_sprite(heading, AGENT_COLOUR, 8), 0, 0, 8)
        np.testing.assert_array_equal(atlas[*first, size], np.array(picture))


def slowly_drawn(views, atlas):
    """Images of views [N, V, V, 3], cell by cell."""
    V, p = views.shape[1], atlas.shape[3]
    images = np.zeros((len(views), V * p, V * p, 3), np.uint8)
    for number, row, column in np.ndindex(*views.shape[:3]):
        tile = atlas[tuple(views[number, row, column])]
        images[number, row * p : row * p + p, column * p : column * p + p] = tile
    return images


@pytest.mark.parametrize("pixels", [4, 7])
@pytest.mark.parametrize(
    "house",
    [
        MANSION,
        {"size": 6, "view_size": 13, "objects": 12, "episode_length": 9, "compass": False},
        {"task": "go_to", "size": 3, "objects": 2, "episode_length": 20, "stagger": True},
    ],
)
def test_images_show_the_codes_of_the_very_same_worlds(house, pixels):
    house = VOCABULARY | house
    env, plain = RoomsVectorEnv(6, view_pixels=pixels, **house), RoomsVectorEnv(6, **house)
    atlas, generator, ends = atlas_of(env.rooms), np.random.default_rng(0), 0
    observation, _ = env.reset(seed=3)
    codes, _ = plain.reset(seed=3)
    for _ in range(25):
        assert observation in env.observation_space
        for ours in (observation, env.observe()):
            assert ours.keys() == codes.keys()
            rest = {name: ours[name] for name in ours if name != "view"}
            assert data_equivalence(rest, {name: codes[name] for name in rest}, exact=True)
            np.testing.assert_array_equal(ours["view"], slowly_drawn(codes["view"], atlas))
        assert data_equivalence(env.get_state(), plain.get_state(), exact=True)
        actions = generator.integers(0, 4, 6)
        observation, *values, info = env.step(actions)
        codes, *expected, plain_info = plain.step(actions)
        assert data_equivalence(values, expected, exact=True)
        for room in np.flatnonzero(info.get("_final_obs", [])):
            ours, theirs = info["final_obs"][room], plain_info["final_obs"][room]
            assert ours in env.single_observation_space
            assert ours.keys() == theirs.keys()
            np.testing.assert_array_equal(
                ours["view"], slowly_drawn(theirs["view"][None], atlas)[0]
            )
            ends += 1
    assert ends > 4
    assert isinstance(env, QuestionSource)


def test_the_space_is_that_of_an_image():
    space = RoomsVectorEnv(2, view_size=7, view_pixels=5).single_observation_space["view"]
    assert space == gymnasium.spaces.Box(0, 255, (35, 35, 3), np.uint8)
    assert HouseEnv(view_pixels=5).observation_space("agent_1")["view"].shape == (25, 25, 3)


def test_images_are_new_every_step():
    env = RoomsVectorEnv(2, view_pixels=4)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(np.zeros(2, np.int64))
    assert not np.shares_memory(first["view"], second["view"])


@pytest.mark.parametrize("house", [{}, {"compass": False, "layout": "two_rooms", "doors": True}])
def test_gymnasium_finds_nothing_to_warn_of(house):
    env = gymnasium.make("Groundling/Explore-v0", view_pixels=8, view_size=7, **house)
    check_env(env.unwrapped)


def test_one_room_alone_shows_what_it_shows_in_a_batch():
    house = {"view_pixels": 8, "episode_length": 7}
    env, batch = RoomsEnv(**house), RoomsVectorEnv(1, **house)
    assert env.observation_space == batch.single_observation_space
    seen, (expected, _) = env.reset(seed=1)[0], batch.reset(seed=1)
    for _ in range(6):
        np.testing.assert_array_equal(seen["view"], expected["view"][0])
        seen, expected = env.step(2)[0], batch.step(np.full(1, 2))[0]
    last, _, _, truncated, _ = env.step(1)
    *_, info = batch.step(np.ones(1, np.int64))
    assert truncated
    np.testing.assert_array_equal(last["view"], info["final_obs"][0]["view"])


def test_agents_of_a_house_are_shown_images_of_their_views():
    house = {"agents": 3, "size": 4, "objects": 2, "episode_length": 30}
    env, plain = HouseEnv(view_pixels=6, **house), HouseEnv(**house)
    atlas, generator, met = house_atlas_of(env.rooms), np.random.default_rng(0), 0
    images, codes = env.reset(seed=0)[0], plain.reset(seed=0)[0]
    while env.agents:
        for agent in env.agents:
            view = codes[agent]["view"]
            np.testing.assert_array_equal(images[agent]["view"], slowly_drawn(view[None], atlas)[0])
            met += (view[..., WHAT] == 11).any()
            assert images[agent] in env.observation_space(agent)
        actions = {agent: generator.integers(0, 4) for agent in env.agents}
        images, codes = env.step(actions)[0], plain.step(actions)[0]
    assert met > 10
    np.testing.assert_array_equal(env.state(), plain.state())


def test_what_an_agent_sees_can_be_drawn_larger():
    env = RoomsVectorEnv(1, view_pixels=8)
    image = env.reset(seed=0)[0]["view"][0]
    picture = draw_view(image, env.rooms, 24)
    assert picture.shape == (120, 120, 3)
    np.testing.assert_array_equal(picture[:96, ::3][::3], image[:32])
    assert (picture[96:, 48:72] != image[32:, 16:24].repeat(3, 0).repeat(3, 1)).any()


def test_codes_stay_codes():
    views = np.ones((2, 5, 5, 3), np.uint8)
    assert as_observed(views, RoomsOptions()) is views
