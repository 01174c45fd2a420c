import os
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import groundling.envs  # noqa: F401  registers the environments
from groundling.envs.errors import UserError
from groundling.envs.rooms.render import draw_scene
from groundling.envs.rooms.single import RENDER_FPS, RoomsEnv
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.envs.rooms.window import Window

pygame = pytest.importorskip("pygame")


@pytest.fixture(autouse=True)
def display(monkeypatch):
    """A display that shows nothing, and is gone afterwards."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    pygame.display.quit()


def shown():
    """What the window shows, [height, width, 3]."""
    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)


def post(kind, **details):
    pygame.event.post(pygame.event.Event(kind, details))


@pytest.mark.parametrize("name", ["Groundling/Explore-v0", "Groundling/GoTo-v0"])
def test_gymnasium_finds_nothing_to_warn_of(name, monkeypatch):
    monkeypatch.setitem(RoomsEnv.metadata, "render_fps", 10_000)
    env = gymnasium.make(name, render_mode="human")
    check_env(env.unwrapped)
    env.close()


def test_reset_and_step_show_the_house(monkeypatch):
    monkeypatch.setitem(RoomsEnv.metadata, "render_fps", 10_000)
    env = RoomsEnv(render_mode="human", task="go_to")
    env.reset(seed=0)
    first = draw_scene(env.world, 0, env.rooms)
    np.testing.assert_array_equal(shown(), first)
    env.step(0)
    second = draw_scene(env.world, 0, env.rooms)
    assert (first != second).any()
    np.testing.assert_array_equal(shown(), second)
    assert env.render() is None
    env.close()
    env.close()
    assert not pygame.display.get_init()


def test_steps_keep_the_pace():
    env = RoomsEnv(render_mode="human")
    env.reset(seed=0)
    started = time.perf_counter()
    for _ in range(4):
        env.step(0)
    assert time.perf_counter() - started > 3.5 / RENDER_FPS
    env.close()


@pytest.mark.parametrize("event", ["button", "escape", "q"])
def test_an_episode_goes_on_when_its_window_is_closed(event, monkeypatch):
    monkeypatch.setitem(RoomsEnv.metadata, "render_fps", 10_000)
    env, unseen = RoomsEnv(render_mode="human"), RoomsEnv()
    env.reset(seed=0)
    unseen.reset(seed=0)
    if event == "button":
        post(pygame.QUIT)
    else:
        post(pygame.KEYDOWN, key={"escape": pygame.K_ESCAPE, "q": pygame.K_q}[event])
    for _ in range(20):
        env.step(2)
        unseen.step(2)
    np.testing.assert_array_equal(env.world.agent, unseen.world.agent)
    assert not pygame.display.get_init()
    env.reset()
    assert not pygame.display.get_init(), "a window that was closed does not come back"
    env.close()


def test_other_keys_close_nothing():
    window = Window(10_000)
    picture = np.zeros((40, 60, 3), np.uint8)
    window.show(picture)
    post(pygame.KEYDOWN, key=pygame.K_a)
    window.show(picture)
    assert window.is_open
    window.close()


def test_a_window_grows_with_its_picture():
    window = Window(10_000)
    for height, width in ((40, 60), (50, 80)):
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
        window.show(picture)
        np.testing.assert_array_equal(shown(), picture)
    window.close()


def test_a_second_window_takes_the_place_of_the_first():
    first, second = Window(10_000), Window(10_000)
    first.show(np.zeros((40, 60, 3), np.uint8))
    second.show(np.full((50, 70, 3), 9, np.uint8))
    first.show(np.zeros((40, 60, 3), np.uint8))
    assert not first.is_open
    first.close()
    assert second.is_open
    assert (shown() == 9).all()
    second.close()
    assert not pygame.display.get_init()


def test_many_rooms_have_no_window():
    with pytest.raises(UserError, match=r"render_mode='human', expected one of rgb_array, ansi$"):
        RoomsVectorEnv(2, render_mode="human")


def test_without_pygame_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match=r'`pip install "groundling\[watch\]"`') as raised:
        RoomsEnv(render_mode="human")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("display", [{}, {"DISPLAY": ":4711"}])
def test_without_a_display_there_is_one_line(display):
    command = (
        "from groundling.envs.rooms.single import RoomsEnv\n"
        "try:\n    RoomsEnv(render_mode='human')\n"
        "except ValueError as error:\n    print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", command],
        env=_without_display() | display,
        capture_output=True,
        text=True,
    )
    assert told.stdout.startswith("no display to open a window on")
    assert told.stdout.count("\n") == 1
    assert display or not told.stderr


def _without_display():
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def test_pygame_is_imported_only_for_a_window():
    command = (
        "import sys, groundling.envs.rooms.single\n"
        "groundling.envs.rooms.single.RoomsEnv(render_mode='rgb_array').reset(seed=0)\n"
        "assert 'pygame' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", command], check=True)
