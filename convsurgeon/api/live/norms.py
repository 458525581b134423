"""Layer norms among channel-first layers: those over one axis have to normalise the channels.

Imported by `swap_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from convsurgeon.api.live.channels import Channels
from convsurgeon.api.live.exchange import Built, Wanted
from convsurgeon.api.live.keeping import bare, carry
from convsurgeon.api.live.objections import (
    SAME_PARAMETERS,
    STANDING,
    Standing,
    holds_more,
    taken_by,
)
from convsurgeon.api.live.survey import Survey
from convsurgeon.geometry import Refusal
from convsurgeon.nn import ChannelNorm
from convsurgeon.rearrangement import unmoved

if TYPE_CHECKING:
    from torch import nn


def another_class(it: Standing) -> Refusal | None:
    """Refuse what is derived from nn.LayerNorm: it may turn its input around, or compute more."""
    from torch import nn

    if type(it.module) is nn.LayerNorm:
        return None
    return Refusal("CS007", f"a {it.kind}, which may compute something else than a torch layer")


@dataclass(frozen=True, eq=False, slots=True)
class Norms:
    """The layer norms that a swap concerns.

    Attributes:
        named: by name; one that is used twice has two.
        make: what is to stand for one.
    """

    named: Mapping[str, nn.LayerNorm]
    make: Callable[[nn.Module], nn.Module] = lambda norm: norm

    @classmethod
    def of(
        cls, survey: Survey, channels: Channels, where: Callable[[str, nn.Module], bool]
    ) -> Self:
        """Find those that have to follow the layers of a model; none where those take rows."""
        from torch import nn

        kind = channels.input
        if kind == "flat":
            return cls({})

        def make(norm: nn.Module) -> nn.Module:
            plain = bare(norm, nn.LayerNorm)
            new = ChannelNorm.from_norm(plain, channels.axes, input=kind)
            carry(norm, new)
            return new

        found = {n: m for n, m in survey.modules.items() if isinstance(m, nn.LayerNorm)}
        fresh = {n: m for n, m in found.items() if not isinstance(m, ChannelNorm)}
        unwanted = {id(m) for n, m in fresh.items() if not where(n, m)}
        return cls({n: m for n, m in fresh.items() if id(m) not in unwanted}, make)

    def wanted(self) -> Iterator[Wanted]:
        """Yield what is to be built, once for each."""
        objections = (*STANDING, another_class, *SAME_PARAMETERS, holds_more, taken_by(ChannelNorm))
        for norm in {id(m): m for m in self.named.values()}.values():
            yield Wanted(norm, self.make, unmoved(norm.normalized_shape), objections, "CS007")

    def notes(self, built: Built) -> list[str]:
        """Return what the plan says of them: how many follow, and why others do not."""
        follow = sum(id(norm) not in built.refused for norm in self.named.values())
        stay = [
            f"{name} normalises its last axis still: {refusal.reason} ({refusal.code})"
            for name, norm in self.named.items()
            if (refusal := built.refused.get(id(norm)))
        ]
        return [f"layer norms over channels: {follow}", *stay] if self.named else []
