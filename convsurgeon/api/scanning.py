"""`scan`: what is inside, what is eligible, on what evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from convsurgeon.api.choices import Choices, Request, texts
from convsurgeon.api.paths import Paths, raise_if_alone, resolve, trouble
from convsurgeon.api.planning import Planner, failure
from convsurgeon.errors import ConvsurgeonError, UsageError
from convsurgeon.plan import FilePlan, Plan, Wish
from convsurgeon.store import checkpoint_paths

_NEAR = 4


def scan(paths: Paths, *, explain: Sequence[str] = (), **choices: Unpack[Choices]) -> Plan:
    """Plan checkpoints without reading a tensor.

    Args:
        paths: files, indexes, folders or patterns; one or several.
        explain: names or glob patterns of layers; the plan then holds all that was weighed about
            them.
        **choices: see `Choices`.

    Returns:
        The plan. Among several paths, those that cannot be read stand under `errors`.

    Raises:
        UsageError: for choices that cannot be understood, or where nothing matches `explain`.
        RefusedError: where the only path cannot be read.
    """
    request = Request.of(choices)
    wish = replace(request.wish, explain=texts({"explain": explain}, "explain"))
    planner = Planner(replace(request, wish=wish))
    files: list[FilePlan] = []
    found, troubles = resolve(paths)
    for path in found:
        try:
            inner = checkpoint_paths(path, recursive=planner.request.read.recursive)
        except (ConvsurgeonError, OSError) as error:
            troubles.append(trouble(path, error))
            continue
        for checkpoint in inner:
            try:
                files.append(planner.read(checkpoint)[1])
            except (ConvsurgeonError, OSError) as error:
                troubles.append(trouble(checkpoint, error))
    raise_if_alone(files, troubles)
    if files:
        _check_patterns(wish, files)
    return Plan(tuple(files), tuple(failure(path, error) for path, error in troubles))


def _check_patterns(wish: Wish, files: Sequence[FilePlan]) -> None:
    layers = [layer for file in files for layer in file.layers]
    for pattern in wish.explain:
        alone = replace(wish, explain=(pattern,))
        if any(alone.explains(layer.module, layer.key) for layer in layers):
            continue
        from difflib import get_close_matches  # some 7 ms that only this error needs

        modules = list(dict.fromkeys(layer.module for layer in layers))
        near = get_close_matches(pattern, modules, _NEAR, cutoff=0.4)
        hint = f"near it are {', '.join(near)}" if near else "scan lists every candidate"
        hint += "" if wish.to == "conv" else "; matrices are candidates under --to conv only"
        message = f"no candidate is called {pattern!r}"
        raise UsageError("CS090", message, where="--explain", hint=hint)
