import gzip
from pathlib import Path

import numpy as np
import pytest

from groundling.envs.digits.idx import read_idx
from groundling.envs.errors import UserError

VALUES = np.arange(2 * 3 * 4).reshape(2, 3, 4)


@pytest.mark.parametrize("name", ["plain", "packed.gz"])
def test_values_come_back_in_their_shape(write_idx, name):
    read = read_idx(write_idx(name, VALUES), "images", 3)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, VALUES)
    np.testing.assert_array_equal(read_idx(write_idx("labels", [7, 9]), "labels", 1), [7, 9])


def test_a_packed_file_is_known_by_what_it_holds(write_idx):
    packed = Path(write_idx("packed.gz", VALUES))
    np.testing.assert_array_equal(
        read_idx(str(packed.rename(packed.with_suffix(""))), "i", 3), VALUES
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda content: content[:-1], "holds 23 values, expected 24: its header says 2 × 3 × 4"),
        (lambda content: content + b"0", "holds 25 values, expected 24"),
        (lambda content: content[:10], "begins with 0x00000803, expected an IDX file of bytes"),
        (lambda content: b"", "begins with 0x00000000, expected"),
        (lambda content: b"\x00\x00\x0d" + content[3:], "begins with 0x00000D03, expected"),
        (lambda content: content[:4] + b"\xff" * 20, "holds 8 values, expected 79228162458924105"),
        (lambda content: gzip.compress(content)[:-9], "cannot be read .*, expected an IDX file"),
        (lambda content: gzip.compress(content)[:9] + b"no", "cannot be read .*, expected an IDX"),
    ],
)
def test_a_file_that_is_not_whole_is_named_with_its_field(write_idx, change, expected):
    path = Path(write_idx("images", VALUES))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"^images='.*images' {expected}"):
        read_idx(str(path), "images", 3)


def test_images_are_no_labels(write_idx):
    with pytest.raises(UserError, match=r"begins with 0x00000803, .* with 1 dimension, 0x00000801"):
        read_idx(write_idx("images", VALUES), "labels", 1)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^labels='.*nowhere' cannot be read .*No such file"):
        read_idx(str(tmp_path / "nowhere"), "labels", 1)
