"""From a checkpoint and a request to its plan: gathers the evidence and asks `make_plan`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from convsurgeon.api.choices import Request
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.evidence import Level, Speaker
from convsurgeon.plan import (
    Contents,
    Failure,
    FilePlan,
    Shard,
    Wish,
    chains,
    first_names,
    make_plan,
    recipe_of,
)
from convsurgeon.sources.catalogue.fingerprint import FingerprintSpeaker
from convsurgeon.sources.catalogue.outline import Tensor
from convsurgeon.store import Checkpoint, SafetensorsFile, read_checkpoint

if TYPE_CHECKING:
    from convsurgeon.plan.dense import DensePlan
    from convsurgeon.sources.model import ModelSpeaker


# Why a source says nothing about a layer, where it is not there at all.
_SILENT = {
    Level.MODEL: "neither --model nor --evidence model was given",
    Level.CONFIG: "there is no config.json beside the file",
    Level.RECIPE: "no recipe in the file states it",
    Level.FINGERPRINT: "no known architecture has these tensors",
}


class Planner:
    """Plans checkpoints of one request; the model is built once for all of them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        # Built before anything is read: a wrong SPEC concerns the call, not its files.
        self._model, self.dense = _built(request)
        self._beside: tuple[Path, ModelSpeaker] | None = None

    def read(self, path: Path) -> tuple[Checkpoint, FilePlan]:
        """Read the headers of a checkpoint and decide about every layer.

        Raises:
            RefusedError: for whatever cannot be read, contradicts itself or has a damaged recipe.
        """
        checkpoint = read_checkpoint(path, self.request.read)
        try:
            return checkpoint, self._plan(checkpoint, self.request.wish)
        except ConvsurgeonError as error:
            place = f"{path}: {error.where}" if error.where else str(path)
            error.where = place
            raise

    def towards(self, to: str, checkpoint: Checkpoint) -> FilePlan:
        """Plan a checkpoint that was read already, towards another form."""
        return self._plan(checkpoint, replace(self.request.wish, to=to))

    def _plan(self, checkpoint: Checkpoint, wish: Wish) -> FilePlan:
        # Evidence is about the original: it is asked under the names that stood there.
        names = [tensor.key for tensor in _tensors(checkpoint)]
        others, notes, silent = self._others(checkpoint.path, names)
        others.append(FingerprintSpeaker(lambda: _tensors(checkpoint)))
        speakers = self.request.user.beside(others)
        notes += [self.request.settings.note] if self.request.settings else []
        notes += [f"{option} matches no module" for option in self.request.user.unused(names)]
        dropped = sorted({name for source in checkpoint.sources for name in source.dropped})
        notes += [f"not carried over: {', '.join(dropped)}"] if dropped else []
        notes += _sidecars(checkpoint)
        shards = tuple(Shard(source.path.name, source.header) for source in checkpoint.sources)
        why = {Level.USER: self.request.user.silence, **_SILENT, **silent}
        reasons = tuple((level.label, text) for level, text in why.items())
        contents = Contents(str(checkpoint.path), shards, checkpoint.size, tuple(notes), reasons)
        return make_plan(contents, speakers, wish)

    def _others(
        self, path: Path, names: list[str]
    ) -> tuple[list[Speaker], list[str], dict[Level, str]]:
        speakers: list[Speaker] = []
        notes: list[str] = []
        silent: dict[Level, str] = {}
        config = path.parent / "config.json"
        built = self._model if self.request.evidence is None else self._built_beside(config)
        if built is not None:
            model, untied = built.for_names(names), list[str]()
            if self.request.untie:
                model, untied = model.untied(names)
            speakers.append(model)
            notes += [*([model.note] if model.note else []), *untied]
            silent[Level.MODEL] = model.note or f"{model.source} has no such layer"
        if config.is_file():
            from convsurgeon.sources.config import ConfigSpeaker

            speaker = ConfigSpeaker.read(config)
            speakers.append(speaker)
            notes += [speaker.note] if speaker.note else []
            silent[Level.CONFIG] = speaker.note or f"{speaker.name} states nothing about it"
        return speakers, notes, silent

    def _built_beside(self, config: Path) -> ModelSpeaker:
        """Build the model of a folder's own config, once for the files of the folder in a row."""
        from convsurgeon.sources.build import build_beside

        if self._beside is None or self._beside[0] != config:
            self._beside = config, build_beside(config)
        return self._beside[1]


def _tensors(checkpoint: Checkpoint) -> Iterator[Tensor]:
    """Return every tensor with the name and the shape that it had before any swap."""
    for source in checkpoint.sources:
        recipe = recipe_of(source.header)
        if recipe is None:
            yield from (Tensor(t.name, t.dtype, t.shape) for t in source.header.tensors)
            continue
        shapes = {now: chain[0].source_shape for now, chain in chains(recipe.steps).items()}
        names = first_names(recipe.steps)
        for tensor in source.header.tensors:
            shape = shapes.get(tensor.name, tensor.shape)
            yield Tensor(names.get(tensor.name, tensor.name), tensor.dtype, shape)


def _sidecars(checkpoint: Checkpoint) -> list[str]:
    """Say where a recipe stands that is in no header."""
    files = [s for s in checkpoint.sources if isinstance(s, SafetensorsFile)]
    names = [file.sidecar.name for file in files if file.sidecar is not None]
    more = f" and {len(names) - 1} more beside the shards" if len(names) > 1 else ""
    return [f"the recipe stands in {names[0]}{more}"] if names else []


def _built(request: Request) -> tuple[ModelSpeaker | None, DensePlan | None]:
    spec = request.model
    if spec is None:
        return None, None
    from convsurgeon.sources.build import build

    speaker = build(spec)
    if request.sliding is None:
        return speaker, None
    from convsurgeon.api.traced import traced

    return traced(speaker, spec, request.sliding)


def failure(path: object, error: ConvsurgeonError) -> Failure:
    """Return the error as a row of a report."""
    return Failure(str(path), type(error).__name__, error.code, str(error))
