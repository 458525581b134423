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
        source: where it comes from, as the report shows it after its level (see `in_words`).
        form: what the weight is stored for.
        geometry: None where the source says the form only (a Linear has no kernel).
        refusal: a reason against every rewrite that the source knows (a subclass, a parametrised
            weight), whatever the geometry.
        details: further lines about where it comes from, such as the architectures that an
            inference rests on; `scan --explain` shows them, the ordinary report does not.
    """

    level: Level
    source: str
    form: str
    geometry: Geometry | None = None
    refusal: Refusal | None = None
    details: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """The source as the subject of a sentence; an inference is called one."""
        inferred = self.level is Level.FINGERPRINT
        return f"an inference from {self.source}" if inferred else self.source

    @property
    def failed(self) -> bool:
        """Whether it is an inference that came to nothing: such a layer has no evidence."""
        return self.level is Level.FINGERPRINT and self.empty

    @property
    def empty(self) -> bool:
        """Whether it only says that there is a convolution, as its rank does."""
        nothing = self.geometry is None and self.refusal is None
        return nothing and self.level <= Level.CONFIG and self.form != LINEAR

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
        if self.empty or other.empty:
            return False
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
    for place, other in enumerate(ranked):
        opponents = [one for one in ranked[:place] if one.contradicts(other)]
        if not opponents:
            continue
        fatal = next((one for one in opponents if _fatal(one, other)), None)
        one = fatal or opponents[0]  # one warning for each that is overruled
        if fatal:
            hint = "find out which is right, and leave the other away"
            message = f"evidence disagrees: {_both(one, other)}"
            raise ContradictionError("CS060", message, where=module, hint=hint)
        warnings.append(f"{module}: {_both(one, other)}; the first is used")
    inferred = best.level is Level.FINGERPRINT
    # An inference counts only where no statement exists, not even one that cannot tell.
    heard = [s for s in ranked if inferred or _is_stated(s)]
    refusing = next((s for s in heard if s.refusal), None)
    knowing = next((s for s in heard if s.geometry is not None), None)
    agreed = [s for s in (refusing, knowing) if s and not s.contradicts(best)]
    chosen = agreed[0] if agreed else best
    if chosen.geometry is not None and not chosen.refusal:
        # What stands against a rewrite contradicts no geometry; an inference of it goes unheard.
        unheard = (s for s in ranked if s.refusal and not s.contradicts(chosen))
        warnings += [f"{module}: {_both(chosen, s)}; the first is used" for s in unheard]
    return Weighed(chosen, tuple(warnings))


def _both(one: Statement, other: Statement) -> str:
    return f"{one.named} says {one.says()}, {other.named} says {other.says()}"


def in_words(level: str, source: str) -> str:
    """Say where a geometry comes from; most sources say their level by themselves.

    What was inferred is always called so: no report may make a fact of it.
    """
    if level == Level.FINGERPRINT.label:
        return f"inferred from {source}"
    by_itself = (f"{level}: ", f"{level}.json: ")
    return source if source.startswith(by_itself) else f"{level}, {source}"


@dataclass(frozen=True, slots=True)
class Heard:
    """A statement that was weighed, and what came of it.

    Attributes:
        statement: as its source made it.
        part: why it decided, or why it did not.
    """

    statement: Statement
    part: str


_NOTHING = "comes to nothing"


def hearing(statements: Iterable[Statement], chosen: Statement | None) -> tuple[Heard, ...]:
    """Return what was weighed, the strongest first, with the part that each played.

    Args:
        statements: what `weigh` was given.
        chosen: what it chose; None where nobody said anything.
    """
    if chosen is None:
        return ()
    ranked = sorted(statements, key=lambda s: -s.level)
    first = ranked.index(chosen)
    return tuple(
        Heard(said, _part_of_chosen(chosen) if place == first else _part(said, chosen))
        for place, said in enumerate(ranked)
    )


def _part_of_chosen(chosen: Statement) -> str:
    if chosen.empty:
        return _NOTHING
    if chosen.geometry is None and not chosen.refusal:
        return "decides the form; nobody gives the geometry"
    return "decides"


def _part(said: Statement, chosen: Statement) -> str:
    if said.empty:
        return _NOTHING
    if said.contradicts(chosen):
        return "overruled" if _is_stated(said) else "overruled: an inference never vetoes"
    if chosen.refusal and not said.refusal:
        return "agrees, but does not know the obstacle"
    if said.geometry is None and not said.refusal:
        return "agrees, but does not give the geometry"
    if said.refusal and not chosen.refusal:
        return "overruled: an inference never vetoes"
    return "agrees"


def _is_stated(statement: Statement) -> bool:
    return statement.level is not Level.FINGERPRINT


def _fatal(stronger: Statement, weaker: Statement) -> bool:
    if not _is_stated(weaker):
        return False
    overruled = weaker.level in (Level.CONFIG, Level.RECIPE)
    return not (stronger.level is Level.USER and overruled)
