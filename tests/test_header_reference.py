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
from tests.crafted_headers import VALID, f32
from tests.strategies import headers, mutated

DESERIALIZE: Any = safetensors.deserialize


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
