"""Worlds turned to how they look from where the agent is."""

import numpy as np
import pytest

from groundling.envs.maps import NEVER_SEEN, OUTSIDE, Maps, around_agent, cells_around


def random_maps(number: int, rows: int, columns: int) -> Maps:
    generator = np.random.default_rng(0)
    shape = (number, rows, columns)
    return Maps(
        generator.integers(0, 9, shape),
        generator.integers(0, 5, shape),
        generator.integers(NEVER_SEEN, 9, shape),
        generator.integers(0, rows * columns, number),
        generator.integers(0, 4, number),
    )


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 4), (5, 3)])
def test_against_a_slow_reference(rows: int, columns: int) -> None:
    maps = random_maps(40, rows, columns)
    found = around_agent(maps)
    far = max(rows, columns) - 1
    for one in range(40):
        row, column = divmod(int(maps.place[one]), columns)
        for name, outside in (("kind", 1), ("colour", 0), ("age", OUTSIDE)):
            wide = np.pad(getattr(maps, name)[one], far, constant_values=outside)
            window = wide[row : row + 2 * far + 1, column : column + 2 * far + 1]
            # To look up, who looks east turns once to the left, who looks south twice.
            turned = np.rot90(window, (int(maps.heading[one]) + 1) % 4)
            np.testing.assert_array_equal(getattr(found, name)[one], turned)
    np.testing.assert_array_equal(found.place, maps.place)
    np.testing.assert_array_equal(found.heading, maps.heading)


def test_every_cell_is_found_again() -> None:
    maps = random_maps(20, 4, 3)
    around = around_agent(maps)
    where = cells_around(maps.place, maps.heading, 4, 3)
    again = np.take_along_axis(around.kind.reshape(20, -1), where, axis=1)
    np.testing.assert_array_equal(again.reshape(maps.kind.shape), maps.kind)
    assert ((around.age != OUTSIDE).sum((1, 2)) == 12).all()
