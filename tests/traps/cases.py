"""What a row of the tables is: a file that a careless tool would rewrite, and the right answer."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convsurgeon.api.choices import Choices
from convsurgeon.header import lay_out, pack
from tests.files import counting

Shape = tuple[int, ...]
Tensors = Mapping[str, tuple[str, Shape]]
Answer = tuple[str, str | None, str]
"""A verdict, its code, words of its reason."""

PLAIN: Tensors = {"proj.weight": ("F32", (8, 3, 4, 4)), "proj.bias": ("F32", (8,))}


@dataclass(frozen=True)
class Trap:
    """A file, what may be claimed about it, and the right answer.

    Attributes:
        why: what goes wrong for who walks into it.
        tensors: dtype and shape by name.
        answers: by name; a tensor without an answer must not be listed at all.
        metadata: of the file.
        to: the form that is asked for.
        cured: the same without the trap, which the same claims make eligible.
    """

    why: str
    tensors: Tensors
    answers: Mapping[str, Answer]
    metadata: Mapping[str, str] = field(default_factory=dict)
    to: str = "linear"
    cured: Tensors = field(default_factory=lambda: PLAIN)


def save(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    """Write the tensors as the reference would, in their order."""
    header = pack([(name, *tensor) for name, tensor in tensors.items()], dict(metadata or {}))
    path.write_bytes(lay_out(header) + counting(header.data_bytes))
    return path


def claims(tensors: Tensors, to: str) -> Choices:
    """The strongest statement there is, the user's, that every layer may be rewritten."""
    if to == "conv":
        return {"to": to, "method": "1x1", "layers": ["*"]}
    convs = {n: shape for n, (_, shape) in tensors.items() if n.endswith(".weight")}
    modules = {n.rpartition(".")[0]: s[2:] for n, s in convs.items() if len(s) in (3, 4, 5)}
    sizes = {module: "x".join(map(str, kernel)) for module, kernel in modules.items()}
    return {"geometry": [f"{glob.escape(m)}=k{size},s{size}" for m, size in sizes.items()]}
