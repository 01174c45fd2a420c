import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from groundling.envs.digits.images import _prepared, folds_of, images_of, resized, side_of
from groundling.envs.digits.options import FOLDS, DigitsOptions
from groundling.envs.errors import UserError


def test_the_digits_of_scikit_learn_are_all_there():
    data, given = images_of(DigitsOptions(digit_size=8)), load_digits()
    assert data.pixels.shape == (1797, 8, 8)
    np.testing.assert_array_equal(data.label, given.target)
    # 0 to 16 there, 0 to 255 here; what is resized to its own size is left as it is.
    np.testing.assert_allclose(data.pixels, given.images * 255 / 16, atol=0.5)
    assert len(np.unique(given.data, axis=0)) == 1797  # No image is twice in it, in two folds.


def test_a_data_set_is_read_once_and_cannot_be_written_to():
    data = images_of(DigitsOptions())
    assert images_of(DigitsOptions(fold=3, canvas=100)) is data
    for array in data:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("size", [28, 20, 5, 8])
def test_images_are_resized_as_torch_does_it(size):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(pixels[:, None].astype(np.float64)), (size, size), mode="bilinear"
    )[:, 0]
    found = resized(pixels, size)
    assert found.shape == (40, size, size)
    np.testing.assert_allclose(found, expected, atol=0.5 + 1e-6)
    if size == 8:
        np.testing.assert_array_equal(found, pixels)


def test_folds_have_their_share_of_every_label():
    fold, label = images_of(DigitsOptions()).fold, images_of(DigitsOptions()).label
    shares = np.array([[((fold == i) & (label == j)).sum() for j in range(10)] for i in range(5)])
    assert (np.ptp(shares, axis=0) <= 1).all()
    assert np.ptp(shares.sum(axis=1)) <= 1
    # Not in the order in which they were written down: neighbours are of one hand.
    assert not np.array_equal(fold[label == 0][:25], np.arange(25) % FOLDS)


def test_folds_are_the_same_for_ever():
    assert folds_of(np.arange(20) % 2).tolist() == FOLDS_OF_TWENTY


FOLDS_OF_TWENTY = [0, 3, 1, 2, 2, 1, 3, 4, 3, 4, 4, 1, 2, 0, 0, 0, 1, 3, 4, 2]


def test_train_and_test_share_nothing_and_every_image_is_tested_once():
    tested = []
    for fold in range(FOLDS):
        train, test = (side_of(DigitsOptions(fold=fold, split=s)) for s in ("train", "test"))
        assert not set(train) & set(test)
        assert sorted([*train, *test]) == side_of(DigitsOptions(split="all")).tolist()
        tested += test.tolist()
    assert sorted(tested) == list(range(1797))


def test_files_of_ones_own_are_taken_as_they_are(write_idx):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
    files = {
        "images": write_idx("images.gz", pixels),
        "labels": write_idx("labels.gz", np.arange(30) % 10),
    }
    data = images_of(DigitsOptions(**files))
    np.testing.assert_array_equal(data.pixels, pixels)
    assert data.label.tolist() == [*range(10)] * 3
    assert images_of(DigitsOptions(digit_size=20, **files)).pixels.shape == (30, 20, 20)


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (np.zeros((3, 5, 6)), [1, 2, 3], "images='.*' are 5 × 6, expected squares"),
        (np.zeros((3, 0, 0)), [1, 2, 3], "images='.*' are 0 × 0, expected squares"),
        (np.zeros((3, 5, 5)), [1, 2], "labels='.*' has 2, expected 3: one for each image"),
        (np.zeros((3, 5, 5)), [1, 2, 10], "labels='.*' has a 10, expected digits from 0 to 9"),
        (np.zeros((3, 5, 5)), [1, 1, 1], "has 3 images, 1 of them in split='test'; expected at le"),
        (np.zeros((0, 5, 5)), [], "has 0 images, 0 of them in split='test'"),
    ],
)
def test_files_that_do_not_fit_are_named(write_idx, images, labels, expected):
    files = {"images": write_idx("images", images), "labels": write_idx("labels", labels)}
    with pytest.raises(UserError, match=expected):
        side_of(DigitsOptions(split="test", **files))


def test_without_scikit_learn_one_is_told_what_to_install(monkeypatch):
    _prepared.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r'scikit-learn: pip install "groundling\[eval\]"'):
        images_of(DigitsOptions())
