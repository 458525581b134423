"""`verify --receipt`: an earlier verification, done again and compared."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, Unpack, cast

from convsurgeon.api.proving import VerifyChoices
from convsurgeon.api.verifying import verify
from convsurgeon.bounded_json import object_of
from convsurgeon.errors import ConvsurgeonError, UnreadableError, UsageError
from convsurgeon.proof import ReceiptCheck, Verdict
from convsurgeon.proof.receipt import compare_documents
from convsurgeon.proof.verdict import SCHEMA
from convsurgeon.sources.small_file import content_of

MAX_BYTES = 64_000_000
"""More than the receipt of a checkpoint with 10,000 rewritten layers."""


def verify_again(
    receipt: str | PathLike[str],
    original: str | PathLike[str] | None = None,
    swapped: str | PathLike[str] | None = None,
    *,
    function: bool = True,
    **choices: Unpack[VerifyChoices],
) -> Verdict:
    """Do again what a receipt says was done, and compare what is found.

    Files, proofs and statements are taken from the receipt. What runs code or opens other files is
    not: `model`, `evidence`, `loader` and `input_file` have to be given again.

    Args:
        receipt: what `verify --json` printed.
        original: where the file is now; by default where the receipt says, from the working folder,
            or from the receipt's own.
        swapped: the same; both are given, or neither.
        function: False where the receipt was made without, or else it is refused.
        **choices: see `VerifyChoices`; those that the receipt has must be the same.

    Returns:
        The new verdict with its `receipt`. It is not `equivalent` where a fact is otherwise.

    Raises:
        UnreadableError: CS085 where the receipt is damaged, CS030 where a file is not there.
        UsageError: CS090 for choices that are not the receipt's, or are missing.
        RefusedError: see `verify`.
    """
    path = Path(receipt)
    document = _read(path)
    earlier = _Earlier(path, document["asked"])
    files = earlier.files(original, swapped)
    chosen = earlier.choices({**choices, "function": function})
    try:
        verdict = verify(*files, **chosen)
    except UsageError as error:
        raise earlier.blamed(error) from None
    now = json.loads(json.dumps(verdict.to_json()))
    return replace(verdict, receipt=ReceiptCheck(str(path), *compare_documents(document, now)))


@dataclass(frozen=True, slots=True)
class _Form:
    """What a value under `asked` has to be, and who may set it.

    Attributes:
        name: in words.
        holds: whether a value has the form.
        again: whether the receipt may not set it: it runs code, or opens another file.
        moves: whether it may be spelled otherwise now: it holds a path.
    """

    name: str
    holds: Callable[[Any], bool]
    again: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What a receipt says was asked for.

    Attributes:
        path: of the receipt.
        asked: as it stands there.
    """

    path: Path
    asked: Mapping[str, Any]

    def files(self, *given: str | PathLike[str] | None) -> tuple[Path, ...]:
        """Return the files of the call, or else those of the receipt."""
        recorded = (self.asked["original"], self.asked["swapped"])
        names = [name for name in recorded if name is not None]
        paths = tuple(Path(one) for one in given if one is not None)
        if not paths:
            return tuple(map(self._found, names))
        if len(paths) != len(names):
            text = f"the receipt is about {len(names)} of them, the call names {len(paths)}"
            raise UsageError("CS090", text, where="files", hint="name as many, or none")
        return paths

    def choices(self, given: Mapping[str, Any]) -> VerifyChoices:
        """Return the keywords of `verify`."""
        function = self.asked["function"]
        if function and not given["function"]:
            raise UsageError("CS090", "the receipt was made without it", where="--bits")
        chosen = {name: value for name, value in given.items() if name not in _FORMS}
        repeated = {name: self._chosen(name, given.get(name)) for name in _FORMS}
        chosen |= {name: value for name, value in repeated.items() if value is not None}
        return cast("VerifyChoices", {**chosen, "function": function, "keep": True})

    def blamed(self, error: UsageError) -> ConvsurgeonError:
        """Return an error about a choice that nobody made but the receipt as one about that."""
        name = _keyword(error.where)
        if name not in self.asked or name not in _FORMS or _FORMS[name].again:
            return error
        text = f"what it asks for cannot be done: {error.where}: {error.message}"
        hint = "if a configuration file took part, name it with --config"
        return UnreadableError("CS085", text, where=self.path, hint=hint)

    def _found(self, name: str) -> Path:
        for place in (Path(name), self.path.parent / name):
            # Unlike Path.exists, it raises for no name, whatever stands in it.
            if os.path.exists(place):  # noqa: PTH110
                return place
        text = "the receipt names it, and neither the working folder nor the receipt's own has it"
        hint = "name the files: convsurgeon verify --receipt FILE.json ORIGINAL SWAPPED"
        raise UnreadableError("CS030", text, where=name, hint=hint)

    def _chosen(self, name: str, given: Any) -> Any:
        form = _FORMS[name]
        was, now = self.asked.get(name) or None, _plain(given)
        if was is not None and not form.holds(was):
            _stop(self.path, f"asked.{name} is not {form.name}")
        if now is None and was is not None and form.again:
            text = f"the receipt was made with {_option(name)} {was}; give it again"
            hint = "a receipt by itself runs no code and opens no other file"
            raise UsageError("CS090", text, where=self.path, hint=hint)
        if now is None or now == was:
            return was
        if was is None or not form.moves:
            before = f"with {was}" if was else "without it"
            text = f"the call says {now}, the receipt was made {before}"
            raise UsageError("CS090", text, where=_option(name), hint="leave it out")
        return now


def _read(path: Path) -> Mapping[str, Any]:
    stop = partial(_stop, path)
    document = object_of(content_of(path, MAX_BYTES, stop), stop)
    if document.get("schema") != SCHEMA:
        stop(f"its schema is not {SCHEMA}")
    if "errors" in document:
        stop("the call that it is from failed")
    for name in ("asked", "environment"):
        if not isinstance(document.get(name), dict):
            stop(f"{name} is no object, as it is where verify --json printed it")
    for name in ("files", "models"):
        if not _are_objects(document.get(name)):
            stop(f"{name} is no list of objects")
    asked = document["asked"]
    if not isinstance(asked.get("function"), bool):
        stop("asked.function is not true or false")
    names = asked.get("original"), asked.get("swapped", 0)
    if not _is_text(names[0]) or not (names[1] is None or _is_text(names[1])):
        stop("asked.original and asked.swapped do not name files")
    return document


def _stop(path: Path, why: str) -> NoReturn:
    raise UnreadableError("CS085", f"the receipt cannot be used: {why}", where=path)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_TEXT = _Form("a text", _is_text)
_TEXTS = _Form("a list of texts", _are_texts)
_AGAIN = replace(_TEXT, again=True)
_FORMS: Mapping[str, _Form] = {
    "exhaustive": _Form("true", lambda value: value is True),
    "geometry": _TEXTS,
    "input_shape": _TEXTS,
    "method": _TEXT,
    "layers": _TEXTS,
    "require_evidence": _TEXT,
    "key": _TEXT,
    "input": _TEXTS,
    "dtype": _TEXT,
    "model": replace(_AGAIN, moves=True),
    "evidence": _AGAIN,
    "loader": _AGAIN,
    "input_file": replace(_AGAIN, moves=True),
}
_OPTIONS = {"layers": "--layer"}


def _option(name: str) -> str:
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")


def _keyword(where: str) -> str:
    """Return the keyword of the option that an error is about; empty where it is about another."""
    option = where.partition(" ")[0]
    return next((name for name in _FORMS if _option(name) == option), "")


def _plain(value: Any) -> Any:
    """Return a choice as a document spells it; None where nothing is chosen."""
    if isinstance(value, list | tuple):
        return [str(one) for one in value] or None
    if not value:
        return None
    return value if isinstance(value, bool) else str(value)
