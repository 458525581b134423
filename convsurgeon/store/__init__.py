"""The only place that opens checkpoint files."""

from convsurgeon.store.files import same_bytes
from convsurgeon.store.find import (
    Checkpoint,
    ReadOptions,
    checkpoint_paths,
    expand,
    only_path,
    read_checkpoint,
)
from convsurgeon.store.index import INDEX_SUFFIX, read_shards
from convsurgeon.store.pickles import SUFFIXES as PICKLE_SUFFIXES
from convsurgeon.store.pickles import read_pickle
from convsurgeon.store.publish import FileDraft, FolderDraft, Outcome
from convsurgeon.store.source import (
    CHUNK,
    Piece,
    Reader,
    SafetensorsFile,
    Source,
    file_pieces,
    read_safetensors,
)

__all__ = [
    "CHUNK",
    "INDEX_SUFFIX",
    "PICKLE_SUFFIXES",
    "Checkpoint",
    "FileDraft",
    "FolderDraft",
    "Outcome",
    "Piece",
    "ReadOptions",
    "Reader",
    "SafetensorsFile",
    "Source",
    "checkpoint_paths",
    "expand",
    "file_pieces",
    "only_path",
    "read_checkpoint",
    "read_pickle",
    "read_safetensors",
    "read_shards",
    "same_bytes",
]
