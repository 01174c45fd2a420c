"""MiniGrid and BabyAI environments as agents and questions meet them."""

import importlib
import sys
import warnings

import gymnasium
import minigrid
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Door, Key, Wall
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    AndInstr,
    ObjDesc,
    PutNextInstr,
)
from minigrid.minigrid_env import MiniGridEnv

from groundling.envs.adapters import make_vector
from groundling.envs.errors import UserError
from groundling.envs.minigrid import INSTRUCTION_LENGTH, MinigridEnv
from groundling.envs.minigrid_questions import KINDS, QUESTION_TYPES, VOCABULARY
from groundling.envs.questions import QuestionSource, balance, concatenate

IDS = [name for name in gymnasium.registry if name.startswith(("MiniGrid-", "BabyAI-"))]
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)


class Room(MiniGridEnv):
    """A walled room of 5 × 5 cells; the agent stands in its first one and looks east."""

    def __init__(self, things=(), mission="find the key", **options):
        self.things = dict(things)
        self.words = mission
        space = MissionSpace(mission_func=lambda: mission)
        super().__init__(space, grid_size=7, **options)

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for place, thing in self.things.items():
            self.grid.set(*place, thing)
        self.agent_pos, self.agent_dir = (1, 1), 0
        self.mission = self.words


def in_room(things=(), **options):
    environment = MinigridEnv(Room(things, **options))
    environment.reset(seed=0)
    return environment


def known(environment):
    """What was sensed of the things there are: {(colour, kind): age}."""
    return {
        (thing.colour, thing.kind): thing.age
        for thing in environment.scene().things
        if thing.age is not None
    }


def after(environment, *actions):
    for action in actions:
        environment.step(action)
    return known(environment)


def make(name):
    return MinigridEnv(gymnasium.make(name, disable_env_checker=True))


def test_there_are_environments() -> None:
    assert minigrid.__version__ >= "3"
    assert len(IDS) > 100


@pytest.mark.parametrize("part", range(4))
def test_every_registered_environment_is_understood(part: int) -> None:
    """Those that need a package which is not installed say so: MiniGrid's wave function collapse
    needs imageio."""
    generator = np.random.default_rng(part)
    for name in IDS[part::4]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            environment = make(name)
        environment.action_space.seed(part)
        for seed in range(2):
            try:
                observation, _ = environment.reset(seed=seed)
            except UserError as error:
                assert "-WFC-" in name and "pip install" in str(error)  # noqa: PT017, PT018
                break
            for _ in range(3):
                assert observation in environment.observation_space, name
                heard = VOCABULARY.decode(observation["instruction"].tolist())
                assert heard.replace(" ,", ",") == environment.unwrapped.mission.lower()
                questions = environment.ask(generator)
                assert (questions.world == 0).all()
                action = environment.action_space.sample()
                observation, _, terminated, truncated, _ = environment.step(action)
                if terminated or truncated:  # MiniGrid's doors lead out of the grid then.
                    break


def test_the_longest_mission_of_babyai_fits_and_a_new_one_is_followed_at_once() -> None:
    environment = in_room({(2, 1): Box("grey")})
    world = environment.unwrapped
    world.room_from_pos = lambda *place: type("Room", (), {"pos_inside": lambda *_: True})

    def both():
        described = (ObjDesc("box", "grey", "front"), ObjDesc("box", "grey", "front"))
        return AndInstr(PutNextInstr(*described), PutNextInstr(*described))

    mission = AfterInstr(both(), both()).surface(environment)
    world.mission = mission
    observation, *_ = environment.step(LEFT)
    assert VOCABULARY.decode(observation["instruction"].tolist()) == mission
    assert np.count_nonzero(observation["instruction"]) == INSTRUCTION_LENGTH


def test_a_word_that_is_not_known_is_told_with_the_environment() -> None:
    with pytest.raises(UserError, match=r"Room.*dance with the key.*'dance'"):
        in_room(mission="dance with the key")
    with pytest.raises(UserError, match=r"Room.*has 73 words, expected at most 72"):
        in_room(mission="go " * 73)


def test_observations_are_what_minigrid_says() -> None:
    environment = make("BabyAI-GoToLocal-v0")
    observation, _ = environment.reset(seed=3)
    plain, _ = gymnasium.make("BabyAI-GoToLocal-v0").reset(seed=3)
    assert (observation["view"] == plain["image"].swapaxes(0, 1)).all()
    assert observation["view"].flags.c_contiguous
    assert observation["direction"] == plain["direction"]
    high = environment.observation_space["view"].high
    assert (high == [max(OBJECT_TO_IDX.values()), max(COLOR_TO_IDX.values()), 2]).all()
    kept = observation["instruction"]
    environment.step(LEFT)[0]["instruction"][:] = 0
    assert kept.any()
    assert environment.step(LEFT)[0]["instruction"].any()


def test_what_stands_before_the_agent_is_above_it_and_what_it_carries_in_its_own_cell() -> None:
    environment = in_room({(2, 1): Key("red"), (2, 2): Ball("blue")})
    view = environment.step(PICKUP)[0]["view"]
    kinds = {
        tuple(map(int, place)): int(view[*place, 0]) for place in np.argwhere(view[..., 0] > 4)
    }
    assert kinds == {(6, 3): OBJECT_TO_IDX["key"], (5, 4): OBJECT_TO_IDX["ball"]}


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
def test_gymnasium_finds_no_fault() -> None:
    check_env(make("BabyAI-GoToLocal-v0"), skip_render_check=True)


def test_what_babyai_prints_is_not_heard(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(8):
        make("BabyAI-GoToSeqS5R2-v0").reset(seed=seed)
    assert capsys.readouterr().out == ""
    for seed in range(8):
        gymnasium.make("BabyAI-GoToSeqS5R2-v0").reset(seed=seed)
    assert "Sampling rejected" in capsys.readouterr().out


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minigrid.core.constants", None)
    monkeypatch.delitem(sys.modules, "groundling.envs.minigrid")
    with pytest.raises(UserError, match=r'pip install "groundling\[minigrid\]"'):
        importlib.import_module("groundling.envs.minigrid")


def seen_plainly(world, seen, step):
    """Which cells show, as MiniGrid says of each by itself; what shows is noted in `seen`."""
    _, mask = world.gen_obs_grid()
    for place in np.ndindex(world.width, world.height):
        where = world.relative_coords(*place)
        here = tuple(map(int, world.agent_pos)) == place
        content = world.grid.get(*place)
        if where is not None and mask[where] and not here:
            seen[place] = (step, content and (content.color, content.type))
        elif here:
            seen.setdefault(place, (step, None))


@pytest.mark.parametrize(
    "name",
    [
        "BabyAI-GoToLocal-v0",
        "BabyAI-BossLevel-v0",
        "BabyAI-UnlockToUnlock-v0",
        "MiniGrid-LockedRoom-v0",
        "MiniGrid-FourRooms-v0",
        "MiniGrid-Playground-v0",
        "MiniGrid-KeyCorridorS3R3-v0",
    ],
)
def test_what_is_sensed_is_what_showed_and_is_still_so(name: str) -> None:
    environment = make(name)
    world = environment.unwrapped
    generator = np.random.default_rng(0)
    for seed in range(2):
        environment.reset(seed=seed)
        seen: dict[tuple[int, int], tuple[int, object]] = {}
        seen_plainly(world, seen, 0)
        for step in range(1, 120):
            # Mostly ahead, through whatever door comes.
            choice = generator.choice([LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE], p=WALK)
            _, _, terminated, truncated, _ = environment.step(choice)
            seen_plainly(world, seen, step)
            if terminated or truncated:
                break
        scene = environment.scene()
        for thing in scene.things:
            if thing.place == tuple(map(int, world.agent_pos)) and thing.kind != "door":
                assert thing.age == 0
                continue
            last, content = seen.get(thing.place, (None, None))
            known = content == (thing.colour, thing.kind)
            assert thing.age == (step - last if known else None)
        assert set(scene.unsensed).isdisjoint(seen)
        walls = sum(cell is not None and cell.type == "wall" for cell in world.grid.grid)
        assert len(scene.unsensed) <= world.width * world.height - walls - len(
            [place for place in seen if not is_wall(world, place)]
        )


WALK = [0.15, 0.15, 0.4, 0.1, 0.05, 0.15]


def is_wall(world, place):
    cell = world.grid.get(*place)
    return cell is not None and cell.type == "wall"


def test_every_cell_of_a_room_counts_until_it_was_seen() -> None:
    environment = in_room(agent_view_size=3)
    inside = {(i, j) for i in range(1, 6) for j in range(1, 6)}
    seen = {(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)}
    assert set(environment.scene().unsensed) == inside - seen
    environment.step(RIGHT)
    assert set(environment.scene().unsensed) == inside - seen - {(1, 3), (2, 3)}


def test_what_lies_behind_walls_is_no_place_for_things() -> None:
    environment = make("MiniGrid-MultiRoom-N2-S4-v0")
    environment.reset(seed=0)
    world = environment.unwrapped
    empty = sum(cell is None for cell in world.grid.grid)
    assert empty > 400  # Most of the grid is outside of both rooms.
    assert len(environment.scene().unsensed) < 10


def test_a_thing_behind_walls_is_still_a_thing() -> None:
    walls = {(i, j): Wall() for i in range(3, 6) for j in range(3, 6)}
    environment = in_room(walls | {(4, 4): Ball("blue")})
    assert (4, 4) in environment.scene().unsensed
    assert (4, 4) not in in_room(walls | {(4, 4): Wall()}).scene().unsensed
    walls[4, 4] = None
    assert (4, 4) not in in_room(walls).scene().unsensed


def test_the_cell_under_the_agent_is_known() -> None:
    environment = in_room()
    assert (1, 1) not in environment.scene().unsensed


def test_a_thing_that_is_carried_is_there_where_the_agent_is() -> None:
    environment = in_room({(2, 1): Key("red")})
    assert after(environment, PICKUP, RIGHT, FORWARD) == {("red", "key"): 0}
    (thing,) = environment.scene().things
    assert thing.place == (1, 2)
    assert after(environment, DROP) == {("red", "key"): 0}
    (thing,) = environment.scene().things
    assert thing.place == (1, 3)
    assert after(environment, LEFT, LEFT) == {("red", "key"): 1}


def test_what_a_box_holds_is_there_when_it_is_opened() -> None:
    environment = in_room({(2, 1): Box("grey", contains=Ball("blue"))})
    assert known(environment) == {("grey", "box"): 0}
    assert after(environment, TOGGLE) == {("blue", "ball"): 0}


def test_a_door_the_agent_stands_in_was_seen_before_it_stepped_there() -> None:
    environment = in_room({(2, 1): Door("green", is_open=True)})
    assert known(environment) == {("green", "door"): 0}
    assert after(environment, FORWARD) == {("green", "door"): 1}
    assert after(environment, LEFT) == {("green", "door"): 2}
    assert after(environment, LEFT, FORWARD) == {("green", "door"): 4}
    assert after(environment, RIGHT) == {("green", "door"): 0}


def test_opening_a_door_changes_nothing_that_is_asked() -> None:
    environment = in_room({(2, 1): Door("green")})
    assert after(environment, RIGHT, RIGHT) == {("green", "door"): 1}
    environment.unwrapped.grid.get(2, 1).is_open = True
    assert known(environment) == {("green", "door"): 1}


def test_a_cell_that_changes_out_of_sight_is_not_known_any_more() -> None:
    environment = in_room({(3, 1): Ball("blue"), (5, 1): Key("red")})
    assert after(environment, RIGHT, RIGHT) == {("blue", "ball"): 1, ("red", "key"): 2}
    world = environment.unwrapped
    unsensed = set(environment.scene().unsensed)
    world.grid.set(3, 1, None)
    world.grid.set(4, 1, Ball("blue"))
    assert known(environment) == {("red", "key"): 2}
    assert set(environment.scene().unsensed) == unsensed | {(3, 1), (4, 1)}
    world.grid.set(4, 1, None)
    world.grid.set(3, 1, Ball("blue"))
    assert known(environment) == {("blue", "ball"): 1, ("red", "key"): 2}
    world.grid.set(3, 1, Ball("grey"))
    assert known(environment) == {("red", "key"): 2}
    assert after(environment, LEFT, LEFT)[("grey", "ball")] == 0


def test_obstacles_that_move_are_known_where_they_are_seen() -> None:
    environment = make("MiniGrid-Dynamic-Obstacles-16x16-v0")
    environment.reset(seed=1)
    for _ in range(8):
        environment.step(LEFT)
    world = environment.unwrapped
    for thing in environment.scene().things:
        if thing.age == 0:
            assert world.agent_sees(*thing.place)
    assert any(thing.age is None for thing in environment.scene().things)


def test_nothing_is_known_of_the_episode_before() -> None:
    environment = in_room(agent_view_size=3)
    before = environment.scene().unsensed
    after(environment, RIGHT, FORWARD, FORWARD)
    assert environment.scene().elapsed == 3
    environment.reset(seed=0)
    assert environment.scene().unsensed == before
    assert environment.scene().elapsed == 0


def test_copies_are_asked_together() -> None:
    several = make_vector("BabyAI-GoToLocal-v0", 3, {})
    several.reset(seed=5)
    assert isinstance(several.unwrapped, QuestionSource)
    assert isinstance(make("BabyAI-GoToLocal-v0"), QuestionSource)
    questions = several.ask(np.random.default_rng(0))
    assert set(questions.world.tolist()) == {0, 1, 2}
    for number, single in enumerate(several.sources):
        alone = make("BabyAI-GoToLocal-v0")
        alone.reset(seed=5 + number)
        assert single.scene() == alone.scene()
    generator = np.random.default_rng(0)
    asked = [single.ask(generator) for single in several.sources]
    assert (concatenate(asked).tokens == questions.tokens).all()


def test_balanced_questions_give_nothing_away() -> None:
    """Whoever knows of every question which answer was right most often is right by chance."""
    several = make_vector("BabyAI-GoToLocal-v0", 400, {"room_size": 6, "num_dists": 4})
    several.reset(seed=0)
    generator = np.random.default_rng(0)
    parts = []
    for _ in range(3):
        for _ in range(4):
            several.step(generator.integers(0, 3, 400))
        parts.append(several.ask(generator))
    questions = balance(concatenate(parts), generator)
    asked = {QUESTION_TYPES[kind] for kind in questions.type}
    assert {"attribute_colour", "existence_key", "count_colour", "near_shape"} <= asked
    assert not {f"existence_{KINDS[-1]}", f"count_{KINDS[-1]}"} & asked  # There is never a door.
    half = np.arange(len(questions)) % 2 == 0
    learned, scored = questions[half], questions[~half]
    for kind in np.unique(scored.type):
        of_kind = scored[scored.type == kind]
        chance = 1 / len(np.unique(of_kind.answer))
        right = []
        for tokens, answer in zip(of_kind.tokens, of_kind.answer, strict=True):
            same = (learned.tokens == tokens).all(axis=1)
            right.append(same.any() and np.bincount(learned.answer[same]).argmax() == answer)
        error = np.sqrt(chance * (1 - chance) / len(right))
        assert np.mean(right) < chance + 4 * error, QUESTION_TYPES[kind]
