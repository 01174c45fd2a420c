"""Data sets of one's own, as IDX files."""

import gzip

import numpy as np
import pytest


def idx_bytes(values):
    """An IDX file of bytes, written by hand."""
    header = bytes([0, 0, 8, values.ndim])
    return header + b"".join(size.to_bytes(4, "big") for size in values.shape) + values.tobytes()


@pytest.fixture
def write_idx(tmp_path):
    """Writes values as an IDX file of that name, compressed if it ends in .gz; its path."""

    def write(name, values):
        content = idx_bytes(np.asarray(values, np.uint8))
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return str(path)

    return write


@pytest.fixture
def shades(write_idx):
    """Options for 200 images of one shade each, 1 to 200: every pixel tells where it is from."""
    images = np.broadcast_to(np.arange(1, 201)[:, None, None], (200, 6, 6))
    return {
        "images": write_idx("images.gz", images),
        "labels": write_idx("labels", np.arange(200) % 10),
        "digit_size": 6,
        "clutter_size": 3,
        "canvas": 20,
    }
