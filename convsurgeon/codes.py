"""The table behind the stable codes `CS0xx`: read from `codes.toml`, shown by `explain`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table.

    Attributes:
        code: `CS0xx`; never reused for another meaning.
        title: a few words.
        meaning: why convsurgeon refuses.
        example: something that leads to it.
        way_out: what the user can do.
    """

    code: str
    title: str
    meaning: str
    example: str
    way_out: str


@cache
def codes() -> dict[str, Code]:
    """Return every code, in order."""
    import tomllib  # some 20 ms for both that only `explain` needs
    from importlib import resources

    text = resources.files(__package__).joinpath("codes.toml").read_text("utf-8")
    return {name: Code(code=name, **row) for name, row in tomllib.loads(text).items()}
