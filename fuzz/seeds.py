"""What fuzzing begins with: small inputs of every kind, and the saved corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convsurgeon.geometry import Geometry
from convsurgeon.plan import Original, Recipe, Step
from convsurgeon.store.journal import Journal, Member, State
from convsurgeon.store.sidecar import Sidecar
from tests import crafted_files
from tests.crafted_headers import MALFORMED, VALID, u8
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
    yield from crafted_files.ACCEPTED.values()
    yield from crafted_files.REFUSED.values()


def _indexes() -> Iterator[bytes]:
    one, two = "model-00001-of-00002.safetensors", "b"
    agreed = {"metadata": {"total_size": 8}, "weight_map": {"a": one, "b": one, "c": two}}
    yield from map(_json, [
        {**agreed, "shards": {one: ["a", "b"], two: ["c"]}},
        {**agreed, "shards": {one: ["a"], two: ["b", "c"]}},
        {**agreed, "shards": {one: ["a", "b", "c"], two: ["c"]}},
        {"weight_map": {"\x1b": two, "\u202e": two}, "shards": {two: ["\x1b", "\u202e"]}},
        *({"weight_map": {"a": name}} for name in ("../b", "/b", "..", "", "x\0", "x\\y", ["b"])),
        {"weight_map": ["a"]},
        {"weight_map": {}},
    ])  # fmt: skip


def _recipes() -> Iterator[bytes]:
    texts = [recipe.to_text().encode() for recipe in _made_recipes()]
    yield from (*texts, texts[0].replace(b"[4,", b"[0,"))


def _made_recipes() -> Iterator[Recipe]:
    for conv, linear in [((4, 3, 2, 2), (4, 12)), ((4, 3, 1, 16, 16), (4, 768))]:
        kernel, none = conv[2:], (0,) * len(conv[2:])
        geometry = Geometry(kernel, kernel, none, (1,) * len(kernel))
        for layout in ("c p1 p2", "p1 p2 c"):
            forms = (f"conv{len(conv) - 2}d", conv), ("linear", linear)
            for before, after in (forms, forms[::-1]):
                step = Step("a.weight", "patchify", layout, *before, *after, geometry,
                            ("config", "patch_size 2"), "ab" * 32)  # fmt: skip
                original = Original("m.safetensors", 120, "cd" * 32, has_metadata=True)
                yield Recipe("convsurgeon", original, (step,))


def _sidecars() -> Iterator[bytes]:
    file = crafted_files.FILE
    made = [Sidecar.for_file(file[:-4], len(file), recipe) for recipe in _made_recipes()]
    yield from (sidecar.to_bytes() for sidecar in made)
    yield made[0].to_bytes().replace(made[0].header_sha256.encode(), b"0" * 65)


def _journals() -> Iterator[bytes]:
    two, four, renamed = (u8("[2, 2]"), u8("[4]   "), u8("[2, 2]").replace('"a"', '"b"'))
    members = [_member(name, *texts) for name, texts in (("m", (two, four)), ("n", (four, two)))]
    for some in ((), members[:1], members, [_member("m", two, renamed)]):
        yield Journal("m", tuple(some)).to_bytes().partition(b"\n")[2]


def _member(name: str, before: str, after: str) -> Member:
    old, new = framed(before), framed(after)
    return Member(name, 7, len(old) + 4, State(old, None), State(new, None))


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
    "sidecar": _sidecars,
    "journal": _journals,
    "document": _documents,
}
