"""The learner: one unroll in, one step of the optimiser out."""

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from groundling.agents.agent import Agent, AgentOutput
from groundling.agents.cores import CoreState
from groundling.agents.losses import (
    Mean,
    baseline_loss,
    mean_where,
    negative_entropy_loss,
    policy_gradient_loss,
)
from groundling.agents.prediction import Prediction, PredictionOutput
from groundling.agents.vtrace import vtrace
from groundling.training.config import LearnerConfig
from groundling.training.errors import NonFiniteLoss
from groundling.training.group import Group
from groundling.training.metrics import Measured
from groundling.training.monitor import Monitor
from groundling.training.own_losses import load_losses, own_loss
from groundling.training.unroll import Unroll, looked, transitions

PROBE = "probe/loss"
"""The online probe's loss, among the others and among what is measured."""


class _Look(NamedTuple):
    """Decisions where to look, [T, B] each."""

    log_probs: Tensor
    """log π(l_t)."""
    log_rhos: Tensor
    """log π(l_t) - log μ(l_t); 0 where nothing hangs on l_t."""
    entropy: Tensor
    """See `agents.locations.Locations.entropy`."""
    counted: Tensor
    """bool: something hangs on l_t."""


class Learner:
    """Sums the losses by name, and steps one optimiser for the whole agent.

    Args:
        agent: learns in place.
        config: coefficients.
        generator: draws what the auxiliary loss predicts, on the CPU.
        monitor: the online probe, if there is one; it has an optimiser of its own.

    Attributes:
        group: the learners that learn as one with this one; set before the first step.
    """

    def __init__(
        self,
        agent: Agent,
        config: LearnerConfig,
        *,
        generator: torch.Generator,
        monitor: Monitor | None,
    ) -> None:
        self.agent = agent
        self.config = config
        self.generator = generator
        self.monitor = monitor
        self.group = Group()
        self.updates = 0
        self.optimiser = torch.optim.Adam(
            agent.parameters(), lr=config.learning_rate, eps=config.adam_epsilon, fused=True
        )
        self.weights = {
            "policy": config.policy_weight,
            "baseline": config.baseline_weight,
            "entropy": config.entropy_weight,
        }
        if agent.attention is not None and agent.attention.policy is not None:
            self.weights["location"] = config.location_weight
            if config.location_entropy_weight:
                self.weights["location_entropy"] = config.location_entropy_weight
        if config.label_weight:
            self.weights["label"] = config.label_weight
        if agent.prediction is not None:
            prediction = agent.prediction.config
            terms = {"present": prediction.present_weight, "future": prediction.weight}
            # A term that weighs nothing is not computed, and there is nothing to show of it.
            self.weights |= {name: weight for name, weight in terms.items() if weight}
        if monitor is not None and monitor.config.answers_reach_agent:
            self.weights["answers"] = monitor.config.answer_weight
        own = {reference: weight for reference, weight in config.losses.items() if weight}
        self.own_losses = load_losses(own, self.weights)
        self.weights |= dict(zip(self.own_losses, own.values(), strict=True))

    def step(self, unroll: Unroll, *, inspect: bool = False) -> dict[str, Measured]:
        """Learns from one unroll.

        Of several learners (`group`) all step at once, each with environments of its own. Losses
        and gradients are then those of all environments, and so is what is measured of them; the
        rest (entropy, value, explained variance, accuracies) is of this learner's alone.

        Args:
            unroll: to learn from.
            inspect: also measure what each loss sends into the core; it costs another backward
                pass of the heads and changes nothing. Learners compare their weights, too.

        Returns:
            What was measured, by name.

        Raises:
            NonFiniteLoss: names the loss; nothing was changed. All learners raise it.
            GroupBroken: another learner is gone; nothing was changed.
        """
        trace = unroll.trace
        # After as many updates as when these rows were walked what the core made of them holds.
        if trace is not None and (unroll.policy_version != self.updates or not trace.full):
            trace = None
        if trace is not None:
            trace.lasts = bool(self.own_losses)  # They may ask for gradients of their own.
        output = self.agent.unroll(unroll.rows, unroll.core_state, trace)
        losses, measured = self._losses(output, unroll)
        shares, values = self.group.means(losses)
        if inspect:
            measured |= self._gradients_into_core(shares, output.core)
            self.group.check_alike(self.agent.parameters())
        gradient_norm = self._update(shares, values)
        told = {name: Measured(float(value.detach())) for name, value in values.items()}
        measured |= {f"loss/{name}": told[name] for name in self.weights}
        if PROBE in measured:
            measured[PROBE] = told["answers" if "answers" in told else PROBE]
        measured["gradient_norm"] = Measured(gradient_norm)
        measured["policy_lag"] = Measured(self.updates - unroll.policy_version)
        self.updates += 1
        return measured

    def _losses(
        self, output: AgentOutput, unroll: Unroll
    ) -> tuple[dict[str, Mean], dict[str, Measured]]:
        """All losses by name, with the online probe's if it was asked, and what was measured."""
        losses, measured = self._actor_critic(output, unroll)
        if self.agent.prediction is not None:
            predicted = self._predict(self.agent.prediction, output, unroll)
            terms = {
                "present": Mean(predicted.present, predicted.present_count),
                "future": Mean(predicted.future, predicted.future_count),
            }
            losses |= {name: loss for name, loss in terms.items() if name in self.weights}
            measured |= {name: Measured(*pair) for name, pair in predicted.measured.items()}
        absent = _absent(unroll)
        losses |= {
            name: own_loss(name, function, output, unroll, absent)
            for name, function in self.own_losses.items()
        }
        if unroll.questions is not None:
            assert self.monitor is not None
            loss, probed = self.monitor.loss(output.core, unroll.questions)
            losses["answers" if self.monitor.config.answers_reach_agent else PROBE] = loss
            measured |= probed
        if absent is not None or self.group.size > 1:
            measured["present_rows"] = Measured(float((~unroll.absent).float().mean()))
        return losses, measured

    def _actor_critic(
        self, output: AgentOutput, unroll: Unroll
    ) -> tuple[dict[str, Mean], dict[str, Measured]]:
        """The means of the actor-critic losses, and what they say about the agent."""
        actions, rewards, discounts = transitions(unroll, self.config.discount)
        # The last row decides nothing here: its decision opens the next unroll.
        policy, baselines = output.policy[:-1], output.baseline[:-1]
        log_probs = self.agent.actions.log_probs(policy, actions)
        entropy = self.agent.actions.entropy(policy)
        look = self._look(output, unroll)
        log_rhos = log_probs.detach() - unroll.behaviour_log_prob
        if look is not None:
            # Action and location are drawn independently given the state: one decision of two.
            log_rhos = log_rhos + look.log_rhos
        targets = vtrace(
            log_rhos,
            discounts,
            rewards,
            output.baseline.detach(),
            lambda_=self.config.lambda_,
        )
        present = None if (absent := _absent(unroll)) is None else ~absent[:-1]
        losses = {
            "policy": mean_where(policy_gradient_loss(log_probs, targets.advantages), present),
            "baseline": mean_where(baseline_loss(baselines, targets.values), present),
            "entropy": mean_where(negative_entropy_loss(entropy), present),
        }
        measured = _measured(baselines, targets.values, entropy, present)
        if look is not None:
            reinforced = policy_gradient_loss(look.log_probs, targets.advantages)
            losses["location"] = mean_where(reinforced, look.counted)
            if "location_entropy" in self.weights:
                bonus = negative_entropy_loss(look.entropy)
                losses["location_entropy"] = mean_where(bonus, look.counted)
        if unroll.label is not None:
            # Of the action that ended an episode for good: it is the one that is judged.
            right = self.agent.actions.log_probs(policy, unroll.label)
            losses["label"] = mean_where(-right, unroll.terminated)
        return losses, measured

    def _look(self, output: AgentOutput, unroll: Unroll) -> "_Look | None":
        """What was decided about where to look; None without a location policy."""
        if unroll.location is None:
            return None
        assert self.agent.attention is not None
        assert output.location is not None
        assert unroll.location_log_prob is not None
        policy, locations = output.location[:-1], self.agent.attention.locations
        log_probs = locations.log_probs(policy, unroll.location)
        counted = looked(unroll)
        log_rhos = (log_probs.detach() - unroll.location_log_prob) * counted
        return _Look(log_probs, log_rhos, locations.entropy(policy), counted)

    def _gradients_into_core(
        self, losses: dict[str, Tensor], core: CoreState
    ) -> dict[str, Measured]:
        """Norm of each weighted loss's gradient with respect to the states of the core."""
        squares = dict.fromkeys(self.weights, 0.0)
        reaching = [name for name in self.weights if losses[name].requires_grad]
        for name in reaching:
            found = torch.autograd.grad(
                self.weights[name] * losses[name], core, retain_graph=True, allow_unused=True
            )
            squares[name] = sum(float(part.square().sum()) for part in found if part is not None)
        # Each learner has the states of its own environments.
        of_all = self.group.total(torch.tensor(list(squares.values()), dtype=torch.float64))
        norms = dict(zip(squares, map(math.sqrt, of_all.tolist()), strict=True))
        return {f"gradient_into_core/{name}": Measured(norms[name]) for name in reaching}

    def _predict(
        self, prediction: Prediction, output: AgentOutput, unroll: Unroll
    ) -> PredictionOutput:
        """The auxiliary losses of an unroll."""
        frames = self.updates * unroll.behaviour_log_prob.numel() * self.group.size
        return cast(
            PredictionOutput,
            prediction(
                output.core,
                output.features,
                unroll.rows.observation,
                unroll.rows.is_first,
                transitions(unroll, self.config.discount).actions,
                self.agent.sensors,
                location=unroll.rows.location,
                absent=_absent(unroll),
                limit=prediction.config.limit(frames),
                generator=self.generator,
                total=self.group.total,
            ),
        )

    def _update(self, shares: dict[str, Tensor], values: dict[str, Tensor]) -> float:
        """One step for the agent and one for the probe; returns the agent's gradient norm.

        Both norms are looked at before either optimiser moves, so that a run that diverged stops
        with the weights it still had.

        Args:
            shares: losses by name, those of the agent and perhaps the probe's; their gradients are
                this learner's part.
            values: what they are.
        """
        for name, value in values.items():
            self._check_finite(f"loss {'probe' if name == PROBE else name!r}", value)
        self.optimiser.zero_grad()
        losses = {name: share for name, share in shares.items() if name != PROBE}
        self._weighted_sum(losses).backward()
        learning = [*self.agent.parameters()]
        taught = self.monitor if shares.keys() & {PROBE, "answers"} else None
        if taught is not None:
            learning += taught.probe.parameters()
            if PROBE in shares:
                shares[PROBE].backward()  # Its graph ends at the detached belief.
        self.group.add_gradients(learning)
        norm = self._clip()
        self.optimiser.step()
        if taught is not None:
            taught.step()
        return float(norm)

    def _clip(self) -> Tensor:
        """Scales down the agent's gradient; returns the norm it had.

        The simulator and its head are scaled by themselves: a prediction of weight 0 must not
        change the agent, not even the last bit of this norm. So is the location policy, whose
        gradient enters no other weight and is the noisiest of all: as large as it is with a fovea,
        it would make the others' steps smaller.
        """
        parts = {"prediction": self.agent.prediction, "location": self.agent.attention}
        apart = set()
        for name, part in parts.items():
            own = [] if part is None else list(part.parameters())
            apart |= {id(weight) for weight in own}
            if own:
                norm = torch.nn.utils.clip_grad_norm_(own, self.config.max_gradient_norm)
                self._check_finite(f"the {name} gradient's norm", norm)
        shared = [weight for weight in self.agent.parameters() if id(weight) not in apart]
        norm = torch.nn.utils.clip_grad_norm_(shared, self.config.max_gradient_norm)
        self._check_finite("the gradient's norm", norm)
        return norm

    def _weighted_sum(self, losses: dict[str, Tensor]) -> Tensor:
        """The agent's total loss. A loss without a weight, or the reverse, is a mistake of ours."""
        assert losses.keys() == self.weights.keys(), f"{losses.keys()} ≠ {self.weights.keys()}"
        return torch.stack([losses[name] * self.weights[name] for name in self.weights]).sum()

    def _check_finite(self, what: str, value: Tensor) -> None:
        if not math.isfinite(value.item()):
            raise NonFiniteLoss(
                f"{what} is {value.item()} at update {self.updates}; the last checkpoint is good "
                "(a smaller --learner.learning-rate may help)"
            )

    def weight_norm(self) -> float:
        """Euclidean norm of all the agent's weights."""
        with torch.no_grad():
            norms = torch.stack([weight.norm() for weight in self.agent.parameters()])
        return float(norms.norm())

    def state_dict(self) -> dict[str, object]:
        """Weights, optimisers and the counter."""
        state: dict[str, object] = {
            "agent": self.agent.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
            "generator": self.generator.get_state(),
        }
        if self.monitor is not None:
            state["probe"] = self.monitor.probe.state_dict()
            state["probe_optimiser"] = self.monitor.optimiser.state_dict()
        return state

    def load_state_dict(self, state: dict[str, object]) -> None:
        """The inverse of `state_dict`."""
        self.agent.load_state_dict(state["agent"])  # type: ignore[arg-type]
        self.optimiser.load_state_dict(state["optimiser"])  # type: ignore[arg-type]
        # The configuration decides: a member of a population may go on with another step size.
        for group in self.optimiser.param_groups:
            group |= {"lr": self.config.learning_rate, "eps": self.config.adam_epsilon}
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        self.generator.set_state(state["generator"])  # type: ignore[arg-type]
        if self.monitor is not None:
            self.monitor.probe.load_state_dict(state["probe"])  # type: ignore[arg-type]
            self.monitor.optimiser.load_state_dict(state["probe_optimiser"])  # type: ignore[arg-type]


def _absent(unroll: Unroll) -> Tensor | None:
    """[T + 1, B] bool: which rows are filler; None if none is."""
    return unroll.absent if unroll.absent.any() else None


def _measured(
    baselines: Tensor, targets: Tensor, entropy: Tensor, present: Tensor | None
) -> dict[str, Measured]:
    """What values and decisions of an unroll, [T, B] each, say of an agent that is present."""
    parts = [one.detach() for one in (baselines, targets, entropy)]
    if present is not None:
        parts = [one[present] for one in parts]
    baselines, targets, entropy = parts
    if not baselines.numel():
        return {}
    residual = (targets - baselines).var(correction=0)
    spread = targets.var(correction=0).clamp(min=1e-8)
    return {
        "entropy": Measured(float(entropy.mean())),
        "explained_variance": Measured(float(1.0 - residual / spread)),
        "value": Measured(float(baselines.mean())),
    }
