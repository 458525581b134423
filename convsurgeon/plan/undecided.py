"""Layers that no evidence decides: why, and which option would."""

from __future__ import annotations

import glob
import shlex
from dataclasses import replace

from convsurgeon.evidence import Statement
from convsurgeon.geometry import LINEAR
from convsurgeon.plan.value import LayerPlan
from convsurgeon.stored import looks_channel_last


def undecided(plan: LayerPlan, statement: Statement | None) -> LayerPlan:
    """Return the layer with the reason, and with the option that would decide it.

    Args:
        plan: of a layer about which too little was said.
        statement: what was said; None for nothing.
    """
    name = glob.escape(plan.module)
    if plan.form != LINEAR:
        sizes = "x".join(map(str, plan.weight_shape[2:]))
        hint = f"--geometry {shlex.quote(f'{name}=k{sizes},s{sizes},p0,d1,g1')}"
        reason = "the stride is unknown" if statement else "no evidence of its stride"
        if statement and statement.failed:
            reason = "no evidence of its stride, and no inference: scan --explain says why"
        if looks_channel_last(plan.weight_shape):
            # The hint would make a kernel of the channels, and pasting it a wrong swap.
            return replace(plan, reason=f"{reason}; its shape looks channel-last, see CS009")
        return replace(plan, reason=reason, hint=hint)
    hint = f"--input-shape {shlex.quote(f'{name}=CxHxW')}"
    if statement is None:
        return replace(plan, reason="no evidence that it is a Linear", hint=hint)
    if statement.form != LINEAR:
        text = f"{statement.named} says {statement.form}, but the weight is a matrix"
        return replace(plan, reason=text, hint=hint)
    return replace(plan, reason="the shape of its input is unknown", hint=hint)
