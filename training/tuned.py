"""A population behind Ray Tune's PopulationBasedTraining (extra `tune`).

Members are compared when all have come to the end of a round, at equal frames: a little slower than
comparing whoever comes first, and the same whatever the machine. What Tune writes down itself
(pickles) is thrown away: a population that was interrupted goes on from its members' directories.
"""

import os
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from groundling.training.cluster import environment_as_found
from groundling.training.population import Member, Population, drawn
from groundling.training.progress import Advance

SETTINGS = {
    # Stopping is asked for by `Watch`, and no member is given up before it has saved.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Environment variables that Ray Tune reads."""

KEPT = 4
"""Checkpoints of each member that wait to be taken over."""


class Trial(tune.Trainable):
    """A member, as Ray Tune sees it: a step is a round."""

    def setup(self, config: dict[str, Any]) -> None:
        """Becomes the member that the trial is named after."""
        sys.path += [folder for folder in config["search_path"] if folder not in sys.path]
        os.chdir(config["current"])
        self.population: Population = config["population"]
        number = int(self.trial_name.rpartition("-")[2])
        self.member = Member(self.population, number, config["start"]["values"])
        self.first_round = config["first_round"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The same in a process that was another member before."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """A round."""
        number = self.first_round + self.iteration
        with _stopped_by(stop_file(self.population)):
            row = self.member.live(number)
        score = row["score"]
        return {
            "score": float("-inf") if score is None else score,  # It diverged: the worst of all.
            "done": number + 1 == self.population.rounds,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """What another member may take over."""
        self.member.hand_on(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Takes it over."""
        self.member.take_over(Path(checkpoint))


def stop_file(population: Population) -> Path:
    """Is there when members are to save and stop."""
    return population.directory / "stop"


@contextmanager
def _stopped_by(file: Path) -> Iterator[None]:
    """While inside, this process is asked to stop (SIGTERM) as soon as a file is there."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.3):
            if file.exists():
                os.kill(os.getpid(), SIGTERM)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Watch(tune.Callback, tune.Stopper):
    """Shows how far the population has come, and stops it on request.

    Args:
        population: that is trained.
        advance: of the display; its unit is a round of a member.
        asked_to_stop: whether somebody asked.
    """

    def __init__(
        self, population: Population, advance: Advance, asked_to_stop: Callable[[], bool]
    ) -> None:
        self._population = population
        self._advance = advance
        self._asked = asked_to_stop

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune writes down what it was given; nothing of this is worth it."""
        return Watch, (self._population, _silent, bool)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether one trial is over: its own `done` says so."""
        return False

    def stop_all(self) -> bool:
        """Whether all are to stop; the members are told."""
        if self._asked():
            stop_file(self._population).touch()
        return self._asked()

    def on_trial_result(self, *arguments: Any, **details: Any) -> None:
        """Shows the rounds that were lived."""
        lived = [len(member.lineage) for member in self._population.members]
        rounds = self._population.rounds
        self._advance(sum(lived), f"round {min(min(lived) + 1, rounds)} of {rounds}")


def _silent(completed: float, note: str = "") -> None:
    """An `Advance` that shows nothing."""


def evolve(
    population: Population,
    *,
    cpus: float,
    gpus: float,
    advance: Advance,
    asked_to_stop: Callable[[], bool],
) -> dict[int, str]:
    """Trains a population, or goes on where an earlier call with the same arguments stopped.

    Args:
        population: to train; its directory is there.
        cpus: that each member reserves of the Ray cluster that this process has joined.
        gpus: likewise.
        advance: of a display; its unit is a round of a member.
        asked_to_stop: members save and stop when this becomes true.

    Returns:
        What became of members that failed: number → traceback.
    """
    first_round = population.rounds_lived
    if first_round == population.rounds:
        return {}
    scratch = population.directory / "tune"
    shutil.rmtree(scratch, ignore_errors=True)
    stop_file(population).unlink(missing_ok=True)
    watch = Watch(population, advance, asked_to_stop)
    watch.on_trial_result()
    tuner = _tuner(population, first_round, {"cpu": cpus, "gpu": gpus}, watch, scratch)
    with environment_as_found(SETTINGS):
        results = tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    if asked_to_stop():
        return {}
    ended = [results[place] for place in range(len(results))]
    return {_number(one): str(one.error) for one in ended if one.error is not None}


def _tuner(
    population: Population,
    first_round: int,
    resources: dict[str, float],
    watch: Watch,
    scratch: Path,
) -> tune.Tuner:
    """What trains the members from a round on; what it writes down itself goes to `scratch`."""
    starts = [{"member": one.number, "values": one.values} for one in population.members]
    return tune.Tuner(
        tune.with_resources(Trial, resources),
        param_space={
            "population": population,
            "search_path": tuple(sys.path),
            "current": str(Path.cwd()),
            "first_round": first_round,
            "start": tune.grid_search(starts),
        },
        tune_config=tune.TuneConfig(
            scheduler=_scheduler(population),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="population",
            storage_path=str(scratch),
            stop=watch,
            callbacks=[watch],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=KEPT),
            # Members wait for each other at the end of a round: for one that died, for ever.
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=0,
        ),
    )


def _scheduler(population: Population) -> PopulationBasedTraining:
    """Exploits and explores as Jaderberg et al. 2017 do: truncation selection of a quarter; values
    are drawn again with probability 0.25, else multiplied by 0.8 or 1.2.

    Not repeatable: Tune draws these from Python's own generator, and as often as events arrive.
    """
    generator = random.Random()
    middle = population.first_values(0)
    draws = {name: _draw(generator, value) for name, value in middle.items()}
    return PopulationBasedTraining(
        time_attr="training_iteration",
        metric="score",
        mode="max",
        perturbation_interval=1,
        hyperparam_mutations={"start": {"values": draws}},
        log_config=False,
        synch=True,
    )


def _draw(generator: random.Random, value: float) -> Callable[[], float]:
    return lambda: value * drawn(generator)


def _name(trial: Any) -> str:
    return f"member-{trial.config['start']['member']}"


def _number(result: Any) -> int:
    return int(Path(result.path).name.rpartition("-")[2])
