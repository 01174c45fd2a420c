"""How many frames a second an agent with a recurrent memory learns from, beside others' loops.

    python tests/perf/bench_train.py [--pairs 5] [--core 0] [--peers cleanrl sb3]

Needs `pip install envpool==1.2.5 sb3-contrib minigrid`. All on one core, each in a process of its
own, taking turns: each round times one update (256 environments × 64 steps, walked and learned
from) of ours and one of the peer's, and the ratio is the median over rounds.

All have the same layers: a 7 × 7 view, convolutions of 16 and 32 filters, a dense layer of 256, an
LSTM of 256, two linear heads; float32, one epoch, the memory emptied exactly where an episode
begins. `cleanrl` is PPO with an LSTM as CleanRL writes it (one file, a loop over time wherever the
memory may be emptied, minibatches of whole environments), on EnvPool's C++ MiniGrid. `sb3` is
sb3-contrib's RecurrentPPO on Python's MiniGrid as its users run it, in its usual minibatches of 128
frames; `sb3-large` is the same with all frames at once, which is faster.
"""

import argparse
import time
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from pairs import Make, Work, paired
from torch import Tensor, nn
from torch.distributions import Categorical

ENVIRONMENTS, STEPS = 256, 64
PEER = "MiniGrid-MultiRoom-N6-v0"
EPISODE_LENGTH = 120

FRAMES = ENVIRONMENTS * STEPS
"""Of an update: walked and learned from."""


class View(nn.Module):
    """Two convolutions of 3 × 3 and a dense layer, over [..., 7, 7, C] small integers."""

    def __init__(self, space: gymnasium.Space[Any], config: Any = None) -> None:
        super().__init__()
        assert space.shape is not None
        self.size = 256
        self.layers = nn.Sequential(
            nn.Conv2d(space.shape[-1], 16, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(inplace=True),
        )
        self.dense = nn.Sequential(nn.Linear(3 * 3 * 32, self.size), nn.ReLU(inplace=True))

    def forward(self, cells: Tensor) -> Tensor:
        """[..., 7, 7, C] → [..., 256]."""
        planes = cells.reshape(-1, *cells.shape[-3:]).mul(0.1).movedim(-1, -3)
        seen: Tensor = self.layers(planes)
        # Channels innermost, as they lie in memory from the cells on: nothing is copied.
        features: Tensor = self.dense(seen.movedim(-3, -1).flatten(-3))
        return features.view(*cells.shape[:-3], self.size)


def groundling() -> Work:
    """Make our loop, on four rooms with line of sight and every episode a new house."""
    from groundling.agents.agent import Agent
    from groundling.agents.config import AgentConfig
    from groundling.envs.rooms.options import RoomsOptions
    from groundling.training.config import EnvironmentConfig, LearnerConfig, TrainConfig
    from groundling.training.environments import make_environment
    from groundling.training.learner import Learner
    from groundling.training.memory import keep_freed_memory
    from groundling.training.rollouts import make_actor

    keep_freed_memory()  # As the command line does, and `loop.computing`.
    torch.set_flush_denormal(True)
    rooms = RoomsOptions(
        layout="four_rooms",
        size=5,
        objects=8,
        doors=True,
        view_size=7,
        compass=False,
        episode_length=EPISODE_LENGTH,
    )
    config = TrainConfig(
        env=EnvironmentConfig(num_envs=ENVIRONMENTS, rooms=rooms),
        agent=AgentConfig(
            core_size=256, feature_size=256, sensor_size=256, sensors={"view": f"{__name__}:View"}
        ),
        learner=LearnerConfig(unroll_length=STEPS, exploration=0.0),
    )
    environment = make_environment(config.env, stagger=True)
    agent = Agent(
        environment.single_observation_space, environment.single_action_space, config.agent, seed=0
    )
    # Ours has a layer more before the memory, and one more in each head: here the layers are to be
    # the peers'. (Besides features the memory reads the last action and reward, as ever.)
    agent.sensors.mix = nn.Identity()  # type: ignore[assignment]
    agent.policy = nn.Sequential(nn.Linear(256, agent.actions.outputs))
    agent.baseline = nn.Sequential(nn.Linear(256, 1))
    actor = make_actor(config, environment, agent, asked=False)
    learner = Learner(agent, config.learner, generator=torch.Generator(), monitor=None)

    def update() -> None:
        learner.step(actor.collect(STEPS, policy_version=learner.updates))
        actor.finished.clear()

    return update


class Peer(nn.Module):
    """The agent of CleanRL's ppo_atari_lstm, with the layers of this comparison."""

    def __init__(self, space: gymnasium.Space[Any], actions: int) -> None:
        super().__init__()
        self.view = View(space)
        self.lstm = nn.LSTM(256, 256)
        self.actor = nn.Linear(256, actions)
        self.critic = nn.Linear(256, 1)

    def states(
        self, observation: Tensor, state: tuple[Tensor, Tensor], done: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Read [T · B, …]: one row after the other, as the memory may be emptied before each."""
        batch = state[0].shape[1]
        features = self.view(observation).view(-1, batch, 256)
        hidden = []
        for row, ended in zip(features, done.view(-1, batch), strict=True):
            keep = (1.0 - ended).view(1, -1, 1)
            out, state = self.lstm(row.unsqueeze(0), (keep * state[0], keep * state[1]))
            hidden.append(out)
        return torch.cat(hidden).flatten(0, 1), state


class CleanLoop:
    """PPO with one epoch, generalised advantages and a clipped objective."""

    def __init__(self, minibatches: int) -> None:
        import envpool

        self.env = envpool.make_gymnasium(PEER, num_envs=ENVIRONMENTS, num_threads=1, seed=0)
        view = self.env.observation_space["image"]
        self.minibatches = minibatches
        self.agent = Peer(view, int(self.env.action_space.n))
        self.optimiser = torch.optim.Adam(self.agent.parameters(), lr=2.5e-4, eps=1e-5)
        self.observation = torch.from_numpy(self.env.reset()[0]["image"].copy())
        self.done = torch.zeros(ENVIRONMENTS)
        self.state = (torch.zeros(1, ENVIRONMENTS, 256), torch.zeros(1, ENVIRONMENTS, 256))
        shape = (STEPS, ENVIRONMENTS)
        self.observations = torch.zeros((*shape, *view.shape), dtype=self.observation.dtype)
        self.actions = torch.zeros(shape, dtype=torch.int64)
        self.log_probs, self.rewards, self.dones, self.values = torch.zeros(4, *shape)

    def update(self) -> None:
        """Walk, then learn."""
        first = (self.state[0].clone(), self.state[1].clone())
        self._walk()
        advantages = self._advantages()
        self._learn(advantages, advantages + self.values, first)

    def _walk(self) -> None:
        for t in range(STEPS):
            self.observations[t], self.dones[t] = self.observation, self.done
            with torch.no_grad():
                hidden, self.state = self.agent.states(self.observation, self.state, self.done)
                chosen = Categorical(logits=self.agent.actor(hidden), validate_args=False)
                action = chosen.sample()
                self.values[t] = self.agent.critic(hidden).flatten()
            self.actions[t], self.log_probs[t] = action, chosen.log_prob(action)
            observation, reward, terminated, truncated, _ = self.env.step(
                action.numpy().astype(np.int32)
            )
            self.rewards[t] = torch.from_numpy(reward)
            self.observation = torch.from_numpy(observation["image"].copy())
            self.done = torch.from_numpy(np.logical_or(terminated, truncated)).float()

    def _advantages(self) -> Tensor:
        with torch.no_grad():
            hidden, _ = self.agent.states(self.observation, self.state, self.done)
            value, done = self.agent.critic(hidden).flatten(), self.done
        advantages, last = torch.zeros_like(self.rewards), torch.zeros(ENVIRONMENTS)
        for t in reversed(range(STEPS)):
            going_on = 1.0 - done
            delta = self.rewards[t] + 0.99 * value * going_on - self.values[t]
            advantages[t] = last = delta + 0.99 * 0.95 * going_on * last
            value, done = self.values[t], self.dones[t]
        return advantages

    def _learn(self, advantages: Tensor, returns: Tensor, first: tuple[Tensor, Tensor]) -> None:
        for chosen in torch.randperm(ENVIRONMENTS).chunk(self.minibatches):
            hidden, _ = self.agent.states(
                self.observations[:, chosen].flatten(0, 1),
                (first[0][:, chosen], first[1][:, chosen]),
                self.dones[:, chosen].flatten(),
            )
            policy = Categorical(logits=self.agent.actor(hidden), validate_args=False)
            log_ratio = (
                policy.log_prob(self.actions[:, chosen].flatten())
                - self.log_probs[:, chosen].flatten()
            )
            ratio, advantage = log_ratio.exp(), advantages[:, chosen].flatten()
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            policy_loss = -torch.min(ratio * advantage, ratio.clamp(0.9, 1.1) * advantage).mean()
            error = self.agent.critic(hidden).flatten() - returns[:, chosen].flatten()
            loss = policy_loss - 0.01 * policy.entropy().mean() + 0.25 * error.square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.agent.parameters(), 0.5)
            self.optimiser.step()


def cleanrl() -> Work:
    """Make the peer's loop, with as many minibatches as it is fastest with."""
    loops = [CleanLoop(minibatches) for minibatches in (1, 4)]
    return min(loops, key=lambda loop: min(seconds(loop.update) for _ in range(3))).update


def seconds(work: Work) -> float:
    """Time it once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def sb3(batch_size: int) -> Work:
    """Make sb3-contrib's RecurrentPPO with one epoch on Python's MiniGrid."""
    import minigrid
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Features(BaseFeaturesExtractor):
        def __init__(self, space: gymnasium.spaces.Box) -> None:
            super().__init__(space, 256)
            self.view = View(gymnasium.spaces.Box(0, 255, (7, 7, 3), np.uint8))

        def forward(self, observation: Tensor) -> Tensor:
            return self.view(observation.movedim(1, -1))  # type: ignore[no-any-return]

    def make() -> gymnasium.Env[Any, Any]:
        return minigrid.wrappers.ImgObsWrapper(gymnasium.make(PEER))

    model = RecurrentPPO(
        "CnnLstmPolicy",
        make_vec_env(make, ENVIRONMENTS),
        n_steps=STEPS,
        batch_size=batch_size,
        n_epochs=1,
        device="cpu",
        policy_kwargs={
            "features_extractor_class": Features,
            "normalize_images": False,
            "lstm_hidden_size": 256,
            "net_arch": [],
            "shared_lstm": True,
            "enable_critic_lstm": False,
        },
    )
    model.learn(FRAMES)
    return lambda: model.learn(FRAMES, reset_num_timesteps=False)


def products() -> Work:
    """Make what nobody can be faster than: the matrix products of the recurrent core."""
    rows, weight = torch.randn(FRAMES, 256), torch.randn(256, 1024)
    out = torch.empty(FRAMES, 1024)
    return lambda: torch.mm(rows, weight, out=out)


PRODUCTS = 2 * FRAMES * 256 * 1024
"""Floating-point operations of these."""

OPERATIONS = 6 * (25 * 16 * 27 + 512 * 1024) + 8 * (9 * 32 * 144 + 288 * 256 + 256 * 5)
"""Of the layers' products for each frame: walked, and two for the gradients; all but those of the
memory once more, to learn from; the view has no gradient."""

PEERS: dict[str, tuple[Make, float | None]] = {
    "cleanrl": (cleanrl, 1.4),
    "sb3": (partial(sb3, 128), 6.0),
    "sb3-large": (partial(sb3, FRAMES), None),
}
"""Who ours is held against, and how many times as fast it is to be."""


def main() -> None:
    """Compare and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="updates of each contestant")
    parser.add_argument("--core", type=int, default=0, help="the core everything runs on")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    print(f"{'peer':<12}{'ours/s':>10}{'peer/s':>10}{'ratio':>8}{'bar':>6}")
    for name in arguments.peers:
        peer, bar = PEERS[name]
        pair = paired(groundling, peer, rounds=arguments.pairs, core=arguments.core)
        rates = f"{FRAMES / pair.first:>10,.0f}{FRAMES / pair.second:>10,.0f}"
        print(f"{name:<12}{rates}{pair.ratio:>8.2f}{bar or '':>6}", flush=True)
    pair = paired(groundling, products, rounds=arguments.pairs, core=arguments.core)
    speed = PRODUCTS / pair.second
    print(
        f"matrix products: {speed / 1e9:.0f} GFLOP/s, {speed / OPERATIONS:,.0f} frames/s of "
        f"{OPERATIONS / 1e6:.1f} MFLOP; ours reach {FRAMES / pair.first * OPERATIONS / speed:.0%}"
    )


if __name__ == "__main__":
    main()
