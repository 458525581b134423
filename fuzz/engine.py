"""One process of atheris: `python -m fuzz.engine OPTIONS LIBFUZZER-ARGUMENT...`.

Begun by `fuzz.run`. OPTIONS is a JSON object: `target`; `outcomes`, the file of their counts;
`structured`, the share of mutations that are of `fuzz.mutate`, where the rest is libFuzzer's own;
`blind`, without coverage: every input is then a mutation of a seed, and there are more a second.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import atheris

OPTIONS = json.loads(sys.argv[1])

with nullcontext() if OPTIONS["blind"] else atheris.instrument_imports(include=["convsurgeon"]):
    from fuzz.mutate import edited
    from fuzz.seeds import seeds
    from fuzz.targets import ACCEPTED, TARGETS

_EVERY = 1 << 15


def main() -> None:
    """Run until libFuzzer has done what its arguments say."""
    target, outcomes = TARGETS[OPTIONS["target"]], Counter[str]()
    counts = Path(OPTIONS["outcomes"])

    def one(data: bytes) -> None:
        outcomes[target(data)] += 1
        if not outcomes.total() % _EVERY:
            counts.write_text(json.dumps(outcomes))

    pool = list(seeds(OPTIONS["target"]))
    valid = [seed for seed in pool if target(seed) == ACCEPTED]
    # libFuzzer keeps one input for each path, and most paths are ways to be refused.
    mutate = _mutator(valid, [*pool, *valid] if OPTIONS["blind"] else [])
    # Without one in Python, libFuzzer is nearly twice as fast.
    in_python = OPTIONS["structured"] or OPTIONS["blind"]
    atheris.Setup(
        [sys.argv[0], *sys.argv[2:]], one, **({"custom_mutator": mutate} if in_python else {})
    )
    atheris.Fuzz()


def _mutator(valid: list[bytes], pool: list[bytes]) -> Callable[[bytes, int, int], Any]:
    share = float(OPTIONS["structured"])
    pick = Random().random  # one for all: a new one for each seed takes as long as the rest

    def mutate(data: bytes, size: int, _: int) -> bytes:
        way = pick()
        if pool:
            data = pool[int(pick() * len(pool))]
        elif way < share / 2:
            data = valid[int(pick() * len(valid))]
        if way >= share:
            return bytes(atheris.Mutate(data, size))
        return edited(data, pick, valid)[:size]

    return mutate


if __name__ == "__main__":
    main()
