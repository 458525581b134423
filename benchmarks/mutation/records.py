"""Damage to the record of the swap that stands in the metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from mutation.cases import LAYOUTS, from_conv, stored, to_conv
from mutation.content import RECIPE, Content, pack
from mutation.floats import codes
from mutation.kind import Kind, Parameters, Subject

Edit = Callable[[dict[str, Any]], object]
"""Changes the record in place."""


def _damage(edit: Edit) -> Callable[[Subject, Parameters], bytes]:
    def damage(subject: Subject, _: Parameters) -> bytes:
        record = json.loads(subject.after.metadata[RECIPE])
        edit(record)
        return pack(_with_record(subject.after, json.dumps(record)))

    return damage


def _with_record(content: Content, text: str) -> Content:
    return content.saying(**{RECIPE: text})


def _once(_: Subject, __: Random) -> Iterator[Parameters]:
    yield ()


def _cut(subject: Subject, _: Parameters) -> bytes:
    return pack(_with_record(subject.after, subject.after.metadata[RECIPE][:-9]))


def _removed(subject: Subject, _: Parameters) -> bytes:
    return pack(subject.after.silent(RECIPE))


def _first(record: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = record["steps"][0]
    return step


def _turn(digest: str) -> str:
    return ("0" if digest[0] != "0" else "1") + digest[1:]


def _other_digest(record: dict[str, Any]) -> None:
    _first(record)["sha256"] = _turn(_first(record)["sha256"])


def _other_header_digest(record: dict[str, Any]) -> None:
    record["original"]["header_sha256"] = _turn(record["original"]["header_sha256"])


def _other_layout(record: dict[str, Any]) -> None:
    _first(record)["layout"] = LAYOUTS[1 - LAYOUTS.index(_first(record)["layout"])]


def _axes_exchanged(record: dict[str, Any]) -> None:
    """Exchange two axes of the conv's shape; where the sizes are equal, the record stays true."""
    step = _first(record)
    for side in ("from", "to"):
        if len(step[side]["shape"]) > 2:
            step[side]["shape"][1:3] = step[side]["shape"][2:0:-1]


def _backwards(record: dict[str, Any]) -> None:
    step = _first(record)
    step["from"], step["to"] = step["to"], step["from"]


def _more(field: str) -> Edit:
    """Let the geometry of the last step have one more of something on every axis."""

    def edit(record: dict[str, Any]) -> None:
        geometry = record["steps"][-1]["geometry"]
        geometry[field] = [size + 1 for size in geometry[field]]

    return edit


def _grouped(record: dict[str, Any]) -> None:
    record["steps"][-1]["geometry"]["groups"] = 2


def _where_layouts_differ(subject: Subject, _: Random) -> Iterator[Parameters]:
    if subject.case.conv[1] > 1 and max(subject.case.conv[2:]) > 1:
        yield ()


def _detour(subject: Subject, _: Parameters) -> bytes:
    """Return a weight whose elements moved by what the record says: there, back misread, there.

    A linear weight that is read in another layout than it was written in is another function. Each
    step of the record is a true rearrangement nevertheless, which the bits follow; the function
    proof looks at the two ends only.
    """
    of, name = subject.case, subject.case.weights[0]
    other = replace(of, layout=LAYOUTS[1 - LAYOUTS.index(of.layout)])
    dtype, shape, data = subject.after.tensors[name]
    elements = codes(data, dtype).reshape(shape)
    record = json.loads(subject.after.metadata[RECIPE])
    step = _first(record)
    back = {**step, "from": step["to"], "to": step["from"]}
    if of.to == "linear":
        moved, misread = from_conv(to_conv(elements, other), of), {**back, "layout": other.layout}
        record["steps"] += [misread, step]
    else:
        moved, misread = to_conv(from_conv(elements, of), other), {**step, "layout": other.layout}
        record["steps"] += [back, misread]
    content = subject.after.having(**{name: stored(moved, dtype)})
    return pack(_with_record(content, json.dumps(record)))


KINDS: tuple[Kind, ...] = (
    Kind("record missing", _once, _removed),
    Kind("record of a detour, and a weight that took it", _where_layouts_differ, _detour),
    Kind("record cut off", _once, _cut),
    *(
        Kind(name, _once, _damage(edit))
        for name, edit in (
            ("record of another version", lambda r: r.update(schema=r["schema"][:-1] + "9")),
            ("record without steps", lambda r: r.update(steps=[])),
            ("record without its last step", lambda r: r["steps"].pop()),
            ("record of a step twice", lambda r: r["steps"].append(_first(r))),
            ("record of another weight", lambda r: _first(r).update(key="other.weight")),
            ("record of an untouched weight", lambda r: _first(r).update(key="after.weight")),
            ("record of the other direction", _backwards),
            ("record of another layout", _other_layout),
            ("record of another shape", _axes_exchanged),
            ("record of another weight's digest", _other_digest),
            ("record of another header's digest", _other_header_digest),
            (
                "record of another header's length",
                lambda r: r["original"].update(header_length=r["original"]["header_length"] + 8),
            ),
            (
                "record of metadata that there were",
                lambda r: r["original"].update(has_metadata=not r["original"]["has_metadata"]),
            ),
            ("said: dropped objects", lambda r: r["original"].update(dropped=["epoch"])),
            ("record of another header", lambda r: r["original"].update(header="eJyrrgUAAXUA+Q==")),
            ("record of padding", _more("padding")),
            ("record of dilation", _more("dilation")),
            ("record of groups", _grouped),
            ("record of another kernel", _more("kernel")),
            ("said: another stride", _more("stride")),
            ("said: other evidence", lambda r: _first(r)["evidence"].update(source="a rumour")),
            ("said: another rule", lambda r: _first(r).update(rule="magic")),
            ("said: another file name", lambda r: r["original"].update(name="other.safetensors")),
            ("said: another tool", lambda r: r.update(tool="another 1.0")),
        )
    ),
)
