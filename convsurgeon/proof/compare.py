"""Two files: every rewritten weight by the proofs, every other byte by comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from convsurgeon.dtypes import PLAIN_FLOATS
from convsurgeon.errors import RecipeError
from convsurgeon.header import Header, TensorInfo
from convsurgeon.plan import METADATA_KEY, Recipe, Step, recipe_of
from convsurgeon.proof.bits import compare_bits
from convsurgeon.proof.function import Stored, run_both
from convsurgeon.proof.pairing import Pair, check_dtype, pairs
from convsurgeon.proof.verdict import Bits, FileVerdict, LayerVerdict
from convsurgeon.store import CHUNK, Reader, Source
from convsurgeon.untrusted import safe

Progress = Callable[[int], None]


def compare(
    original: Source,
    swapped: Source,
    *,
    assumed: Mapping[str, tuple[Step, ...]] = MappingProxyType({}),
    function: bool = True,
    progress: Progress = lambda _: None,
) -> FileVerdict:
    """Prove or refute that `swapped` is `original` with the layers of its recipe rewritten.

    Args:
        original: the file before.
        swapped: the file after.
        assumed: where the file has no recipe, what may have been done to each weight; of several
            possibilities the first whose bits are equal counts.
        function: whether to run both forms in torch; bits are always compared.
        progress: called with the number of bytes compared since the last call.

    Raises:
        RecipeError: CS082 where the recipe is damaged.
        RefusedError: CS052 where torch is needed and missing.
    """
    rewritten = _alternatives(original.header, swapped.header, assumed)
    keys = {possible[0].key for possible in rewritten}
    old, new = original.header.by_name, swapped.header.by_name
    differences = [*_names(old, new), *_metadata(original.header, swapped.header)]
    differences += _headers(old, new, keys)
    with original.reader() as before, swapped.reader() as after:
        differences += _recorded_header(original.header, before, swapped.header)
        for begin, end, shift, names in _ranges(original.header, new, keys):
            if not _equal(before, after, begin, end, shift, progress):
                differences += _name_them(before, after, (old, new), names)
        both = (before, old), (after, new)
        chosen = [_likeliest(possible, *both) for possible in rewritten]
        layers = [_layer(pair, *both, function=function) for pair in chosen]
    paths = original.path.name, swapped.path.name
    others = len(old.keys() & new.keys() - keys)
    return FileVerdict(*paths, tuple(layers), others, tuple(differences))


def _alternatives(
    original: Header, swapped: Header, assumed: Mapping[str, tuple[Step, ...]]
) -> list[tuple[Pair, ...]]:
    recipe = recipe_of(swapped)
    if recipe is None:
        return [tuple(Pair(key, (step,)) for step in steps) for key, steps in assumed.items()]
    return [(pair,) for pair in pairs(_new_steps(original, recipe))]


def _likeliest(
    possible: tuple[Pair, ...],
    before: tuple[Reader, dict[str, TensorInfo]],
    after: tuple[Reader, dict[str, TensorInfo]],
) -> Pair:
    """Return the first possibility whose bits are equal, or simply the first."""
    old, new = before[1].get(possible[0].key), after[1].get(possible[0].key)
    if len(possible) == 1 or old is None or new is None:
        return possible[0]
    fits = (p for p in possible if compare_bits(p, (before[0], old), (after[0], new)).equal)
    return next(fits, possible[0])


def _new_steps(original: Header, recipe: Recipe) -> tuple[Step, ...]:
    earlier = recipe_of(original)
    known = earlier.steps if earlier else ()
    if recipe.steps[: len(known)] != known:
        raise RecipeError("CS082", "the recipe does not continue the original's own")
    return recipe.steps[len(known) :]


def _layer(
    pair: Pair,
    before: tuple[Reader, dict[str, TensorInfo]],
    after: tuple[Reader, dict[str, TensorInfo]],
    *,
    function: bool,
) -> LayerVerdict:
    old, new = before[1].get(pair.key), after[1].get(pair.key)
    step = pair.steps[-1]
    verdict = LayerVerdict(
        module=step.module,
        key=pair.key,
        forms=(pair.before.form, pair.after.form),
        shapes=(old.shape if old else (), new.shape if new else ()),
        given=(step.geometry, *step.evidence),
        layout=step.layout,
        bits=Bits(equal=False, elements=0, note="the tensor is missing"),
    )
    if old is None or new is None:
        return verdict
    check_dtype(old)
    bits = compare_bits(pair, (before[0], old), (after[0], new))
    fitting = old.shape == pair.before.shape and new.shape == pair.after.shape
    if not function or not fitting or old.dtype != new.dtype:
        return replace(verdict, bits=bits)
    stored = [
        Stored(reader, tensors[pair.key], _bias(tensors, step.module, tensors[pair.key]))
        for reader, tensors in (before, after)
    ]
    ran, floats = run_both(pair, step.geometry, *stored)
    return replace(verdict, bits=bits, function=ran, floats=floats)


def _bias(tensors: dict[str, TensorInfo], module: str, weight: TensorInfo) -> TensorInfo | None:
    bias = tensors.get(f"{module}.bias" if module else "bias")
    fits = bias is not None and bias.shape == weight.shape[:1] and bias.dtype in PLAIN_FLOATS
    return bias if fits else None


def _names(old: dict[str, TensorInfo], new: dict[str, TensorInfo]) -> Iterator[str]:
    yield from (f"tensor {safe(name)} is missing" for name in old if name not in new)
    yield from (f"tensor {safe(name)} was not in the original" for name in new if name not in old)


def _metadata(original: Header, swapped: Header) -> Iterator[str]:
    before, after = dict(original.metadata_map), dict(swapped.metadata_map)
    before.pop(METADATA_KEY, None)
    after.pop(METADATA_KEY, None)
    if METADATA_KEY in original.metadata_map and METADATA_KEY not in swapped.metadata_map:
        yield f"metadata {METADATA_KEY}, the recipe of an earlier swap, is missing"
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield f"metadata {safe(key)} changed"


def _recorded_header(original: Header, before: Reader, swapped: Header) -> Iterator[str]:
    """Hold the digest that `restore` will rebuild the header by against the original's own."""
    recipe = recipe_of(swapped)
    if recipe is None or METADATA_KEY in original.metadata_map:
        return
    if hashlib.sha256(before.prefix()).hexdigest() != recipe.original.header_sha256:
        yield "the recipe's digest of the header is not that of the original"


def _headers(
    old: dict[str, TensorInfo], new: dict[str, TensorInfo], keys: set[str]
) -> Iterator[str]:
    for name, tensor in old.items():
        other = new.get(name)
        if other is None or name in keys:
            continue
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
            was, now = f"{tensor.dtype} {list(tensor.shape)}", f"{other.dtype} {list(other.shape)}"
            yield f"tensor {safe(name)} was {was}, is {now}"


def _ranges(
    header: Header, new: dict[str, TensorInfo], keys: set[str]
) -> Iterator[tuple[int, int, int, list[str]]]:
    """Yield ranges of untouched data that both files hold in one piece, with their shift."""
    begin = end = shift = 0
    names: list[str] = []
    for tensor in header.in_data_order:
        other = new.get(tensor.name)
        if other is None or tensor.name in keys or other.nbytes != tensor.nbytes:
            continue
        if names and (tensor.begin != end or other.begin - tensor.begin != shift):
            yield begin, end, shift, names
            names = []
        if not names:
            begin, shift = tensor.begin, other.begin - tensor.begin
        end = tensor.end
        names.append(tensor.name)
    if names:
        yield begin, end, shift, names


def _equal(
    before: Reader, after: Reader, begin: int, end: int, shift: int, progress: Progress
) -> bool:
    # Whole buffers are compared, by memcmp; a comparison of views would look at every element.
    one, other = bytearray(0), bytearray(0)
    for first in range(begin, end, CHUNK):
        size = min(CHUNK, end - first)
        if len(one) != size:
            one, other = bytearray(size), bytearray(size)
        before.fill(memoryview(one), first)
        after.fill(memoryview(other), first + shift)
        if one != other:
            return False
        progress(size)
    return True


def _name_them(
    before: Reader,
    after: Reader,
    tensors: tuple[dict[str, TensorInfo], dict[str, TensorInfo]],
    names: list[str],
) -> Iterator[str]:
    old, new = tensors
    for name in names:
        shift = new[name].begin - old[name].begin
        if not _equal(before, after, old[name].begin, old[name].end, shift, lambda _: None):
            yield f"tensor {safe(name)} has other bytes"
