"""PyTorch files (.pt, .pth, .bin, .ckpt): weights only, memory-mapped, never otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import HeaderError, PickleError
from convsurgeon.header import Header, lay_out, pack
from convsurgeon.store.opening import opened
from convsurgeon.store.pickle_reader import PickleReader
from convsurgeon.store.sniff import no_weights
from convsurgeon.store.source import Reader, Stamp

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_MIN_TORCH = (2, 10)  # CVE-2025-32434 and CVE-2026-24747: older unpicklers are not safe
_MAX_DEPTH = 4
_PLAIN = "save plain, contiguous tensors"
_TELLING = re.compile(r"WeightsUnpickler error: (?=\S)|(?=Trying to load unsupported)")

DTYPE_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "complex64": "C64",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
"""torch's name of a dtype -> the format's, for those that a file can hold."""

# Where a state dict stands, the dictionary, and what stands beside it on the way there.
_Candidate = tuple[tuple[str, ...], Mapping[str, Any], tuple[str, ...]]


@dataclass(frozen=True)
class PickleFile:
    """A PyTorch file, seen as the safetensors file that its tensors make up."""

    path: Path
    header: Header
    key: str | None
    stamp: Stamp
    dropped: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of that safetensors file."""
        return len(lay_out(self.header)) + self.header.data_bytes

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open it; see `Source.reader`."""
        with opened(self.path) as fd:
            self.stamp.check(fd, self.path)
            tensors, _ = _load(self.path, self.key)
            yield PickleReader(self.path, fd, self.header, tensors)
        with opened(self.path) as fd:  # by its name, as torch opened it
            self.stamp.check(fd, self.path)


def read_pickle(path: Path, key: str | None = None) -> PickleFile:
    """Read what a PyTorch file holds.

    Args:
        path: the file.
        key: which of several nested dictionaries, joined with dots: `state_dict`, `model_ema`.

    Raises:
        PickleError: CS050 where it cannot be read with weights only, CS051 where several
            dictionaries could be meant, CS052 where torch is missing or too old.
        UnreadableError: CS030, CS037.
    """
    with opened(path) as fd:
        stamp = Stamp.of(fd)
        wrong = no_weights(os.pread(fd, 64, 0))
    if wrong:
        raise wrong.at(path)
    tensors, dropped = _load(path, key)
    for name, tensor in tensors.items():
        _check(path, name, tensor, stamp.size)
    entries = ((n, DTYPE_NAMES[str(t.dtype)[6:]], tuple(t.shape)) for n, t in tensors.items())
    try:
        header = pack(entries, {"format": "pt"})
    except HeaderError as error:  # a name or a rank that safetensors cannot hold
        raise error.at(path) from None
    return PickleFile(path, header, key, stamp, dropped)


def _load(path: Path, key: str | None) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    try:
        import torch
    except ImportError:
        hint = "pip install 'convsurgeon[torch]'"
        message = "reading a PyTorch file needs torch"
        raise PickleError("CS052", message, where=path, hint=hint) from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < _MIN_TORCH:
        message = f"torch {torch.__version__} has known holes in reading weights only"
        raise PickleError("CS052", message, where=path, hint="install torch 2.10 or newer")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # noqa: BLE001 - a hostile file makes the unpickler raise anything
        message = f"cannot be read with weights only: {_clause(error)}"
        hint = "save its state_dict again with a current torch where the file is trusted"
        raise PickleError("CS050", message, where=path, hint=hint) from None
    return _choose(path, content, key)


def _clause(error: Exception) -> str:
    """Return what is wrong without torch's advice, which is to read the file unsafely."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    if telling:
        return _TELLING.split(telling[0], maxsplit=1)[-1].partition(". ")[0][:200]
    if "Weights only" in text or not lines:
        return type(error).__name__
    return lines[0][:200]


def _choose(
    path: Path, content: object, key: str | None
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    candidates = list(_state_dicts(content, (), set()))
    names = [".".join(place) for place, _, _ in candidates]
    listed = ", ".join(map(repr, names))
    found = dict(zip(names, candidates, strict=True))
    twice = len(found) < len(names) and (key is None or names.count(key) > 1)
    if twice or (key is None and len(found) > 1):
        hint = f"choose one with --key: {listed}"
        raise PickleError("CS051", f"it holds {len(names)} state dicts", where=path, hint=hint)
    key = next(iter(found), None) if key is None else key
    if key is None or key not in found:
        what = "no state dict" if not found else f"no state dict under {key!r}"
        hint = f"it has {listed}" if found else "save the model's state_dict()"
        raise PickleError("CS051", f"it holds {what}", where=path, hint=hint)
    place, chosen, beside = found[key]
    tensors = {name: value for name, value in chosen.items() if _is_tensor(value)}
    others = [".".join((*place, name)) for name in chosen if name not in tensors]
    return tensors, tuple(sorted((*beside, *others)))


def _state_dicts(
    content: object, place: tuple[str, ...], seen: set[int], beside: tuple[str, ...] = ()
) -> Iterator[_Candidate]:
    """Yield each dictionary that holds tensors under text keys, outermost first.

    A dictionary with one tensor beside whole state dicts (a step counter) is one of several: which
    is meant, only the user knows.
    """
    if not isinstance(content, Mapping) or len(place) > _MAX_DEPTH or id(content) in seen:
        return
    if any(not isinstance(name, str) for name in content):
        return
    seen.add(id(content))  # a pickle can hold a dictionary that holds itself
    if any(_is_tensor(value) for value in content.values()):
        yield place, content, beside
    for name, value in content.items():
        others = tuple(".".join((*place, other)) for other in content if other != name)
        yield from _state_dicts(value, (*place, name), seen, (*beside, *others))


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _check(path: Path, name: str, tensor: torch.Tensor, file_size: int) -> None:
    import torch

    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not plain or str(tensor.dtype)[6:] not in DTYPE_NAMES:
        what = f"{name} is {tensor.dtype}, {tensor.layout}, {tensor.device}"
        raise PickleError(
            "CS050", f"safetensors cannot hold a tensor: {what}", where=path, hint=_PLAIN
        )
    # A stride of 0 lets four bytes claim to be 32 GiB, and writing it out would need them.
    if tensor.numel() * tensor.element_size() > file_size:
        raise PickleError(
            "CS050", f"{name} claims more bytes than the file has", where=path, hint=_PLAIN
        )
