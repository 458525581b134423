"""The options that `scan` and `swap` share, once as keywords and once as one checked value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypedDict

from convsurgeon.errors import UsageError
from convsurgeon.evidence import Level
from convsurgeon.limits import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER
from convsurgeon.plan import Wish
from convsurgeon.rearrangement import CHANNEL_FIRST
from convsurgeon.sources.user import UserSpeaker
from convsurgeon.store import ReadOptions


class Choices(TypedDict, total=False):
    """Keywords of `scan` and `swap`.

    Attributes:
        to: `"linear"` (default) or `"conv"`.
        layers: glob patterns of the modules to rewrite; default all.
        exclude: glob patterns of the modules to leave alone.
        only: `"patchify"` (kernel above 1) or `"pointwise"` (kernel 1); default both.
        layout: `"c p1 p2"` (default) or `"p1 p2 c"`.
        geometry: statements like `"proj=k16,s16,p0,d1,g1"`.
        input_shape: statements like `"classifier.0=512x7x7"`, for `to="conv"`.
        method: `"kernel"` (default) or `"1x1"`, for `to="conv"`.
        model: code that builds the model: `"model.py:build"` or `"package.module:function"`.
        require_evidence: weakest level to act on: `"user"`, `"model"`, `"config"`, `"recipe"`,
            `"fingerprint"` (default).
        key: which dictionary of a PyTorch file that holds several.
        max_header_bytes: largest header to accept.
        recursive: whether folders are searched below their first level.
    """

    to: str
    layers: Sequence[str]
    exclude: Sequence[str]
    only: str | None
    layout: str
    geometry: Sequence[str]
    input_shape: Sequence[str]
    method: str
    model: str | None
    require_evidence: str
    key: str | None
    max_header_bytes: int
    recursive: bool


@dataclass(frozen=True, slots=True)
class Request:
    """The same, checked.

    Attributes:
        wish: what is to become of the layers.
        user: the user's own evidence.
        model: code that builds the model; None without.
        read: how files are read.
    """

    wish: Wish
    user: UserSpeaker
    model: str | None
    read: ReadOptions

    @classmethod
    def of(cls, choices: Choices) -> Self:
        """Check the keywords.

        Raises:
            UsageError: CS090, naming the option.
        """
        to = choices.get("to", "linear")
        inputs = tuple(choices.get("input_shape", ()))
        method = choices.get("method", "kernel")
        if to == "linear" and (inputs or method != "kernel"):
            option = "--input-shape" if inputs else "--method"
            raise UsageError("CS090", "it goes with --to conv", where=option)
        layers = tuple(choices.get("layers", ()))
        wish = Wish(
            to=to,
            layout=choices.get("layout", CHANNEL_FIRST),
            layers=layers,
            exclude=tuple(choices.get("exclude", ())),
            only=choices.get("only"),
            require=_level(choices.get("require_evidence", "fingerprint")),
        )
        user = UserSpeaker.parse(choices.get("geometry", ()), inputs, method, layers)
        read = ReadOptions(
            key=choices.get("key"),
            limit=_limit(choices.get("max_header_bytes", DEFAULT_MAX_HEADER)),
            recursive=choices.get("recursive", False),
        )
        return cls(wish, user, choices.get("model"), read)


def _level(name: str) -> Level:
    levels = {level.label: level for level in Level if level is not Level.NONE}
    if name not in levels:
        known = ", ".join(levels)
        raise UsageError("CS090", f"{name!r} is none of {known}", where="--require-evidence")
    return levels[name]


def _limit(limit: int) -> int:
    if not 0 < limit <= FORMAT_MAX_HEADER:
        message = f"{limit} is not between 1 and {FORMAT_MAX_HEADER}"
        raise UsageError("CS090", message, where="--max-header-bytes")
    return limit
