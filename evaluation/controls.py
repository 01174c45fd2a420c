"""The rows of the probe's table: the agent, and what must be held beside it.

agent                the decoder reads the trained agent's belief
agent's encoder      what its sensors make of the present observation: no memory
current observation  the present observation itself, one-hot: eyes without memory or training (of
                     an agent with attention its present glimpse, and where that lies)
last k observations  the last k of them and the actions between: a memory of fixed length
untrained agent      the belief of the same network before its first update: what a random
                     recurrent net carries along
shuffled belief      the agent's belief of some other moment: right statistics, wrong room
question only        a constant: what the questions give away
majority             the most frequent answer of each (type, answerable) group
oracle               an ideal observer's guess from the cells that were sensed

Two more fits are no rows of the table but say what the agent's row is worth: a *control task*, for
which the same decoder must learn arbitrary answers (Hewitt & Liang 2019), and the decoder that was
never asked about held-out combinations of shape and colour.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from groundling.agents.generators import named_seed
from groundling.agents.probe import DecoderName
from groundling.envs.questions import Questions
from groundling.evaluation.decoding import Codes, Nothing, Reading, Vectors, scramble
from groundling.evaluation.examples import Examples
from groundling.evaluation.observed import ObservationCode
from groundling.evaluation.protocol import ProbeSettings

AGENT = "agent"
UNTRAINED = "untrained agent"
QUESTION_ONLY = "question only"
MAJORITY = "majority"
ORACLE = "oracle"
CONTROL_TASK = "control task"
FAMILIAR = "held-out combinations"

Part = Literal["belief", "features", "observation", "window", "shuffled", "nothing"]
Lesson = Literal["questions", "arbitrary", "familiar"]


@dataclass(frozen=True)
class Row:
    """A decoder to be fitted: what it reads, and what it is taught."""

    name: str
    decoder: DecoderName
    part: Part = "belief"
    agent: str = AGENT
    """Whose belief or features."""
    lesson: Lesson = "questions"
    """The questions, arbitrary answers to them, or those about no held-out combination."""


def rows_of(
    settings: ProbeSettings, others: Sequence[str] = (), *, has_held_out: bool = False
) -> list[Row]:
    """The fits that the settings ask for.

    Args:
        settings: which controls and decoders.
        others: further agents by name.
        has_held_out: whether some questions are about held-out combinations.
    """
    first, *more = settings.decoders
    rows = [Row(AGENT, first), *(Row(name, first, agent=name) for name in others)]
    untrained = Row(UNTRAINED, first, agent=UNTRAINED)
    alone = Row(QUESTION_ONLY, first, "nothing")
    if settings.controls == "few":
        rows += [untrained, alone]
    if settings.controls == "all":
        rows += [
            Row("agent's encoder", first, "features"),
            Row("current observation", first, "observation"),
            Row(f"last {settings.remembered} observations", first, "window"),
            untrained,
            Row("shuffled belief", first, "shuffled"),
            alone,
            Row(CONTROL_TASK, first, lesson="arbitrary"),
        ]
        if has_held_out:
            rows.append(Row(FAMILIAR, first, lesson="familiar"))
    for decoder in more:
        with_it = [row for row in rows if row.name in (AGENT, *others, UNTRAINED, QUESTION_ONLY)]
        rows += [
            dataclasses.replace(row, name=f"{row.name}, {decoder}", decoder=decoder)
            for row in with_it
            if row.decoder == first
        ]
    return rows


def reading_of(
    row: Row,
    examples: Examples,
    code: ObservationCode,
    seed: int,
    device: torch.device | str = "cpu",
) -> Reading:
    """What the row's decoder is given of each moment; only that goes to the device.

    Args:
        row: of the table.
        examples: to take it from.
        code: of the observations.
        seed: decides which moment's belief stands in for which, where they are shuffled.
        device: where it will be read.
    """
    memory = examples.memories[row.agent]
    if row.part == "features":
        return Vectors(memory.features.to(device))
    if row.part == "observation":
        return Codes(examples.observed[:, -1:].to(device), code)
    if row.part == "window":
        return Codes(examples.observed.to(device), code)
    if row.part == "nothing":
        return Nothing(memory.belief.shape[1])
    if row.part == "shuffled":
        generator = np.random.default_rng(named_seed(seed, "shuffled belief"))
        elsewhere = torch.from_numpy(generator.permutation(len(memory.belief)))
        return Vectors(memory.belief[elsewhere].to(device))
    return Vectors(memory.belief.to(device))


def lesson_of(row: Row, examples: Examples, answers: Mapping[int, NDArray[np.int64]]) -> Questions:
    """The questions the row's decoder is fitted to.

    Args:
        row: of the table.
        examples: to take them from.
        answers: word ids that occur as answers, by question type.
    """
    questions = examples.questions
    if row.lesson == "familiar":
        return questions[~questions.held_out]
    if row.lesson == "arbitrary":
        return dataclasses.replace(questions, answer=arbitrary_answers(examples, answers))
    return questions


def arbitrary_answers(
    examples: Examples, answers: Mapping[int, NDArray[np.int64]]
) -> NDArray[np.int64]:
    """The control task (Hewitt & Liang 2019, section 2): an answer for each pair of question and
    present observation, drawn once and for ever, uniform among the answers of the question's type.

    What is right can be known by heart alone. A decoder that learns it would also find answers in
    beliefs that do not hold them.
    """
    questions = examples.questions
    seen = examples.observed[:, -1].contiguous().view(torch.uint8).flatten(1).numpy()
    drawn = scramble(seen)[questions.world] ^ scramble(questions.tokens)
    given = np.empty(len(questions), np.int64)
    for kind, words in answers.items():
        of_kind = questions.type == kind
        given[of_kind] = words[scramble(drawn[of_kind, None]) % np.uint64(len(words))]
    return given


def answers_by_type(questions: Questions) -> dict[int, NDArray[np.int64]]:
    """Word ids that occur as answers, by question type."""
    return {
        int(kind): np.unique(questions.answer[questions.type == kind])
        for kind in np.unique(questions.type)
    }


def majority_answers(train: Questions, test: Questions) -> NDArray[np.int64]:
    """For each test question the answer that its (type, answerable) group had most often, [N]."""
    answers = np.zeros(len(test), np.int64)
    for kind in np.unique(test.type):
        for answerable in (False, True):
            chosen = (test.type == kind) & (test.answerable == answerable)
            seen = train.answer[(train.type == kind) & (train.answerable == answerable)]
            if chosen.any() and len(seen):
                answers[chosen] = np.bincount(seen).argmax()
    return answers
