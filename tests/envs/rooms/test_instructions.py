"""Instructions read by their own words: they mean one object, the target, in every house."""

import re
from collections import Counter

import numpy as np
import pytest

from groundling.envs.rooms.combinations import held_out
from groundling.envs.rooms.instructions import INSTRUCTION_LENGTH
from groundling.envs.rooms.layout import built
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.world import OBJECT_COLOUR, OBJECT_SHAPE
from groundling.envs.vocabulary import SIZES, VOCABULARY

HOUSES = [
    {"layout": "single", "objects": 3},
    {"layout": "single", "size": 7, "objects": 12, "shapes": 2, "colours": 2, "sizes": 2},
    {"layout": "l_shape", "size": 5, "objects": (2, 6), "shapes": 3, "colours": 1, "sizes": 2},
    {"layout": "two_rooms", "objects": (1, 8), "sizes": 2},
    {"layout": "four_rooms", "objects": 10, "doors": True, "combinations": "familiar"},
    {"layout": "corridor", "size": (3, 5), "objects": (2, 6), "doors": True, "sizes": 2},
]
PATTERN = re.compile(r"(?:go to|find) the ([a-z ]+?)(?: near the ([a-z ]+))?")


def things(world, room, options):
    """Each object as a set of words and a place."""
    for row, column, shape, colour, size in world.objects[room, : world.object_count[room]]:
        words = {options.shape_names[shape], options.colour_names[colour], SIZES[size], "object"}
        yield words, (int(row), int(column))


def meant(text, found):
    """The numbers of the objects that an instruction may mean, by a plain reading."""
    noun, landmark = PATTERN.fullmatch(text).groups()
    fitting = [i for i, (words, _) in enumerate(found) if set(noun.split()) <= words]
    if landmark is None:
        return fitting
    marks = [i for i, (words, _) in enumerate(found) if set(landmark.split()) <= words]
    assert len(marks) == 1, f"{text!r}: the landmark is one of {len(marks)}"
    there = np.array(found[marks[0]][1])
    return [
        i for i in fitting if i != marks[0] and np.abs(np.array(found[i][1]) - there).max() <= 2
    ]


def likens(text):
    """Whether what is told of the object is true of its landmark, too, by the words of both."""
    noun, landmark = PATTERN.fullmatch(text).groups()
    return set(noun.split()) - {"object"} <= set(landmark.split())


@pytest.mark.parametrize("house", HOUSES)
def test_every_instruction_means_the_target_and_nothing_else(house):
    options = RoomsOptions(task="go_to", episode_length=1000, **house)
    world = built(options, np.arange(1500))
    kinds = world.objects[..., OBJECT_SHAPE], world.objects[..., OBJECT_COLOUR]
    there = np.arange(world.objects.shape[1]) < world.object_count[:, None]
    kept_back = held_out(len(options.shape_names), len(options.colour_names))[kinds] & there
    assert not (kept_back.any() and options.combinations == "familiar")
    phrases = Counter()
    for room in range(1500):
        text = VOCABULARY.decode(world.instruction[room])
        found = list(things(world, room, options))
        assert meant(text, found) == [world.target[room]], text
        phrases["near"] += " near " in text
        phrases["size"] += any(size in text for size in SIZES)
        phrases["go to"] += text.startswith("go to")
        phrases["object"] += "object" in text
        phrases["alike"] += " near " in text and likens(text)
        assert not re.search(r"the (small|large) object", text), "a size alone names nothing"
    assert 600 < phrases["go to"] < 900
    assert 100 < phrases["near"] < 850  # half of them, where something is near
    assert phrases["object"] > 100
    assert phrases["alike"] > 10, "a landmark may be of the kind that is told beside it"
    assert (phrases["size"] > 100) == (options.sizes == 2)


def test_the_longest_instruction_just_fits():
    options = RoomsOptions(size=7, task="go_to", sizes=2, objects=12, episode_length=200)
    lengths = (built(options, np.arange(5000)).instruction > 0).sum(axis=1)
    assert lengths.max() == INSTRUCTION_LENGTH
    assert lengths.min() == 3


def test_without_relations_none_is_spoken_of():
    options = RoomsOptions(task="go_to", relations=False)
    world = built(options, np.arange(500))
    assert not (world.instruction == VOCABULARY.index("near")).any()


def test_targets_are_anywhere_in_the_list_and_of_any_kind():
    """Neither the order of objects nor what they are gives the target away."""
    world = built(RoomsOptions(task="go_to", shapes=3, colours=2), np.arange(6000))
    assert np.bincount(world.target).min() > 1850
    kinds = (
        world.objects[np.arange(6000), world.target, 2] * 2
        + (world.objects[np.arange(6000), world.target, 3])
    )
    assert np.bincount(kinds).min() > 870


@pytest.mark.parametrize("house", HOUSES)
def test_the_oracle_of_shortest_paths_always_succeeds(house):
    """In every house, within the shortest episode that is allowed."""
    length = RoomsOptions(task="go_to", episode_length=30_000, **house).longest_way
    env = RoomsVectorEnv(200, task="go_to", episode_length=length, **house)
    env.reset(seed=0)
    earned, ended = 0.0, 0
    for _ in range(150):
        _, rewards, terminations, truncations, _ = env.step(env.explorer_actions())
        assert not truncations.any()
        assert (rewards == terminations).all()
        earned, ended = earned + rewards.sum(), ended + terminations.sum()
    assert earned == ended > 200


def test_the_wrong_object_ends_the_episode_without_reward():
    env = RoomsVectorEnv(300, task="go_to", objects=3)
    env.reset(seed=0)
    env.world.target[:] = (env.world.target + 1) % 3
    shown = env.world.instruction.copy()
    wrong = env.world.target.copy()
    walked = (wrong + 1) % 3
    for _ in range(60):
        env.world.target[:] = walked  # where the oracle walks to
        actions = env.explorer_actions()
        env.world.target[:] = wrong
        before = env.world.episode.copy()
        observation, rewards, terminations, _, info = env.step(actions)
        going = env.world.episode == 0
        assert not rewards[before == 0].any()
        for room in np.flatnonzero(terminations & (before == 0)):
            final = info["final_obs"][room]
            np.testing.assert_array_equal(final["instruction"], shown[room])
            assert env.observation_space["instruction"].contains(observation["instruction"])
            wrong[room], walked[room] = env.world.target[room], env.world.target[room]
        assert (env.world.instruction[going] == shown[going]).all()
    assert (env.world.episode > 0).all()


def test_shuffled_instructions_say_nothing_of_the_target():
    """Who does as told succeeds as often as chance, and is never told which it was."""
    options = RoomsOptions(task="go_to", shuffled=True, objects=4, size=6, episode_length=100)
    world = built(options, np.arange(4000))
    right = 0
    for room in range(4000):
        found = list(things(world, room, options))
        (named,) = meant(VOCABULARY.decode(world.instruction[room]), found)
        right += named == world.target[room]
    assert 900 < right < 1100


def test_who_arrives_with_the_last_step_has_arrived():
    """Then the episode terminates and is not cut off as well."""
    env = RoomsVectorEnv(200, task="go_to", size=3, objects=2, view_size=3)
    env.reset(seed=0)
    arrived = 0
    for _ in range(10):
        env.world.elapsed[:] = env.rooms.episode_length - 1
        _, rewards, terminations, truncations, _ = env.step(env.explorer_actions())
        assert (terminations == (rewards == 1)).all()
        assert (truncations == ~terminations).all()
        arrived += terminations.sum()
    assert 50 < arrived < 1950
