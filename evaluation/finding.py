"""What looking inside an agent found: pictures to look at, a table, and every number."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundling.training.run import write_bytes, write_text


@dataclass(frozen=True)
class Finding:
    """One analysis of one agent, ready to be shown in a terminal or on a page."""

    title: str
    """A heading: "What it remembers of the room"."""
    says: str
    """What is shown and how to read it, for somebody who sees it for the first time."""
    table: Sequence[Sequence[str]]
    """Lines of cells; the first holds the titles."""
    pictures: Mapping[str, bytes]
    """PNG by name; the names are for files."""
    numbers: Mapping[str, Any]
    """Everything that was measured, as JSON can hold it."""


def write_finding(finding: Finding, file: Path) -> None:
    """Writes `file` (JSON) and its pictures beside it, as `file`'s stem and their names."""
    pictures = {name: f"{file.stem}-{name}.png" for name in finding.pictures}
    for name, picture in finding.pictures.items():
        write_bytes(file.with_name(pictures[name]), picture)
    words = {
        "title": finding.title,
        "says": finding.says,
        "table": finding.table,
        "pictures": pictures,
        "numbers": finding.numbers,
    }
    write_text(file, json.dumps(words, indent=1) + "\n")


def read_finding(file: Path) -> Finding:
    """What `write_finding` wrote.

    Raises:
        FileNotFoundError: there is none.
    """
    words = json.loads(file.read_text(encoding="utf-8"))
    pictures = {
        name: file.with_name(picture).read_bytes() for name, picture in words["pictures"].items()
    }
    return Finding(**{**words, "pictures": pictures})
