"""One way each to make a reader careless, and the fuzz target that has to notice.

`python -m tests.reader_patches EXECUTIONS` runs each target on a package with one of the mistakes,
and prints the names of those that it found, one a line.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple


class Patch(NamedTuple):
    """A change of one place in a module of the package."""

    name: str
    target: str
    module: str
    true: str
    false: str


GRAMMAR = (
    ("white space in front", "rules", 'rf"\\{{{_WS}")', 'rf"{_WS}\\{{{_WS}")'),
    ("any white space behind", "rules", '.strip(" ")', ".strip()"),
    ("a form feed as white space", "header", '_WS = r"[ \\t\\n\\r]*+"', '_WS = r"\\s*+"'),
    ("leading zeros", "header", "(?:0|[1-9][0-9]{0,19}+)", "[0-9]{1,20}+"),
    ("raw controls in strings", "header", '[^"\\\\\\x00-\\x1f]++', '[^"\\\\]++'),
    ("short escapes", "header", "u[0-9a-fA-F]{4}", "u[0-9a-fA-F]{1,4}"),
    ("a field twice", "header", "if not match or match[1] in fields:", "if not match:"),
    ("the second metadata", "header", "if metadata is not None:", "if False:"),
    (
        "metadata of one entry",
        "rules",
        'if mark == "}":\n            return tuple',
        "return tuple",
    ),
    ("offsets swapped", "rules", "first, last = map", "last, first = map"),
)
VALUE = (
    ("one name twice", "rules", "len(self.by_name) != len(self.tensors)", "False"),
    ("a metadata key twice", "rules", "len(dict(entries)) != len(entries)", "False"),
    ("holes", "header", "if tensor.begin != end:", "if tensor.begin < end:"),
    ("overlaps", "header", "if tensor.begin != end:", "if tensor.begin > end:"),
    ("one byte too many", "header", "self.in_data_order[-1].end", "self.in_data_order[-1].end + 1"),
    ("half bytes", "header", "* bits != (end - begin) * 8", "* bits // 8 != end - begin"),
    ("sizes that do not fit", "header", "if prod(shape)", "if False and prod(shape)"),
    ("empty tensors behind full ones", "rules", "key=lambda t: (t.begin, t.end)", "key=lambda t: -t.end"),
    ("overflow", "header", "* bits >= _U64", "* bits >= _U64 * _U64"),
)  # fmt: skip
OTHERS = (
    ("bytes that are no UTF-8", "header", "header.parse", '"utf-8")', '"utf-8", "replace")'),
    ("more data than described", "header", "header.parse", "header.data_bytes != data_bytes", "header.data_bytes > data_bytes"),
    ("offsets written backwards", "header", "header.layout", "[{t.begin},{t.end}]", "[{t.end},{t.begin}]"),
    ("a size of F6", "header", "dtypes", '"F6_E2M3": 6', '"F6_E2M3": 8'),
    ("a length of 0x280 is a pickle", "file", "store.sniff", 'if plausible and first[8:9] == b"{" ', "if False "),
    ("two dots", "index", "untrusted", '("", ".", "..")', '("", ".")'),
    ("backslashes", "index", "untrusted", r"[/\\\x00", r"[/\x00"),
    ("the same names elsewhere", "index", "store.index", "if found == weight_map:", "if found.keys() == weight_map.keys():"),
    ("a tensor in two shards", "index", "store.index", "if len(found) != sum(", "if False and sum("),
    ("a name with a slash", "recipe", "plan.recipe", "not is_file_name(name)", "not name"),
    ("sizes below one", "recipe", "plan.step", "or min(conv) < 1", ""),
    ("digests of any length", "recipe", "plan.step", "re.fullmatch", "re.match"),
    ("a key twice", "document", "bounded_json", "if found != pairs:", "if False:"),
    ("raw controls in documents", "document", "bounded_json", "(text, object_hook", "(text, strict=False, object_hook"),
    ("other data", "journal", "store.journal", "if not self.old.header", "if False and not self.old.header"),
    ("a leader anywhere", "journal", "store.journal", "not all(map(is_file_name, (self.leader, *names)))", "False"),
    ("a sidecar without a digest", "sidecar", "store.sidecar", "re.fullmatch", "re.match"),
)  # fmt: skip
PATCHES = (
    *(Patch(name, target, "header.grammar", *texts) for name, target, *texts in GRAMMAR),
    *(Patch(name, target, "header.value", *texts) for name, target, *texts in VALUE),
    *(Patch(*each) for each in OTHERS),
)
UNCHANGED = Patch("no change", "header", "version", "__version__", "__version__")


class Patched(SourceFileLoader):
    """Loads a module from its source with one text replaced."""

    patch = UNCHANGED

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source."""
        source = Path(self.path).read_text("utf-8")
        return compile(source.replace(self.patch.true, self.patch.false), self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the module that a patch is about."""

    def __init__(self, patch: Patch) -> None:
        self.patch = patch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None for every other module."""
        if fullname != f"convsurgeon.{self.patch.module}":
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = Patched(fullname, spec.origin)
        spec.loader.patch = self.patch
        return spec


def noticed(patch: Patch, executions: int) -> bool:
    """Import everything anew with the mistake, and search."""
    for name in [n for n in sys.modules if n.split(".")[0] in {"convsurgeon", "fuzz"}]:
        del sys.modules[name]
    for name in [n for n in sys.modules if n.startswith("tests.") and n != __name__]:
        del sys.modules[name]
    finder = Finder(patch)
    sys.meta_path.insert(0, finder)
    try:
        plain = importlib.import_module("fuzz.plain")
        plain.search(patch.target, executions)
    except AssertionError as error:
        if type(error).__name__ != "Finding":
            raise
        return True
    finally:
        sys.meta_path.remove(finder)
    return False


def applies(patch: Patch) -> bool:
    """Tell whether the text of a patch stands in its module, once."""
    path = Path(__file__).parent.parent / "convsurgeon" / f"{patch.module.replace('.', '/')}.py"
    return path.read_text("utf-8").count(patch.true) == 1


def main(executions: int) -> None:
    """Print the names of the mistakes that were noticed."""
    for patch in (UNCHANGED, *filter(applies, PATCHES)):
        if noticed(patch, executions):
            print(patch.name, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))
