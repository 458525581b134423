"""The options that `scan` and `swap` share, once as keywords and once as one checked value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypedDict, cast

from convsurgeon.api.sliding import Sliding
from convsurgeon.errors import UsageError
from convsurgeon.evidence import Level
from convsurgeon.limits import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER
from convsurgeon.plan import Wish
from convsurgeon.rearrangement import CHANNEL_FIRST
from convsurgeon.sources.user import UserSpeaker
from convsurgeon.store import ReadOptions

if TYPE_CHECKING:
    from convsurgeon.sources.settings import Settings


class Choices(TypedDict, total=False):
    """Keywords of `scan` and `swap`.

    Attributes:
        to: `"linear"` (default) or `"conv"`.
        layers: glob patterns of the modules to rewrite; default all.
        exclude: glob patterns of the modules to leave alone.
        child_keys: whether the Linear's side is named as the inner layer of a drop-in,
            `proj.linear.weight`; `to="conv"` takes such a name away.
        only: `"patchify"` (kernel above 1) or `"pointwise"` (kernel 1); default both.
        layout: `"c p1 p2"` (default) or `"p1 p2 c"`.
        geometry: statements like `"proj=k16,s16,p0,d1,g1"`.
        input_shape: statements like `"classifier.0=512x7x7"`, for `to="conv"`.
        method: `"kernel"` (default) or `"1x1"`, for `to="conv"`.
        untie: whether a Linear that the model ties to an embedding is rewritten where the file
            holds both tensors, for `to="conv"`; default: it is refused (CS016).
        model: what builds the model: `"timm:NAME"`, `"torchvision:NAME"`, `"transformers:PATH"`,
            `"diffusers:PATH"`, `"FILE.pt2"`, `"model.py:build"` or `"package.module:function"`.
        example_input: the shape of the model's images, `"1x3x224x224"`, or `"dummy"`: for
            `to="conv"` its forward is followed, and states the inputs of its Linears.
        fully_convolutional: whether the model becomes one for larger images; see the function.
        pool: `"refuse"` (default) or `"behind"`, for `fully_convolutional`.
        evidence: `"model"` builds the model from the config.json beside each checkpoint, with the
            library that wrote it.
        require_evidence: weakest level to act on: `"user"`, `"model"`, `"config"`, `"recipe"`,
            `"fingerprint"` (default).
        key: which dictionary of a PyTorch file that holds several.
        max_header_bytes: largest header to accept.
        recursive: whether folders are searched below their first level.
        settings: what the command line read from a configuration file; a function reads none.
    """

    to: str
    layers: Sequence[str]
    exclude: Sequence[str]
    only: str | None
    child_keys: bool
    layout: str
    geometry: Sequence[str]
    input_shape: Sequence[str]
    method: str
    untie: bool
    model: str | None
    example_input: str | None
    fully_convolutional: bool
    pool: str
    evidence: str | None
    require_evidence: str
    key: str | None
    max_header_bytes: int
    recursive: bool
    settings: Settings | None


# Key of a configuration file -> keyword, where the names differ.
_KEYWORDS = {"layer": "layers"}
_MODELS = {"model", "evidence"}


@dataclass(frozen=True, slots=True)
class Request:
    """The same, checked.

    Attributes:
        wish: what is to become of the layers.
        user: the user's own evidence.
        model: what builds the model; None without.
        evidence: `"model"` where the config beside each checkpoint is to build it; None without.
        read: how files are read.
        settings: the configuration file that took part; None without.
        untie: whether tied weights that a file holds twice are rewritten.
        sliding: what is traced; None without.
    """

    wish: Wish
    user: UserSpeaker
    model: str | None
    evidence: str | None
    read: ReadOptions
    settings: Settings | None = None
    untie: bool = False
    sliding: Sliding | None = None

    @classmethod
    def of(cls, choices: Choices) -> Self:
        """Check the keywords, and what a configuration file sets where they leave it open.

        Statements about layers add up: where several match a layer the last one counts, and those
        of the call come last. Every other keyword of the call replaces the file's key.

        Raises:
            UsageError: CS090, naming the option, or the file and its key; CS093.
        """
        check_known(choices, Choices)
        settings = choices.get("settings")
        if settings is None:
            return cls._of(choices)
        open_keys = _left_open(choices, settings)
        set_there = {_keyword(key): settings.values[key] for key in open_keys}
        try:
            request = cls._of(cast("Choices", {**set_there, **choices}))
        except UsageError as error:
            key = error.where.removeprefix("--")
            if key in open_keys:
                error.where = f"{settings.path}: {key}"
            raise
        if request.sliding and request.sliding.fully:
            return replace(request, settings=settings)  # a network that a file cannot take part in
        geometries = (*settings.geometries, *request.user.geometries)
        # Unlike an option, a file may hold them although this call makes no convolutions.
        of_file = settings.inputs if request.wish.to == "conv" else ()
        inputs = (*of_file, *request.user.inputs)
        user = replace(request.user, geometries=geometries, inputs=inputs)
        return replace(request, user=user, settings=settings)

    @classmethod
    def _of(cls, choices: Choices) -> Self:
        sliding = Sliding.of(choices)
        to = choices.get("to", "conv" if sliding and sliding.fully else "linear")
        inputs = texts(choices, "input_shape")
        method = choices.get("method", "kernel")
        untie = choices.get("untie", False)
        given = {"--input-shape": bool(inputs), "--method": method != "kernel", "--untie": untie}
        if to == "linear" and any(given.values()):
            option = next(option for option, there in given.items() if there)
            raise UsageError("CS090", "it goes with --to conv", where=option)
        layers = texts(choices, "layers")
        wish = Wish(
            to=to,
            layout=choices.get("layout", CHANNEL_FIRST),
            layers=layers,
            exclude=texts(choices, "exclude"),
            only=choices.get("only"),
            child_keys=choices.get("child_keys", False),
            require=_level(choices.get("require_evidence", "fingerprint")),
        )
        user = UserSpeaker.parse(texts(choices, "geometry"), inputs, method, layers)
        read = ReadOptions(
            key=choices.get("key"),
            limit=_limit(choices.get("max_header_bytes", DEFAULT_MAX_HEADER)),
            recursive=choices.get("recursive", False),
        )
        model, evidence = choices.get("model"), _evidence(choices)
        return cls(wish, user, model, evidence, read, untie=untie, sliding=sliding)


def check_known(choices: Mapping[str, Any], kind: type) -> None:
    """Refuse a keyword that nobody reads: a slip in `require_evidence` would be no wish at all.

    Args:
        choices: keywords of a call.
        kind: the class of them.

    Raises:
        UsageError: CS090.
    """
    for name in choices.keys() - kind.__annotations__.keys():
        from difflib import get_close_matches  # some 7 ms that only this error needs

        near = get_close_matches(name, kind.__annotations__, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise UsageError("CS090", "there is no such keyword", where=name, hint=hint)


def texts(choices: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a keyword that is a list of texts; of one text, each letter would be a pattern.

    Raises:
        UsageError: CS090.
    """
    value = choices.get(name, ())
    if isinstance(value, str):
        hint = f"write {name}=[{value!r}]"
        raise UsageError("CS090", "it is a list of texts, and no text", where=name, hint=hint)
    for one in (found := tuple(value)):
        if not isinstance(one, str):
            raise UsageError("CS090", f"{one!r} is no text", where=name)
    return found


def _keyword(key: str) -> str:
    return _KEYWORDS.get(key, key.replace("-", "_"))


def _left_open(choices: Choices, settings: Settings) -> list[str]:
    """Return the keys of the file that count, since the call says nothing about them.

    Raises:
        UsageError: CS093 where one of them names code and nobody named the file.
    """
    given = set(choices)
    if given & _MODELS:
        given |= _MODELS  # two ways to a model, of which a call takes one
    keys = [key for key in settings.values if _keyword(key) not in given]
    # Whoever enters a folder has not agreed to run what lies there: `model` is code.
    if settings.found and "model" in keys:
        text = "a configuration that was found by a search may not name code to run"
        where = f"{settings.path}: model"
        hint = f"if you trust it: --config {settings.path}; otherwise --no-config"
        raise UsageError("CS093", text, where=where, hint=hint)
    return keys


def _evidence(choices: Choices) -> str | None:
    evidence = choices.get("evidence")
    if evidence not in {None, "model"}:
        raise UsageError("CS090", f"{evidence!r} is not 'model'", where="--evidence")
    if evidence and choices.get("model"):
        text = "--model names a model, --evidence model has it built from config.json"
        raise UsageError("CS090", text, where="--evidence", hint="leave one of them away")
    return evidence


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
