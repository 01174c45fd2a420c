"""A walk with an agent: its conversation, and the terminal it happens in."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from groundling.cli import main
from groundling.envs.questions import NOT_SEEN
from groundling.envs.rooms.options import RoomsOptions
from groundling.evaluation.conversation import Conversation
from groundling.evaluation.probing import probe_run
from groundling.evaluation.protocol import ProbeSettings
from groundling.training.config import EnvironmentConfig, TrainConfig
from groundling.training.loop import train

STEPS = 12
ROOMS = RoomsOptions(
    size=3, objects=2, shapes=3, colours=3, view_size=3, compass=False, episode_length=STEPS
)
QUESTION = "what is the colour of the key?"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(frames=512, env=EnvironmentConfig(rooms=ROOMS))
    path = tmp_path_factory.mktemp("runs") / "run"
    train(config, path, show_progress=False)
    settings = ProbeSettings(
        rooms=256,
        validation_rooms=32,
        test_rooms=32,
        ask_every=2,
        size=64,
        decoders=("mlp",),
        controls="none",
    )
    probe_run(path, settings, keep=False, show_progress=False)
    return path


def test_replies_say_what_is_true_and_whether_it_could_be_known(run: Path) -> None:
    conversation = Conversation(run)
    truths = set()
    for _ in range(40):
        reply = conversation.ask(QUESTION)
        assert reply.question == "what is the colour of the key ?"
        probabilities = [probability for _, probability in reply.answers]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1.001
        source = conversation.source.typed_question(QUESTION)
        if not len(source):
            assert reply.truth is None
            assert not reply.answerable
            assert reply.steps_since_seen == NOT_SEEN
        else:
            assert reply.truth == source.answer_text(0)
            assert reply.answerable == source.answerable[0]
            assert reply.steps_since_seen == source.steps_since_seen[0]
        truths.add(reply.truth)
        conversation.begin()
    assert truths == {None, "red", "green", "blue"}


def test_the_next_room_is_entered_without_memories(run: Path) -> None:
    walked, fresh = Conversation(run), Conversation(run, seed=1)
    for _ in range(STEPS - 1):
        assert walked.step()
    assert walked.steps == STEPS - 1
    assert not walked.step()  # The episode ended.
    assert walked.steps == 0
    walked.begin()
    assert walked.picture() == fresh.picture()
    assert torch.equal(walked.reader.state.belief, fresh.reader.state.belief)


def test_asking_changes_nothing(run: Path) -> None:
    asked, silent = Conversation(run), Conversation(run)
    for _ in range(5):
        asked.ask(QUESTION)
        assert asked.step() == silent.step()
    assert torch.equal(asked.reader.state.belief, silent.reader.state.belief)


def test_a_run_that_was_not_probed_has_no_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(frames=512, env=EnvironmentConfig(rooms=ROOMS))
    train(config, tmp_path / "run", show_progress=False)
    with pytest.raises(SystemExit) as exit_:
        main(["ask", str(tmp_path / "run")])
    assert exit_.value.code == 2
    assert "was not probed; expected `groundling probe" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["ask"], ["watch", "--gif", "film.gif"], ["probe", "--quick"]])
def test_a_seed_is_no_negative_number(
    run: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command[0], str(run), *command[1:], "--seed", "-1"])
    assert exit_.value.code == 2
    assert "seed is -1; expected 0 or more" in capsys.readouterr().err


class Terminal:
    """`groundling ask` behind a pseudo-terminal."""

    def __init__(self, run: Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "groundling", "ask", str(run)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            close_fds=True,
        )
        os.close(slave)
        self.read()

    def read(self) -> str:
        """Everything until the next prompt, or the end."""
        text = ""
        while not text.endswith("> "):
            try:
                part = os.read(self.master, 4096)
            except OSError:  # Linux: nobody is left at the other end.
                break
            if not part:
                break
            text += part.decode()
            text = re.sub(r"\x1b\[\?2004[hl]\r?", "", text)  # readline's own conversation
        return text

    def type(self, line: str) -> str:
        os.write(self.master, line.encode() + b"\n")
        return self.read()


def test_from_the_start_to_a_right_answer(run: Path) -> None:
    terminal = Terminal(run)
    assert "step 3" in terminal.type("step 3")
    assert "'key'" in terminal.type("what is the colour of the kea ?")
    assert "expected a number of steps" in terminal.type("step fast")
    assert "\033[31m" in terminal.type("is this a question ?")
    right = "\033[32m"
    for _ in range(10):
        told = terminal.type("is there a key ?")
        assert "truth: " in told
        first, truth = told.splitlines()[1], re.findall(r"truth: (\w+)", told)[0]
        if first.strip().startswith(right):
            assert truth in first
            break
        assert "return 0" in terminal.type("reset")
    else:
        pytest.fail("ten rooms and no right answer")
    assert "another room" in terminal.type("run")
    terminal.type("quit")
    assert terminal.process.wait(10) == 0
