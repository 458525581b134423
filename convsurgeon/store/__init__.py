"""The only place that opens checkpoint files."""

from convsurgeon.store.behind import Following, follows
from convsurgeon.store.beside import read_safetensors
from convsurgeon.store.draft import Outcome
from convsurgeon.store.files import begins_alike, remove_stale, same_bytes, sync
from convsurgeon.store.find import (
    Checkpoint,
    ReadOptions,
    checkpoint_paths,
    expand,
    only_path,
    read_checkpoint,
)
from convsurgeon.store.held import Held, check_own, held
from convsurgeon.store.in_place import commit
from convsurgeon.store.index import INDEX_SUFFIX, read_shards
from convsurgeon.store.journal import Journal, Member, State, journal_of
from convsurgeon.store.listing import files_of, is_folder
from convsurgeon.store.opening import itself
from convsurgeon.store.parts import CHUNK, COMPARED, Extent, Part, Piece
from convsurgeon.store.pickles import SUFFIXES as PICKLE_SUFFIXES
from convsurgeon.store.pickles import read_pickle
from convsurgeon.store.publish import FileDraft, FolderDraft
from convsurgeon.store.recovery import recover
from convsurgeon.store.reheaded import Reheaded
from convsurgeon.store.renaming import renamed_index
from convsurgeon.store.safetensors_file import SafetensorsFile, read_alone, whole_file
from convsurgeon.store.sidecar import SUFFIX as SIDECAR_SUFFIX
from convsurgeon.store.sidecar import Sidecar, sidecar_bytes, sidecar_of, with_sidecar
from convsurgeon.store.source import Reader, Source

__all__ = [
    "CHUNK",
    "COMPARED",
    "INDEX_SUFFIX",
    "PICKLE_SUFFIXES",
    "SIDECAR_SUFFIX",
    "Checkpoint",
    "Extent",
    "FileDraft",
    "FolderDraft",
    "Following",
    "Held",
    "Journal",
    "Member",
    "Outcome",
    "Part",
    "Piece",
    "ReadOptions",
    "Reader",
    "Reheaded",
    "SafetensorsFile",
    "Sidecar",
    "Source",
    "State",
    "begins_alike",
    "check_own",
    "checkpoint_paths",
    "commit",
    "expand",
    "files_of",
    "follows",
    "held",
    "is_folder",
    "itself",
    "journal_of",
    "only_path",
    "read_alone",
    "read_checkpoint",
    "read_pickle",
    "read_safetensors",
    "read_shards",
    "recover",
    "remove_stale",
    "renamed_index",
    "same_bytes",
    "sidecar_bytes",
    "sidecar_of",
    "sync",
    "whole_file",
    "with_sidecar",
]
