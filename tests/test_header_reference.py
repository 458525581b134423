"""Whatever we accept, the reference accepts with the same content."""

from __future__ import annotations

import json
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from convsurgeon.errors import ConvsurgeonError
from convsurgeon.header import Header, lay_out, parse
from tests.crafted_headers import FINE, META, PAIR, f32, one, u8
from tests.strategies import headers, mutated

DESERIALIZE: Any = safetensors.deserialize

# A text, the bytes of data, and what it says: shapes by name.
VALID: dict[str, tuple[str, int, dict[str, tuple[int, ...]]]] = {
    "no tensors": ("{}", 0, {}),
    "white space inside": ("{ \t\r\n}", 0, {}),
    "padding": ("{}" + " " * 100, 0, {}),
    "metadata only": ('{"__metadata__":{}}', 0, {}),
    "metadata last": (FINE[:-1] + ',"__metadata__":{"k":"v"}}', 4, {"a": (4,)}),
    "metadata spaced": (META % '{ "k" :\n"v" , "l":"" }', 4, {"a": (4,)}),
    "one tensor": (FINE, 4, {"a": (4,)}),
    "spaced": (FINE.replace(":", " : ").replace(",", "\n,\t"), 4, {"a": (4,)}),
    "other order of fields": (
        one('"data_offsets":[0,4],"dtype":"F32","shape":[]'), 4, {"a": ()},
    ),
    "scalar": (u8("[]", "[0,1]"), 1, {"a": ()}),
    "empty tensor": (u8("[0]", "[0,0]"), 0, {"a": (0,)}),
    "empty tensor with a large size": (u8("[0,1099511627776]", "[0,0]"), 0, {"a": (0, 2**40)}),
    "rank 64": (u8("[" + ",".join(["1"] * 64) + "]", "[0,1]"), 1, {"a": (1,) * 64}),
    "spaces in a shape": (u8("[ 2 , 2 ]"), 4, {"a": (2, 2)}),
    "empty shape with a space": (u8("[ ]", "[ 0 , 1 ]"), 1, {"a": ()}),
    "F4 pair": (u8("[2]", "[0,1]").replace("U8", "F4"), 1, {"a": (2,)}),
    "F6 four": (u8("[4]", "[0,3]").replace("U8", "F6_E2M3"), 3, {"a": (4,)}),
    "misaligned F32": (PAIR.replace('"b":{"dtype":"U8"', '"b":{"dtype":"F32"').replace("[0,4]", "[0,3]").replace("[4]", "[3]") % ("[1]", "[3,7]"), 7, {"a": (3,), "b": (1,)}),
    "second before first": (PAIR.replace("[0,4]", "[3,7]") % ("[3]", "[0,3]"), 7, {"a": (4,), "b": (3,)}),
    "empty one on a boundary": (PAIR % ("[0]", "[4,4]"), 4, {"a": (4,), "b": (0,)}),
    "empty one at the beginning": (PAIR % ("[0]", "[0,0]"), 4, {"a": (4,), "b": (0,)}),
    "empty name": (FINE.replace('"a"', '""'), 4, {"": (4,)}),
    "name with escapes": (FINE.replace('"a"', r'"\u00e9\n\"\/"'), 4, {'é\n"/': (4,)}),
    "name with a NUL through an escape": (FINE.replace('"a"', r'"\u0000"'), 4, {"\0": (4,)}),
    "surrogate pair": (FINE.replace('"a"', r'"\uD83d\ude00"'), 4, {"\U0001f600": (4,)}),
    "non-ASCII name": (FINE.replace('"a"', '"größe\u2028"'), 4, {"größe\u2028": (4,)}),
    "DEL in a name": (FINE.replace('"a"', '"\x7f"'), 4, {"\x7f": (4,)}),
    "name like a field": (FINE.replace('"a"', '"dtype"'), 4, {"dtype": (4,)}),
    "name like metadata": (FINE.replace('"a"', '"__metadata__ "'), 4, {"__metadata__ ": (4,)}),
    "normal forms differ": ('{"\u00e9":%s,"e\u0301":%s}' % ((u8("[0]", "[0,0]")[5:-1],) * 2), 0, {"\u00e9": (0,), "e\u0301": (0,)}),
}  # fmt: skip


def assert_same(text: bytes, data_bytes: int, header: Header) -> None:
    """The reference reads the same names, dtypes, shapes and bytes."""
    data = bytes(i % 251 for i in range(data_bytes))
    read = DESERIALIZE(len(text).to_bytes(8, "little") + text + data)
    theirs = {name: (e["dtype"], tuple(e["shape"]), bytes(e["data"])) for name, e in read}
    ours = {t.name: (t.dtype, t.shape, data[t.begin : t.end]) for t in header.tensors}
    assert theirs == ours
    general = json.loads(text).get("__metadata__")
    assert general == (None if header.metadata is None else header.metadata_map)


@pytest.mark.parametrize(("text", "data_bytes", "shapes"), VALID.values(), ids=VALID.keys())
def test_valid(text: str, data_bytes: int, shapes: dict[str, tuple[int, ...]]) -> None:
    header = parse(text.encode(), data_bytes)
    assert {t.name: t.shape for t in header.tensors} == shapes
    assert_same(text.encode(), data_bytes, header)


@pytest.mark.parametrize("dtype", ["F32", "I32", "U32"])
def test_dtypes_of_four_bytes(dtype: str) -> None:
    assert parse(f32(f'"{dtype}"').encode(), 4).tensors[0].dtype == dtype


@given(headers())
def test_what_we_lay_out_the_reference_reads(header: Header) -> None:
    assert_same(lay_out(header)[8:], header.data_bytes, header)


@settings(max_examples=600)
@given(st.data(), headers())
def test_what_we_accept_of_a_mutated_header_the_reference_accepts(
    data: st.DataObject, header: Header
) -> None:
    text = data.draw(mutated(header, lay_out(header)[8:]))
    try:
        accepted = parse(text, header.data_bytes)
    except ConvsurgeonError:
        return
    assert_same(text, header.data_bytes, accepted)


def test_mutations_are_both_accepted_and_refused() -> None:
    """The property above would hold of a reader that refuses everything."""
    outcomes: set[str] = set()

    @given(st.data(), headers())
    def count(data: st.DataObject, header: Header) -> None:
        text = data.draw(mutated(header, lay_out(header)[8:]))
        try:
            parse(text, header.data_bytes)
            outcomes.add("accepted" if text != lay_out(header)[8:] else "unchanged")
        except ConvsurgeonError:
            outcomes.add("refused")

    count()
    assert outcomes >= {"accepted", "refused"}
