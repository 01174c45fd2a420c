"""Steps are used, dropped or lost, and nothing is learned from twice."""

import pytest

from groundling.training.accounting import Ledger, UnrollId
from groundling.training.rollouts import FIRST, Identity

OTHER = Identity(1, 0)


@pytest.fixture
def ledger():
    return Ledger()


def test_what_workers_tell_and_what_the_learner_got_agree(ledger):
    ledger.receive(UnrollId(FIRST, 0), 10)
    ledger.used += 10
    ledger.receive(UnrollId(OTHER, 0), 10)
    ledger.dropped += 10
    ledger.receive(UnrollId(FIRST, 1), 20)
    ledger.used += 10
    ledger.lose(10)
    ledger.check()
    assert ledger.row() == {
        "steps_taken": 40,
        "steps_used": 20,
        "steps_dropped": 10,
        "steps_lost": 10,
    }


def test_an_unroll_that_comes_twice_is_refused(ledger):
    ledger.receive(UnrollId(FIRST, 0), 10)
    ledger.receive(UnrollId(FIRST, 1), 20)
    for number in (0, 1):
        with pytest.raises(RuntimeError, match="expected number 2 of that worker"):
            ledger.receive(UnrollId(FIRST, number), 20)


def test_an_unroll_before_its_turn_is_refused(ledger):
    with pytest.raises(RuntimeError, match="expected number 0 of that worker"):
        ledger.receive(UnrollId(FIRST, 1), 20)


def test_who_fills_a_place_anew_counts_from_the_beginning(ledger):
    ledger.receive(UnrollId(FIRST, 0), 10)
    ledger.receive(UnrollId(Identity(0, 1), 0), 10)
    assert ledger.taken == 20


@pytest.mark.parametrize("part", ["used", "dropped", "lost", "taken"])
def test_what_is_not_accounted_for_is_noticed(ledger, part):
    ledger.receive(UnrollId(FIRST, 0), 10)
    ledger.used += 10
    setattr(ledger, part, getattr(ledger, part) + 1)
    with pytest.raises(RuntimeError, match="steps are not accounted for"):
        ledger.check()


def test_accounts_go_on_where_they_were(ledger):
    ledger.receive(UnrollId(FIRST, 0), 10)
    ledger.used += 10
    ledger.lose(5)
    again = Ledger()
    again.load(ledger.row())
    assert again.row() == ledger.row()
    again.receive(UnrollId(Identity(0, 1), 0), 10)  # of whom nothing was told before
    assert again.taken == 25
