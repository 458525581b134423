"""Where configs lie: what a path of a SPEC names, and a folder for a library's own reader."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.config_file import read_object


def config_at(path: str, spec: str) -> dict[str, Any]:
    """Read the `config.json` of a folder, or a file that is one.

    Raises:
        ModelError: CS062 where there is none: names of a hub are not looked up.
        RefusedError: CS063 where it cannot be read.
    """
    place = Path(path)
    file = place / "config.json" if place.is_dir() else place
    if not file.is_file():
        text = f"{path[:80]!r} is neither a folder with a config.json nor such a file"
        hint = "name a local folder; nothing is downloaded"
        raise ModelError("CS062", text, where=spec, hint=hint)
    return read_object(file)


@contextmanager
def laid_out(config: Mapping[str, Any]) -> Iterator[str]:
    """Give a library's own reader a folder that holds this config and nothing else."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), "utf-8")
        yield folder
