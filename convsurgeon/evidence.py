"""Evidence as data: who says what about a layer, and whom to believe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from convsurgeon.errors import ContradictionError
from convsurgeon.geometry import LINEAR, Geometry, Refusal, times


class Level(IntEnum):
    """How strong a piece of evidence is; the larger value wins."""

    NONE = 0
    FINGERPRINT = 1
    RECIPE = 2
    CONFIG = 3
    MODEL = 4
    USER = 5

    @property
    def label(self) -> str:
        """The word that options, reports and JSON use."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Statement:
    """One piece of evidence about one weight.

    Attributes:
        level: its strength.
        source: where it comes from, as the report shows it.
        form: what the weight is stored for.
        geometry: None where the source says the form only (a Linear has no kernel).
        refusal: a reason against every rewrite that the source knows (a subclass, a parametrised
            weight), whatever the geometry.
    """

    level: Level
    source: str
    form: str
    geometry: Geometry | None = None
    refusal: Refusal | None = None

    def says(self) -> str:
        """Return the statement in a few words."""
        if self.refusal:
            return self.refusal.reason
        if self.geometry is None:
            return self.form
        g = self.geometry
        text = f"{self.form} kernel {times(g.kernel)}, stride {times(g.stride)}"
        text += f", padding {times(g.padding)}" if any(g.padding) else ""
        text += f", dilation {times(g.dilation)}" if any(d > 1 for d in g.dilation) else ""
        return text + (f", {g.groups} groups" if g.groups > 1 else "")

    def contradicts(self, other: Statement) -> bool:
        """Tell whether both cannot be true."""
        if self.form != other.form:
            return True
        if self.refusal or other.refusal:
            return False  # the one that knows of an obstacle knows more; it does not disagree
        if self.geometry is None or other.geometry is None or self.form == LINEAR:
            return False  # a Linear has no kernel of its own: which one it is to get is a choice
        return self.geometry.effective() != other.geometry.effective()


class Speaker(Protocol):
    """A source of evidence that was read once and answers for each weight."""

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what it says about the weight under `key`, None where it says nothing.

        Args:
            key: the name in the file.
            shape: the shape that the weight had before any swap.
        """


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the evidence comes to.

    Attributes:
        statement: the one to act on; None where nobody said anything.
        warnings: what the user should know although it stopped nothing.
    """

    statement: Statement | None
    warnings: tuple[str, ...] = ()


def weigh(module: str, statements: Iterable[Statement]) -> Weighed:
    """Choose whom to believe about one weight.

    The strongest wins. A user may overrule a config or a recipe (forks change strides), with a
    warning; an inference never vetoes; any other two that disagree are an error.

    Raises:
        ContradictionError: CS060, naming both sources.
    """
    ranked = sorted(statements, key=lambda s: -s.level)
    if not ranked:
        return Weighed(None)
    best = ranked[0]
    warnings = []
    for place, one in enumerate(ranked):
        for other in ranked[place + 1 :]:
            if not one.contradicts(other):
                continue
            text = f"{one.source} says {one.says()}, {other.source} says {other.says()}"
            if _fatal(one, other):
                hint = "find out which is right, and leave the other away"
                message = f"evidence disagrees: {text}"
                raise ContradictionError("CS060", message, where=module, hint=hint)
            warnings.append(f"{module}: {text}; the first is used")
    inferred = best.level is Level.FINGERPRINT
    refusing = next((s for s in ranked if s.refusal and (inferred or _is_stated(s))), None)
    knowing = next((s for s in ranked if s.geometry is not None), None)
    agreed = [s for s in (refusing, knowing) if s and not s.contradicts(best)]
    return Weighed(agreed[0] if agreed else best, tuple(warnings))


def _is_stated(statement: Statement) -> bool:
    return statement.level is not Level.FINGERPRINT


def _fatal(stronger: Statement, weaker: Statement) -> bool:
    if not _is_stated(weaker):
        return False
    overruled = weaker.level in (Level.CONFIG, Level.RECIPE)
    return not (stronger.level is Level.USER and overruled)
