"""Crafted files: what hostile, broken and odd checkpoints look like, byte for byte.

`python -m tests.crafted_files FOLDER` writes them all, each under its name. What becomes of each is
pinned in `tests/snapshots/crafted_files.txt`, and checked by `tests/test_crafted_files.py`.
"""

from __future__ import annotations

import gzip
import io
import pickle
import re
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.crafted_headers import FINE, FOUR, MALFORMED, META, TENSOR, VALID, one, u8
from tests.files import framed

FILE = framed(FINE, b"data")
"""The smallest useful file: one tensor of four bytes."""
HEADER_END = len(FILE) - 4

ESC, BIDI, MARKUP = (
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egpj.exe\u2066",
    "[bold red]x[/] [link=file:///]",
)
NAMES = {
    "terminal escapes": ESC,
    "C1 controls": "\x9b2J\x90",
    "bidi": BIDI,
    "markup": MARKUP,
    "broken markup": "[/nothing]",
    "HTML": "<script>alert(1)</script>|`x`",
    "newlines": "a\nconvsurgeon: all is well\r\n\u2028\u2029",
    "NUL": "a\0b",
    "zero width": "a\u200b\ufeffb",
    "tags": "\U000e0001\U000e0041",
    "100,000 characters": "n" * 100_000,
    "100,000 escaped characters": "\u202e" * 100_000,
    "a path": "../../../etc/passwd",
    "percent and braces": "%s %n {0} {name!r}",
}


def quoted(name: str) -> str:
    """A name as JSON, its controls as escapes."""
    return "".join(
        f"\\u{ord(c):04x}" if c < " " else {'"': '\\"', "\\": "\\\\"}.get(c, c) for c in name
    )


def _lengths() -> dict[str, bytes]:
    whole, data = FINE.encode(), b"data"
    lengths = {
        "0": 0, "1": 1, "one less than the text": len(whole) - 1, "up to the end": len(whole) + 4,
        "one more than the file": len(whole) + 5, "just above 25 MB": 25_000_001,
        "the format's limit": 100_000_000, "above the format's limit": 100_000_001,
        "2^31": 2**31, "2^32 + the length": 2**32 + len(whole), "2^63": 2**63,
        "2^63 + the length": 2**63 + len(whole), "2^64 - 8": 2**64 - 8, "2^64 - 1": 2**64 - 1,
    }  # fmt: skip
    found = {f"length: {name}": framed(whole, data, n) for name, n in lengths.items()}
    found["length: big-endian"] = len(whole).to_bytes(8, "big") + whole + data
    found["length: four bytes only"] = len(whole).to_bytes(4, "little") + whole + data
    return found


def _cuts() -> dict[str, bytes]:
    places = {
        "in the length": 4, "behind the length": 8, "behind the brace": 9, "in the name": 11,
        "in the header": 40, "before the last brace": HEADER_END - 1, "behind the header": HEADER_END,
        "in the data": HEADER_END + 2, "before the last byte": len(FILE) - 1,
    }  # fmt: skip
    found = {f"cut: {name}": FILE[:end] for name, end in places.items()}
    found["cut: one byte too many"] = FILE + b"\0"
    found["cut: the header twice"] = FILE[:HEADER_END] + FILE
    found["cut: the file twice"] = FILE + FILE
    return found


def _archive(*names: str, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"x" * 40)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.safetensors"))
    return stream.getvalue()


def _others() -> dict[str, bytes]:
    """Files of another format, and files of two."""
    code = b"cos\nsystem\n(S'touch owned'\ntR."
    found = {
        "nothing": b"",
        "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 123\n",
        "web page": b"<!DOCTYPE html><html><body>401</body></html>",
        "web page behind blanks": b"\n\n  <html>" + b" " * 60,
        "XML": b"<?xml version='1.0'?><Error>AccessDenied</Error>",
        "JSON": b'{"error": "not found", "code": 404}',
        "text": b"Entry not found\r\n\tsee the page\n",
        "text with escapes": b"\x1b[2J\x1b]0;owned\x07" + b"x" * 60,
        "script": b"#!/bin/sh\ntouch owned\n",
        "zip": _archive("archive/data.pkl"),
        "npz": _archive("arr_0.npy", method=zipfile.ZIP_DEFLATED),
        "NumPy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False}",
        "GGUF": b"GGUF" + (3).to_bytes(4, "little") + bytes(64),
        "GGML": b"lmgg" + bytes(64),
        "ONNX": b"\x08\x07\x12\x07pytorch\x1a\x051.0.0" + bytes(60),
        "TensorFlow graph": b"\x0a\x10\x0a\x05input\x12\x0bPlaceholder" + bytes(60),
        "Keras": b"\x89HDF\r\n\x1a\n" + bytes(64),
        "gzip": gzip.compress(b"x" * 99, mtime=0),
        "Zstandard": b"\x28\xb5\x2f\xfd" + bytes(range(60)),
        "tar": _tar(),
        "ELF": b"\x7fELF\x02\x01\x01" + bytes(60),
        "PDF": b"%PDF-1.7\n" + b"%\xe2\xe3\xcf\xd3\n" + bytes(60),
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(60),
        "pickle, protocol 0": code + bytes(40),
        "zeros": bytes(4096),
        "ones": b"\xff" * 4096,
        "zip behind a file": FILE + _archive("archive/data.pkl"),
        "pickle behind a file": FILE + code,
        "zip in front of a file": _archive("archive/data.pkl") + FILE,
    }
    for protocol in (2, 3, 4, 5):
        found[f"pickle, protocol {protocol}"] = pickle.dumps({"w": list(range(99))}, protocol)
    return {f"other: {name}": content for name, content in found.items()}


def _names() -> dict[str, bytes]:
    """Broken files whose names and values drive terminals, in each place that a message shows."""
    found: dict[str, bytes] = {}
    bad = TENSOR.replace("U8", "F99")
    for name, text in NAMES.items():
        found[f"name: {name}"] = framed(f'{{"{quoted(text)}":{bad}}}', b"data")
    for name, text in (("escapes", ESC), ("bidi", BIDI), ("markup", MARKUP)):
        q = quoted(text)
        found[f"name: overlap of {name}"] = framed(f'{{"a":{TENSOR},"{q}":{TENSOR}}}', b"data")
        found[f"name: dtype of {name}"] = framed(one(FOUR.replace("U8", q)), b"data")
        found[f"name: metadata key of {name}"] = framed(META % f'{{"{q}":1}}', b"data")
        found[f"name: half a surrogate behind {name}"] = framed(
            f'{{"{q}\\ud800":{TENSOR}}}', b"data"
        )
    return found


REFUSED: dict[str, bytes] = {
    **{f"header: {name}": framed(text, b"data") for name, text in MALFORMED.items()},
    **_lengths(), **_cuts(), **_others(), **_names(),
}  # fmt: skip


def _valid() -> dict[str, bytes]:
    found = {name: framed(text, bytes(range(size))) for name, (text, size, _) in VALID.items()}
    for name, text in NAMES.items():
        q = quoted(text)
        found[f"name of {name}"] = framed(
            f'{{"__metadata__":{{"{q}":"{q}"}},"{q}":{TENSOR}}}', b"data"
        )
    inside = _archive("archive/data.pkl")
    found["zip inside a tensor"] = framed(u8(f"[{len(inside)}]", f"[0,{len(inside)}]"), inside)
    found["length of 123, the byte of '{'"] = framed(FINE.ljust(123), b"data")
    found["length of 0x8002, a pickle's beginning"] = framed(FINE.ljust(0x280), b"data")
    found["a header of one mebibyte"] = framed(FINE.ljust(1 << 20), b"data")
    return found


ACCEPTED: dict[str, bytes] = _valid()


def file_name(name: str) -> str:
    """The name on disk of a crafted file: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:80] + ".safetensors"


def main(folder: Path) -> None:
    """Write every file, the refused ones and the accepted ones each into a folder."""
    for kind, files in (("refused", REFUSED), ("accepted", ACCEPTED)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number, (name, content) in enumerate(files.items()):
            (folder / kind / f"{number:03}-{file_name(name)}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
