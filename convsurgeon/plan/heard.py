"""What was heard about a layer, as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convsurgeon.evidence import Heard, Level, Statement
from convsurgeon.geometry import Geometry, Refusal


def heard_to_json(heard: Heard) -> dict[str, Any]:
    """Return the object that stands under `heard`."""
    said = heard.statement
    refusal = said.refusal
    return {
        "level": said.level.label,
        "source": said.source,
        "form": said.form,
        "says": said.says(),
        "geometry": said.geometry and said.geometry.to_json(),
        "refusal": refusal and {"code": refusal.code, "reason": refusal.reason},
        "details": list(said.details),
        "part": heard.part,
    }


def heard_from_json(data: Mapping[str, Any]) -> Heard:
    """Read what `heard_to_json` wrote."""
    statement = Statement(
        Level[data["level"].upper()],
        data["source"],
        data["form"],
        data["geometry"] and Geometry.from_json(data["geometry"]),
        data["refusal"] and Refusal(**data["refusal"]),
        tuple(data["details"]),
    )
    return Heard(statement, data["part"])
