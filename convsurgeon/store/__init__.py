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
from convsurgeon.store.parts import CHUNK, COMPARED, Extent, Part, Piece
from convsurgeon.store.pickles import SUFFIXES as PICKLE_SUFFIXES
from convsurgeon.store.pickles import read_pickle
from convsurgeon.store.publish import FileDraft, FolderDraft, Outcome
from convsurgeon.store.source import (
    Reader,
    SafetensorsFile,
    Source,
    read_safetensors,
    whole_file,
)

__all__ = [
    "CHUNK",
    "COMPARED",
    "INDEX_SUFFIX",
    "PICKLE_SUFFIXES",
    "Checkpoint",
    "Extent",
    "FileDraft",
    "FolderDraft",
    "Outcome",
    "Part",
    "Piece",
    "ReadOptions",
    "Reader",
    "SafetensorsFile",
    "Source",
    "checkpoint_paths",
    "expand",
    "only_path",
    "read_checkpoint",
    "read_pickle",
    "read_safetensors",
    "read_shards",
    "same_bytes",
    "whole_file",
]
