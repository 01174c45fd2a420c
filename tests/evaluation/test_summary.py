"""What a study found, in tables that can be checked by hand, and a picture."""

import json
from pathlib import Path

import pytest

from groundling.evaluation.summary import main, returns_table, summarise


def run(variant, seed, colour, *, frames=2_000_000, controls=False, early=None):
    def row(score):
        return {
            kind: {"answerable": score}
            for kind in ("attribute_colour", "attribute_shape", "existence", "count_shape")
        }

    rows = {"agent": row(colour), "majority": row(0.1)}
    if controls:
        rows |= {"untrained agent": row(0.4), "question only": row(0.17)}
    faded = {"0": colour, "1-3": colour - 0.1, "16+": colour / 2}
    ages = dict.fromkeys(("attribute_colour", "attribute_shape", "near_colour"), faded)
    readers = ("agent", "untrained agent") if controls else ("agent",)
    found = {"frames": frames, "seconds": 480.0, "rows": rows}
    found["steps_since_seen"] = dict.fromkeys(readers, ages)
    found |= {"variant": variant, "seed": seed, "return": 10.0 + seed}
    found["returns"] = {"500000": 4.0 + seed, "1000000": 10 * colour}
    if variant == "none":
        found["returns"]["1500000"] = 9.0
    found["earlier"] = {
        str(at): run(variant, seed, colour, frames=at) for at, colour in (early or {}).items()
    }
    return found


def test_tables_say_what_was_found_and_can_be_made_again(tmp_path: Path, capsys) -> None:
    runs = [
        run("simcore", 0, 0.7, controls=True, early={500_000: 0.3, 1_000_000: 0.5}),
        run("simcore", 1, 0.8, early={500_000: 0.4, 1_000_000: 0.6}),
        run("none", 0, 0.2, early={500_000: 0.1, 1_000_000: 0.2, 1_500_000: 0.2}),
        run("none", 1, 0.3, early={1_000_000: 0.1, 1_500_000: 0.2}),
        run("present", 0, 0.5),
    ]
    text = summarise({"runs": runs}, tmp_path / "study")
    lines = text.splitlines()
    ended = lines[lines.index("Where each run ended:") + 2 :]
    assert ended[2].startswith("| simcore | 2 | 2.0 | 8.0 | 10.5 ± 0.7 | 0.75 ± 0.07 |")
    assert ended[5].startswith("| *untrained agent* | 1 |  |  |  | 0.40 |")
    assert "| simcore - none | +0.50 [+0.20, +0.80] *" in text
    assert "| simcore | attribute colour | 0.75 | 0.65 | 0.38 |" in text
    assert "| none | attribute colour | 0.25 | 0.15 | 0.12 |" in text
    assert "| variant | 0.5 M | 1.0 M | 1.5 M |" in text
    assert "| simcore | 4.5 | 7.5 | – |" in text
    assert "| none | 4.5 | 2.5 | 9.0 |" in text
    assert "| simcore / none | 1.00 | 3.00 | – |" in text
    assert "At 1,000,000 frames:" in text
    assert "| variant | seeds | M frames | minutes | return |" in text
    assert "| simcore | 2 | 1.0 | 8.0 | 10.5 ± 0.7 | 0.55 ± 0.07 |" in text
    assert "| variant | question | 0.5 M | 1.0 M | 1.5 M |" in text
    assert "| simcore | attribute colour | 0.35 | 0.55 | – |" in text
    assert "| none | attribute colour | – | 0.15 | 0.20 |" in text
    (tmp_path / "study.json").write_text(json.dumps({"runs": runs}))
    pictures = [tmp_path / f"study{which}.png" for which in ("", "-ages", "-curve")]
    for picture in pictures:
        picture.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["summary", str(tmp_path / "study.json")])
        main()
    assert capsys.readouterr().out == text + "\n"
    assert all(picture.stat().st_size > 5000 for picture in pictures)
    assert (tmp_path / "study.md").read_text() == text + "\n"


def test_runs_without_a_moment_in_common_still_have_a_curve(tmp_path: Path) -> None:
    runs = [run("simcore", 0, 0.7, early={500_000: 0.5}), run("none", 0, 0.2, early={10**6: 0.2})]
    text = summarise({"runs": runs}, tmp_path / "study")
    assert " frames:\n\n| variant | seeds" not in text
    assert "| simcore | attribute colour | 0.50 | – |" in text
    assert (tmp_path / "study-curve.png").exists()


def test_a_single_seed_has_no_difference(tmp_path: Path) -> None:
    text = summarise({"runs": [run("simcore", 0, 0.7), run("none", 0, 0.2)]}, tmp_path / "study")
    assert "Difference" not in text


def test_without_seeds_of_the_reference_the_first_that_has_some_stands_in(tmp_path: Path) -> None:
    runs = [run("simcore", 0, 0.7)]
    runs += [run("present", 0, 0.2), run("present", 1, 0.3)]
    runs += [run("both", 0, 0.5), run("both", 1, 0.6)]
    text = summarise({"runs": runs}, tmp_path / "study")
    assert "| present - both | -0.30 [-0.60, +0.00] *" in text
    assert "simcore - " not in text


@pytest.mark.parametrize(("reached", "shown"), [(12, 12), (13, 7), (25, 9)])
def test_a_long_training_shows_some_moments_and_always_the_last(reached: int, shown: int) -> None:
    found = run("simcore", 0, 0.7)
    found["returns"] = {str(10**6 * (one + 1)): float(one) for one in range(reached)}
    header, _, row = returns_table([found]).splitlines()[-3:]
    assert header.count(" M |") == shown
    assert header.endswith(f"| {reached}.0 M |")
    assert row.endswith(f"| {reached - 1}.0 |")
