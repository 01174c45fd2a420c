"""`groundling envs` names everything there is, in its own words."""

import dataclasses
from typing import get_args

import gymnasium
import pytest

from groundling.cli import main
from groundling.envs.digits.options import DIGITS, DigitsOptions
from groundling.envs.rooms.options import TASKS, Layout, RoomsOptions, Task
from groundling.listing import LAYOUTS, describe_environments, field_help
from groundling.listing import TASKS as CLAUSES


def test_every_layout_and_task_has_a_clause() -> None:
    assert tuple(LAYOUTS) == get_args(Layout)
    assert tuple(CLAUSES) == get_args(Task)


def test_every_keyword_is_explained_in_the_words_of_its_declaration() -> None:
    help_of = field_help(RoomsOptions)
    assert list(help_of) == [field.name for field in dataclasses.fields(RoomsOptions)]
    assert all(help_of.values())
    assert all(field_help(DigitsOptions).values())
    assert help_of["episode_length"] == "Steps after which an episode is truncated."
    assert "\n" not in "".join(help_of.values())


def test_a_field_without_a_docstring_has_no_help() -> None:
    @dataclasses.dataclass
    class Options:
        first: int = 1
        second: int = 2
        """The second."""
        third: int = 3

    # The source of a nested class is indented, as no module's is.
    with pytest.raises(IndentationError):
        field_help(Options)


def test_the_command_names_ids_and_how_to_pass_others(capsys: pytest.CaptureFixture[str]) -> None:
    main(["envs"])
    shown = capsys.readouterr().out
    for expected in (
        *TASKS,
        DIGITS,
        "clutter_size",
        "BabyAI-GoToLocal-v0",
        "pettingzoo:",
        "groundling[minigrid]",
        "wall_colours",
    ):
        assert expected in shown
    assert "CartPole" not in shown


def test_ids_that_others_registered_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def titles() -> list[str]:
        return [title for (title, *_), _ in describe_environments()]

    before = titles()
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)
    gymnasium.register("Somebody/World-v0", entry_point="somebody.worlds:World")
    tables = describe_environments()
    assert len(tables) >= len(before)
    rows = [line for _, lines in tables for line in lines]
    assert ["Somebody/World-v0", "somebody.worlds:World"] in rows
