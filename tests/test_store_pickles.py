"""PyTorch files: which tensors, in which bytes, and what is left behind."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, PickleError, UnreadableError
from convsurgeon.store import PICKLE_SUFFIXES, read_pickle, read_safetensors
from convsurgeon.store.pickles import DTYPE_NAMES

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

DESERIALIZE: Any = safetensors.deserialize
DTYPES = [getattr(torch, name) for name in DTYPE_NAMES]


def patterned(dtype: Any, *shape: int) -> Any:
    """A tensor of every byte there is, as far as it has room."""
    numel = int(torch.tensor(shape).prod()) if shape else 1
    size = torch.empty((), dtype=dtype).element_size()
    raw = (torch.arange(numel * size) * 37 % 256).to(torch.uint8)
    return raw.view(dtype).reshape(shape)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def as_file(path: Path, key: str | None = None) -> bytes:
    """The safetensors file that a PyTorch file makes up."""
    file = read_pickle(path, key)
    with file.reader() as reader:
        whole = reader.prefix() + b"".join(reader.chunks(0, file.header.data_bytes))
    assert len(whole) == file.size
    return whole


def loaded(whole: bytes) -> dict[str, bytes]:
    """What the reference reads."""
    return {name: bytes(entry["data"]) for name, entry in DESERIALIZE(whole)}


@pytest.mark.parametrize("suffix", PICKLE_SUFFIXES)
def test_a_plain_state_dict(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"m{suffix}", OrderedDict(b=torch.ones(2), a=torch.zeros(1, 3)))
    file = read_pickle(path)
    assert (file.path, file.dropped, file.header.metadata) == (path, (), (("format", "pt"),))
    assert {t.name: t.shape for t in file.header.tensors} == {"a": (1, 3), "b": (2,)}


def test_the_bytes_are_those_of_the_reference(tmp_path: Path) -> None:
    tensors = {
        "b.weight": patterned(torch.float32, 3, 2),
        "a": patterned(torch.int64, 2),
        "c": patterned(torch.bool, 5),
    }
    whole = as_file(saved(tmp_path / "m.pt", tensors))
    assert whole == safetensors_torch.save(tensors, {"format": "pt"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(tmp_path: Path, dtype: Any) -> None:
    tensors = {
        "w": patterned(dtype, 3, 100),
        "scalar": patterned(dtype),
        "none": patterned(dtype, 0, 4),
    }
    whole = as_file(saved(tmp_path / "m.pt", tensors))
    assert loaded(whole) == {
        n: t.reshape(-1).view(torch.uint8).numpy().tobytes() for n, t in tensors.items()
    }
    file = read_pickle(tmp_path / "m.pt")
    assert file.header.by_name["scalar"].shape == ()
    assert file.header.by_name["none"].shape == (0, 4)
    assert len(DTYPES) == 19


BASE = patterned(torch.float32, 4, 6)
VIEWS: dict[str, Any] = {
    "transposed": BASE.T,
    "every other": BASE[::2, 1::2],
    "part of a storage": BASE[1:3],
    "channels last": patterned(torch.float32, 2, 3, 4, 5).contiguous(
        memory_format=torch.channels_last
    ),
    "expanded a little": BASE[:1].expand(3, 6),
    "parameter": torch.nn.Parameter(BASE.clone()),
    "conjugate": torch.view_as_complex(torch.arange(8.0).reshape(4, 2)).conj(),
    "negative": torch.view_as_complex(torch.arange(8.0).reshape(4, 2)).conj().imag,
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(tmp_path: Path, name: str) -> None:
    view = VIEWS[name]
    whole = as_file(saved(tmp_path / "m.pt", {"w": view, "x": BASE}))
    read = safetensors_torch.load(whole)["w"]
    assert read.shape == view.shape
    assert torch.equal(read.nan_to_num(), view.detach().resolve_conj().resolve_neg().nan_to_num())
    assert loaded(whole)["x"] == BASE.numpy().tobytes()


def test_tied_tensors_are_both_written(tmp_path: Path) -> None:
    whole = as_file(saved(tmp_path / "m.pt", {"a": BASE, "b": BASE, "c": BASE[0]}))
    row = BASE.numpy().tobytes()
    assert loaded(whole) == {"a": row, "b": row, "c": row[:24]}


MODEL, EMA = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
LIGHTNING = {
    "state_dict": MODEL,
    "epoch": 3,
    "optimizer_states": [OPTIMIZER],
    "loops": {"fit": {"n": 1}},
    "hparams": {},
}

# What is saved, the key asked for, what is found under w, what is listed as dropped.
CHOICES: dict[str, tuple[Any, str | None, float, tuple[str, ...]]] = {
    "the only one": ({"state_dict": MODEL}, None, 1.0, ()),
    "named": ({"model": MODEL, "model_ema": EMA}, "model_ema", 0.0, ("model",)),
    "Lightning": (LIGHTNING, None, 1.0, ("epoch", "hparams", "loops", "optimizer_states")),
    "optimizer": ({"model": MODEL, "optimizer": OPTIMIZER}, None, 1.0, ("optimizer",)),
    "no tensors among tensors": ({"w": torch.ones(2), "epoch": 3, "names": ["x"]}, None, 1.0, ("epoch", "names")),
    "inside a chosen one": ({"model": {**MODEL, "_extra": None}, "epoch": 1}, "model", 1.0, ("epoch", "model._extra")),
    "deeper": ({"a": {"b": MODEL, "c": 3}, "d": 1}, None, 1.0, ("a.c", "d")),
    "deeper, by name": ({"a": {"b": MODEL, "c": EMA}}, "a.c", 0.0, ("a.b",)),
    "a key with a dot": ({"net.ema": EMA, "net": {"x": 1}}, None, 0.0, ("net",)),
    "the outermost, by name": ({**EMA, "ema": MODEL}, "", 0.0, ("ema",)),
    "beside a tensor": ({"step": torch.tensor(5), "model": MODEL}, "model", 1.0, ("step",)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "key", "value", "dropped"), CHOICES.values(), ids=CHOICES.keys()
)
def test_choosing(
    tmp_path: Path, content: Any, key: str | None, value: float, dropped: tuple[str, ...]
) -> None:
    path = saved(tmp_path / "m.ckpt", content)
    assert safetensors_torch.load(as_file(path, key))["w"].tolist() == [value, value]
    assert read_pickle(path, key).dropped == dropped


REFUSED: dict[str, tuple[Any, str | None, tuple[str, ...]]] = {
    "two": ({"model": MODEL, "model_ema": EMA}, None, ("'model'", "'model_ema'", "--key")),
    "unknown key": ({"model": MODEL, "epoch": 1}, "ema", ("'ema'", "'model'")),
    "a counter beside the model": ({"step": torch.tensor(5), "model": MODEL}, None, ("''", "'model'")),
    "one name, two places": ({"a": {"b": MODEL}, "a.b": EMA}, None, ("'a.b'",)),
    "one name, two places, asked for": ({"a": {"b": MODEL}, "a.b": EMA}, "a.b", ("'a.b'",)),
    "numbers only": ({"epoch": 3}, None, ("no state dict", "state_dict()")),
    "a tensor": (torch.ones(2), None, ("no state dict",)),
    "a list": ([torch.ones(2)], None, ("no state dict",)),
    "numbers as keys": ({0: torch.ones(2)}, None, ("no state dict",)),
}  # fmt: skip


@pytest.mark.parametrize(("content", "key", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_not_choosing(
    tmp_path: Path, content: Any, key: str | None, words: tuple[str, ...]
) -> None:
    path = saved(tmp_path / "m.pt", content)
    with pytest.raises(PickleError) as caught:
        read_pickle(path, key)
    assert (caught.value.code, caught.value.where) == ("CS051", str(path))
    assert [word for word in words if word not in str(caught.value)] == []


def test_what_was_dropped_reaches_recipe_and_reports(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "m.pt", {"state_dict": {"p.weight": torch.ones(2, 3, 4, 4)}, "epoch": 1}
    )
    report = cs.swap(path, tmp_path / "o.safetensors", geometry=["p=s4"], verify="bits")
    assert "not carried over: epoch" in report.files[0].plan.notes
    restored = cs.restore(tmp_path / "o.safetensors").files[0]
    assert "epoch" in restored.note
    assert Path(restored.output).name == "m.safetensors"
    assert (tmp_path / "m.safetensors").read_bytes() == as_file(path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, bytes]:
    """A file with empty, scalar, strided and tied tensors, one of them above a chunk."""
    big = patterned(torch.float16, 800, 900)
    tensors = {
        "big": big.T,
        "e": torch.empty(0),
        "s": torch.tensor(7),
        "b": torch.tensor([True]),
        "tied": big[3],
        "e2": torch.empty(0, 3),
    }
    file = read_pickle(saved(tmp_path_factory.mktemp("pickles") / "m.pt", tensors))
    whole = safetensors_torch.save(
        {n: t.clone().contiguous() for n, t in tensors.items()}, {"format": "pt"}
    )
    return file, whole[len(whole) - file.header.data_bytes :]


@settings(max_examples=60)
@given(data=st.data())
def test_any_range_is_that_of_the_file_it_makes_up(
    mixed: tuple[Any, bytes], data: st.DataObject
) -> None:
    file, expected = mixed
    edges = sorted({edge for t in file.header.tensors for edge in (t.begin, t.end)})
    place = st.integers(0, len(expected)) | st.sampled_from(edges)
    begin, end = sorted((data.draw(place), data.draw(place)))
    with file.reader() as reader:
        assert b"".join(reader.chunks(begin, end)) == expected[begin:end]
        assert reader.read(begin, end) == expected[begin:end]


@pytest.mark.parametrize("when", ["before", "while open"])
def test_changed(tmp_path: Path, when: str) -> None:
    path = saved(tmp_path / "m.pt", MODEL)
    os.utime(path, (1, 1))
    file = read_pickle(path)
    if when == "before":
        saved(path, {"other": torch.ones(1)})
    with pytest.raises(ConvsurgeonError) as caught, file.reader() as reader:
        assert len(reader.read(0, 8)) == 8
        os.utime(path)
    assert (type(caught.value), caught.value.code) == (UnreadableError, "CS038")


def test_a_pickle_is_read_as_such_by_its_suffix_only(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", MODEL)
    with pytest.raises(UnreadableError, match="PyTorch"):
        read_safetensors(path)
