"""Two files: every rewritten weight by the proofs, every other byte by comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from convsurgeon.dtypes import PLAIN_FLOATS
from convsurgeon.errors import RecipeError
from convsurgeon.header import Header, TensorInfo
from convsurgeon.plan import Recipe, Step, recipe_of
from convsurgeon.proof.bits import compare_bits
from convsurgeon.proof.figures import Bits
from convsurgeon.proof.forms import Stored
from convsurgeon.proof.function import run_both
from convsurgeon.proof.pairing import Pair, check_dtype, pairs
from convsurgeon.proof.ranges import Progress
from convsurgeon.proof.untouched import Opened, find_renamed, untouched_differences
from convsurgeon.proof.verdict import FileVerdict, LayerVerdict
from convsurgeon.store import Source


@dataclass(frozen=True, slots=True)
class Assumed:
    """What may have been done to a file without a recipe.

    Attributes:
        steps: name of a weight in the original -> each possibility, of which one must hold.
        renamed: name of a weight in the original -> in the other file, where they differ.
    """

    steps: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


_NOTHING = Assumed()


@dataclass(frozen=True, slots=True)
class _Both:
    """Two files while they are compared."""

    before: Opened
    after: Opened
    names: Mapping[str, str]
    function: bool
    exhaustive: bool

    def tensors(self, name: str) -> tuple[TensorInfo | None, TensorInfo | None]:
        """Return a tensor of the original, and the same in the other file."""
        other = self.names.get(name, name)
        return self.before.tensors.get(name), self.after.tensors.get(other)


def compare(
    original: Source,
    swapped: Source,
    *,
    assumed: Assumed = _NOTHING,
    function: bool = True,
    exhaustive: bool = False,
    progress: Progress = lambda _: None,
) -> FileVerdict:
    """Prove or refute that `swapped` is `original` with the layers of its recipe rewritten.

    Args:
        original: the file before.
        swapped: the file after.
        assumed: where the file has no recipe, what may have been done to each weight; of several
            possibilities the first whose bits are equal counts.
        function: whether to run both forms in torch; bits are always compared.
        exhaustive: whether every place of every layer is probed, whatever it takes.
        progress: called with the number of bytes compared since the last call.

    Raises:
        RecipeError: CS082 where the recipe is damaged.
        RefusedError: CS052 where torch is needed and missing.
    """
    rewritten = _alternatives(original.header, swapped.header, assumed)
    keys = {possible[0].key for possible in rewritten}
    declared = _declared(rewritten, original.header)
    with original.reader() as reader, swapped.reader() as other:
        before = Opened(original.header, reader)
        after = Opened(swapped.header, other, declared)
        found = find_renamed(before, after, {*keys, *assumed.renamed.values()})
        renamed = {**found, **assumed.renamed}
        differences = untouched_differences(before, after, keys, renamed, progress)
        both = _Both(before, after, renamed, function, exhaustive)
        layers = tuple(_layer(possible, both) for possible in rewritten)
        others = len(before.tensors.keys() & after.tensors.keys() - keys)
    names = tuple(declared.items())
    return FileVerdict(original.path.name, swapped.path.name, layers, others, differences, names)


def _declared(rewritten: list[tuple[Pair, ...]], original: Header) -> dict[str, str]:
    """Return the new name of every tensor of the original that a recipe says it has renamed."""
    names = {old: new for (pair, *_) in rewritten for old, new in pair.renamed.items()}
    return {old: new for old, new in names.items() if old in original.by_name}


def _alternatives(original: Header, swapped: Header, assumed: Assumed) -> list[tuple[Pair, ...]]:
    recipe = recipe_of(swapped)
    if recipe is None:
        return [tuple(Pair(k, (step,), k) for step in steps) for k, steps in assumed.steps.items()]
    return [(pair,) for pair in pairs(_new_steps(original, recipe))]


def _new_steps(original: Header, recipe: Recipe) -> tuple[Step, ...]:
    earlier = recipe_of(original)
    known = earlier.steps if earlier else ()
    if recipe.steps[: len(known)] != known:
        raise RecipeError("CS082", "the recipe does not continue the original's own")
    return recipe.steps[len(known) :]


def _layer(possible: tuple[Pair, ...], both: _Both) -> LayerVerdict:
    """Ask the proofs about one weight."""
    old, new = both.tensors(possible[0].key)
    if old is None or new is None:
        missing = Bits(equal=False, elements=0, note="the tensor is missing")
        return _verdict(possible[0], missing, old, new)
    check_dtype(old)
    pair, bits = _likeliest(possible, (both.before, old), (both.after, new))
    verdict = _verdict(pair, bits, old, new)
    fitting = old.shape == pair.before.shape and new.shape == pair.after.shape
    if not both.function or not fitting or old.dtype != new.dtype:
        return verdict
    biases = _biases(pair, both, old.shape[:1])
    stored = Stored(both.before.reader, old, biases[0]), Stored(both.after.reader, new, biases[1])
    ran, floats = run_both(pair, pair.steps[-1].geometry, *stored, exhaustive=both.exhaustive)
    return replace(verdict, function=ran, floats=floats)


def _verdict(
    pair: Pair, bits: Bits, old: TensorInfo | None, new: TensorInfo | None
) -> LayerVerdict:
    step = pair.steps[-1]
    return LayerVerdict(
        module=step.module,
        key=pair.key,
        forms=(pair.before.form, pair.after.form),
        shapes=(old.shape if old else (), new.shape if new else ()),
        given=(step.geometry, *step.evidence),
        layout=step.layout,
        bits=bits,
    )


def _likeliest(
    possible: tuple[Pair, ...], before: tuple[Opened, TensorInfo], after: tuple[Opened, TensorInfo]
) -> tuple[Pair, Bits]:
    """Return the first possibility whose bits are equal, or simply the first."""
    (one, old), (other, new) = before, after
    found = [(p, compare_bits(p, (one.reader, old), (other.reader, new))) for p in possible[:1]]
    for pair in possible[1:]:
        if found[-1][1].equal:
            return found[-1]
        found.append((pair, compare_bits(pair, (one.reader, old), (other.reader, new))))
    if found[-1][1].equal or len(found) == 1:
        return found[-1]
    notes = [f"{p.steps[-1].layout}: {bits.note}" for p, bits in found]
    pair, bits = found[0]
    return pair, replace(bits, note=f"no layout holds; {'; '.join(notes)}")


def _biases(
    pair: Pair, both: _Both, rows: tuple[int, ...]
) -> tuple[TensorInfo | None, TensorInfo | None]:
    module = pair.steps[-1].module
    old, new = both.tensors(f"{module}.bias" if module else "bias")
    return _fitting(old, rows), _fitting(new, rows)


def _fitting(bias: TensorInfo | None, rows: tuple[int, ...]) -> TensorInfo | None:
    fits = bias is not None and bias.shape == rows and bias.dtype in PLAIN_FLOATS
    return bias if fits else None
