"""One process of atheris: `python -m fuzz.engine TARGET OUTCOMES SHARE LIBFUZZER-ARGUMENT...`.

Started by `fuzz.run`. A share of the mutations is of `fuzz.mutate`, the rest is libFuzzer's own;
only the package's own modules are watched for coverage.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["convsurgeon"]):
    from fuzz.targets import ACCEPTED, TARGETS

from fuzz.mutate import edited
from fuzz.seeds import seeds

_EVERY = 1 << 15


def main() -> None:
    """Run until libFuzzer has done what its arguments say."""
    name, counts, share, *arguments = sys.argv[1:]
    target, outcomes = TARGETS[name], Counter[str]()
    valid = tuple(seed for seed in seeds(name) if target(seed) == ACCEPTED)

    def one(data: bytes) -> None:
        outcomes[target(data)] += 1
        if not outcomes.total() % _EVERY:
            Path(counts).write_text(json.dumps(outcomes))

    random = Random()  # one for all: a new one for each seed takes as long as the rest
    structured = float(share)

    def mutate(data: bytes, size: int, _: int) -> bytes:
        way = random.random()
        if way >= structured:
            return bytes(atheris.Mutate(data, size))
        # libFuzzer keeps one input for each path, and most paths are ways to be refused.
        base = data if way < structured / 2 else valid[int(random.random() * len(valid))]
        return edited(base, random, valid)[:size]

    # Without one in Python, libFuzzer is nearly twice as fast.
    mutator = {"custom_mutator": mutate} if structured else {}
    atheris.Setup([sys.argv[0], *arguments], one, **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
