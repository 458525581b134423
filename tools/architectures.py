"""The page docs/reference/architectures.md, from the packaged catalogue: what a config states."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from convsurgeon.sources.catalogue import table as packed
from convsurgeon.sources.expressions import fields

_HEAD = """\
What a `config.json` states, read without the library: for each model type of transformers and each
class of diffusers the convolutions that can be [eligible](../explanation.md) with a kernel above 1.
Numbers stand in the code of the class, names are fields of its config, with the value that the
class takes where a config leaves them out. All of it was [read off the running
code](../decisions/0010-facts-read-off-running-code.md).

- `*` in a module's name stands for any number. `strides[*]` is the element of that number; where a
  name has several `*`, `*1` is the first.
- Sizes with `×` differ by axis; `= kernel` is the very same expression.
- A name may have that of the base model in front, such as `vit.`: what the classes of one model
  type share is listed once, by its shortest name.
- What is not listed is refused (windows that overlap, padding, groups), has kernel 1, or is not
  told from the config: `scan --explain` says which.
"""
_CATALOGUE = Path(packed.__file__).with_name("catalogue.bin")
_UNITS = ("k", "s", "p")


_Cells = tuple[str, str, str, str, str]


class Line(NamedTuple):
    """One row of a table."""

    owner: str
    module: str
    kernel: str
    stride: str
    padding: str
    values: str


def page(note: str) -> str:
    """Return the page of what configs state; `note` says that it is generated."""
    table = packed.unpack(_CATALOGUE.read_bytes())
    lines = [f"# Architectures\n\n{note}\n\n{_HEAD}"]
    for kind, title in (("transformers", "model type"), ("diffusers", "class")):
        found = sorted(set(_lines(table, kind)), key=lambda line: (line.owner.lower(), line))
        lines += [f"## {kind}\n", f"| {title} | module | kernel | stride | padding | by default |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        lines += ["| " + " | ".join(line) + " |" for line in found] + [""]
    return "\n".join([*lines, *_timm(table)]) + "\n"


def _timm(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the section about names that stand for one model each."""
    names = [key for key in table if key.startswith("timm:")]
    patches = [key for key in names if any(map(_separate, _rows(table[key])))]
    everything = table["architectures"]
    sources = sorted({name.partition(" ")[0] for name in everything})
    bodies = sum(key.startswith("body:") for key in table)
    yield "## timm\n"
    text = f"""A `config.json` of timm names an `architecture`; {len(names):,} are known, of which
        {len(patches):,} have a convolution with separate patches of more than one pixel. Their
        geometry is that of the built model. After an argument in `model_args` that may change it,
        nothing is stated."""
    yield from _paragraph(text)
    yield "\n## Header alone\n"
    text = f"""Inferences rest on {bodies:,} sets of names, taken from {len(everything):,} models of
        {", ".join(sources[:-1])} and {sources[-1]}; see [what a bare header can and cannot
        prove](../accuracy.md#what-a-bare-header-can-and-cannot-prove)."""
    yield from _paragraph(text)


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), 100, break_long_words=False, break_on_hyphens=False
    )


def _separate(row: Mapping[str, Any]) -> bool:
    """Tell whether a layer that was seen once has separate patches above 1."""
    return row.get("o") == {"stride": "kernel"} and max(row.get("k", [1])) > 1


def _rows(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for rows in entry["slots"].values():
        yield from rows


def _lines(table: Mapping[str, Any], kind: str) -> Iterator[Line]:
    """Yield the lines of a library; those that differ in a prefix alone under the shortest name."""
    found: dict[tuple[str, *_Cells], set[str]] = {}
    for key, entry in table.items():
        library, _, owner = key.partition(":")
        owner = owner.partition(":")[0]
        if library != kind or not owner:
            continue
        for name, rows in entry["slots"].items():
            for row in filter(can_be_eligible, rows):
                module, cells = _shown(name, row, entry["defaults"])
                found.setdefault((owner, *cells), set()).add(module)
    for (owner, kernel, stride, padding, values, behind), modules in found.items():
        for module in modules:
            if not any(module.endswith(f".{other}") for other in modules):
                shown = f"`{module}`{behind}"
                yield Line(f"`{owner}`", shown, kernel, stride, padding, values)


def can_be_eligible(row: Mapping[str, Any]) -> bool:
    """Tell whether some config makes a layer one with separate patches above 1."""
    if "s" not in row or row["t"] or row["g"] != 1 or set(map(str, row["d"])) != {"1"}:
        return False
    if all(size == 1 for size in row["k"]):
        return False
    # `patch_sizes // 2` is no 0 for any kernel above 1, `(patch_size - stride) // 2` may be.
    unpadded = all(size == 0 or _plain(size) or _subtracts(size) for size in row["p"])
    return unpadded and all(map(_may_agree, row["k"], row["s"]))


def _subtracts(expression: Any) -> bool:
    if not isinstance(expression, dict) or "op" not in expression:
        return False
    return expression["op"] == "-" or _subtracts(expression["a"]) or _subtracts(expression["b"])


def _may_agree(kernel: Any, stride: Any) -> bool:
    if kernel == stride:
        return True
    if stride == 1 or (isinstance(kernel, int) and isinstance(stride, int)):
        return False
    return all(isinstance(size, int) or _plain(size) for size in (kernel, stride))


def _plain(expression: Any) -> bool:
    return isinstance(expression, dict) and "op" not in expression


def _shown(name: str, row: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[str, _Cells]:
    """Return the module's name, and the cells with what stands behind the name at the end."""
    module = name.removesuffix(".weight")
    stars = module.count("*")
    if len(row.get("i", ())) == 1:
        numbers = iter(row["i"][0])
        module = re.sub(r"\*", lambda _: str(next(numbers)), module)
    elif "i" in row:
        places = sorted({index[0] for index in row["i"]})
        module = module.replace("*", "{" + ",".join(map(str, places)) + "}", 1)
    used = sorted({field for unit in _UNITS for field in fields(row[unit])})
    told = {f: json.dumps(defaults[f]) if f in defaults else "must be given" for f in used}
    values = ", ".join(f"`{f}` {value}" for f, value in told.items())
    switches = [f"`{f}` {json.dumps(v)}" for f, v in row.get("if", {}).items()]
    behind = f" (with {', '.join(switches)})" if switches else ""
    kernel, stride, padding = (_sizes(row[unit], stars) for unit in _UNITS)
    return module, (kernel, "= kernel" if stride == kernel else stride, padding, values, behind)


def _sizes(expressions: list[Any], stars: int) -> str:
    first = expressions[0]
    if _plain(first) and [{**first, "i": [n]} for n in range(len(expressions))] == expressions:
        return f"`{first['f']}` per axis"
    shown = [_text(expression, stars) for expression in expressions]
    apart = [f"({text})" if " " in text else text for text in shown]
    text = " × ".join(apart) if len(set(shown)) > 1 else shown[0]
    return text if text.isdigit() else f"`{text}`"


def _text(expression: Any, stars: int) -> str:
    if isinstance(expression, int):
        return str(expression)
    if "op" in expression:
        texts = [_text(expression[side], stars) for side in ("a", "b")]
        sides = (f"({t})" if " " in t else t for t in texts)
        return f" {expression['op']} ".join(sides)
    return str(expression["f"]) + "".join(f"[{_number(i, stars)}]" for i in expression.get("i", ()))


def _number(at: Any, stars: int) -> str:
    if isinstance(at, int):
        return str(at)
    place, offset = at
    star = "*" if stars == 1 else f"*{place + 1}"
    return f"{star} {offset:+}".replace(" +", " + ").replace(" -", " - ") if offset else star
