"""Post-hoc probing: what a frozen agent's memory can answer, beside what needs no memory at all.

The agent is frozen and taken through rooms it never met. At random moments all rooms are asked
questions; the beliefs of that moment, the questions and the true answers are the data of a decoder.
Rooms for fitting, for stopping and for scoring are distinct. Every row of the table answers the
same questions about the same moments of the same walks:

agent            the decoder reads the trained agent's belief
untrained agent  the same agent before its first update: what a random recurrent net carries along
question only    the decoder reads a constant: what the questions give away
majority         the most frequent answer of each question type
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundling.agents.agent import Agent
from groundling.agents.generators import initialised_by, named_generator
from groundling.agents.probe import Probe, answer_loss
from groundling.envs.errors import UserError
from groundling.envs.questions import QUESTION_LENGTH, Questions, QuestionSource
from groundling.evaluation.examples import Examples, ProbeSettings, collect_examples
from groundling.training.checkpoint import load_checkpoint, save_checkpoint
from groundling.training.config import TrainConfig
from groundling.training.environments import make_environment
from groundling.training.progress import progress
from groundling.training.run import RunDirectory, load_agent, resolve_device, write_text
from groundling.training.seeds import Purpose


def fit_probe(
    train: Examples,
    validation: Examples,
    reads: str | None,
    num_words: int,
    settings: ProbeSettings,
    *,
    device: torch.device,
    shown: bool = True,
) -> Probe:
    """Fits a decoder and keeps the pass that answers the validation rooms best.

    Args:
        train: to fit on.
        validation: to choose the pass by, from other rooms.
        reads: which agent's beliefs; None is the question-only control.
        num_words: size of the vocabulary.
        settings: decoder and budget, the same for every row of a table.
        device: where to fit.
        shown: whether to show progress.
    """
    name = reads or "question only"
    data = _Data(train, reads, device)
    held_out = _Data(validation, reads, device)
    # One seed for all rows: every decoder starts from the same weights, in the same order.
    with initialised_by(settings.seed, "decoder"):
        probe = Probe(
            settings.decoder,
            belief_size=data.beliefs.shape[1],
            num_words=num_words,
            length=QUESTION_LENGTH,
            size=settings.size,
        ).to(device)
    probe.standardise(data.beliefs)
    order = named_generator(settings.seed, "order")
    updates = settings.passes * -(-data.moments // settings.batch)
    optimiser = torch.optim.Adam(probe.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    best, kept = float("inf"), probe.state_dict()
    done = 0
    with progress(f"decoder: {name}", updates, shown=shown) as advance:
        for _ in range(settings.passes):
            for moments in torch.randperm(data.moments, generator=order).split(settings.batch):
                optimiser.zero_grad()
                logits, answers = data.ask(probe, moments.to(device))
                answer_loss(logits, answers).mean().backward()
                optimiser.step()
                schedule.step()
                done += 1
                advance(done)
            score = held_out.loss(probe)
            if score >= best:
                break
            best, kept = score, {key: one.clone() for key, one in probe.state_dict().items()}
    probe.load_state_dict(kept)
    return probe.eval()


class _Data:
    """Examples as tensors on a device, sorted by moment, read through one agent or through none."""

    def __init__(self, examples: Examples, reads: str | None, device: torch.device) -> None:
        questions = examples.questions
        # Only moments of which something is asked; a batch takes some with all their questions.
        order = np.argsort(questions.world, kind="stable")
        asked_of, counts = np.unique(questions.world[order], return_counts=True)
        different, which = np.unique(questions.tokens[order], axis=0, return_inverse=True)
        some = next(iter(examples.beliefs.values()))
        # The control's constant has a belief's width, so that its decoder is the same network.
        beliefs = examples.beliefs[reads] if reads else some.new_zeros(1, 1).expand(*some.shape)
        self.beliefs = beliefs[torch.from_numpy(asked_of)].to(device)
        self.order = order
        self.counts = torch.from_numpy(counts).to(device)
        self.begins = self.counts.cumsum(0) - self.counts
        self.tokens = torch.from_numpy(different).to(device)
        self.which = torch.from_numpy(which.ravel()).to(device)
        self.answers = torch.from_numpy(questions.answer[order]).to(device)

    @property
    def moments(self) -> int:
        """How many moments there are."""
        return len(self.beliefs)

    def ask(self, probe: Probe, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, words] and answers [n] of all questions about the chosen moments."""
        counts = self.counts[moments]
        about = torch.repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        within = torch.arange(len(about), device=about.device) - first[about]
        chosen = self.begins[moments][about] + within
        logits = probe(self.beliefs[moments], self.tokens, about, self.which[chosen])
        return logits, self.answers[chosen]

    def _all(self, probe: Probe) -> tuple[Tensor, Tensor]:
        """Logits and answers of all questions, sorted by moment."""
        parts = torch.arange(self.moments, device=self.answers.device).split(1024)
        logits, answers = zip(*(self.ask(probe, part) for part in parts), strict=True)
        return torch.cat(logits), torch.cat(answers)

    @torch.no_grad()
    def loss(self, probe: Probe) -> float:
        """Mean cross-entropy in nats."""
        return float(answer_loss(*self._all(probe)).mean())

    @torch.no_grad()
    def answered(self, probe: Probe) -> NDArray[np.int64]:
        """The probe's answers in the order of the questions, [N] word ids."""
        answers = np.empty(len(self.order), np.int64)
        answers[self.order] = self._all(probe)[0].argmax(-1).cpu().numpy()
        return answers


def accuracy_by_type(
    questions: Questions, answers: NDArray[np.int64], types: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Share of right answers among answerable and among all questions, with their numbers.

    Types that were never asked are left out.
    """
    right = answers == questions.answer
    table = {}
    for index, name in enumerate(types):
        of_type = questions.type == index
        answerable = of_type & questions.answerable
        if answerable.any():
            table[name] = {
                "answerable": float(right[answerable].mean()),
                "answerable_questions": int(answerable.sum()),
                "all": float(right[of_type].mean()),
                "all_questions": int(of_type.sum()),
            }
    return table


AGES = (0, 1, 4, 8, 16)
"""Steps since seen at which a new group begins; 0 is in view."""


def accuracy_by_age(
    questions: Questions, answers: NDArray[np.int64], types: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Share of right answers by how long ago what they rest on was last sensed.

    Returns:
        {type: {"0": …, "1-3": …, "4-7": …, "8-15": …, "16+": …}} over answerable questions that
        rest on a sensed object; groups and types without any are left out.
    """
    right = answers == questions.answer
    age = questions.steps_since_seen
    table: dict[str, dict[str, float]] = {}
    for index, name in enumerate(types):
        chosen = (questions.type == index) & questions.answerable
        for start, end in zip(AGES, [*AGES[1:], np.inf], strict=True):
            of_age = chosen & (age >= start) & (age < end)
            if of_age.any():
                table.setdefault(name, {})[_age_label(start, end)] = float(right[of_age].mean())
    return table


def _age_label(start: int, end: float) -> str:
    if end == np.inf:
        return f"{start}+"
    return str(start) if end == start + 1 else f"{start}-{int(end) - 1}"


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


def probe_run(
    run_dir: Path | str,
    settings: ProbeSettings | None = None,
    *,
    frames: int | None = None,
    device: str = "cpu",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Questions a run's frozen agent; writes `probe/results.json` and the fitted decoder.

    Of an earlier snapshot, only `probe/results-FRAMES.json`.

    Args:
        run_dir: of the run.
        settings: the protocol's, unless given.
        frames: the snapshot after so many frames instead of the latest checkpoint.
        device: where to compute.
        show_progress: a live display on stderr.

    Returns:
        What was written: settings, number of questions, and accuracy per row and question type.

    Raises:
        ValueError: the directory is no trained run, or its world cannot be asked questions.
    """
    settings = settings or ProbeSettings()
    where = resolve_device(device)
    run = RunDirectory(run_dir)
    agent, config = load_agent(run_dir, device=device, frames=frames)
    types, num_words = _language(config)
    agents: dict[str, Agent] = {"agent": agent}
    reads: dict[str, str | None] = {"agent": "agent"}
    if settings.controls:
        agents["untrained agent"], _ = load_agent(run_dir, device=device, untrained=True)
        reads |= {"untrained agent": "untrained agent", "question only": None}
    amounts: dict[Purpose, int] = {
        "probe-train": settings.rooms,
        "probe-validation": settings.validation_rooms,
        "probe-test": settings.test_rooms,
    }
    train, validation, test = (
        collect_examples(
            agents, config, purpose, rooms, settings, device=where, shown=show_progress
        )
        for purpose, rooms in amounts.items()
    )
    answers = {}
    for name, read in reads.items():
        probe = fit_probe(
            train, validation, read, num_words, settings, device=where, shown=show_progress
        )
        answers[name] = _Data(test, read, where).answered(probe)
        if name == "agent" and frames is None:
            save_probe(run, probe, settings)
    answers["majority"] = majority_answers(train.questions, test.questions)
    checkpoint = load_checkpoint(run.checkpoint if frames is None else run.snapshot(frames))
    asked = test.questions
    results = {
        "run": str(run.path),
        "frames": checkpoint["frames"],
        "seconds": checkpoint["seconds"],
        "settings": dataclasses.asdict(settings),
        "questions": {"fitted": len(train.questions), "scored": len(asked)},
        "rows": {name: accuracy_by_type(asked, given, types) for name, given in answers.items()},
        "steps_since_seen": {
            name: accuracy_by_age(asked, given, types) for name, given in answers.items()
        },
        "measured": time.strftime("%Y-%m-%d"),
    }
    run.probe.mkdir(exist_ok=True)
    write_text(run.results(frames), json.dumps(results, indent=2) + "\n")
    return results


def _language(config: TrainConfig) -> tuple[tuple[str, ...], int]:
    """Question types and number of words of the configured world."""
    environment = make_environment(config.env, num_envs=1)
    source = environment.unwrapped
    environment.close()
    if not isinstance(source, QuestionSource):
        raise UserError(
            f"{config.env.id} answers no questions; expected an environment that implements "
            "groundling.envs.questions.QuestionSource"
        )
    return source.question_types, len(source.vocabulary)


def save_probe(run: RunDirectory, probe: Probe, settings: ProbeSettings) -> None:
    """Writes the fitted decoder beside the results, to be asked again (`groundling watch`)."""
    run.probe.mkdir(exist_ok=True)
    save_checkpoint(
        run.probe / "decoder.pt",
        {"probe": probe.state_dict(), "settings": dataclasses.asdict(settings)},
    )


def load_probe(run: RunDirectory, agent: Agent, num_words: int) -> Probe | None:
    """The decoder that `probe_run` fitted to this run, or None if it was not probed yet."""
    path = run.probe / "decoder.pt"
    if not path.exists():
        return None
    state = load_checkpoint(path)
    probe = Probe(
        state["settings"]["decoder"],
        belief_size=2 * agent.core.core_size,
        num_words=num_words,
        length=QUESTION_LENGTH,
        size=state["settings"]["size"],
    )
    probe.load_state_dict(state["probe"])
    return probe.eval()
