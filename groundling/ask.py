"""`groundling ask`: a walk with an agent in the terminal."""

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from groundling.evaluation.conversation import Conversation, Reply

HELP = """\
step [N]   let the agent act once, or N times (an empty line: once)
run        to the end of the episode
reset      into another room
quit       leave (also Ctrl-D)
what ends in "?" is a question, such as: what is the colour of the key ?"""

DIM, RED, GREEN, PLAIN = "\033[2m", "\033[31m", "\033[32m", "\033[0m"


def ask(run: tyro.conf.Positional[Path], /, seed: int = 0, device: str = "cpu") -> None:
    """Walk along with a trained agent, and ask it what it knows.

    Args:
        run: The directory of a probed run.
        seed: Which room comes first.
        device: Where to compute.
    """
    from groundling.evaluation.conversation import Conversation

    with contextlib.suppress(ImportError):  # Not on Windows.
        import readline  # noqa: F401  # Arrow keys and a history for input().
    conversation = Conversation(run, seed=seed, device=device)
    print(_styled(HELP, DIM))
    _show(conversation)
    try:
        while _obey(conversation, input("> ").strip()):
            pass
    except (EOFError, KeyboardInterrupt):
        print()
    finally:
        conversation.close()


def _obey(conversation: "Conversation", line: str) -> bool:
    """Does what the line says. False: leave."""
    command, *rest = line.split() or ["step"]
    if command == "quit":
        return False
    if line.endswith("?"):
        try:
            print(_told(conversation.ask(line)))
        except ValueError as error:  # A mistake at the prompt costs nothing but another line.
            print(_styled(str(error), RED))
    elif command == "step" and rest and not (rest[0].isdecimal() and int(rest[0])):
        print(_styled(f"step {rest[0]}: expected a number of steps, at least 1", RED))
    elif command in ("step", "run", "reset"):
        _move(conversation, command, int(rest[0]) if command == "step" and rest else 1)
        _show(conversation)
    else:
        print(_styled(HELP, DIM))
    return True


def _move(conversation: "Conversation", command: str, steps: int) -> None:
    if command == "reset":
        conversation.begin()
        return
    while conversation.step():
        steps -= 1
        if steps == 0 and command == "step":
            return
    print("The episode is over: another room.")


def _show(conversation: "Conversation") -> None:
    picture = conversation.picture()
    print(picture if sys.stdout.isatty() else _plain(picture))
    print(_styled(f"step {conversation.steps}   return {conversation.earned:.0f}", DIM))


def _told(reply: "Reply") -> str:
    """The agent's answers, each with its probability; then what is true, and whether it could
    know."""
    lines = []
    for word, probability in reply.answers:
        bar = "█" * round(20 * probability)
        colour = GREEN if word == reply.truth else RED
        lines.append(f"  {_styled(f'{word:10}', colour)} {probability:4.0%} {bar}")
    return "\n".join([*lines, _styled(f"  {_truth(reply)}", DIM)])


def _truth(reply: "Reply") -> str:
    if reply.truth is None:
        return "there is no answer: the question presupposes what is not so"
    if not reply.answerable:
        return f"truth: {reply.truth}; nothing it has seen so far settles that"
    if reply.steps_since_seen < 0:
        return f"truth: {reply.truth}"
    if reply.steps_since_seen == 0:
        return f"truth: {reply.truth}; in view now"
    plural = "s" if reply.steps_since_seen > 1 else ""
    return f"truth: {reply.truth}; last seen {reply.steps_since_seen} step{plural} ago"


def _styled(text: str, style: str) -> str:
    return f"{style}{text}{PLAIN}" if sys.stdout.isatty() else text


def _plain(text: str) -> str:
    """Without escape sequences."""
    return re.sub(r"\033\[[0-9;]*m", "", text)
