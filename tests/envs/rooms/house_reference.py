"""A house with several agents once more, slowly: rooms of single agents that share a house."""

import numpy as np

from groundling.envs.rooms.house import Houses
from groundling.envs.rooms.world import FIRST_SHAPE, HIDDEN, WHAT

from .reference import AHEAD, ReferenceRoom


class ReferenceHouse:
    """House number `house` of some, copied, that is stepped by hand."""

    def __init__(self, houses: Houses, house: int):
        self.options = houses.options
        self.agents = range(self.options.agents)
        first = house * self.options.agents
        self.episode = int(houses.world.episode[first])
        self.rooms = [
            ReferenceRoom(houses.world, first + agent, doors=self.options.doors)
            for agent in self.agents
        ]
        for room in self.rooms:
            room.cells = self.rooms[0].cells
        self.present = set(self.agents)
        self.paid = dict.fromkeys(self.agents, 0)
        self.bumps = self.held_doors = self.refreshes = 0

    def step(self, actions) -> tuple[list[float], list[bool], list[bool]]:
        """Act, and give rewards, terminations and truncations of all agents."""
        acting = sorted(self.present)
        rewards = dict.fromkeys(self.agents, 0.0)
        start = (self.episode + self.rooms[0].elapsed) % max(len(acting), 1)
        for agent in acting[start:] + acting[:start]:
            if self.is_blocked(agent, actions[agent]):
                continue
            room = self.rooms[agent]
            reward, elapsed = room.step(int(actions[agent])), room.elapsed
            room.elapsed = elapsed - 1
            for other in self.rooms:
                other.unreached = room.unreached
            self.refreshes += bool(reward) and len(room.unreached) == len(room.objects)
            for paid in acting if self.options.mode == "cooperative" else [agent]:
                rewards[paid] += reward
                self.paid[paid] += bool(reward)
        for room in self.rooms:
            room.elapsed += 1
        late = self.rooms[0].elapsed >= self.options.episode_length
        done = {a for a in acting if self.options.quota and self.paid[a] >= self.options.quota}
        self.present -= done
        return (
            [rewards[agent] for agent in self.agents],
            [agent in done for agent in self.agents],
            [late and agent in self.present for agent in self.agents],
        )

    def is_blocked(self, agent: int, action: int) -> bool:
        """Whether somebody stands where the agent would walk, or move a door."""
        room = self.rooms[agent]
        ahead = room.row + AHEAD[room.direction][0], room.column + AHEAD[room.direction][1]
        taken = any(ahead == self.place(other) for other in self.present)
        self.bumps += taken and action == 2
        self.held_doors += taken and action == 3 and room.is_door(ahead)
        return taken and action in (2, 3)

    def place(self, agent: int) -> tuple[int, int]:
        """Row and column."""
        return self.rooms[agent].row, self.rooms[agent].column

    def look(self, agent: int) -> np.ndarray:
        """Give an agent's view, uint8 [V, V, 3], with the others in it."""
        room, V = self.rooms[agent], self.options.view_size
        view = room.look(V)
        down, right = AHEAD[room.direction], AHEAD[(room.direction + 1) % 4]
        for other in self.present - {agent}:
            for row, column in np.ndindex(V, V):
                ahead, aside = V - 1 - row, column - V // 2
                place = (
                    room.row + ahead * down[0] + aside * right[0],
                    room.column + ahead * down[1] + aside * right[1],
                )
                if place == self.place(other) and view[row, column, WHAT] != HIDDEN:
                    turns = (self.rooms[other].direction - room.direction) % 4
                    what = FIRST_SHAPE + len(self.options.shape_names)
                    colour = len(self.options.colour_names) + 1 + other
                    view[row, column] = what, colour, 1 + turns
        return view
