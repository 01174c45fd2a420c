"""Films: a room walked through, and beside it what the agent remembers and answers."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from groundling.agents.agent import Rows
from groundling.agents.generators import named_generator, named_seed
from groundling.agents.probe import Probe
from groundling.envs.errors import UserError
from groundling.envs.questions import NOT_SEEN, Questions, QuestionSource
from groundling.envs.rooms.caption import wrapped
from groundling.envs.rooms.options import RoomsOptions
from groundling.envs.rooms.render import TILE, draw_view, tile_of
from groundling.envs.rooms.window import Window
from groundling.evaluation.conversation import likeliest
from groundling.evaluation.imagination import HORIZONS, Imagination
from groundling.evaluation.minds_eye import load_minds_eye
from groundling.evaluation.probing import load_probe
from groundling.evaluation.sight import Sight, draw_patch
from groundling.evaluation.walks import Reader, at_random, by_agent, by_explorer, walk
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import Environment, make_environment
from groundling.training.run import RunDirectory, load_agent, resolve_device
from groundling.training.seeds import environment_seed

FRAME_MILLISECONDS = 280
QUESTION_STEPS = 7
"""Steps for which a question stays on the screen."""
PANEL_WIDTH = 340
MARGIN = 20
VIEW_WIDTH, LARGEST_VIEW = 96, 400
INK, FAINT, RIGHT, WRONG, PAPER = "#22252e", "#7a8090", "#1d8a4f", "#c2412d", "#fbfaf7"


@dataclass
class Interview:
    """What stands beside the picture: a question that stays a while, and today's answer to it."""

    question: str
    truth: str
    age: str
    answers: list[tuple[str, float]]


def film_run(
    run_dir: Path | str,
    file: Path | str,
    *,
    steps: int = 64,
    seed: int = 0,
    imagine: bool = False,
    device: str = "cpu",
) -> Path:
    """Writes the film of a trained agent (see `run_frames`) as a GIF.

    Args:
        run_dir: of the run.
        file: the GIF to write.
        steps: how long.
        seed: which room, and which actions are drawn.
        imagine: see `run_frames`.
        device: of the agent.
    """
    frames = run_frames(run_dir, seed=seed, imagine=imagine, device=device)
    return write_gif(list(islice(frames, steps)), file)


def film_environment(
    config: EnvironmentConfig, file: Path | str, *, steps: int = 64, seed: int = 0
) -> Path:
    """Writes the film of an environment (see `environment_frames`) as a GIF.

    Raises:
        ValueError: the seed is negative.
    """
    return write_gif(list(islice(environment_frames(config, seed=seed), steps)), file)


def show(frames: Iterable[Image.Image]) -> None:
    """Shows a film in a window, until it ends or somebody closes the window.

    Raises:
        ValueError: there is no pygame, or no display.
    """
    try:
        window = Window(1000 / FRAME_MILLISECONDS)
    except UserError as error:
        raise UserError(f"{error}, or --gif FILE for a film") from error
    try:
        for frame in frames:
            window.show(np.asarray(frame))
            if not window.is_open:
                return
    finally:
        window.close()


def run_frames(
    run_dir: Path | str, *, seed: int = 0, imagine: bool = False, device: str = "cpu"
) -> Iterator[Image.Image]:
    """A trained agent in rooms it never met, step by step and without end.

    If it was probed, with questions and answers; if its memory can be drawn (see `minds_eye`), with
    what it sees and the room as it remembers it; if it has attention, with where it looks.

    Args:
        run_dir: of the run.
        seed: which room comes first, and which actions are drawn.
        imagine: draw what its simulator had expected to see beside what it sees (SimCore, in our
            own rooms).
        device: of the agent.
    """
    run = RunDirectory(run_dir)
    agent, config = load_agent(run_dir, device=device)
    environment = make_environment(config.env, num_envs=1, render_mode="rgb_array")
    reader = Reader(agent, environment.num_envs)
    source = environment.unwrapped
    interviewer = None
    if isinstance(source, QuestionSource):
        probe = load_probe(run, agent, len(source.vocabulary))
        if probe is not None:
            interviewer = _Interviewer(source, reader, probe.to(resolve_device(device)), seed)
    imagination = Imagination(reader) if imagine else None
    eye = load_minds_eye(run, agent, config)
    rooms = config.env.rooms if config.env.is_rooms else None
    sight = None if agent.attention is None else Sight(agent.attention, rooms)
    choose = by_agent(reader, named_generator(seed, "film", resolve_device(device)))
    tally = _Tally(environment.num_envs)
    rows = walk(
        environment,
        seed=environment_seed("evaluation") + seed,
        choose=choose,
        readers=(reader,),
        device=device,
    )
    with contextlib.closing(environment):
        for step, row in enumerate(rows):
            tally.follow(row, rows.absent)
            panels = [_scene(environment, step, tally)]
            if sight is not None:
                panels += _looks(sight, row, reader.row)
            elif eye is not None:
                view = draw_view(_view(row), config.env.rooms, _view_tile(config.env.rooms))
                panels.append(Panel(view, "its view"))
            if eye is not None:
                memory = eye.picture(reader.state.belief, tile_of(config.env.rooms))
                panels.append(Panel(memory, "its memory"))
            frame = _frame(panels, interviewer.ask(step) if interviewer else None)
            if imagination is not None:
                imagination.follow()
                seen = sight.sharp_cells() if sight and imagination.of_glimpses else _view(row)
                frame = _above(frame, _imagined(imagination, seen, config.env.rooms))
            yield frame


def environment_frames(config: EnvironmentConfig, *, seed: int = 0) -> Iterator[Image.Image]:
    """An environment step by step and without end: the scripted explorer walks where there is one,
    else chance.

    Raises:
        ValueError: the seed is negative.
    """
    generator = np.random.default_rng(named_seed(seed, "film"))
    environment = make_environment(config, num_envs=1, render_mode="rgb_array")
    choose = by_explorer(environment) if config.is_rooms else at_random(environment, generator)
    tally = _Tally(environment.num_envs)
    rows = walk(environment, seed=seed, choose=choose)
    with contextlib.closing(environment):
        for step, row in enumerate(rows):
            tally.follow(row, rows.absent)
            yield _frame([_scene(environment, step, tally)], None)


def _looks(sight: Sight, row: Rows, seen: Rows) -> list["Panel"]:
    """Where the agent looks in all that there is to see, and what it gets.

    Args:
        sight: follows.
        row: as the environment gave it.
        seen: the same as the agent saw it.
    """
    sight.follow(seen)
    whole = row.observation[sight.attention.part][0].cpu().numpy()
    panels = [Panel(sight.looking(whole), "where it looks")]
    received = sight.received()
    return panels if received is None else [*panels, Panel(received, "what it gets")]


def _view_tile(rooms: RoomsOptions) -> int:
    """Side of a cell of the view, in pixels: that of the room's, unless the view is large."""
    return min(TILE, LARGEST_VIEW // rooms.view_size)


def _view(row: Rows) -> NDArray[np.uint8]:
    return np.asarray(row.observation["view"][0].cpu().numpy())


def _imagined(imagination: Imagination, seen: NDArray[Any], rooms: RoomsOptions) -> Image.Image:
    """A strip: the view (or a glimpse's finest patch), and what was expected of it some steps
    ago."""
    tile = max(VIEW_WIDTH // len(seen), 8)
    side = tile * len(seen)
    drawn = draw_patch if imagination.of_glimpses else draw_view
    views = {"sees": seen} | {
        f"{steps} step{'s' if steps > 1 else ''} ago": imagination.expected(steps)
        for steps in HORIZONS
    }
    strip = Image.new("RGB", (len(views) * (side + MARGIN) + MARGIN, side + 44), PAPER)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(13)
    for index, (title, view) in enumerate(views.items()):
        left = MARGIN + index * (side + MARGIN)
        pen.text((left, 8), title, FAINT if index else INK, font)
        if view is not None:
            strip.paste(Image.fromarray(drawn(view, rooms, tile)), (left, 30))
    return strip


def _above(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Two pictures, one above the other."""
    size = (max(upper.width, lower.width), upper.height + lower.height)
    both = Image.new("RGB", size, PAPER)
    both.paste(upper, (0, 0))
    both.paste(lower, (0, upper.height))
    return both


class _Tally:
    """Counts what is earned; a film that runs into the next episode starts anew, and says what the
    last one brought."""

    def __init__(self, rows: int = 1) -> None:
        self.earned = [0.0] * rows
        self.last: list[float | None] = [None] * rows
        self._going = [False] * rows

    def follow(self, row: Rows, absent: NDArray[np.bool_]) -> None:
        """Counts the rewards that led to a row [B, …]; whoever is absent [B] earns no more."""
        for agent, reward in enumerate(row.previous_reward.tolist()):
            self.earned[agent] += reward
            if row.is_first[agent]:
                if self._going[agent]:
                    self.last[agent] = self.earned[agent]
                self.earned[agent] = 0.0
            self._going[agent] = not absent[agent]

    @property
    def text(self) -> str:
        """For a caption: what each agent has earned so far, and what its last episode brought."""
        return "return " + "  ".join(
            f"{round(earned, 2):g}" + ("" if last is None else f" (last: {round(last, 2):g})")
            for earned, last in zip(self.earned, self.last, strict=True)
        )


class _Interviewer:
    """Asks the agent of a film (of several, the first), now and then, about what it saw longest
    ago."""

    def __init__(self, source: QuestionSource, reader: Reader, probe: Probe, seed: int) -> None:
        self.source = source
        self.reader = reader
        self.probe = probe
        self.generator = np.random.default_rng(named_seed(seed, "interview"))
        self.asked: Questions | None = None

    def ask(self, step: int) -> Interview | None:
        """The question of the moment and the answer of this step; None before anything is known."""
        if step % QUESTION_STEPS == 0:
            self.asked = self._oldest(self.source.ask(self.generator))
        if self.asked is None:
            return None
        vocabulary = self.source.vocabulary
        return Interview(
            question=self.asked.text(0, vocabulary),
            truth=self.asked.answer_text(0, vocabulary),
            age=_age(int(self.asked.steps_since_seen[0])),
            answers=likeliest(
                self.probe, self.reader.state.belief[:1], self.asked.tokens[0].tolist(), vocabulary
            ),
        )

    def _oldest(self, questions: Questions) -> Questions | None:
        """The answerable question whose object was seen longest ago."""
        known = questions[
            questions.answerable & (questions.steps_since_seen != NOT_SEEN) & (questions.world == 0)
        ]
        if not len(known):
            return None
        return known[np.array([int(known.steps_since_seen.argmax())])]


def _age(steps: int) -> str:
    if steps == 0:
        return "in view when asked"
    return f"last seen {steps} step{'s' if steps > 1 else ''} before asking"


@dataclass(frozen=True)
class Panel:
    """A picture and what stands under it."""

    picture: NDArray[np.uint8]
    left: str
    right: str = ""


def _scene(environment: Environment, step: int, tally: _Tally) -> Panel:
    """The first world as it is now, with the step and what was earned so far."""
    picture = cast(Any, environment.render())[0]
    return Panel(picture, f"step {step}", tally.text)


def _frame(panels: Sequence[Panel], interview: Interview | None) -> Image.Image:
    """Pictures side by side, their captions under them, and an interview beside them."""
    height = max(len(panel.picture) for panel in panels)
    width = sum(panel.picture.shape[1] for panel in panels) + MARGIN * (len(panels) - 1)
    total = width + (PANEL_WIDTH if interview is not None else 0)
    frame = Image.new("RGB", (total, height + 34), PAPER)
    pen, font = ImageDraw.Draw(frame), ImageFont.load_default(15)
    left = 0
    for panel in panels:
        tall, wide = panel.picture.shape[:2]
        frame.paste(Image.fromarray(panel.picture), (left, (height - tall) // 2))
        pen.text((left + 10, height + 8), panel.left, INK, font)
        pen.text((left + wide - 10, height + 8), panel.right, INK, font, anchor="ra")
        left += wide + MARGIN
    if interview is not None:
        _draw_interview(pen, interview, width + MARGIN, PANEL_WIDTH - 2 * MARGIN)
    return frame


def _draw_interview(pen: ImageDraw.ImageDraw, interview: Interview, left: int, width: int) -> None:
    large, small = ImageFont.load_default(19), ImageFont.load_default(14)
    top = MARGIN
    for line in wrapped(interview.question.replace(" ?", "?"), large, width):
        pen.text((left, top), line, INK, large)
        top += 25
    pen.text((left, top + 4), interview.age, FAINT, small)
    top += 40
    for word, probability in interview.answers:
        colour = RIGHT if word == interview.truth else WRONG
        pen.text((left, top), word, colour, large)
        pen.text((left + width, top + 3), f"{probability:.0%}", FAINT, small, anchor="ra")
        bar = (left, top + 26, left + max(2, round(width * probability)), top + 31)
        pen.rectangle(bar, fill=colour)
        top += 46
    pen.text((left, top + 4), f"truth: {interview.truth}", INK, small)


def write_gif(frames: list[Image.Image], file: Path | str) -> Path:
    """Writes frames as an endless GIF, under a temporary name first."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Frames of one film may differ in width (an interview begins); a GIF's may not.
    size = (max(one.width for one in frames), max(one.height for one in frames))
    sheets = []
    for one in frames:
        sheet = Image.new("RGB", size, PAPER)
        sheet.paste(one, (0, 0))
        sheets.append(sheet.quantize(128))
    temporary = path.with_name(path.name + ".tmp")
    sheets[0].save(
        temporary,
        format="GIF",
        save_all=True,
        append_images=sheets[1:],
        duration=FRAME_MILLISECONDS,
        loop=0,
    )
    temporary.replace(path)
    return path
