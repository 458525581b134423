"""Compare rows with an oracle: every difference by its kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tools.zoo.tables import Row

GEOMETRY = ("kernel", "stride", "padding", "dilation", "groups", "transposed")
FACTS = ("key", "type", "bias", "padding_mode", "overrides_forward", "parametrized", "eligible")


def differences(rows: Sequence[Row], oracle: Sequence[Row]) -> Iterator[str]:
    """Yield one line for each difference; architectures that only we have are none.

    Compared are the libraries that occur in `rows`. An oracle may count a tied tensor twice.
    """
    ours = {(row["source"], row["name"]): row for row in rows}
    sources = {row["source"] for row in rows}
    for row in oracle:
        name = f"{row['source']}:{row['name']}"
        mine = ours.get((row["source"], row["name"]))
        if row["source"] not in sources:
            continue
        if mine is None:
            yield f"missing: {name}"
            continue
        yield from (f"{kind}: {name} {text}" for kind, text in _between(mine, row))


def _between(mine: Row, row: Row) -> Iterator[tuple[str, str]]:
    for field in ("family", "cls"):
        if mine[field] != row[field]:
            yield field, f"{mine[field]} for {row[field]}"
    here, there = mine["tensors"], row["tensors"]
    there = {key: there[key] for key in there if key not in mine["tied"]}
    for kind, keys in (("more keys", here.keys() - there), ("fewer keys", there.keys() - here)):
        if keys:
            yield kind, f"{len(keys)}, as {min(keys)}"
    changed = sorted(key for key in here.keys() & there if here[key] != there[key])
    if changed:
        key = changed[0]
        yield "tensor", f"{len(changed)}, as {key}: {here[key]} for {there[key]}"
    yield from _convs(mine, row)


def _convs(mine: Row, row: Row) -> Iterator[tuple[str, str]]:
    here = {conv["module"]: conv for conv in mine["convs"]}
    there = {conv["module"]: conv for conv in row["convs"]}
    if here.keys() != there.keys():
        yield "convs", f"{sorted(here.keys() ^ there.keys())[:4]}"
    for kind in (*GEOMETRY, *FACTS):
        both = [m for m in there if m in here and here[m][kind] != there[m][kind]]
        if both:
            first = both[0]
            text = f"{here[first][kind]} for {there[first][kind]}"
            yield kind, f"{len(both)}, as {first}: {text}"
