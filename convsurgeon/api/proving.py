"""Which proofs `verify` is asked for, once as keywords and once as one checked value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from convsurgeon.api.choices import Choices, Request, texts
from convsurgeon.errors import UsageError

if TYPE_CHECKING:
    from convsurgeon.api.whole import Trial


class VerifyChoices(Choices, total=False):
    """Keywords of `verify`, beside those of evidence.

    Attributes:
        exhaustive: whether every place of every layer is probed, also where that takes minutes;
            otherwise large layers are probed at a spread of places, and the verdict says so.
        input: what whole models are run on: `"1x3x224x224"`, `"pixel_values=1x3x32x32"`, several of
            them, or `"dummy"` for the inputs that the model's library has for the purpose.
        input_file: a safetensors file whose tensors are named as parameters of `forward`.
        loader: `"transformers"`, `"diffusers"` or `"timm"`: the library that loads both; weights
            that are missing, unexpected or made up refute the swapped one.
        dtype: that whole models are run in: `"float64"`, `"float32"`, `"bfloat16"`, `"float16"`;
            by default that of the file.
        keep: whether the verdict will be kept as a receipt: files are digested whole, and versions
            recorded.
    """

    exhaustive: bool
    input: Sequence[str]
    input_file: str | PathLike[str] | None
    loader: str | None
    dtype: str | None
    keep: bool


_OWN = ("exhaustive", "input", "input_file", "loader", "dtype", "keep")
_EVIDENCE = ("geometry", "input_shape", "method", "layers", "model", "evidence")
_READING = ("require_evidence", "key")


@dataclass(frozen=True, slots=True)
class Proving:
    """The proofs that are asked for.

    Attributes:
        function: whether both forms of each layer are run.
        exhaustive: whether every place is probed.
        kept: whether the verdict is to be a receipt.
        trial: what to do with whole models; None where nobody asked.
        asked: all this and the evidence, so that the call can be repeated.
    """

    function: bool
    exhaustive: bool
    kept: bool
    trial: Trial | None
    asked: Mapping[str, Any]

    @classmethod
    def of(cls, choices: VerifyChoices, request: Request, *, function: bool, alone: bool) -> Self:
        """Check the keywords.

        Args:
            choices: of the call.
            request: the same choices about evidence, checked: who builds the model stands there.
            function: whether both forms of each layer are run.
            alone: whether there is no original.

        Raises:
            UsageError: CS090 where they do not go together.
        """
        exhaustive = choices.get("exhaustive", False)
        if exhaustive and not function:
            raise UsageError("CS090", "--bits leaves the probes out", where="--exhaustive")
        trial = _trial(choices, request)
        if trial and alone:
            option = "--loader" if trial.loader else "--input"
            text = "a whole model is compared with another: name the original too"
            raise UsageError("CS090", text, where=option)
        names = (*_OWN, *_EVIDENCE, *_READING)
        given = {name: choices.get(name) for name in names if choices.get(name)}
        asked = {"function": function, **{k: _plain(v) for k, v in given.items() if k != "keep"}}
        return cls(function, exhaustive, choices.get("keep", False), trial, asked)


def evidence_of(choices: VerifyChoices) -> Choices:
    """Return the keywords that are about evidence."""
    given = {name: value for name, value in choices.items() if name not in _OWN}
    return cast("Choices", given)


def _trial(choices: VerifyChoices, request: Request) -> Trial | None:
    inputs, file = texts(choices, "input"), choices.get("input_file")
    loader, dtype, spec = choices.get("loader"), choices.get("dtype"), request.model
    if not inputs and file is None and loader is None:
        if dtype is not None:
            raise UsageError("CS090", "it goes with --input or --input-file", where="--dtype")
        return None
    if loader is None and spec is None:
        option = "--input" if inputs else "--input-file"
        hint = "add --model SPEC, or --loader LIBRARY"
        raise UsageError("CS090", "nothing says which model to run", where=option, hint=hint)
    from convsurgeon.api.whole import Trial

    place = None if file is None else Path(file)
    return Trial(spec, loader, inputs, place, dtype, read=request.read)


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value)
