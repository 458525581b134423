"""Third pass: flip what is no number, and see which convolutions are another one then.

A field of which no expression knows (a bool, a name, a number that the code only compares) may
still decide a stride. Each is changed alone; a convolution whose geometry then differs from what
its expressions foretell is marked with the field and its default.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from tools.zoo.models import Built, Candidate, Changes
from tools.zoo.probe import foretold, geometries, tried
from tools.zoo.tables import Row

_HARMLESS = re.compile(
    r"(^|\.)(output_\w+|return_dict|use_cache|tie_\w+|is_decoder|is_encoder_decoder|"
    r"add_cross_attention|torchscript|chunk_size_feed_forward|\w*_bias|\w*_token_id|\w*dropout\w*|"
    r"initializer_\w+|vocab_size|problem_type|dtype|model_type|gradient_checkpointing)$"
)
_TELLING = re.compile(
    r"conv|patch|strid|pad|stem|kernel|dilat|down|tubelet|sampl|reduc|ratio|scale"
)


def flips(built: Built) -> Iterator[tuple[str, Changes]]:
    """Yield for each field worth trying its path and the change, one field at a time."""
    compared = literals(type(built.model))
    for path, value in sorted(built.values.items()):
        name = path.rpartition(".")[2]
        if _HARMLESS.search(path):
            continue
        if isinstance(value, bool):
            yield path, {path: not value}
        elif isinstance(value, str):
            for other in sorted(compared.get(name, set()) - {value}):
                yield path, {path: other}
        elif isinstance(value, int) and _TELLING.search(name):
            yield path, {path: 2 * value if value else 1}


def literals(kind: type) -> dict[str, set[str]]:
    """Return the strings that the class's file compares each attribute or name with."""
    found: dict[str, set[str]] = {}
    tree = ast.parse(inspect.getsource(import_module(kind.__module__)))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        left = node.left
        name = left.attr if isinstance(left, ast.Attribute) else getattr(left, "id", None)
        for leaf in [leaf for each in node.comparators for leaf in ast.walk(each)]:
            if name and isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                found.setdefault(name, set()).add(leaf.value)
    return found


def switched(row: Row, candidate: Candidate) -> dict[str, dict[str, Any]]:
    """Return for each convolution (by module name) the fields that switch it, with defaults."""
    base = candidate.build({})
    used = set(row["defaults"])
    origins = {conv["module"]: conv["from"] for conv in row["convs"] if conv["from"]}
    found: dict[str, dict[str, Any]] = {}
    for path, changes in flips(base):
        if path in used:
            continue
        built = tried(candidate, changes)
        if isinstance(built, str):
            continue
        for module in _surprises(origins, built):
            found.setdefault(module, {})[path] = base.values[path]
    return found


def _surprises(origins: Mapping[str, Any], built: Built) -> list[str]:
    live = geometries(built.model)
    both = sorted(origins.keys() & live.keys())
    return [m for m in both if foretold(origins[m], built.values) != live[m]]


def with_switches(row: Row, found: Mapping[str, Mapping[str, Any]]) -> Row:
    """Return the row with `switches` on each convolution that has some."""
    convs = [
        conv | {"switches": dict(found[conv["module"]])} if conv["module"] in found else conv
        for conv in row["convs"]
    ]
    return row | {"convs": convs}
