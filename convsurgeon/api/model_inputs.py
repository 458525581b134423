"""`--input` and `--input-file`: from what names an input to the tensors that a model is run on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING

from convsurgeon.api.dummy_inputs import dummy_inputs, vocabulary
from convsurgeon.api.wanted import DTYPES, Wanted
from convsurgeon.errors import UsageError
from convsurgeon.store import read_safetensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from convsurgeon.proof.moves import ModelInputs

Maker = Callable[["nn.Module", "torch.dtype", int], "ModelInputs"]
"""What makes inputs for a model, in a floating dtype, from a seed."""

DUMMY = "dummy"
_FORMS = "1x3x224x224, NAME=1x3x32x32, NAME=1x16:int64 or dummy"
_INPUT = re.compile(r"(?:(?P<name>[^=]*)=)?(?P<shape>\d+(?:x\d+)*)(?::(?P<dtype>\w+))?", re.ASCII)


def parse_inputs(texts: Sequence[str], file: Path | None) -> Maker | None:
    """Return what makes the inputs that the options ask for; None where they ask for none.

    Args:
        texts: of `--input`: `1x3x224x224` for a positional one, `NAME=1x3x32x32`, either with
            `:DTYPE` behind it, or `dummy` alone.
        file: of `--input-file`.

    Raises:
        UsageError: CS090, naming the option.
    """
    if file is not None:
        if texts:
            raise UsageError("CS090", "it excludes --input", where="--input-file")
        return partial(of_file, file)
    if not texts:
        return None
    if DUMMY in texts:
        if len(texts) > 1:
            raise _wrong(f"{DUMMY!r} stands alone")
        return of_library
    wanted = tuple(_wanted(text) for text in texts)
    names = [one.name for one in wanted]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(f"{twice} is given twice" if twice else "only one input can be without a name")
    return partial(of_shapes, wanted)


def of_shapes(
    wanted: Sequence[Wanted], model: nn.Module, dtype: torch.dtype, seed: int
) -> ModelInputs:
    """Make random inputs of the shapes that are wanted.

    Floating numbers are drawn from the normal distribution, integers from those below the size of
    the model's vocabulary; see `wanted` for the names that have a meaning of their own.

    Raises:
        UsageError: CS090 where `forward` has no such parameter.
    """
    import torch

    from convsurgeon.proof.moves import ModelInputs

    _check_names((one.name for one in wanted if one.name), parameters(model), "--input")
    limit, generator = vocabulary(model), torch.Generator().manual_seed(seed)
    made = {one.name: one.tensor(dtype, limit, generator) for one in wanted}
    positional = (made.pop(""),) if "" in made else ()
    return ModelInputs(positional, made)


def of_library(model: nn.Module, dtype: torch.dtype, seed: int) -> ModelInputs:
    """Make random inputs of the shapes that the model's library has for the purpose.

    Raises:
        UsageError: CS090 where it has none.
    """
    return of_shapes(dummy_inputs(model, parameters(model)), model, dtype, seed)


def of_file(path: Path, model: nn.Module, dtype: torch.dtype, seed: int) -> ModelInputs:
    """Read inputs from a safetensors file.

    Its tensors are parameters of `forward` by their names; a single one of another name is
    positional. Floating tensors are converted to the dtype that the model is run in.

    Raises:
        RefusedError: where the file cannot be read, or breaks the format's rules.
        UsageError: CS090 where it holds no tensor, or `forward` has no such parameters.
    """
    from convsurgeon.api.live.transfer import tensors_of
    from convsurgeon.proof.moves import ModelInputs

    del seed
    found = tensors_of(read_safetensors(path))
    if not found:
        raise UsageError("CS090", f"{path} holds no tensor", where="--input-file")
    cast = {name: _cast(tensor, dtype) for name, tensor in found.items()}
    known = parameters(model)
    if len(cast) == 1 and known and not known & cast.keys():
        return ModelInputs(tuple(cast.values()), {})
    _check_names(cast, known, "--input-file")
    return ModelInputs((), cast)


def parameters(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters of `forward`; none where it has no names for them.

    `**kwargs` beside named ones are not counted: what a model ignores is no input.
    """
    named = {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
    found = signature(model.forward).parameters.values()
    return frozenset(one.name for one in found if one.kind in named)


def _check_names(names: Iterable[str], known: frozenset[str], option: str) -> None:
    strange = sorted(set(names) - known) if known else []
    if strange:
        text = f"the model's forward has no parameter {strange[0]!r}"
        raise UsageError("CS090", text, where=option, hint=f"it has {', '.join(sorted(known))}")


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _wanted(text: str) -> Wanted:
    match = _INPUT.fullmatch(text)
    if match is None:
        raise _wrong(f"{text!r} is no shape")
    name, sizes, dtype = match["name"], match["shape"], match["dtype"] or ""
    if name is not None and not name.isidentifier():
        raise _wrong(f"{name!r} is no name of a parameter")
    if dtype and dtype not in DTYPES:
        raise _wrong(f"{dtype!r} is none of {', '.join(DTYPES)}")
    shape = tuple(int(size) for size in sizes.split("x"))
    if 0 in shape:
        raise _wrong(f"{text!r} has a size of 0, so there would be nothing to compare")
    return Wanted(name or "", shape, dtype)


def _wrong(text: str) -> UsageError:
    return UsageError("CS090", text, where="--input", hint=f"write {_FORMS}")
