"""A short run without atheris: `python -m fuzz.plain TARGET --executions N --seed S`.

The same inputs for the same seed, on every machine, but blind: no coverage leads it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from random import Random

from fuzz.mutate import edited
from fuzz.seeds import seeds
from fuzz.targets import ACCEPTED, TARGETS, Finding


def search(target: str, executions: int, seed: int = 0) -> Counter[str]:
    """Run a target on its seeds, and on edits of them; return what became of the inputs.

    Raises:
        Finding: with the first input that breaks a promise, or raises what nobody documents.
    """
    random, outcomes = Random(seed).random, Counter[str]()
    begun = list(seeds(target))
    valid: list[bytes] = []
    for number in range(executions):
        if number < len(begun):
            text = begun[number]
        else:
            bases = valid if number % 4 else begun
            text = edited(bases[int(random() * len(bases))], random, valid)
        try:
            outcome = TARGETS[target](text)
        except Exception as error:
            raise Finding(f"{text!r}: {type(error).__name__}: {error}") from error
        outcomes[outcome] += 1
        if number < len(begun) and outcome == ACCEPTED:
            valid.append(text)
    return outcomes


def main() -> None:
    """Run one target; a finding ends it with its traceback."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.plain", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    outcomes = search(chosen.target, chosen.executions, chosen.seed)
    sys.stdout.write(json.dumps({"target": chosen.target, "outcomes": outcomes}) + "\n")


if __name__ == "__main__":
    main()
