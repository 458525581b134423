"""`scan`: what is inside, what is eligible, on what evidence."""

from __future__ import annotations

from typing import Unpack

from convsurgeon.api.choices import Choices, Request
from convsurgeon.api.paths import Paths, raise_if_alone, resolve
from convsurgeon.api.planning import Planner, failure
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.plan import FilePlan, Plan
from convsurgeon.store import checkpoint_paths


def scan(paths: Paths, **choices: Unpack[Choices]) -> Plan:
    """Plan checkpoints without reading a tensor.

    Args:
        paths: files, indexes, folders or patterns; one or several.
        **choices: see `Choices`.

    Returns:
        The plan. Among several paths, those that cannot be read stand under `errors`.

    Raises:
        UsageError: for choices that cannot be understood.
        RefusedError: where the only path cannot be read.
    """
    planner = Planner(Request.of(choices))
    files: list[FilePlan] = []
    found, troubles = resolve(paths)
    for path in found:
        try:
            inner = checkpoint_paths(path, recursive=planner.request.read.recursive)
        except ConvsurgeonError as error:
            troubles.append((str(path), error))
            continue
        for checkpoint in inner:
            try:
                files.append(planner.read(checkpoint)[1])
            except ConvsurgeonError as error:
                troubles.append((str(checkpoint), error))
    raise_if_alone(files, troubles)
    return Plan(tuple(files), tuple(failure(path, error) for path, error in troubles))
