"""The doors between rooms (design, section 4), read from the syntax trees of every module."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
EVERYONE = {"cosytune", "cosytune.units", "cosytune.errors", "cosytune.files"}
PARTS = ("speech_tokenizer", "speaker_encoder", "lm", "flow", "vocoder")
RESULTS = {
    "cosytune.data.results",
    "cosytune.data.doctor_results",
    "cosytune.training.results",
    "cosytune.training.plan_results",
    "cosytune.evaluation.results",
}

# Room -> rooms and modules that it may import, beside itself. The most specific room counts.
TABLE: dict[str, set[str]] = {
    "cosytune": set(),
    "cosytune.text": set(),
    "cosytune.audio": set(),
    "cosytune.models.layers": set(),
    **{f"cosytune.models.{part}": {"cosytune.models.layers", "cosytune.audio"} for part in PARTS},
    "cosytune.models": {"cosytune.audio"},
    "cosytune.data": {"cosytune.text", "cosytune.audio", "cosytune.models"},
    "cosytune.synthesis": {"cosytune.text", "cosytune.audio", "cosytune.models"},
    "cosytune.training": {
        "cosytune.data",
        "cosytune.text",
        "cosytune.audio",
        "cosytune.models",
        "cosytune.synthesis",
    },
    "cosytune.evaluation": {"cosytune.text", "cosytune.audio", "cosytune.data.manifest"},
    "cosytune.evaluation.statistics": {"cosytune.evaluation.results"},
    "cosytune.comparison.compose": {
        "cosytune.text",
        "cosytune.audio",
        "cosytune.models",
        "cosytune.data",
        "cosytune.synthesis",
        "cosytune.training",
        "cosytune.evaluation",
        "cosytune.comparison",
    },
    "cosytune.comparison": RESULTS | {"cosytune.evaluation.statistics"},
    "cosytune.report": RESULTS | {"cosytune.evaluation.statistics", "cosytune.comparison"},
    "cosytune.cli": {"cosytune"},
    **{results: set() for results in RESULTS},
    "cosytune.data.doctor_results": {"cosytune.data.results"},
    "cosytune.data.manifest": set(),
}

# Modules that must load without torch (a report on a machine without it, a manifest tool in a pipe).
NO_TORCH = (
    "cosytune.text",
    "cosytune.units",
    "cosytune.errors",
    "cosytune.files",
    "cosytune.data.manifest",
    "cosytune.data.results",
    "cosytune.data.doctor_results",
    "cosytune.data.doctor",
    "cosytune.training.results",
    "cosytune.training.plan_results",
    "cosytune.evaluation.results",
    "cosytune.evaluation.statistics",
    "cosytune.comparison.advice",
    "cosytune.comparison.plan",
    "cosytune.comparison.results",
    "cosytune.comparison.verdict",
    "cosytune.report",
)


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path, *, only_top: bool = False) -> set[str]:
    """Modules that a file names in imports, those for the type checker left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            skipped.update(ast.walk(node))
        if only_top and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            skipped.update(ast.walk(node))
    named = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is entered"
            named.update(f"{node.module}.{alias.name}" for alias in node.names)
    return named


def room_of(module: str) -> str:
    return max((room for room in TABLE if module == room or module.startswith(room + ".")), key=len)


def within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


@pytest.mark.parametrize("module", sorted(modules()))
def test_doors(module: str) -> None:
    room = room_of(module)
    if room == "cosytune.cli":
        allowed_at_top = {"cosytune.cli", *EVERYONE}
        top = {name for name in imports(modules()[module], only_top=True) if within(name, "cosytune")}
        wrong = {
            name
            for name in top
            if not any(within(name, place) for place in allowed_at_top - {"cosytune"})
            and name != "cosytune.__version__"
        }
        assert not wrong, f"{module} imports {wrong} outside a function, which slows every --help"
        return
    for name in imports(modules()[module]):
        if not within(name, "cosytune") or name == "cosytune.__version__":
            continue
        if any(within(name, place) for place in EVERYONE - {"cosytune"}):
            continue
        target = room_of(name)
        if target == room:
            continue
        allowed = TABLE[room]
        # A part's own bricks, and the folder that holds all parts.
        if room == "cosytune.models" and target.startswith("cosytune.models"):
            continue
        inside = any(within(name, place) for place in allowed)
        own_specific = within(target, room)
        assert inside or own_specific, f"{module} imports {name}: room {room} has no door to {target}"


def test_everything_was_seen() -> None:
    assert len(modules()) > 100


def test_no_room_is_called_utils() -> None:
    assert not [name for name in modules() if {"utils", "helpers", "common", "misc"} & set(name.split("."))]


@pytest.mark.parametrize(
    "module", [name for name in sorted(modules()) if any(within(name, place) for place in NO_TORCH)]
)
def test_no_torch(module: str) -> None:
    seen, waiting = set(), [module]
    known = modules()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in imports(known[current], only_top=True):
            assert not within(name, "torch"), f"{module} loads torch through {current}"
            for candidate in (name, name.rsplit(".", 1)[0]):
                if candidate in known:
                    waiting.append(candidate)
