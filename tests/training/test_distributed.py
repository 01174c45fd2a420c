"""What is learned from, what is dropped, and what happens when a worker is lost.

The workers are in this process here, and walk when they are told to answer; `test_remote.py` has
them behind Ray.
"""

import signal
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from groundling.envs.errors import UserError
from groundling.training import distributed, remote, room
from groundling.training.checkpoint import load_checkpoint
from groundling.training.distributed import IN_FLIGHT, Workers
from groundling.training.errors import Interrupted
from groundling.training.loop import Training, train
from groundling.training.metrics import read_rows
from groundling.training.remote import RemoteWorker, WorkerLost, _Request
from groundling.training.run import RunDirectory
from groundling.training.worker import Failure, RolloutWorker, WorkerTraceback

CPU = torch.device("cpu")
FRAMES = 15  # of an unroll: 3 environments × 5 steps
SUMS = ("steps_used", "steps_dropped", "steps_lost")


class Call:
    """What a worker was asked for, and what it answers in its turn."""

    def __init__(self, worker, arguments):
        self.worker, self.arguments = worker, arguments
        self.answered = None

    @property
    def there(self):
        return self.worker.answers

    def answer(self):
        if self.answered is None:
            self.answered = self.worker.walker.collect(*self.arguments)
        return self.answered


class LocalWorker(RemoteWorker):
    """A worker in this process."""

    answers = True
    """False keeps silent."""
    fails = None
    """What it answers, or raises, instead of an unroll."""
    walker = None

    @property
    def there(self):
        """Its process is."""
        return self.identity.worker not in ABSENT | WITHOUT_ROOM

    def start(self, group):
        self.since = CLOCK[0]
        self.walker = RolloutWorker(self.config, self.identity, self.asked, ())
        self._whereabouts = self

    def dismiss(self):
        self._requests.clear()

    def ask_for(self, version, weights, ask, *, number):
        if not self._requests:
            self.since = CLOCK[0]
        self._requests.append(_Request(number, Call(self, (version, weights, ask))))

    def receive(self):
        call = self._requests.popleft().reference
        self.since = CLOCK[0]
        if isinstance(self.fails, Exception):
            raise self.fails
        return self.fails or call.answer()

    def check_started(self):
        pass

    def __str__(self):
        return f"rollout worker {self.identity.worker}"


CLOCK = [0.0]
ABSENT = set()
"""Workers whose processes do not come."""
WITHOUT_ROOM = set()
"""Workers that have no machine."""


@pytest.fixture(autouse=True)
def local(monkeypatch):
    """Workers in this process; time passes only while nobody answers."""

    def wait(references, seconds, *, number=1):
        there = [one for one in references if getattr(one, "there", True)][:number]
        if not there:
            CLOCK[0] += max(seconds, 0.0)
        return there

    CLOCK[0] = 0.0
    ABSENT.clear()
    WITHOUT_ROOM.clear()
    monkeypatch.setattr(distributed, "RemoteWorker", LocalWorker)
    monkeypatch.setattr(distributed, "wait", wait)
    monkeypatch.setattr(remote, "wait", wait)
    monkeypatch.setattr(
        distributed, "put", lambda weights: {name: one.copy() for name, one in weights.items()}
    )
    monkeypatch.setattr(distributed, "cluster", lambda address: nullcontext())
    monkeypatch.setattr(
        distributed, "reserved", lambda workers, num_gpus: nullcontext(range(workers))
    )
    for module in (distributed, room):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: CLOCK[0]))
    monkeypatch.setattr(room, "_is_without_machine", lambda group: group in WITHOUT_ROOM)


@pytest.fixture
def started(config_of):
    """Makes the workers of a run; with `collect(source, updates)` they are asked."""

    def make(**rollout):
        source = Training(config_of(rollout=rollout), CPU).actor
        source.start()
        return source

    return make


def collect(source, updates=0, ask=False):
    return source.collect(5, policy_version=updates, ask=ask)


def versions(source, updates):
    return [collect(source, one).policy_version for one in updates]


def is_balanced(row):
    return row["steps_taken"] == sum(row[name] for name in SUMS)


def weights_of(run):
    agent = load_checkpoint(run.checkpoint)["learner"]["agent"]
    return {name: tensor.tolist() for name, tensor in agent.items()}


def test_every_step_of_a_run_is_accounted_for_in_its_rows_and_its_checkpoint(config_of, tmp_path):
    run = train(config_of(), tmp_path / "run", show_progress=False)
    rows = read_rows(run.metrics)
    assert [row["frames"] for row in rows] == [FRAMES * n for n in range(1, 7)]
    assert all(is_balanced(row) for row in rows)
    assert [row["steps_used"] for row in rows] == [row["frames"] for row in rows]
    assert all(row["steps_dropped"] == row["steps_lost"] == 0 for row in rows)
    state = load_checkpoint(run.checkpoint)["actor"]
    assert is_balanced(state)
    assert state["steps_used"] == 6 * FRAMES
    assert state["steps_lost"] == FRAMES  # under way when the run was over
    assert state["steps_under_way"] == 0


def test_rows_tell_of_episodes_questions_and_lag(config_of, tmp_path):
    rows = read_rows(train(config_of(8), tmp_path / "run", show_progress=False).metrics)
    assert {row["episode_length"] for row in rows} - {None} == {7.0}
    # At every second update a question is asked for, in the unroll that comes two updates later.
    assert ["probe/loss" in row for row in rows] == [True, True] + [False, True] * 3
    assert [row["policy_lag"] for row in rows] == [0] + [1] * 7
    assert [row["policy_lag_max"] for row in rows] == [0] + [1] * 7


def test_rows_of_the_loop_in_one_process_are_as_they_were(small_config, tmp_path):
    (row, *_) = read_rows(train(small_config(), tmp_path / "run", show_progress=False).metrics)
    assert not {"steps_taken", "workers_replaced", "policy_lag_max"} & row.keys()


def test_a_worker_is_asked_for_two_unrolls_at_a_time_with_the_newest_weights(started):
    source = started(workers=2)
    assert versions(source, range(6)) == [0, 0, 0, 0, 1, 2]
    assert [worker.under_way for worker in source.workers] == [2, 1]
    assert IN_FLIGHT == 2


def test_an_unroll_keeps_what_the_policy_that_acted_thought(started):
    source = started()
    first = collect(source, 0)
    with torch.no_grad():
        for weight in source.agent.parameters():
            weight.zero_()
    uniform = torch.tensor(0.25).log()
    old, new = collect(source, 1), collect(source, 2)
    assert (old.policy_version, new.policy_version) == (0, 1)
    assert not torch.allclose(first.behaviour_log_prob, uniform)
    assert not torch.allclose(old.behaviour_log_prob, uniform)
    assert torch.allclose(new.behaviour_log_prob, uniform)


def test_what_is_older_than_the_bound_is_dropped_and_counted(started):
    source = started(max_lag=1)
    collect(source, 0)
    assert collect(source, 1).policy_version == 0  # as old as may be
    assert collect(source, 3).policy_version == 3
    accounts = source.accounts()
    assert is_balanced(accounts)
    assert (accounts["steps_used"], accounts["steps_dropped"]) == (3 * FRAMES, FRAMES)
    assert accounts["policy_lag_max"] == 1
    assert source.accounts()["policy_lag_max"] == 0  # since the last row


def test_with_no_lag_at_all_a_run_still_comes_to_its_end(config_of, tmp_path):
    config = config_of(rollout={"workers": 2, "max_lag": 0})
    rows = read_rows(train(config, tmp_path / "run", show_progress=False).metrics)
    assert {row["policy_lag"] for row in rows} == {0}
    assert rows[-1]["steps_dropped"] > 0
    assert all(is_balanced(row) for row in rows)


def test_the_first_unroll_to_be_there_is_the_next_one(started):
    source = started(workers=2)
    source.workers[0].answers = False
    for updates in range(3):
        collect(source, updates)
    assert [worker.walker.walked for worker in source.workers] == [0, 3]


def test_in_order_the_next_one_is_the_first_one_asked_for(started):
    source = started(workers=2, in_order=True, stalled_after=60.0)
    for updates in range(4):
        collect(source, updates)
    assert [worker.walker.walked for worker in source.workers] == [2, 2]
    source.workers[0].answers = False
    collect(source, 4)
    assert CLOCK[0] == 60.0  # The other one was ready all the while.
    assert source.replaced == 1


def test_a_silent_worker_is_named_and_replaced(started, capsys):
    source = started(workers=2, stalled_after=60.0)
    collect(source, 0)
    first = source.workers[0]
    first.answers = False
    for updates in range(1, 5):  # The other one goes on; nobody waits.
        collect(source, updates)
    assert source.replaced == 0
    CLOCK[0] += 61.0
    collect(source, 5)
    assert source.replaced == 1
    assert first.identity.incarnation == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said == "rollout worker 0 gave no unroll for 60 s: replaced (1 of 3 in a row)"
    assert is_balanced(source.accounts())
    assert source.accounts()["steps_lost"] == FRAMES


def test_a_worker_that_waits_for_the_learner_is_not_silent(started):
    source = started(stalled_after=60.0)
    collect(source, 0)
    CLOCK[0] += 1000.0  # the learner's update
    collect(source, 1)
    assert source.replaced == 0


def test_a_run_whose_workers_keep_silent_stops(started):
    source = started(max_failures=2)
    source.workers[0].answers = False
    with pytest.raises(UserError) as stopped:
        collect(source)
    assert str(stopped.value) == (
        "rollout worker 0 gave no unroll for 180 s, 2 times in a row; expected an unroll now and "
        "then (rollout.max-failures, rollout.stalled-after)"
    )
    assert CLOCK[0] == 360.0


def fail_next(source, *failures):
    """The first worker fails so, one after the other, and then no more."""
    worker, left = source.workers[0], list(failures)

    def receive():
        worker.fails = left.pop(0) if left else None
        return LocalWorker.receive(worker)

    worker.receive = receive


LOST = WorkerLost("died (ActorDiedError)")


def test_a_lost_worker_is_replaced_and_what_it_was_walking_is_lost(started, capsys):
    source = started()
    collect(source, 0)
    fail_next(source, LOST)
    before = collect(source, 1)
    accounts = source.accounts()
    assert is_balanced(accounts)
    assert accounts["workers_replaced"] == 1
    assert accounts["steps_lost"] == FRAMES
    assert accounts["steps_used"] == 2 * FRAMES
    assert before.policy_version == 1
    assert source.workers[0].identity.incarnation == 1
    assert "died (ActorDiedError): replaced (1 of 3 in a row)" in capsys.readouterr().err


def test_failures_count_only_in_a_row(started):
    source = started(max_failures=2)
    for updates in range(4):
        fail_next(source, LOST)
        collect(source, updates)
    assert source.replaced == 4
    fail_next(source, LOST, LOST)
    with pytest.raises(UserError, match=r"rollout worker 0 died \(ActorDiedError\), 2 times in"):
        collect(source, 4)
    source.ledger.check()


def test_all_that_a_lost_worker_had_begun_is_lost(started):
    source = started()
    fail_next(source, WorkerLost("died (ObjectLostError)", 2))  # It was there, and went away.
    collect(source)
    assert source.accounts()["steps_lost"] == 2 * FRAMES
    fail_next(source, Failure(KeyError("lost"), "", making=False))  # It walks on all the same.
    collect(source)
    accounts = source.accounts()
    assert accounts["steps_lost"] == 4 * FRAMES
    assert is_balanced(accounts)


def test_a_process_that_does_not_come_is_missed_but_has_walked_nothing(started):
    source = started(workers=2, stalled_after=60.0)
    collect(source)
    ABSENT.add(0)
    fail_next(source, LOST)
    versions(source, range(1, 3))
    CLOCK[0] += 60.0
    versions(source, range(3, 6))
    assert source.replaced == 2
    assert source.accounts()["steps_lost"] == FRAMES
    ABSENT.clear()
    versions(source, range(6, 9))
    assert source.workers[0].walker.walked > 0


@pytest.mark.parametrize("in_order", [False, True])
def test_a_worker_without_a_machine_waits_for_room_and_nobody_for_it(started, in_order, capsys):
    source = started(workers=2, in_order=in_order, max_failures=2)
    collect(source)
    WITHOUT_ROOM.add(0)
    fail_next(source, LOST)
    first, other = source.workers
    versions(source, range(1, 6))
    assert CLOCK[0] == 0.0
    for updates in range(6, 9):
        CLOCK[0] += 1000.0
        collect(source, updates)
    assert (first.failures, source.replaced) == (1, 1)
    assert other.walker.walked >= 8
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "rollout worker 0 died (ActorDiedError): replaced (1 of 2 in a row)",
        "rollout worker 0 waits for room: its machine is gone",
    ]
    WITHOUT_ROOM.clear()
    CLOCK[0] += room.LOOK_SECONDS
    versions(source, range(9, 14))
    assert capsys.readouterr().err.splitlines() == ["rollout worker 0 has room again"]
    assert first.walker.walked > 0
    assert first.failures == 0
    accounts = source.accounts()
    assert is_balanced(accounts)
    assert accounts["steps_lost"] == FRAMES


def test_a_run_that_has_no_room_for_any_worker_stops_with_one_line(started):
    source = started(workers=2, stalled_after=60.0)
    collect(source)
    WITHOUT_ROOM.update((0, 1))
    for worker in source.workers:
        worker.fails = LOST
    with pytest.raises(UserError) as stopped:
        collect(source, 1)
    assert str(stopped.value) == (
        "there has been no room for any of 2 rollout workers for 60 s; expected machines to come "
        "back (rollout.stalled-after)"
    )
    assert CLOCK[0] == 60.0 + room.LOOK_SECONDS  # The second loss is seen at the next look.
    assert [worker.failures for worker in source.workers] == [1, 1]


@pytest.mark.parametrize("error", [UserError("environment X is at fault"), KeyError("lost")])
def test_what_is_raised_too_often_in_a_row_comes_out_as_it_was(started, error, capsys):
    source = started(max_failures=2)
    failure = Failure(error, "its own traceback", making=False)
    fail_next(source, failure, failure)
    with pytest.raises(type(error)) as raised:
        collect(source)
    assert raised.value is error
    assert isinstance(raised.value.__cause__, WorkerTraceback)
    assert "its own traceback" in str(raised.value.__cause__)
    assert "replaced (1 of 2 in a row)" in " ".join(capsys.readouterr().err.split())


def test_what_a_user_did_wrong_in_the_making_is_not_tried_again(started):
    source = started()
    fail_next(source, Failure(UserError("no such device"), "", making=True))
    with pytest.raises(UserError, match="no such device"):
        collect(source)
    assert source.replaced == 0


def test_an_unroll_that_comes_twice_is_refused(started):
    source = started()
    collect(source, 0)
    source.workers[0].walker.walked -= 1
    with pytest.raises(RuntimeError, match="expected number 1 of that worker"):
        collect(source, 1)


def test_a_run_in_two_halves_keeps_one_account_and_begins_with_fresh_episodes(config_of, tmp_path):
    run = train(config_of(3), tmp_path / "run", show_progress=False)
    train(config_of(5), run.path, show_progress=False)
    state = load_checkpoint(run.checkpoint)["actor"]
    assert state["incarnations"] == [1]
    assert is_balanced(state)
    assert state["steps_used"] == 5 * FRAMES
    assert state["steps_lost"] == 2 * FRAMES
    rows = read_rows(run.metrics)
    assert [row["updates"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(is_balanced(row) for row in rows)


def test_what_was_under_way_at_a_checkpoint_is_lost_to_whoever_goes_on_from_there(
    started, config_of
):
    source = started(workers=2)
    for updates in range(3):
        collect(source, updates)
    state = source.state_dict()
    assert is_balanced(state)
    assert state["steps_under_way"] == 3 * FRAMES  # 2 workers × 2, of which one was received
    again = Training(config_of(rollout={"workers": 2}), CPU).actor
    again.load_state_dict(state)
    accounts = again.accounts()
    assert is_balanced(accounts)
    assert (accounts["steps_used"], accounts["steps_lost"]) == (3 * FRAMES, 3 * FRAMES)
    assert [worker.identity.incarnation for worker in again.workers] == [1, 1]


def test_ctrl_c_saves_first_and_the_run_goes_on(config_of, tmp_path, monkeypatch):
    working = Training._update

    def update(training, window):
        working(training, window)
        if training.learner.updates == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_update", update)
        with pytest.raises(Interrupted, match="stopped at 30 frames and saved"):
            train(config_of(), tmp_path / "run", show_progress=False)
    run = train(config_of(), tmp_path / "run", show_progress=False)
    assert is_balanced(load_checkpoint(run.checkpoint)["actor"])
    assert [row["updates"] for row in read_rows(run.metrics)] == [1, 2, 3, 4, 5, 6]


def test_the_same_configuration_in_order_gives_the_same_run(config_of, tmp_path):
    config = config_of(rollout={"workers": 2, "in_order": True})
    one, other = (train(config, tmp_path / name, show_progress=False) for name in ("a", "b"))
    assert weights_of(one) == weights_of(other)


def test_a_finished_run_starts_no_workers(config_of, tmp_path, monkeypatch):
    run = train(config_of(2), tmp_path / "run", show_progress=False)
    monkeypatch.setattr(Workers, "start", lambda workers: pytest.fail("started"))
    before = load_checkpoint(run.checkpoint)["actor"]
    train(config_of(2), run.path, show_progress=False)
    after = load_checkpoint(run.checkpoint)["actor"]
    assert after["steps_taken"] == before["steps_taken"]


def test_a_run_goes_on_with_another_number_of_workers_none_of_whom_was_there_before(
    config_of, tmp_path
):
    path, seen = tmp_path / "run", set()
    for updates, workers in ((2, 2), (4, 1), (6, 3), (8, 2)):
        config = config_of(updates, rollout={"workers": workers})
        state = load_checkpoint(train(config, path, show_progress=False).checkpoint)["actor"]
        identities = set(enumerate(state["incarnations"]))
        assert len(identities) == workers
        assert not identities & seen
        seen |= identities
        assert is_balanced(state)
        assert state["steps_used"] == updates * FRAMES
    assert RunDirectory(path).read_config().rollout.workers == 2


def test_whether_there_are_workers_is_part_of_the_configuration(config_of, small_config, tmp_path):
    run = train(config_of(1), tmp_path / "run", show_progress=False)
    with pytest.raises(UserError, match=r"rollout\.workers: 1 → 0"):
        train(small_config(save_every=1e9), run.path, show_progress=False)


def test_a_run_that_is_stopped_while_ray_is_imported_ends_as_others_do(
    config_of, tmp_path, monkeypatch
):
    def interrupt(address):
        monkeypatch.setitem(sys.modules, "ray", None)  # To import it now would be an error.
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed, "RemoteWorker", RemoteWorker)
    monkeypatch.setattr(distributed, "cluster", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config_of(), tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_if_there_is_no_room(config_of, tmp_path, monkeypatch):
    def refuse(workers, num_gpus):
        raise UserError("no room")

    monkeypatch.setattr(distributed, "reserved", refuse)
    with pytest.raises(UserError, match="no room"):
        train(config_of(), tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()
