"""Real handwritten digits, and five folds of them.

Without files of the user's own they are the 1,797 images that come with scikit-learn: 8 × 8 pixels
of 17 shades (E. Alpaydin & C. Kaynak 1998, UCI, *Optical Recognition of Handwritten Digits*).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundling.envs.digits.idx import read_idx
from groundling.envs.digits.options import FOLDS, DigitsOptions
from groundling.envs.errors import UserError

CLASSES = 10
SCIKIT_LEARN_WHITE = 16
FOLDING = 20_201_006
"""Decides which image lies in which fold: a constant, so that all runs agree about it."""


class DigitImages(NamedTuple):
    """A data set of N images. The arrays are shared and cannot be written to."""

    pixels: NDArray[np.uint8]
    """[N, S, S], S = digit_size: 0 is background, 255 ink."""
    label: NDArray[np.int64]
    """[N]: the digit, 0 to 9."""
    fold: NDArray[np.int64]
    """[N]: the fold it lies in, 0 to 4."""


def images_of(options: DigitsOptions) -> DigitImages:
    """Give the whole data set, read and resized once in a process.

    Raises:
        UserError: scikit-learn is missing, or files cannot be read or do not belong together.
    """
    return _prepared(options.images, options.labels, options.digit_size)


def side_of(options: DigitsOptions) -> NDArray[np.int64]:
    """Give [n] the numbers of the images that this side of the split shows and cuts up.

    Raises:
        UserError: there are fewer than two, so that no clutter can be cut from another one.
    """
    fold = images_of(options).fold
    within = {"train": fold != options.fold, "test": fold == options.fold, "all": fold >= 0}
    side = np.flatnonzero(within[options.split])
    if len(side) < 2:
        raise UserError(
            f"images={options.images!r} has {len(fold)} images, {len(side)} of them in "
            f"split={options.split!r}; expected at least 2 there"
        )
    return side


@lru_cache(maxsize=8)
def _prepared(images: str, labels: str, size: int) -> DigitImages:
    pixels, label = _from_files(images, labels) if images else _from_scikit_learn()
    data = DigitImages(resized(pixels, size), label, folds_of(label))
    for array in data:
        array.setflags(write=False)
    return data


def _from_scikit_learn() -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            'the digits come with scikit-learn: pip install "groundling[eval]" (or name IDX files '
            "of your own: images, labels)"
        ) from error
    digits = load_digits()
    return digits.images * (255 / SCIKIT_LEARN_WHITE), digits.target.astype(np.int64)


def _from_files(images: str, labels: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    pixels = read_idx(images, "images", 3)
    label = read_idx(labels, "labels", 1).astype(np.int64)
    number, rows, columns = pixels.shape
    if rows != columns or not rows:
        raise UserError(f"images={images!r} are {rows} × {columns}, expected squares")
    if len(label) != number:
        raise UserError(
            f"labels={labels!r} has {len(label)}, expected {number}: one for each image"
        )
    if number and label.max() >= CLASSES:
        raise UserError(f"labels={labels!r} has a {label.max()}, expected digits from 0 to 9")
    return pixels, label


def resized(pixels: NDArray[np.generic], size: int) -> NDArray[np.uint8]:
    """Give square images [N, S, S], values 0 … 255, in another size, bilinearly: [N, size, size].

    A pixel is a square and its value that of its centre; beyond the outermost centres it stays what
    it is there.
    """
    from scipy import ndimage

    given = pixels.shape[1]
    values = pixels.astype(np.float64)
    if size != given:
        zoom = (1, size / given, size / given)
        values = ndimage.zoom(values, zoom, order=1, mode="nearest", grid_mode=True)
    # Halves are common, and the last bit of a sum would decide where they go.
    return np.rint(values.round(6)).astype(np.uint8)


def folds_of(label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Deal images [N] to five folds so that each has its share of every label: [N], 0 to 4.

    Two folds differ by at most one image of each label, and by at most one image in all. Depends on
    the labels alone, for ever.
    """
    # Of a seed sequence NumPy promises as much; of its generators' permutations it does not.
    keys = np.random.SeedSequence(FOLDING).generate_state(len(label), np.uint64)
    dealt = np.lexsort((keys, label))
    fold = np.empty(len(label), np.int64)
    fold[dealt] = np.arange(len(label)) % FOLDS
    return fold
