"""The LSTM core against `torch.nn.LSTM` with the same weights."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from groundling.agents import cores, scan
from groundling.agents.cores import FORGET_BIAS, CoreState, LSTMCore
from groundling.agents.generators import initialised_by

FEATURES, FLAGS, CORE = 3, 2, 4
INPUT = FEATURES + FLAGS


def make_core(seed=0):
    torch.manual_seed(seed)
    core = LSTMCore(FEATURES, FLAGS, CORE).double()
    with torch.no_grad():
        core.from_input.bias.normal_()
    return core


def reference_of(core):
    """An nn.LSTM with the weights of `core`: gates in the order input, forget, cell, output."""
    lstm = nn.LSTM(INPUT, CORE).double()
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(core.from_input.weight)
        lstm.weight_hh_l0.copy_(core.from_hidden.weight)
        lstm.bias_ih_l0.copy_(core.from_input.bias)
        lstm.bias_hh_l0.zero_()
    return lstm


def read(core, inputs, *rest):
    """What the core makes of inputs that are features and flags side by side."""
    features, flags = inputs.split([FEATURES, FLAGS], -1)
    return core(features, flags.detach(), *rest)


def random_case(T, B, seed):
    torch.manual_seed(seed)
    state = CoreState(torch.randn(B, CORE).double(), torch.randn(B, CORE).double())
    return torch.randn(T, B, INPUT).double(), state


def test_without_resets_it_is_the_lstm_of_torch():
    core = make_core()
    inputs, state = random_case(7, 3, seed=1)
    ours = read(core, inputs, torch.zeros(7, 3, dtype=torch.bool), state)
    hidden, (last_hidden, last_cell) = reference_of(core)(
        inputs, (state.hidden[None], state.cell[None])
    )
    assert_close(ours.hidden, hidden)
    assert_close(ours.hidden[-1:], last_hidden)
    assert_close(ours.cell[-1:], last_cell)


def segment_by_segment(lstm, inputs, is_first, state):
    """One environment: hidden and cell after each row; every episode is read by itself."""
    T = len(inputs)
    starts = [t for t in range(T) if is_first[t]]
    cuts = sorted({0, *starts, T})
    state = (state.hidden[None], state.cell[None])
    hiddens, cells = [], []
    for start, stop in pairwise(cuts):
        if is_first[start]:
            state = (torch.zeros(1, CORE).double(), torch.zeros(1, CORE).double())
        for t in range(start, stop):
            hidden, state = lstm(inputs[t : t + 1], state)
            hiddens.append(hidden[0])
            cells.append(state[1][0])
    return torch.stack(hiddens), torch.stack(cells)


@given(
    T=st.integers(1, 8),
    flags=st.lists(st.booleans(), min_size=16, max_size=16),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_with_resets_it_is_the_lstm_of_torch_episode_by_episode(T, flags, seed):
    core = make_core(seed)
    inputs, state = random_case(T, 2, seed)
    is_first = torch.tensor(flags).reshape(8, 2)[:T]
    with torch.no_grad():
        ours = read(core, inputs, is_first, state)
        for b in range(2):
            alone = CoreState(state.hidden[b], state.cell[b])
            hidden, cell = segment_by_segment(
                reference_of(core), inputs[:, b], is_first[:, b], alone
            )
            assert_close(ours.hidden[:, b], hidden)
            assert_close(ours.cell[:, b], cell)


def test_gradients_are_those_of_the_lstm_of_torch():
    core = make_core()
    lstm = reference_of(core)
    gradients = []
    for run in (core, lstm):
        inputs, state = random_case(6, 3, seed=4)
        for tensor in (inputs, *state):
            tensor.requires_grad_()
        if run is core:
            hidden, cell = read(core, inputs, torch.zeros(6, 3, dtype=torch.bool), state)
            last_cell = cell[-1]
        else:
            hidden, (_, last_cell) = lstm(inputs, (state.hidden[None], state.cell[None]))
        (hidden.square().sum() + last_cell.sum()).backward()
        gradients.append([inputs.grad, state.hidden.grad, state.cell.grad])
    ours = [core.from_input.weight.grad, core.from_hidden.weight.grad, core.from_input.bias.grad]
    theirs = [lstm.weight_ih_l0.grad, lstm.weight_hh_l0.grad, lstm.bias_ih_l0.grad]
    gradients[1][0][..., FEATURES:] = 0.0  # Nothing flows back to flags.
    assert_close(gradients[0] + ours, gradients[1] + theirs)


@pytest.mark.parametrize("part", ["hidden", "cell"])
def test_no_gradient_flows_back_across_the_start_of_an_episode(part):
    core = make_core()
    inputs, state = random_case(5, 2, seed=2)
    inputs.requires_grad_()
    is_first = torch.zeros(5, 2, dtype=torch.bool)
    is_first[3, 1] = True
    getattr(read(core, inputs, is_first, state), part)[-1].sum().backward()
    touched = inputs.grad.abs().sum(-1) > 0
    assert touched[:, 0].all()
    assert touched[:, 1].tolist() == [False, False, False, True, True]


def traced(core, inputs, is_first, state):
    """A trace of these rows, walked one by one, and the states on the way."""
    trace, states = core.trace(len(inputs), inputs.shape[1]), []
    with torch.no_grad():
        for t in range(len(inputs)):
            assert not trace.full
            after = read(core, inputs[t : t + 1], is_first[t : t + 1], state, trace)
            state = CoreState(*(part[0] for part in after))
            states.append(state)
    assert trace.full
    return trace, states


def resets(T, B):
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0, 0] = is_first[3, 1] = True
    return is_first


def test_rows_that_are_traced_are_the_rows_that_are_read():
    core, is_first = make_core(), resets(6, 3)
    inputs, state = random_case(6, 3, seed=5)
    whole = read(core, inputs, is_first, state)
    _, states = traced(core, inputs, is_first, state)
    for t, after in enumerate(states):
        for ours, theirs in zip(after, whole, strict=True):
            assert_close(ours, theirs[t].detach())


def test_with_a_full_trace_states_and_gradients_are_what_they_are_without():
    core, is_first, found = make_core(), resets(6, 3), []
    inputs, state = random_case(6, 3, seed=6)
    trace, _ = traced(core, inputs, is_first, state)
    for known in (None, trace):
        core.zero_grad()
        leaves = [leaf.clone().requires_grad_() for leaf in (inputs, *state)]
        after = read(core, leaves[0], is_first, CoreState(*leaves[1:]), known)
        (after.hidden.square().sum() + after.cell[1:4].sum()).backward()
        weights = [weight.grad.clone() for weight in core.parameters()]
        found.append(
            [*(part.detach() for part in after), *(leaf.grad for leaf in leaves), *weights]
        )
    assert_close(found[1], found[0])


def test_a_full_trace_is_believed():
    core, is_first = make_core(), resets(6, 3)
    inputs, state = random_case(6, 3, seed=7)
    trace, states = traced(core, inputs, is_first, state)
    with torch.no_grad():
        for weight in core.parameters():
            weight.zero_()
    after = read(core, inputs, is_first, state, trace)
    assert_close(after.hidden[-1].detach(), states[-1].hidden)
    assert not trace.hiddens.requires_grad
    with torch.no_grad():
        assert torch.equal(read(core, inputs, is_first, state, trace).hidden, after.hidden)
    with pytest.raises(AssertionError, match="of other rows"):
        read(core, inputs[:, :2], is_first[:, :2], CoreState(*(part[:2] for part in state)), trace)


def test_what_a_trace_holds_is_not_computed_again(monkeypatch):
    core, is_first = make_core(), resets(6, 3)
    inputs, state = random_case(6, 3, seed=9)
    trace, _ = traced(core, inputs, is_first, state)
    read(core, inputs, is_first, state)  # It can be computed.
    monkeypatch.setattr(torch, "mm", None)
    monkeypatch.setattr(scan.Trace, "walk", None)
    for module in (cores, scan):
        monkeypatch.setattr(module, "transposed_copy", None)
    after = read(core, inputs, is_first, state, trace)
    assert torch.equal(after.hidden, trace.hiddens)
    with pytest.raises(TypeError):
        read(core, inputs, is_first, state)


def test_a_trace_takes_no_more_rows_than_it_was_made_for():
    core, is_first = make_core(), resets(6, 3)
    inputs, state = random_case(6, 3, seed=8)
    with torch.no_grad(), pytest.raises(AssertionError, match="as long as what is walked"):
        read(core, inputs, is_first, state, core.trace(4, 3))
    with pytest.raises(AssertionError, match="with gradients"):
        read(core, inputs, is_first, state, core.trace(7, 3))


def test_a_new_core_begins_empty_with_its_forget_gate_open():
    core = LSTMCore(FEATURES, FLAGS, CORE)
    bias = core.from_input.bias.reshape(4, CORE)
    assert bias.tolist() == [[0.0] * CORE, [FORGET_BIAS] * CORE, [0.0] * CORE, [0.0] * CORE]
    assert_close(core.initial_state(3).belief, torch.zeros(3, 2 * CORE))


def test_what_was_seen_and_what_was_done_move_a_new_core_s_gates_alike():
    core = LSTMCore(128, 4, 64)
    seen = torch.randn(1000, 128) @ core.from_input.weight[:, :128].T
    done = core.from_input.weight[:, 128:]
    assert seen.std().item() == pytest.approx(1.0, abs=0.1)
    assert done.std().item() == pytest.approx(0.5, abs=0.05)


def test_the_belief_is_hidden_and_cell_side_by_side():
    state = CoreState(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]], requires_grad=True))
    assert state.belief.tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert state.belief.requires_grad
    assert not state.detach().belief.requires_grad


def test_initial_weights_do_not_depend_on_how_many_threads_there_are() -> None:
    threads = torch.get_num_threads()
    cores = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            with initialised_by(0, "core"):
                cores.append(LSTMCore(128, 5, 256))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    one, other = (core.from_hidden.weight for core in cores)
    assert torch.equal(one, other)
