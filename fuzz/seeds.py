"""What fuzzing begins with: small inputs of every kind, and the saved corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convsurgeon.geometry import Geometry
from convsurgeon.plan import Original, Recipe, Step
from tests.crafted_headers import MALFORMED, VALID
from tests.files import framed

CORPUS = Path(__file__).parent / "corpus"
_LONGEST = 2000


def seeds(target: str) -> Iterator[bytes]:
    """Yield inputs for a target; those of the saved corpus last."""
    yield from (seed for seed in _MADE[target]() if len(seed) <= _LONGEST)
    for path in sorted((CORPUS / target).glob("*")):
        yield path.read_bytes()


def _headers() -> Iterator[bytes]:
    yield from (text.encode() for text, _, _ in VALID.values())
    for text in MALFORMED.values():
        yield text if isinstance(text, bytes) else text.encode()


def _files() -> Iterator[bytes]:
    for text, size, _ in VALID.values():
        yield framed(text, bytes(size))
        yield framed(text, bytes(size))[: size + 4]
    yield from (
        b"",
        b"\0" * 8,
        b"version https://git-lfs.github.com/spec/v1\n",
        b"<html>",
        b"text" * 5,
    )
    yield from (
        b"PK\3\4" + bytes(60),
        b"\x80\2}.",
        b"GGUF\3" + bytes(30),
        b"\x93NUMPY\1\0",
        b"\x1f\x8b\b",
    )


def _indexes() -> Iterator[bytes]:
    one, two = "model-00001-of-00002.safetensors", "b"
    agreed = {"metadata": {"total_size": 8}, "weight_map": {"a": one, "b": one, "c": two}}
    yield from map(_json, [
        {**agreed, "shards": {one: ["a", "b"], two: ["c"]}},
        {**agreed, "shards": {one: ["a"], two: ["b", "c"]}},
        {**agreed, "shards": {one: ["a", "b", "c"], two: ["c"]}},
        {"weight_map": {"\x1b": two, "\u202e": two}, "shards": {two: ["\x1b", "\u202e"]}},
        {"weight_map": {"a": "../b"}},
        {"weight_map": {"a": "/b"}},
        {"weight_map": {"a": "x\0"}},
        {"weight_map": {"a": ["b"]}},
        {"weight_map": ["a"]},
        {"weight_map": {}},
    ])  # fmt: skip


def _recipes() -> Iterator[bytes]:
    for conv, linear in [((4, 3, 2, 2), (4, 12)), ((4, 3, 1, 16, 16), (4, 768))]:
        kernel, none = conv[2:], (0,) * len(conv[2:])
        geometry = Geometry(kernel, kernel, none, (1,) * len(kernel))
        for layout in ("c p1 p2", "p1 p2 c"):
            forms = (f"conv{len(conv) - 2}d", conv), ("linear", linear)
            for before, after in (forms, forms[::-1]):
                step = Step("a.weight", "patchify", layout, *before, *after, geometry,
                            ("config", "patch_size 2"), "ab" * 32)  # fmt: skip
                original = Original("m.safetensors", 120, "cd" * 32, has_metadata=True)
                yield Recipe("convsurgeon", original, (step,)).to_text().encode()


def _documents() -> Iterator[bytes]:
    yield from map(_json, [
        {"model_type": "vit", "patch_size": 16, "hidden_size": 768, "x": [1.5e-05, None, True]},
        {"a": {"b": {"c": [[[]]]}}, "d": '\ud83d\ude00\x1b\\"'},
        {"n": [0, -1, 10**30, float("inf"), float("nan")]},
    ])  # fmt: skip
    yield b'{"a":1,"a":2}'


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


_MADE: dict[str, Callable[[], Iterator[bytes]]] = {
    "header": _headers,
    "rules": _headers,
    "file": _files,
    "index": _indexes,
    "recipe": _recipes,
    "document": _documents,
}
