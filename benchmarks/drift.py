"""How far true swaps and wrong ones drift, in yardsticks: what the allowance of `proof.whole` is.

    python benchmarks/drift.py                            # some minutes
    python benchmarks/drift.py --only patches --seeds 1   # one minute
    python benchmarks/drift.py --seeds 10                 # the figures of `proof.whole`

A yardstick is the original's own response to one unit in the last place of its input. A drift is
the largest of any output. Of wrong swaps the smallest drift is printed: what hardly shows.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Iterator, Mapping

import torch
from drift_models import WRONG, Kind, damaged, kinds, swapped
from measure import machine
from torch import nn

from convsurgeon.proof.moves import ModelInputs
from convsurgeon.proof.whole import run_models

DTYPES = ("float32", "bfloat16", "float16", "float64")
Figures = dict[str, list[float]]


def inputs(kind: Kind, dtype: torch.dtype, seed: int) -> ModelInputs:
    """Draw inputs from the normal distribution."""
    generator = torch.Generator().manual_seed(seed + (0 if kind.alike else 1_000_000))
    made = {n: torch.randn(s, generator=generator).to(dtype) for n, s in kind.shapes.items()}
    return ModelInputs((), made)


def drift(original: nn.Module, other: nn.Module, given: ModelInputs) -> float:
    """Return the largest drift of any output."""
    return max(output.ratio for output in run_models(original, other, given).outputs)


def measured(kind: Kind, name: str, seeds: int) -> Figures:
    """Return the drifts of true swaps under an empty name, and of wrong ones by what is wrong."""
    dtype = getattr(torch, name)
    found: Figures = {"": [], **{wrong: [] for wrong in WRONG}}
    for seed in range(seeds):
        original, given = kind.build(seed).to(dtype), inputs(kind, dtype, seed)
        other, layer = swapped(original, seed)
        found[""].append(drift(original, other, given))
        for wrong, change in WRONG.items() if seed < max(1, seeds // 10) else ():
            mutant = damaged(other, layer, change)
            if mutant is not None:
                found[wrong].append(drift(original, mutant, given))
    return found


def lines(figures: Mapping[tuple[str, str], Figures]) -> Iterator[str]:
    """Yield the table: each kind in each dtype, then all kinds in each dtype."""
    head = ("model", "dtype", "true: median", "true: largest", *(f"{w}: least" for w in WRONG))
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for (kind, dtype), found in figures.items():
        yield _row(kind, dtype, found)
    for dtype in dict.fromkeys(dtype for _, dtype in figures):
        some = [found for (_, other), found in figures.items() if other == dtype]
        yield _row("**all**", dtype, {name: [v for f in some for v in f[name]] for name in some[0]})


def _row(kind: str, dtype: str, found: Figures) -> str:
    true = found[""]
    least = [f"{min(found[wrong]):.2g}" if found[wrong] else "-" for wrong in WRONG]
    cells = (kind, dtype, f"{statistics.median(true):.2g}", f"{max(true):.2g}", *least)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="models and inputs of each kind")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: all four")
    options = parser.parse_args()
    wanted = {name: kind for name, kind in kinds().items() if options.only in name}
    figures = {
        (name, dtype): measured(kind, dtype, options.seeds)
        for name, kind in wanted.items()
        for dtype in options.dtype or DTYPES
    }
    print(f"{machine()}, torch {torch.__version__} on {platform.machine()}")
    print("\n".join(lines(figures)))


if __name__ == "__main__":
    main()
