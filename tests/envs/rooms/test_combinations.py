import numpy as np
import pytest

from groundling.envs.rooms.combinations import held_out
from groundling.envs.vocabulary import COLOURS, SHAPES

EVERY_SIZE = [(S, C) for S in range(1, len(SHAPES) + 1) for C in range(1, len(COLOURS) + 1)]


def test_every_shape_and_every_colour_keeps_half_of_its_partners():
    for shapes, colours in EVERY_SIZE:
        table = held_out(shapes, colours)
        assert table.shape == (shapes, colours)
        assert table.dtype == np.bool_
        assert np.all(table.sum(axis=0) <= shapes / 2), (shapes, colours)
        assert np.all(table.sum(axis=1) <= colours / 2), (shapes, colours)


def test_a_quarter_is_held_out_where_there_is_a_choice():
    for shapes, colours in EVERY_SIZE:
        share = held_out(shapes, colours).mean()
        if min(shapes, colours) < 2:
            assert share == 0
        elif shapes % 4 == 0 or colours % 4 == 0:
            assert share == 1 / 4
        else:
            assert 1 / 6 <= share <= 0.3, (shapes, colours)


def test_the_split_is_the_one_it_always_was():
    """Or agents and probes of different versions would not keep back the same combinations."""
    rows = ["110000", "001010", "000100", "001010", "000100", "000001", "000001", "110000"]
    assert held_out(8, 6).astype(int).tolist() == [[int(cell) for cell in row] for row in rows]


def test_splits_of_different_sizes_are_shuffled_apart():
    assert not np.array_equal(held_out(8, 8)[:, :6], held_out(8, 6))
    assert not np.array_equal(held_out(8, 8), held_out(8, 8).T)


def test_nobody_can_write_into_the_split():
    with pytest.raises(ValueError, match="read-only"):
        held_out(3, 3)[0, 0] = True
