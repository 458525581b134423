"""Which module imports what, read from the source of a package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        importer: dotted name of the module that imports.
        target: dotted name of what it imports.
        late: whether it stands inside a function, or is there for a type checker only.
    """

    importer: str
    target: str
    late: bool


def modules(root: Path) -> dict[str, ast.Module]:
    """Every module below a package's folder, by dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def imports(root: Path) -> list[Import]:
    """Every import of a package."""
    trees = modules(root)
    packages = {name for name in trees if (root.parent / name.replace(".", "/")).is_dir()}
    return [
        Import(name, target, late)
        for name, tree in trees.items()
        for node, late in _statements(tree, late=False)
        for target in _targets(node, name if name in packages else name.rpartition(".")[0], trees)
    ]


def _statements(node: ast.AST, *, late: bool) -> Iterator[tuple[ast.stmt, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from _statements(child, late=late or function or typing)


def _targets(node: ast.stmt, package: str, trees: dict[str, ast.Module]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert isinstance(node, ast.ImportFrom)
    up = package.split(".")
    base = ".".join(up[: len(up) + 1 - node.level]) if node.level else ""
    home = ".".join(part for part in (base, node.module) if part)
    # `from package import module` imports the module; the version is a constant of the root
    full = [f"{home}.{alias.name}" for alias in node.names]
    return [name if name in trees or name.endswith(".__version__") else home for name in full]


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle; nothing if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        found = next((c for n in sorted(edges.get(name, ())) if (c := visit(n, [*path, name]))), [])
        done.add(name)
        return found

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])
