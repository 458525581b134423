"""From a checkpoint and a request to its plan: gathers the evidence and asks `make_plan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from convsurgeon.api.choices import Request
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.evidence import Speaker
from convsurgeon.plan import Contents, Failure, FilePlan, Shard, Wish, make_plan
from convsurgeon.store import Checkpoint, read_checkpoint

if TYPE_CHECKING:
    from convsurgeon.sources.model import ModelSpeaker


class Planner:
    """Plans checkpoints of one request; the model is built once for all of them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        # Built before anything is read: a wrong SPEC concerns the call, not its files.
        self._model = None if request.model is None else _built(request.model)

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
        names = [name for source in checkpoint.sources for name in source.header.by_name]
        others, notes = self._others(checkpoint.path, names)
        speakers = self.request.user.beside(others)
        notes += [f"{option} matches no module" for option in self.request.user.unused(names)]
        dropped = sorted({name for source in checkpoint.sources for name in source.dropped})
        notes += [f"not carried over: {', '.join(dropped)}"] if dropped else []
        shards = tuple(Shard(source.path.name, source.header) for source in checkpoint.sources)
        contents = Contents(str(checkpoint.path), shards, checkpoint.size, tuple(notes))
        return make_plan(contents, speakers, wish)

    def _others(self, path: Path, names: list[str]) -> tuple[list[Speaker], list[str]]:
        speakers: list[Speaker] = []
        notes: list[str] = []
        if self._model is not None:
            model = self._model.for_names(names)
            speakers.append(model)
            notes += [model.note] if model.note else []
        config = path.parent / "config.json"
        if config.is_file():
            from convsurgeon.sources.config import ConfigSpeaker

            speaker = ConfigSpeaker.read(config)
            speakers.append(speaker)
            notes += [speaker.note] if speaker.note else []
        return speakers, notes


def _built(spec: str) -> ModelSpeaker:
    from convsurgeon.sources.build import build

    return build(spec)


def failure(path: object, error: ConvsurgeonError) -> Failure:
    """Return the error as a row of a report."""
    return Failure(str(path), type(error).__name__, error.code, str(error))
