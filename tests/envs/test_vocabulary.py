"""The word list is closed, complete and reversible, and its mistakes are explained in one line."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundling.envs import vocabulary
from groundling.envs.vocabulary import COLOURS, NUMBERS, SHAPES, SIZES, VOCABULARY, Vocabulary


def test_the_lists_are_as_long_as_promised_and_share_no_word():
    assert len(SHAPES) >= 20
    assert len(COLOURS) >= 10
    assert SIZES == ("small", "large")
    assert len(NUMBERS) == 21
    assert (NUMBERS[0], NUMBERS[12], NUMBERS[20]) == ("zero", "twelve", "twenty")
    everything = (*SHAPES, *COLOURS, *SIZES, *NUMBERS, "yes", "no", "?")
    assert len(set(everything)) == len(everything)
    assert set(everything) <= set(VOCABULARY.words)


def test_ids_start_after_padding_and_name_one_word_each():
    ids = [VOCABULARY.index(word) for word in VOCABULARY.words]
    assert ids == list(range(1, len(VOCABULARY)))


@given(st.lists(st.sampled_from(VOCABULARY.words), max_size=12), st.integers(0, 4))
def test_decoding_undoes_encoding(words, padding):
    text = " ".join(words)
    ids = VOCABULARY.encode(text, len(words) + padding)
    assert len(ids) == len(words) + padding
    assert all(position == 0 for position in ids[len(words) :])
    assert VOCABULARY.decode(ids) == text


def test_an_unknown_word_is_named_beside_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"^unknown word 'color'; .* 'colour'$"):
        VOCABULARY.encode("what is the color of the key ?", 12)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="has 5 words, expected at most 4"):
        VOCABULARY.encode("is there a key ?", 4)


@pytest.mark.parametrize("position", [-1, len(VOCABULARY)])
def test_an_id_without_a_word_is_refused(position):
    with pytest.raises(ValueError, match=f"no word has id {position}"):
        VOCABULARY.decode([position])


@pytest.mark.parametrize("words", [("key", "key"), ("key ring",), ("",)])
def test_words_that_cannot_be_told_apart_are_refused(words):
    with pytest.raises(ValueError, match=r"same word twice|cannot be a word"):
        Vocabulary(words)


def test_the_module_needs_nothing_but_the_standard_library():
    # -I -S hides site-packages: the command line's help imports this file and must stay quick.
    command = [sys.executable, "-I", "-S", vocabulary.__file__]
    subprocess.run(command, check=True, timeout=30)
