"""What every verdict has in common: it says yes or no, and must be asked."""

from __future__ import annotations

from typing import Self

from convsurgeon.errors import NotEquivalentError


class Judged:
    """A verdict. `bool()` of it is an error on purpose."""

    __slots__ = ()

    @property
    def equivalent(self) -> bool:
        """Whether nothing says no."""
        raise NotImplementedError

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that says no, one line each."""
        raise NotImplementedError

    def require(self) -> Self:
        """Return this verdict, if it says yes.

        Raises:
            NotEquivalentError: CS083, with the first complaints.
        """
        if self.equivalent:
            return self
        text = "; ".join(self.complaints[:3]) or "nothing was compared"
        raise NotEquivalentError("CS083", f"not equivalent: {text}")

    def __bool__(self) -> bool:
        """Refuse: `if verdict:` would be true for a refutation written as an object.

        Raises:
            TypeError: always.
        """
        raise TypeError("ask verdict.equivalent")
