"""Who may know whom, which packages exist, and what the front door shows."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("agents", "envs", "training", "evaluation", "groundling")
MAY_IMPORT = {
    "envs": {"envs"},
    "agents": {"agents", "envs"},
    "training": {"training", "agents", "envs"},
    "evaluation": {"evaluation", "training", "agents", "envs"},
    "groundling": {"groundling", "evaluation", "training", "agents", "envs"},
}
AGENTS_MAY_KNOW_OF_ENVS = ("envs.vocabulary", "envs.errors")


def violations(layer: str, source: str) -> list[str]:
    """What a file of this layer imports although it may not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.ImportFrom):
            found.append("a relative import")
            continue
        else:
            continue
        found += [name for name in names if not _allowed(layer, name)]
    return found


def _allowed(layer: str, name: str) -> bool:
    top, _, rest = name.partition(".")
    if top in LAYERS and top != "groundling":
        return False  # `import envs` works only inside the repository
    if top != "groundling":
        return True
    target = rest.split(".")[0] or "groundling"
    if target not in LAYERS:
        target = "groundling"  # `groundling.cli`, or a name of the front door
    if layer == "agents" and target == "envs":
        return rest.startswith(AGENTS_MAY_KNOW_OF_ENVS)
    return target in MAY_IMPORT[layer]


def files_of(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_only_what_they_may(layer: str) -> None:
    assert files_of(layer)
    wrong = {str(path): violations(layer, path.read_text()) for path in files_of(layer)}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("envs", "from groundling.agents.agent import Agent"),
        ("envs", "import groundling.training.loop"),
        ("agents", "from groundling.training.config import TrainConfig"),
        ("agents", "from groundling.envs.rooms.vector import RoomsVectorEnv"),
        ("training", "def late():\n    import groundling.evaluation.report"),
        ("training", "import envs"),
        ("evaluation", "from agents.agent import Agent"),
        ("evaluation", "from groundling import load"),
        ("evaluation", "from groundling.cli import main"),
        ("training", "from . import loop"),
    ],
)
def test_planted_violations_are_found(layer: str, source: str) -> None:
    assert violations(layer, source)


def test_the_packages_listed_are_the_folders_there_are() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        path.parent.relative_to(ROOT)
        for layer in LAYERS
        for path in (ROOT / layer).rglob("__init__.py")
    }
    expected = {
        "groundling" if folder.parts == ("groundling",) else ".".join(("groundling", *folder.parts))
        for folder in folders
    }
    assert set(setup["packages"]) == expected
    assert set(setup["package-dir"]) == {"groundling", *(f"groundling.{x}" for x in LAYERS[:-1])}


def test_the_front_door_shows_what_it_says() -> None:
    import groundling

    assert sorted(groundling.__all__) == ["__version__", "load", "train"]
    for name in groundling.__all__:
        assert hasattr(groundling, name)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert groundling.__version__ == declared


@pytest.mark.parametrize("module", ["groundling", "groundling.cli"])
def test_the_front_door_is_light(module: str) -> None:
    heavy = "{'torch', 'numba', 'matplotlib', 'ray'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_layers_cannot_be_imported_by_their_bare_names_outside_the_repository() -> None:
    code = "import importlib.util as u; print([n for n in ('agents', 'envs') if u.find_spec(n)])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert shown.stdout.strip() == "[]"
