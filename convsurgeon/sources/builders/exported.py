"""`FILE.pt2`: a program that torch.export wrote, read as data.

`torch.export.load` is not used: whatever stands in the file, it calls `pickle.loads` and
`torch.load(weights_only=False)` on it, evaluates expressions of sizes with `sympy.sympify`, and
loads every weight (read in torch 2.13, `torch/export/pt2_archive/_package.py` and
`torch/_export/serde/serialize.py`). The graph itself is one JSON member of the zip, so nothing of
the file needs to be trusted, run or held in memory, and torch is not needed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.evidence import Level, Statement
from convsurgeon.sources.builders.graph import Graph
from convsurgeon.sources.builders.graph_layers import layers_of
from convsurgeon.sources.builders.guard import guarded
from convsurgeon.sources.model import Layer, ModelSpeaker

_MAJOR = 8
"""Of the schema that is known: torch/_export/serde/schema.py, SCHEMA_VERSION."""
_MAX_JSON = 256_000_000
_AGAIN = "export the model again: torch.export.save, with torch 2.8 or newer"


def by_path(path: str) -> ModelSpeaker:
    """Read the layers of an exported program.

    Raises:
        ModelError: CS062 where the file is no exported program of a known version.
    """
    return guarded(lambda: _speaker(path), path, _AGAIN)


def _speaker(path: str) -> ModelSpeaker:
    with zipfile.ZipFile(path) as archive:
        program = _member(archive, "/models/model.json", path)
        weights = _member(archive, "/data/weights/model_weights_config.json", path)
    major = program["schema_version"]["major"]
    if major != _MAJOR:
        text = f"its schema has version {major}, known is {_MAJOR}"
        raise ModelError("CS062", text, where=path, hint=_AGAIN)
    graph = Graph.of(program["graph_module"], weights["config"])
    source = Path(path).name
    layers = {}
    for name, found in layers_of(graph).items():
        told = Statement(Level.MODEL, source, found.form, found.geometry, found.refusal)
        layers[name] = Layer(told, found.shape)
    return ModelSpeaker(source, layers, frozenset(graph.names))


def _member(archive: zipfile.ZipFile, ending: str, path: str) -> Mapping[str, Any]:
    """Read one JSON object of the archive, which lies in a folder of any name."""
    named = [name for name in archive.namelist() if name.endswith(ending) and name.count("/") > 1]
    if len(named) != 1:
        text = f"it holds {len(named)} members *{ending}, not one"
        raise ModelError("CS062", text, where=path, hint=_AGAIN)
    with archive.open(named[0]) as file:
        content = file.read(_MAX_JSON + 1)
    if len(content) > _MAX_JSON:
        raise ModelError("CS062", f"its graph has more than {_MAX_JSON} bytes", where=path)
    value: Mapping[str, Any] = json.loads(content)
    return value
