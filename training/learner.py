"""The learner: one unroll in, one step of every objective out."""

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from groundling.agents.agent import Agent, AgentOutput
from groundling.agents.cores import CoreState
from groundling.agents.losses import (
    action_log_probs,
    baseline_loss,
    negative_entropy_loss,
    policy_gradient_loss,
)
from groundling.agents.prediction import Prediction, PredictionOutput
from groundling.agents.vtrace import vtrace
from groundling.training.config import LearnerConfig
from groundling.training.errors import NonFiniteLoss
from groundling.training.metrics import Measured
from groundling.training.monitor import Monitor
from groundling.training.unroll import Unroll, transitions


class Objective(NamedTuple):
    """Losses that are learned from together, with an optimiser of their own for the whole agent."""

    weights: dict[str, float]
    """Of each loss, by name."""
    optimiser: torch.optim.Adam


class Learner:
    """Reward, prediction and, if they may, answers teach one agent.

    Each has an optimiser of its own, and all step from the same weights: were the gradients summed
    for a single Adam, the loudest would set the size of every step (CONTRIBUTING.md has what that
    did to returns).

    Args:
        agent: learns in place.
        config: coefficients.
        generator: draws what the auxiliary loss predicts, on the CPU.
        monitor: the online probe, if there is one; it has an optimiser of its own.
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
        self.updates = 0
        weights = {
            "reward": {
                "policy": config.policy_weight,
                "baseline": config.baseline_weight,
                "entropy": config.entropy_weight,
            }
        }
        if agent.prediction is not None:
            predicts = agent.prediction.config
            weights["prediction"] = {
                "present": predicts.present_weight,
                "future": predicts.weight,
            }
        if monitor is not None and monitor.config.answers_reach_agent:
            weights["answers"] = {"answers": 1.0}
        self.objectives = {name: Objective(of, self._adam()) for name, of in weights.items()}

    def _adam(self) -> torch.optim.Adam:
        return torch.optim.Adam(
            self.agent.parameters(),
            lr=self.config.learning_rate,
            eps=self.config.adam_epsilon,
            fused=True,
        )

    def step(self, unroll: Unroll, *, inspect: bool = False) -> dict[str, Measured]:
        """Learns from one unroll.

        Args:
            unroll: to learn from.
            inspect: also measure what each loss sends into the core; it costs another backward
                pass of the heads and changes nothing.

        Returns:
            What was measured, by name.

        Raises:
            NonFiniteLoss: names the loss; nothing was changed.
        """
        output = self.agent.unroll(unroll.rows, unroll.core_state)
        losses, measured = self._actor_critic(output, unroll)
        if self.agent.prediction is not None:
            predicted = self._predict(self.agent.prediction, output, unroll)
            losses |= {"present": predicted.present, "future": predicted.future}
            measured |= {name: Measured(*pair) for name, pair in predicted.measured.items()}
        probe_loss = None
        if unroll.questions is not None:
            assert self.monitor is not None
            probe_loss, probed = self.monitor.loss(output.core, unroll.questions)
            measured |= probed
            if self.monitor.config.answers_reach_agent:
                losses["answers"] = probe_loss
        if inspect:
            measured |= self._gradients_into_core(losses, output.core)
        measured |= self._update(losses, probe_loss)
        measured |= {
            f"loss/{name}": Measured(float(loss.detach())) for name, loss in losses.items()
        }
        measured["policy_lag"] = Measured(self.updates - unroll.policy_version)
        self.updates += 1
        return measured

    def _actor_critic(
        self, output: AgentOutput, unroll: Unroll
    ) -> tuple[dict[str, Tensor], dict[str, Measured]]:
        """The means of the actor-critic losses, and what they say about the agent."""
        actions, rewards, discounts = transitions(unroll, self.config.discount)
        # The last row decides nothing here: its decision opens the next unroll.
        logits, baselines = output.policy_logits[:-1], output.baseline[:-1]
        log_probs = action_log_probs(logits, actions)
        targets = vtrace(
            log_probs.detach() - unroll.behaviour_log_prob,
            discounts,
            rewards,
            output.baseline.detach(),
            lambda_=self.config.lambda_,
        )
        entropy = negative_entropy_loss(logits)
        losses = {
            "policy": policy_gradient_loss(log_probs, targets.advantages).mean(),
            "baseline": baseline_loss(baselines, targets.values).mean(),
            "entropy": entropy.mean(),
        }
        residual = (targets.values - baselines.detach()).var(correction=0)
        spread = targets.values.var(correction=0).clamp(min=1e-8)
        return losses, {
            "entropy": Measured(-float(entropy.detach().mean())),
            "explained_variance": Measured(float(1.0 - residual / spread)),
            "value": Measured(float(baselines.detach().mean())),
        }

    def _gradients_into_core(
        self, losses: dict[str, Tensor], core: CoreState
    ) -> dict[str, Measured]:
        """Norm of each weighted loss's gradient with respect to the states of the core."""
        weights = {name: w for of in self.objectives.values() for name, w in of.weights.items()}
        measured = {}
        for name, loss in losses.items():
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(
                weights[name] * loss, core, retain_graph=True, allow_unused=True
            )
            squares = [float(part.square().sum()) for part in found if part is not None]
            measured[f"gradient_into_core/{name}"] = Measured(math.sqrt(sum(squares)))
        return measured

    def _predict(
        self, prediction: Prediction, output: AgentOutput, unroll: Unroll
    ) -> PredictionOutput:
        """The auxiliary losses of an unroll."""
        frames = self.updates * unroll.behaviour_log_prob.numel()
        return cast(
            PredictionOutput,
            prediction(
                output.core,
                output.features,
                unroll.rows.observation,
                unroll.rows.is_first,
                transitions(unroll, self.config.discount).actions,
                self.agent.sensors,
                limit=prediction.config.limit(frames),
                generator=self.generator,
            ),
        )

    def _update(self, losses: dict[str, Tensor], probe_loss: Tensor | None) -> dict[str, Measured]:
        """A step of every objective, and one of the probe; returns the norms of the gradients.

        All gradients are looked at before any optimiser moves: a run that diverged stops with the
        weights it still had, and no objective's gradient sees another's step.
        """
        for name, loss in losses.items():
            self._check_finite(f"loss {name!r}", loss)
        taught = {name for objective in self.objectives.values() for name in objective.weights}
        assert losses.keys() == taught, f"{losses.keys()} ≠ {taught}"
        gradients, norms = {}, {}
        for name, objective in self.objectives.items():
            gradients[name], norm = self._gradient(objective, losses)
            self._check_finite(f"the norm of the gradient of {name}", norm)
            norms[f"gradient_norm/{name}"] = Measured(float(norm))
        if probe_loss is not None and "answers" not in losses:
            self._check_finite("loss 'probe'", probe_loss)
            probe_loss.backward()  # Its graph ends at the detached belief.
        for name, objective in self.objectives.items():
            for weight, gradient in zip(self.agent.parameters(), gradients[name], strict=True):
                weight.grad = gradient
            objective.optimiser.step()
        if probe_loss is not None:
            assert self.monitor is not None
            self.monitor.step()
        return norms

    def _gradient(
        self, objective: Objective, losses: dict[str, Tensor]
    ) -> tuple[list[Tensor | None], Tensor]:
        """The gradient of an objective for each weight, scaled down, and the norm it had."""
        self.agent.zero_grad()
        total = torch.stack([weight * losses[name] for name, weight in objective.weights.items()])
        total.sum().backward(retain_graph=True)
        weights = list(self.agent.parameters())
        norm = torch.nn.utils.clip_grad_norm_(weights, self.config.max_gradient_norm)
        return [weight.grad for weight in weights], norm

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
            "optimisers": {
                name: objective.optimiser.state_dict()
                for name, objective in self.objectives.items()
            },
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
        for name, objective in self.objectives.items():
            objective.optimiser.load_state_dict(state["optimisers"][name])  # type: ignore[index]
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        self.generator.set_state(state["generator"])  # type: ignore[arg-type]
        if self.monitor is not None:
            self.monitor.probe.load_state_dict(state["probe"])  # type: ignore[arg-type]
            self.monitor.optimiser.load_state_dict(state["probe_optimiser"])  # type: ignore[arg-type]
