"""What must hold of every input, one function for each reader of bytes that strangers write.

A target returns what became of the input, and raises `Finding` where a promise is broken. Any other
exception than the one refusal that the reader documents is a finding as well.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import safetensors
from safetensors import SafetensorError

from convsurgeon.bounded_json import object_of
from convsurgeon.codes import codes
from convsurgeon.errors import ConvsurgeonError, HeaderError, RecipeError, UnreadableError
from convsurgeon.header import Header, TensorInfo, describe, lay_out, parse
from convsurgeon.plan import Recipe
from convsurgeon.plan.step import chains
from convsurgeon.store.index import check_agreement, weight_map_of
from convsurgeon.store.journal import Journal
from convsurgeon.store.safetensors_file import read_alone
from convsurgeon.store.sidecar import Sidecar
from fuzz import book

ACCEPTED, REFUSED, LARGE = "accepted", "refused", "too large to compare"
Target = Callable[[bytes], str]

_DESERIALIZE: Any = safetensors.deserialize
_DATA: Final = bytes((7 * i + i // 256) % 251 for i in range(1 << 16))
"""Tensor data for the reference; neighbouring places differ, so that offsets are compared."""
_CODES: Final = frozenset(codes())
_NO_SAFETENSORS: Final = {"CS031", "CS033", "CS034", "CS035"}
_FILE: Final = TemporaryFile()  # noqa: SIM115 (open as long as the process runs)
atexit.register(_FILE.close)


class Finding(AssertionError):  # noqa: N818 (it is no error of the program)
    """A promise that does not hold of some input."""


def header(text: bytes) -> str:
    """What the package accepts, the reference accepts, and reads the same from it."""
    try:
        found = describe(text)
    except HeaderError as error:
        return _refused(error)
    size = found.data_bytes
    _refuses(text, size + 1)
    if size > len(_DATA):
        return LARGE
    _compare(text, found)
    _equal("what we write and what we read", parse(lay_out(found)[8:], size), found)
    return ACCEPTED


def rules(text: bytes) -> str:
    """The package accepts a header if, and only if, `fuzz.book` finds every rule kept.

    Two rules of the README leave a choice, and there the package is the stricter one: names of
    fields and dtypes that are written with escapes are refused.
    """
    try:
        expected = book.data_bytes(text)
    except (ValueError, RecursionError):
        expected = None
    try:
        found = describe(text).data_bytes
    except HeaderError as error:
        if expected is not None and b"\\" not in text:
            raise Finding(f"refused though no rule is broken: {error}") from error
        return _refused(error)
    _equal("bytes of data", found, expected)
    return ACCEPTED


def file(content: bytes) -> str:
    """A file gets its right name or a refusal, or the reference reads it as well."""
    path = _in_memory(content)
    try:
        found = read_alone(path)
    except ConvsurgeonError as error:
        if error.code in _NO_SAFETENSORS and _reads(content):
            raise Finding(f"the reference reads it: {error}") from error
        return _refused(error)
    text = content[8 : 8 + found.header_length]
    _equal("header", found.header, parse(text, len(content) - 8 - len(text)))
    if not _reads(content):
        raise Finding("the reference refuses what the package accepts")
    return ACCEPTED


def index(content: bytes) -> str:
    """A shard index gives plain file names, and agreement means that each tensor is where it says.

    The shards stand in the same bytes: lists of names by files, under `shards`.
    """
    try:
        weight_map = weight_map_of(content)
        read = json.loads(content)
        _equal("weight_map", weight_map, read["weight_map"])
        _plain(weight_map.values())
        shards = _shards(read.get("shards"))
        check_agreement(weight_map, shards)
    except ConvsurgeonError as error:
        return _refused(error)
    for key, name in weight_map.items():
        if name not in shards or key not in shards[name].by_name:
            raise Finding(f"{key!r} is not in {name!r}")
    _equal("tensors", sum(len(shard.tensors) for shard in shards.values()), len(weight_map))
    return ACCEPTED


def recipe(content: bytes) -> str:
    """A recipe is read whole, can be written again, and leads out of no folder."""
    text = content.decode("utf-8", "ignore")
    try:
        found = Recipe.from_text(text)
    except RecipeError as error:
        return _refused(error)
    _equal("recipe", Recipe.from_text(found.to_text()), found)
    _plain([found.original.name])
    for step in found.steps:
        _equal("elements", prod(step.source_shape), prod(step.target_shape))
        _equal("sizes below 1", [n for n in step.source_shape + step.target_shape if n < 1], [])
        _equal("digits of a digest", len(step.sha256), 64)
        step.statement()
    _equal("steps", sum(map(len, chains(found.steps).values())), len(found.steps))
    return ACCEPTED


def sidecar(content: bytes) -> str:
    """A sidecar is read whole, and can be written again."""
    try:
        found = Sidecar.parse(content)
    except RecipeError as error:
        return _refused(error)
    _equal("sidecar", Sidecar.parse(found.to_bytes()), found)
    _equal("digits of a digest", len(found.header_sha256), 64)
    return ACCEPTED


def journal(body: bytes) -> str:
    """A journal, given its right digest, has plain names, and headers of the same data."""
    head = f"convsurgeon-journal/1 {hashlib.sha256(body).hexdigest()}\n"
    try:
        found = Journal.parse(head.encode() + body)
    except ValueError:
        return REFUSED
    _equal("journal", Journal.parse(found.to_bytes()), found)
    _plain([found.leader, *(member.name for member in found.members)])
    for member in found.members:
        before, after = (state.header(member.size) for state in (member.old, member.new))
        _equal("data", before.data_bytes, after.data_bytes)
        _equal("places", _places(before), _places(after))
    return ACCEPTED


def document(content: bytes) -> str:
    """A config or a receipt is what a general JSON parser reads, or no object at all."""
    try:
        found = object_of(content)
    except ValueError:
        return REFUSED
    read = json.loads(content, object_pairs_hook=_once)
    _equal("JSON", repr(found), repr(read))  # repr: NaN is not equal to itself
    return ACCEPTED


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Finding("a key stands twice")
    return dict(pairs)


def _places(found: Header) -> dict[str, tuple[int, int]]:
    return {tensor.name: (tensor.begin, tensor.end) for tensor in found.tensors}


def _refused(error: ConvsurgeonError) -> str:
    if error.code not in _CODES or len(str(error)) > 7000:
        raise Finding(f"no error to show anybody: {error!r:.500}") from error
    return REFUSED


def _refuses(text: bytes, data_bytes: int) -> None:
    try:
        parse(text, data_bytes)
    except UnreadableError:
        return
    raise Finding(f"{data_bytes} bytes of data were accepted")


def _compare(text: bytes, ours: Header) -> None:
    data = _DATA[: ours.data_bytes]
    try:
        read = _DESERIALIZE(len(text).to_bytes(8, "little") + text + data)
    except Exception as error:
        raise Finding(f"the reference refuses what the package accepts: {error}") from error
    theirs = {name: (e["dtype"], tuple(e["shape"]), bytes(e["data"])) for name, e in read}
    mine = {t.name: (t.dtype, t.shape, data[t.begin : t.end]) for t in ours.tensors}
    _equal("tensors", mine, theirs)
    metadata = json.loads(text).get("__metadata__")
    _equal("metadata", None if ours.metadata is None else ours.metadata_map, metadata)


def _reads(content: bytes) -> bool:
    try:
        _DESERIALIZE(content)
    except SafetensorError:
        return False
    return True


def _in_memory(content: bytes) -> Path:
    os.ftruncate(_FILE.fileno(), 0)
    os.pwrite(_FILE.fileno(), content, 0)
    return Path(f"/dev/fd/{_FILE.fileno()}")


def _plain(names: Iterable[str]) -> None:
    for name in names:
        control = any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in name)
        if control or "\\" in name or name in {"", ".", ".."} or Path(name).name != name:
            raise Finding(f"{name!r} is no plain file name")


def _shards(content: object) -> dict[str, Header]:
    lists = content if isinstance(content, dict) else {}
    return {
        file: Header(tuple(TensorInfo(str(name), "U8", (0,), 0, 0) for name in names))
        for file, names in lists.items()
        if isinstance(names, list)
    }


def _equal(what: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        raise Finding(f"{what} differ: {ours!r:.500} and {theirs!r:.500}")


TARGETS: Final[dict[str, Target]] = {
    "header": header,
    "rules": rules,
    "file": file,
    "index": index,
    "recipe": recipe,
    "sidecar": sidecar,
    "journal": journal,
    "document": document,
}
