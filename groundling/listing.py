"""What `groundling envs` lists: the environments there are, and what can be chosen about them."""

import ast
import dataclasses
import inspect
from typing import Any

Table = tuple[list[str], list[list[str]]]
"""Titles and rows."""

TASKS = {
    "explore": "reach every object, then all of them again: walking, seeing, being asked",
    "go_to": "go to the object that an instruction means: language that is acted on",
}
SHARED = [
    "groundling.envs.groundling_house_v0:parallel_env",
    "explore with several agents in one house, together or in competition (PettingZoo)",
]
CLUTTERED_DIGITS = "name the handwritten digit among clutter: images to be attended to"
LAYOUTS = {
    "single": "one room: what a memory holds, with the least around it",
    "l_shape": "one without a random quadrant: walls hide what is round the corner",
    "two_rooms": "two side by side: remember the room one came from",
    "four_rooms": "two by two, in a ring: many ways around, few of them seen at once",
    "corridor": "rooms along a corridor, each with a doorway: long walks, look-alike places",
}
"""What each is for."""

OTHERS = [
    ["MiniGrid, BabyAI", "BabyAI-GoToLocal-v0", 'pip install "groundling[minigrid]"'],
    ["PettingZoo", "pettingzoo:sisl/pursuit_v5", 'pip install "pettingzoo[sisl]"'],
    ["your own", "your_module:Your/Name-v0", "the module registers it with Gymnasium"],
]


def describe_environments() -> list[Table]:
    """Tables of our ids, layouts and keywords; of ids that others registered; of how to pass yet
    others."""
    import gymnasium

    from groundling.envs.digits.options import DIGITS, DigitsOptions
    from groundling.envs.registration import plug_ins
    from groundling.envs.rooms.options import TASKS as IDS
    from groundling.envs.rooms.options import RoomsOptions

    ours = [[name, TASKS[task]] for name, task in IDS.items()]
    ours += [SHARED, [DIGITS, CLUTTERED_DIGITS]]
    tables = [
        (["id", "task"], ours),
        (["layout", "what it is for"], [list(one) for one in LAYOUTS.items()]),
        (["keyword", "default", "what it is"], _keywords(RoomsOptions)),
        (["keyword of digits", "default", "what it is"], _keywords(DigitsOptions)),
    ]
    broken = [[one.name, one.fault] for one in plug_ins() if one.fault]
    registered = [
        [name, str(spec.entry_point or spec.vector_entry_point)]
        for name, spec in gymnasium.registry.items()
        if name not in (*IDS, DIGITS) and not _comes_with_gymnasium(spec)
    ]
    if registered:
        tables.append((["id", "registered by"], registered))
    if broken:
        tables.append((["plug-in", "could not be loaded"], broken))
    tables.append((["others", "id, for example", "where from"], OTHERS))
    return tables


def _comes_with_gymnasium(spec: object) -> bool:
    """Whether Gymnasium registered an environment itself (Shimmy's names stand for old ones)."""
    made_by = getattr(spec, "entry_point", None) or getattr(spec, "vector_entry_point", None)
    module = made_by if isinstance(made_by, str) else getattr(made_by, "__module__", "")
    return module.split(".")[0] in ("gymnasium", "shimmy")


def _keywords(options: type[Any]) -> list[list[str]]:
    help_of = field_help(options)
    return [
        [field.name, str(field.default), help_of[field.name]]
        for field in dataclasses.fields(options)
    ]


def field_help(options: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, its lines joined; empty if it has none.

    Args:
        options: a dataclass whose source can be read.
    """
    (declaration,) = ast.parse(inspect.getsource(options)).body
    assert isinstance(declaration, ast.ClassDef)
    following = [*declaration.body[1:], ast.Pass()]
    return {
        statement.target.id: _text(after)
        for statement, after in zip(declaration.body, following, strict=True)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def _text(statement: ast.stmt) -> str:
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
        return ""
    return " ".join(str(statement.value.value).split())
