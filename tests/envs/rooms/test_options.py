import re
import subprocess
import sys
from pathlib import Path

import pytest

from groundling.envs.rooms import options as options_module
from groundling.envs.rooms.options import RoomsOptions


def test_defaults_are_possible():
    options = RoomsOptions()
    assert options.cells == 25
    assert options.shape_names[:2] == ("key", "ball")
    assert len(options.shape_names) == 8
    assert options.size_names == ("small",)


def test_an_l_misses_a_quadrant():
    assert RoomsOptions(layout="l_shape", size=5).cells == 21
    assert RoomsOptions(layout="l_shape", size=6).cells == 27


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"layout": "round"},
            "layout='round', expected one of single, l_shape, two_rooms, four_rooms, corridor",
        ),
        ({"combinations": "new"}, "combinations='new', expected one of all, familiar"),
        ({"size": 2}, "size=2, expected an integer from 3 to 25"),
        ({"size": "5"}, "size='5', expected an integer from 3 to 25"),
        ({"size": True}, "size=True, expected an integer from 3 to 25"),
        ({"objects": 0}, "objects=0, expected an integer from 1 to 8 in 25 cells"),
        ({"objects": 9}, "objects=9, expected an integer from 1 to 8 in 25 cells"),
        ({"size": 25, "objects": 21}, "objects=21, expected an integer from 1 to 20 in 625 cells"),
        ({"shapes": 25}, "shapes=25, expected an integer from 1 to 24, or names"),
        ({"shapes": ("kay",)}, "shapes='kay', expected one of .* .did you mean key.."),
        ({"shapes": ()}, "shapes=.., expected at least one name, none of them twice"),
        ({"colours": ("red", "red")}, "colours=.*, expected at least one name, none of them twice"),
        ({"colours": 0}, "colours=0, expected an integer from 1 to 12, or names"),
        ({"sizes": 3}, "sizes=3, expected an integer from 1 to 2"),
        ({"view_size": 4}, "view_size=4, expected an odd number"),
        ({"view_size": 13}, "view_size=13, expected an integer from 3 to 11 for this house"),
        ({"view_pixels": 3}, "view_pixels=3, expected an integer from 4 to 16, or 0 for no image"),
        ({"view_pixels": 17}, "view_pixels=17, expected an integer from 4 to 16, or 0"),
        ({"view_pixels": False}, "view_pixels=False, expected an integer from 4 to 16, or 0"),
        ({"view_pixels": 0.0}, "view_pixels=0.0, expected an integer from 4 to 16, or 0"),
        ({"episode_length": 0}, "episode_length=0, expected an integer from 1 to 32767"),
        ({"compass": 1}, "compass=1, expected True or False"),
        (
            {"size": (5, 3)},
            "size=.5, 3., expected two integers from 3 to 25, the smaller",
        ),
        ({"size": (3, 5, 7)}, "size=.3, 5, 7., expected two integers"),
        ({"objects": (1, 9)}, "objects=.1, 9., expected two integers from 1 to 8 in 25 cells"),
        ({"layout": "corridor", "corridor_rooms": 9}, "corridor_rooms=9, expected an integer"),
        ({"layout": "four_rooms", "size": 13}, "size=13, expected a house of at most 729 cells"),
        ({"doors": True}, "doors=True, expected False for layout='single'"),
        ({"wall_colours": True, "colours": 3}, "wall_colours=True, expected at least 4 colours"),
        ({"task": "fetch"}, "task='fetch', expected one of explore, go_to"),
        ({"task": "go_to", "shapes": 1, "colours": 1}, "task='go_to', expected at least two kinds"),
        ({"task": "go_to", "episode_length": 51}, "episode_length=51, expected at least 52"),
        (
            {"task": "go_to", "size": (3, 5), "objects": 2, "episode_length": 51},
            "episode_length=51, expected at least 52",
        ),
        (
            {"layout": "four_rooms", "size": 3, "objects": 10},
            "objects=10, expected an integer from 1 to 9 in 36 cells",
        ),
        (
            {"layout": "corridor", "size": 3, "objects": 11},
            "objects=11, expected an integer from 1 to 10 in 36 cells",
        ),
        ({"object": 3}, "unknown option 'object', expected one of .* .did you mean objects.."),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(choice, message):
    with pytest.raises(ValueError, match=f"^{message}") as refusal:
        RoomsOptions.from_keywords(choice)
    assert "\n" not in str(refusal.value)


def test_names_choose_and_order_the_vocabulary():
    options = RoomsOptions(shapes=["lamp", "key"], colours=("blue",))
    assert options.shape_names == ("lamp", "key")
    assert options.colour_names == ("blue",)
    assert hash(options)


def test_every_field_has_its_help():
    source = Path(options_module.__file__).read_text()
    for name in RoomsOptions.__dataclass_fields__:
        assert re.search(rf'^    {name}: .*\n    """[A-Z].*"""$', source, re.MULTILINE), name


def test_options_are_light_to_import():
    code = (
        "import sys, groundling.envs.rooms.options;"
        "print([name for name in ('numba', 'torch', 'PIL') if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"
