"""The pictures of the documentation are small, and show what they are there to show."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from groundling.envs.rooms.glyphs import mixed
from groundling.envs.rooms.options import Layout
from groundling.envs.rooms.render import NEVER_SEEN, SEEN_EARLIER
from groundling.envs.rooms.tiles import SHADE, WALL_COLOUR
from groundling.evaluation import gallery
from groundling.evaluation.gallery import draw_layout, write_gallery


@pytest.mark.parametrize("layout", get_args(Layout))
def test_a_layout_is_shown_in_all_lights(layout: Layout) -> None:
    picture = np.asarray(draw_layout(layout)).astype(int)
    assert 0.9 * gallery.WIDTH < picture.shape[1] <= gallery.WIDTH
    for darkness in (0.0, SEEN_EARLIER, NEVER_SEEN):
        tone = np.array(mixed(WALL_COLOUR, SHADE, darkness))
        assert (np.abs(picture - tone).max(axis=2) <= 1).any(), darkness


def test_the_gallery_is_small(tmp_path: Path) -> None:
    files = write_gallery(tmp_path / "docs")
    names = [f"layout-{layout}.png" for layout in get_args(Layout)]
    assert sorted(file.name for file in files) == sorted([*names, "go-to.gif"])
    assert {file.name for file in (tmp_path / "docs").iterdir()} == {file.name for file in files}
    for file in files:
        assert file.stat().st_size < (400_000 if file.suffix == ".gif" else 60_000), file
        with Image.open(file) as picture:
            assert picture.width >= 380
            assert getattr(picture, "n_frames", 1) > (20 if file.suffix == ".gif" else 0)


def test_the_folder_must_be_named() -> None:
    with pytest.raises(SystemExit, match=r"usage: python -m groundling.evaluation.gallery FOLDER"):
        gallery.main([])
