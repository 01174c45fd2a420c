"""That freed memory stays where it is wanted again."""

import subprocess
import sys

import pytest

from groundling.training import memory

MANY = 64_000_000
LEFT = """
import sys
import torch
from groundling.training.memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return 4096 * int(file.read().split()[1])

if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = resident()
for _ in range(3):
    torch.zeros(int(sys.argv[2]), dtype=torch.uint8).add_(1)
print(resident() - before)
"""


def left(how: str) -> int:
    """Bytes that a process still holds of tensors that it freed."""
    words = [sys.executable, "-c", LEFT, how, str(MANY)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_freed_memory_stays_if_it_is_to_be_kept() -> None:
    assert left("kept") > 0.9 * MANY
    assert left("given back") < 0.5 * MANY


def test_where_there_is_no_glibc_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
