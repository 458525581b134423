"""Every error that convsurgeon raises on purpose, and the exit code each one means.

    ConvsurgeonError
    ├── UsageError              2   the request itself is wrong
    ├── RefusedError            3   nothing was done, on purpose
    │   ├── UnreadableError         missing, empty, truncated, or not what its name says
    │   ├── HeaderError             a safetensors header that breaks the format's rules
    │   ├── ShardError              a shard index that is wrong or disagrees with its shards
    │   ├── PickleError             a PyTorch file that cannot be read with weights only
    │   ├── ContradictionError      two pieces of evidence disagree
    │   ├── ModelError              the model that was named as evidence cannot be built
    │   ├── RecipeError             no recipe, a damaged one, or one that no longer fits
    │   ├── MismatchError           a file and a live model that do not fit together
    │   ├── NothingToDoError        nothing in the file was eligible
    │   └── OutputError             the output exists, is the source, or cannot be written
    ├── NotEquivalentError      1   the proof failed; nothing was published
    ├── NotSyncedError          4   the output is in place, but its last sync failed
    └── NotShownError           4   the work is done, but its report cannot be written

Each error carries a stable code, explained by `convsurgeon explain CODE` (see `codes`), what is
wrong, where, and what to do next. Texts from files may stand in them raw: whoever shows an error
passes it through `untrusted.safe`.
"""

from __future__ import annotations

from typing import ClassVar

_LONGEST = 2000
"""Characters of a message: one name from a file can have as many as the file has bytes."""


class ConvsurgeonError(Exception):
    """The root of the tree.

    Attributes:
        code: stable identifier, `CS0xx`.
        where: the file, layer or option that it is about; may be empty.
        message: what is wrong, in one clause.
        hint: what to do next; where it is empty, the way to the code's explanation is shown.
        exit_code: what the command line exits with.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, code: str, message: str, *, where: object = "", hint: str = "") -> None:
        self.code = code
        self.message = _shortened(message)
        self.where = str(where)
        self.hint = _shortened(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return one line: where, what, the code, and what to do next."""
        where = f"{self.where}: " if self.where else ""
        hint = self.hint or f"convsurgeon explain {self.code} says more"
        return f"{where}{self.message} [{self.code}]; {hint}"

    def at(self, where: object) -> ConvsurgeonError:
        """Say where it happened, if a lower floor did not know; return the same error."""
        if not self.where:
            self.where = str(where)
        return self


class UsageError(ConvsurgeonError):
    """The request itself is wrong."""

    exit_code = 2


class RefusedError(ConvsurgeonError):
    """Nothing was done, on purpose."""


class UnreadableError(RefusedError):
    """The path is missing, empty, truncated, or not what its name says."""

    @classmethod
    def of_system(cls, error: OSError, where: object = "") -> UnreadableError:
        """Return what the system says where nobody knows better what it stands in the way of."""
        text = f"the system refused: {error.strerror or error}"
        hint = "check the path and its permissions"
        return cls("CS037", text, where=error.filename or where, hint=hint)


class HeaderError(RefusedError):
    """A safetensors header that breaks the format's rules."""


class ShardError(RefusedError):
    """A shard index that is malformed, unsafe, or disagrees with its shards."""


class PickleError(RefusedError):
    """A PyTorch file that cannot be read with weights only."""


class ContradictionError(RefusedError):
    """Two pieces of evidence disagree; the message names both."""


class ModelError(RefusedError):
    """The model that was named as evidence cannot be built."""


class RecipeError(RefusedError):
    """The file has no recipe, a damaged one, or one that no longer fits its tensors."""


class MismatchError(RefusedError):
    """A checkpoint and a live model do not fit together."""


class NothingToDoError(RefusedError):
    """Nothing in the file was eligible."""


class OutputError(RefusedError):
    """The output exists, is the source itself, or cannot be written."""


class NotEquivalentError(ConvsurgeonError):
    """The proof failed; nothing was published."""

    exit_code = 1


class NotSyncedError(ConvsurgeonError):
    """The output is in place under its final name, but its last sync failed."""

    exit_code = 4


class NotShownError(ConvsurgeonError):
    """The work is done, outputs are in place, but the report about it cannot be written."""

    exit_code = 4


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 400]} … {text[-400:]}"
