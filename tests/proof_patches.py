"""One way each to break the verifier: a file, its true text, and the text of a careless author.

No two of them repair each other, and each is a verifier that still runs.
"""

from __future__ import annotations

from typing import NamedTuple


class Patch(NamedTuple):
    """A change of one place in `convsurgeon/proof`."""

    name: str
    file: str
    true: str
    false: str


ORDER = (
    Patch(
        "columns of channel last as channel first",
        "order.py",
        "yield slice(c * window, (c + 1) * window), slice(c, width, channels)",
        "yield slice(c * window, (c + 1) * window), slice(c * window, (c + 1) * window)",
    ),
    Patch(
        "columns counted in windows",
        "order.py",
        "yield slice(c * window, (c + 1) * window), slice(c, width, channels)",
        "yield slice(c, width, channels), slice(c * window, (c + 1) * window)",
    ),
    Patch(
        "columns backwards",
        "order.py",
        "slice(c, width, channels)",
        "slice(channels - 1 - c, width, channels)",
    ),
    Patch("no element moves", "order.py", "if all(i == j for i, j in pairs):", "if pairs:"),
    Patch(
        "there is back",
        "order.py",
        "view[j::width] = given[i::width]",
        "view[i::width] = given[j::width]",
    ),
    Patch(
        "of few rows the first",
        "order.py",
        "for row in range(0, len(given), width):",
        "for row in range(0, len(given), width)[:1]:",
    ),
    Patch(
        "back is there",
        "order.py",
        "to_linear=len(step.source_shape) == 2",
        "to_linear=len(step.source_shape) != 2",
    ),
)
BOUNDS = (
    Patch(
        "a bound far too wide", "bounds.py", "return 2 * g / (1 - g)", "return 2e9 * g / (1 - g)"
    ),
    Patch(
        "a bound twice too wide", "bounds.py", "return 2 * g / (1 - g)", "return 4 * g / (1 - g)"
    ),
    Patch("a bound of half", "bounds.py", "return 2 * g / (1 - g)", "return g / (1 - g)"),
    Patch(
        "a bound that forgets the number of terms",
        "bounds.py",
        "product = terms * UNIT",
        "product = UNIT",
    ),
    Patch("a bound that forgets the bias", "bounds.py", "gamma(products + 1)", "gamma(products)"),
    Patch(
        "no underflow",
        "bounds.py",
        "return (products + 1) * SMALLEST_FLOAT64",
        "return 0.0 * products",
    ),
)
BITS = (
    Patch(
        "the first rows only",
        "bits.py",
        "in row_blocks(old, _unit(pair, old, size)):",
        "in list(row_blocks(old, _unit(pair, old, size)))[:1]:",
    ),
    Patch(
        "not the last rows",
        "bits.py",
        "range(tensor.begin, tensor.end, step)",
        "range(tensor.begin, max(tensor.end - step, 1), step)",
    ),
    Patch(
        "pieces of rows whose elements move",
        "bits.py",
        "return size if in_order else",
        "return size if True else",
    ),
    Patch("as long is as good", "bits.py", "if rows != found:", "if len(rows) != len(found):"),
    Patch("the last rows decide", "bits.py", "differing += len(places)", "differing = len(places)"),
    Patch("first steps only", "bits.py", "for step in pair.steps:", "for step in pair.steps[:0]:"),
    Patch(
        "recorded digest not looked at",
        "bits.py",
        'not in ("", sha256):',
        'not in ("", sha256, pair.steps[0].sha256):',
    ),
    Patch("dtype not looked at", "bits.py", "if old.dtype != new.dtype:", 'if old.dtype == "":'),
    Patch(
        "shapes not looked at",
        "bits.py",
        "if tensor.shape != side.shape:",
        "if len(tensor.shape) == 9:",
    ),
)
COMPARE = (
    Patch(
        "the first layer skipped",
        "compare.py",
        "for possible in rewritten)\n    others",
        "for possible in rewritten[1:])\n    others",
    ),
    Patch(
        "the last layer skipped",
        "compare.py",
        "for possible in rewritten)\n    others",
        "for possible in rewritten[:-1])\n    others",
    ),
    Patch("function not run", "compare.py", "if not both.function or", "if both.function or"),
    Patch(
        "bias of one side for both",
        "compare.py",
        "stored = Stored(both.before.reader, old, biases[0]), Stored(both.after.reader, new, biases[1])",
        "stored = Stored(both.before.reader, old, None), Stored(both.after.reader, new, None)",
    ),
    Patch(
        "a record that begins anew",
        "compare.py",
        "if recipe.steps[: len(known)] != known:",
        "if not known and recipe.steps[: len(known)] != known:",
    ),
    Patch(
        "the first layout without a look",
        "compare.py",
        "for pair in possible[1:]:",
        "for pair in possible[:0]:",
    ),
    Patch(
        "digests without a look",
        "recorded.py",
        "if found != pair.steps[0].sha256:",
        "if not pair.steps[0].sha256:",
    ),
    Patch(
        "steps that do not follow",
        "pairing.py",
        "if step.target_shape != following.source_shape:",
        "if not step.target_shape:",
    ),
)
UNTOUCHED = (
    Patch(
        "first bytes only",
        "ranges.py",
        "for first in range(begin, end, COMPARED):",
        "for first in range(begin, end, COMPARED)[:1]:",
    ),
    Patch(
        "the last bytes are always equal",
        "ranges.py",
        "if one != other:",
        "if one != other and first + size < end:",
    ),
    Patch(
        "bytes compared with themselves",
        "ranges.py",
        "after.fill(memoryview(other), first + shift)",
        "before.fill(memoryview(other), first)",
    ),
    Patch(
        "the helper's share is not waited for",
        "ranges.py",
        "or not rest()",
        "or not rest",
    ),
    Patch(
        "the last tensors left out",
        "untouched.py",
        "    if names:\n        yield begin, end, shift, names\n\n\ndef equal",
        "\n\ndef equal",
    ),
    Patch(
        "metadata not compared",
        "untouched.py",
        "if before.get(key) != after.get(key):",
        "if key not in before:",
    ),
    Patch("missing tensors", "untouched.py", "elif name not in new:", "elif not name:"),
    Patch(
        "tensors more", "untouched.py", "if name not in old and name not in taken)", "if not name)"
    ),
    Patch(
        "dtypes of others",
        "untouched.py",
        "if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):",
        "if tensor.shape != other.shape:",
    ),
    Patch(
        "shapes of others",
        "untouched.py",
        "if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):",
        "if tensor.dtype != other.dtype:",
    ),
    Patch(
        "other names are no difference",
        "untouched.py",
        "if name in renamed:",
        "if name in renamed and not name:",
    ),
    Patch(
        "declared names without a look",
        "untouched.py",
        "        *wrong_names(after.header, after.declared),\n",
        "",
    ),
    Patch(
        "old names that stay",
        "untouched.py",
        "if old in header.by_name:",
        "if old in header.by_name and not old:",
    ),
)
RECORDS = (
    Patch(
        "a header that nobody tries to give back",
        "untouched.py",
        "elif _rebuilt(said, before.header) != prefix:",
        "elif not prefix:",
    ),
    Patch("a new first original", "untouched.py", "if said != earlier.original:", "if not said:"),
    Patch(
        "padding in the record",
        "pairing.py",
        "if not all(_plain(step.geometry.effective()) for step in chain):",
        "if not chain:",
    ),
)
FUNCTION = (
    Patch(
        "the last input decides",
        "function.py",
        "self.ok = self.ok and bool(within.all())",
        "self.ok = bool(within.all())",
    ),
    Patch("any output will do", "function.py", "bool(within.all())", "bool(within.any())"),
    Patch(
        "NaN is equal to all", "function.py", "(y.isnan() & z.isnan())", "(y.isnan() | z.isnan())"
    ),
    Patch(
        "no bound is every bound",
        "function.py",
        "same | (bound.isfinite() & (difference <= bound))",
        "same | ~(difference > bound)",
    ),
    Patch(
        "a form against itself",
        "function.py",
        "apply(pair.after, new, geometry, x)\n",
        "apply(pair.before, old, geometry, x)\n",
    ),
    Patch(
        "the last probes decide",
        "function.py",
        "differing = one.differing + other.differing",
        "differing = other.differing",
    ),
    Patch(
        "bias not probed",
        "probes.py",
        "differing = _on_zeros(pair, rows, geometry, shape)",
        "differing = 0",
    ),
    Patch(
        "infinities not probed",
        "probes.py",
        "if any(not bool(r.weight.isfinite().all()) for r in rows):",
        "if not rows:",
    ),
    Patch(
        "probes that are nearly equal",
        "probes.py",
        "same = (y == z)",
        "same = ((y - z).abs() < 1e-9)",
    ),
    Patch(
        "every other place",
        "probes.py",
        "return tuple(range(count))",
        "return tuple(range(0, count, 2))",
    ),
    Patch("no steps in the spread", "probes.py", "steps = _steps(shape)", "steps = {0}"),
    Patch(
        "one layout for both",
        "forms.py",
        'if side.layout == "c p1 p2" else [*inside, 1]',
        "if side else [*inside, 1]",
    ),
    Patch("biases of other rows", "forms.py", "bias[first:last]", "bias[: last - first]"),
)
VERDICT = (
    Patch(
        "probes do not count",
        "figures.py",
        "return self.within and self.probes.equal",
        "return self.within",
    ),
    Patch(
        "random inputs do not count",
        "figures.py",
        "return self.within and self.probes.equal",
        "return self.probes.equal",
    ),
    Patch(
        "differences do not count",
        "verdict.py",
        "return not self.differences and all(",
        "return all(",
    ),
    Patch(
        "one layer will do",
        "verdict.py",
        "all(layer.equivalent for layer in self.layers)",
        "any(layer.equivalent for layer in self.layers)",
    ),
    Patch(
        "function does not count",
        "verdict.py",
        "(self.function is None or self.function.equal)",
        "self.bits.equal",
    ),
    Patch(
        "nothing compared is equal",
        "verdict.py",
        "files = bool(self.files) and all(",
        "files = all(",
    ),
)
PATCHES = (*ORDER, *BOUNDS, *BITS, *COMPARE, *UNTOUCHED, *RECORDS, *FUNCTION, *VERDICT)
