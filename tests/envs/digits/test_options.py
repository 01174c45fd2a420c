import pytest

from groundling.envs.digits.options import DigitsOptions
from groundling.envs.errors import UserError


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"canva": 60}, r"unknown option 'canva', expected one of .* \(did you mean canvas\?\)"),
        ({"canvas": 3}, "canvas=3, expected an integer from 4 to 512"),
        ({"canvas": 60.0}, "canvas=60.0, expected an integer from 4 to 512"),
        ({"canvas": 20}, "digit_size=28, expected an integer from 4 to 20, that of the canvas"),
        ({"clutter": -1}, "clutter=-1, expected an integer from 0 to 100"),
        ({"clutter": True}, "clutter=True, expected an integer"),
        ({"clutter_size": 29}, "clutter_size=29, expected an integer from 1 to 28, that of the di"),
        ({"glimpses": 0}, "glimpses=0, expected an integer from 1 to 1000"),
        ({"fold": 5}, "fold=5, expected an integer from 0 to 4"),
        ({"split": "validation"}, "split='validation', expected one of train, test, all"),
        ({"images": 3}, "images=3, expected the path of an IDX file"),
        ({"images": "a"}, "labels='', expected an IDX file, too, beside images='a'"),
        ({"labels": "b"}, "images='', expected an IDX file, too, beside labels='b'"),
    ],
)
def test_what_cannot_be_is_named(keywords, expected):
    with pytest.raises(UserError, match=expected) as raised:
        DigitsOptions.from_keywords(keywords)
    assert "\n" not in str(raised.value)


def test_what_can_be_is_taken():
    assert DigitsOptions.from_keywords({}) == DigitsOptions()
    extreme = {"canvas": 4, "digit_size": 4, "clutter": 0, "clutter_size": 4, "glimpses": 1}
    assert DigitsOptions.from_keywords(extreme | {"fold": 4, "split": "all"}).canvas == 4
