"""Every crafted file through the commands: its code, its one line, and nothing else of it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import safetensors

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.header import parse
from convsurgeon.store import read_safetensors
from tests.cli_helpers import Ran, check_snapshot, document, invoke, process
from tests.crafted_files import ACCEPTED, FILE, REFUSED, main
from tests.test_header_reference import assert_same

DESERIALIZE: Any = safetensors.deserialize
SAMPLE = list(REFUSED)[::12]


def written(folder: Path, content: bytes, name: str = "f.safetensors") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def line_of(ran: Ran) -> str:
    """The one line of an error, after everything that every error has was checked."""
    assert ran.out == ""
    assert ran.err.startswith("convsurgeon: ")
    assert ran.err.count("\n") == 1
    line = ran.err.removesuffix("\n")
    unsafe = [c for c in line if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert unsafe == []
    assert len(line) < 2500
    assert "Traceback" not in line
    assert "CS091" not in line, "a defect"
    return line


@cache
def outcomes() -> dict[str, tuple[int, str]]:
    """Exit code of `scan` and its line, for every file that is refused."""
    found = {}
    with TemporaryDirectory() as folder:
        for name, content in REFUSED.items():
            path = written(Path(folder), content)
            ran = invoke("scan", path)
            found[name] = ran.code, line_of(ran).replace(str(path), "f.safetensors")
    return found


def test_there_are_enough() -> None:
    assert len(REFUSED) >= 150
    assert len(set(REFUSED.values())) == len(REFUSED), "two of them are the same file"
    assert len(ACCEPTED) >= 30
    assert len(set(ACCEPTED.values())) == len(ACCEPTED)


def test_what_becomes_of_each() -> None:
    said = "convsurgeon: f.safetensors: "
    rows = [f"{name}: {line.removeprefix(said)}" for name, (_, line) in outcomes().items()]
    check_snapshot("crafted_files.txt", "\n".join(rows) + "\n")
    assert {code for code, _ in outcomes().values()} == {3}


def test_the_code_is_that_of_the_kind() -> None:
    """The snapshot could be written anew without a look; this could not."""
    kinds = {
        "header: ": {"CS040"},
        "length: ": {"CS036", "CS040", "CS041"},
        "cut: ": {"CS031", "CS036", "CS040"},
        "other: ": {"CS031", "CS033", "CS034", "CS035", "CS036", "CS040", "CS041"},
        "name: ": {"CS040"},
    }
    for name, (_, line) in outcomes().items():
        (codes,) = (codes for kind, codes in kinds.items() if name.startswith(kind))
        assert any(f"[{code}]; " in line for code in codes), (name, line)


def test_the_checks_of_a_line_can_fail() -> None:
    good = "convsurgeon: a: b [CS040]; c\n"
    assert line_of(Ran(3, "", good)) == good[:-1]
    for bad in (
        "",
        "a: b\n",
        good + good,
        good[:-1],
        good.replace("b", "\x1b"),
        good.replace("b", "\u202e"),
    ):
        with pytest.raises(AssertionError):
            line_of(Ran(3, "", bad))
    with pytest.raises(AssertionError):
        line_of(Ran(3, "x", good))


@pytest.mark.parametrize("name", SAMPLE)
def test_the_real_command_line(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, REFUSED[name])
    ran = process("scan", path)
    line = line_of(ran).replace(str(path), "f.safetensors")
    assert (ran.code, line) == outcomes()[name]


@pytest.mark.parametrize("name", SAMPLE)
def test_the_other_commands(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, REFUSED[name])
    good = written(tmp_path, FILE, "good.safetensors")
    code, line = outcomes()[name]
    said = line.removeprefix("convsurgeon: f.safetensors: ")
    for arguments in (
        ("swap", path, "-o", tmp_path / "o.safetensors"),
        ("verify", path, good),
        ("verify", good, path),
        ("verify", path),
        ("restore", path),
        ("bench", path),
    ):
        ran = invoke(*arguments)
        assert ran.code == code, arguments
        assert said in line_of(ran), arguments
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.safetensors", "good.safetensors"]


@pytest.mark.parametrize("name", SAMPLE)
def test_load(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ConvsurgeonError) as caught:
        cs.load(torch.nn.Conv2d(1, 1, 1), written(tmp_path, REFUSED[name]))
    assert f"[{caught.value.code}]" in outcomes()[name][1]


def test_json_of_an_error(tmp_path: Path) -> None:
    for name in SAMPLE:
        path = written(tmp_path, REFUSED[name])
        code, content = document("scan", path)
        (error,) = content["errors"]
        assert (code, error["path"]) == (3, str(path))
        assert f"[{error['code']}]" in outcomes()[name][1]


def test_the_reference_accepts_few_of_them() -> None:
    """These are the classes in which the package is the stricter one, each by a rule of the README."""
    accepted = [name for name, content in REFUSED.items() if reads(content)]
    check_snapshot("crafted_files_of_the_reference.txt", "\n".join(accepted) + "\n")


def reads(content: bytes) -> bool:
    try:
        DESERIALIZE(content)
    except safetensors.SafetensorError:
        return False
    return True


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_reference_reads_the_same(name: str, tmp_path: Path) -> None:
    content = ACCEPTED[name]
    path = written(tmp_path, content)
    file = read_safetensors(path)
    text = content[8 : 8 + file.header_length]
    data = content[8 + len(text) :]
    assert_same(text, len(data), parse(text, len(data)))
    with safetensors.safe_open(path, "numpy") as opened:
        assert set(opened.keys()) == set(file.header.by_name)
        assert opened.metadata() == (
            None if file.header.metadata is None else file.header.metadata_map
        )


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_ones_are_shown_safely(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, ACCEPTED[name])
    ran = invoke("scan", path, columns=200)
    assert (ran.code, ran.err) == (0, "")
    assert [c for c in ran.out if c != "\n" and not c.isprintable()] == []
    code, content = document("scan", path)
    assert (code, content["files"][0]["tensors"]) == (0, len(read_safetensors(path).header.tensors))


def every_cut() -> Iterator[bytes]:
    yield from (FILE[:end] for end in range(len(FILE)))


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    for content in every_cut():
        path = written(tmp_path, content)
        with pytest.raises(ConvsurgeonError) as caught:
            read_safetensors(path)
        assert caught.value.code in {"CS031", "CS036"}, len(content)


def test_the_script_writes_them(tmp_path: Path) -> None:
    main(tmp_path)
    assert len(list((tmp_path / "refused").iterdir())) == len(REFUSED)
    assert {p.read_bytes() for p in (tmp_path / "accepted").iterdir()} == set(ACCEPTED.values())
    json.dumps([p.name for p in tmp_path.rglob("*")]).encode("ascii")
