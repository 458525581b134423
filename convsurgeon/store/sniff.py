"""Call a file that is not what its name says by its right name."""

from __future__ import annotations

from convsurgeon.errors import ConvsurgeonError, UnreadableError
from convsurgeon.limits import FORMAT_MAX_HEADER

_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml")

# First bytes -> what the file is. Asked only where no header follows: a length of 123 begins with
# the byte of "{" as well, and the first eight bytes of some gzip archives are a plausible length.
_MAGIC = (
    (b"PK\x03\x04", "a zip archive, probably a PyTorch file (.pt, .pth, .bin)"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"tjgg", "a GGML file"),
    (b"lmgg", "a GGML file"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "an image"),
    # The version of its IR, then the name of who wrote it.
    *((b"\x08%c\x12" % version, "an ONNX model") for version in range(3, 16)),
    (b"{", "JSON text"),
)
_TEXT_SAMPLE = 64
_LAYOUT = str.maketrans("", "", "\t\r\n")


def no_weights(first: bytes) -> ConvsurgeonError | None:
    """Return the error for a file that is empty, a pointer or a web page, whatever its name."""
    if not first:
        hint = "an interrupted download or copy: fetch it again"
        return UnreadableError("CS031", "the file is empty", hint=hint)
    if first.startswith(_LFS):
        hint = "run git lfs pull in its repository"
        return UnreadableError("CS033", "this is a Git LFS pointer, not the weights", hint=hint)
    if first.lstrip()[:_TEXT_SAMPLE].lower().startswith(_HTML):
        hint = "download it again; open it to see what the server said"
        return UnreadableError("CS034", "this is a web page, not the weights", hint=hint)
    return None


def misnamed(first: bytes) -> ConvsurgeonError | None:
    """Return the error that says what a file really is; None where it may be safetensors.

    Args:
        first: its first bytes, at least 64 where it has as many.
    """
    if wrong := no_weights(first):
        return wrong
    plausible = int.from_bytes(first[:8], "little") <= FORMAT_MAX_HEADER and len(first) >= 8
    for magic, name in () if plausible and first[8:9] == b"{" else _MAGIC:
        if first.startswith(magic) and (len(magic) > 1 or not plausible):
            hint = "rename it to what it is, or name the right file"
            return UnreadableError("CS035", f"this is {name}, not a safetensors file", hint=hint)
    # Fewer than eight bytes can be the beginning of a length as well.
    text = len(first) >= 8 and not plausible and first.isascii()
    if text and first.decode("ascii").translate(_LAYOUT).isprintable():
        hint = "rename it to what it is, or name the right file"
        return UnreadableError("CS035", "this is a text file, not a safetensors file", hint=hint)
    return None
