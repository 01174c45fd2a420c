"""Pictures of the houses for the documentation: `python -m groundling.evaluation.gallery docs`.

One PNG for each layout, seen in the middle of an explorer's walk, and a GIF of instructions that
are followed.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from PIL import Image

from groundling.envs.rooms.options import Layout, RoomsOptions
from groundling.envs.rooms.render import draw_room
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.evaluation.film import film_environment
from groundling.training.config import EnvironmentConfig
from groundling.training.run import write_bytes

WIDTH = 400
"""Of a layout's picture, in pixels, at most."""
TONES = 96
"""Colours in one."""
WALKED: dict[Layout, int] = {
    "single": 6,
    "l_shape": 12,
    "two_rooms": 15,
    "four_rooms": 26,
    "corridor": 22,
}
"""Steps of the explorer before the picture is taken."""
FILM_STEPS = 48


def example(layout: Layout) -> RoomsOptions:
    """A house of a layout with everything in it that there may be."""
    several = layout not in ("single", "l_shape")
    return RoomsOptions(
        layout=layout,
        size={"l_shape": 7, "corridor": 4}.get(layout, 5),
        corridor_rooms=3,
        doors=several,
        objects=8 if several else 5,
        shapes=20,
        colours=10,
        sizes=2,
        wall_colours=layout in ("l_shape", "four_rooms"),
        episode_length=200,
    )


def draw_layout(layout: Layout) -> Image.Image:
    """The example of a layout, in the middle of the explorer's walk through it."""
    environment = RoomsVectorEnv(1, **vars(example(layout)))
    environment.reset(seed=0)
    for _ in range(WALKED[layout]):
        environment.step(environment.explorer_actions())
    rooms = environment.rooms
    tile = WIDTH // rooms.grid_shape[1]
    return Image.fromarray(draw_room(environment.world, 0, rooms, tile))


def write_gallery(folder: Path | str) -> list[Path]:
    """Writes `layout-NAME.png` for every layout, and `go-to.gif`.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for layout in get_args(Layout):
        buffer = io.BytesIO()
        draw_layout(layout).quantize(TONES).save(buffer, format="PNG", optimize=True)
        files.append(folder / f"layout-{layout}.png")
        write_bytes(files[-1], buffer.getvalue())
    rooms = RoomsOptions(
        layout="two_rooms", doors=True, size=4, objects=5, sizes=2, episode_length=120
    )
    config = EnvironmentConfig(id="Groundling/GoTo-v0", rooms=rooms)
    return [*files, film_environment(config, folder / "go-to.gif", steps=FILM_STEPS)]


def main(arguments: Sequence[str]) -> None:
    """Writes the pictures into the folder that is named."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m groundling.evaluation.gallery FOLDER")
    for file in write_gallery(arguments[0]):
        print(f"written: {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
