"""`--input` and `--fully-convolutional`: what is asked of a traced model, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from convsurgeon.errors import UsageError
from convsurgeon.rearrangement import CHANNEL_FIRST

POOLS = ("refuse", "behind")
_OPTIONS = {
    "layers": "--layer",
    "exclude": "--exclude",
    "only": "--only",
    "geometry": "--geometry",
    "input_shape": "--input-shape",
    "method": "--method",
    "layout": "--layout",
}
"""Keyword -> option of what the trace decides by itself, since the network needs all of it."""


@dataclass(frozen=True, slots=True)
class Sliding:
    """A model that is traced.

    Attributes:
        example: the shape of its images, as text.
        fully: whether the whole model is to become fully convolutional.
        pool: what becomes of a global average pool, see `fully_convolutional`.
    """

    example: str
    fully: bool
    pool: str

    @classmethod
    def of(cls, choices: Mapping[str, Any]) -> Self | None:
        """Read the keywords; None where nothing is to be traced.

        Raises:
            UsageError: CS090, naming the option.
        """
        example = choices.get("example_input")
        fully, pool = choices.get("fully_convolutional", False), choices.get("pool", POOLS[0])
        if pool not in POOLS:
            raise UsageError("CS090", f"{pool!r} is none of {', '.join(POOLS)}", where="--pool")
        if not fully:
            _check_evidence(choices, example)
        else:
            _check_whole(choices, example)
        return None if example is None else cls(example, fully, pool)


def _check_evidence(choices: Mapping[str, Any], example: str | None) -> None:
    if choices.get("pool", POOLS[0]) != POOLS[0]:
        raise UsageError("CS090", "it goes with --fully-convolutional", where="--pool")
    if example is None:
        return
    if choices.get("to", "linear") != "conv":
        text = "it goes with --to conv, or with --fully-convolutional"
        raise UsageError("CS090", text, where="--input")
    if not choices.get("model"):
        raise UsageError("CS090", "it needs --model SPEC beside it", where="--input")
    if choices.get("layout", CHANNEL_FIRST) != CHANNEL_FIRST:
        text = "a forward of torch flattens c p1 p2, and --input reads it"
        raise UsageError("CS090", text, where="--layout", hint="leave one of them away")


def _check_whole(choices: Mapping[str, Any], example: str | None) -> None:
    where = "--fully-convolutional"
    if not choices.get("model") or example is None:
        text = "it needs --model SPEC and --input SHAPE beside it"
        raise UsageError("CS090", text, where=where)
    if choices.get("to", "conv") != "conv":
        raise UsageError("CS090", "it makes convolutions: leave --to away", where=where)
    beside = next((option for name, option in _OPTIONS.items() if choices.get(name)), None)
    if beside is not None:
        text = f"the traced model decides about every layer: leave {beside} away"
        raise UsageError("CS090", text, where=where)
