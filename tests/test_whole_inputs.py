"""`--input` and `--input-file`: what is understood, what is made, and every way to be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from convsurgeon.api.model_inputs import parameters, parse_inputs
from convsurgeon.api.wanted import DTYPES
from convsurgeon.errors import HeaderError, UnreadableError, UsageError
from convsurgeon.proof.moves import ModelInputs


class Model(nn.Module):
    """Takes an image, tokens and a mask; what else it is given it ignores."""

    def __init__(self, size: int = 7) -> None:
        super().__init__()
        self.table = nn.Embedding(size, 4)
        self.longer = nn.Embedding(30, 4)

    def forward(
        self, x: Tensor | None = None, input_ids: Any = None, attention_mask: Any = None, **_: Any
    ) -> Any:
        return x, input_ids, attention_mask


def made(*texts: str, model: nn.Module | None = None, seed: int = 1) -> ModelInputs:
    maker = parse_inputs(texts, None)
    assert maker is not None
    return maker(model or Model(), torch.float32, seed)


def test_nothing_asked() -> None:
    assert parse_inputs((), None) is None


def test_positional_and_named() -> None:
    found = made("1x3x4x4", "input_ids=2x5", "attention_mask=2x5")
    (image,) = found.args
    assert (tuple(image.shape), image.dtype) == ((1, 3, 4, 4), torch.float32)
    assert sorted(found.kwargs) == ["attention_mask", "input_ids"]
    assert found.kwargs["attention_mask"].tolist() == [[1] * 5] * 2
    assert found.kwargs["input_ids"].dtype == torch.int64


@given(shape=st.lists(st.integers(1, 3), min_size=1, max_size=4), dtype=st.sampled_from(DTYPES))
def test_every_shape_in_every_dtype(shape: list[int], dtype: str) -> None:
    (tensor,) = made("x".join(map(str, shape)) + f":{dtype}").args
    assert (list(tensor.shape), str(tensor.dtype)) == (shape, f"torch.{dtype}")
    assert not bool(tensor.isnan().any())


def test_ids_are_below_the_shortest_table_without_a_config() -> None:
    ids = made("input_ids=100", "x=100:int32")
    assert {int(ids.kwargs[name].max()) for name in ("input_ids", "x")} == {6}
    assert {int(ids.kwargs[name].min()) for name in ("input_ids", "x")} == {0}
    assert set(made("100:int64", model=nn.Identity()).args[0].tolist()) == {0, 1}
    assert set(made("100:bool").args[0].tolist()) == {False, True}


def test_ids_are_below_the_size_of_a_vocabulary() -> None:
    class Config:
        def __init__(self, **fields: Any) -> None:
            vars(self).update(fields)

        def to_dict(self) -> dict[str, Any]:
            return vars(self)

    model = Model()
    setattr(model, "config", Config(text_config=Config(vocab_size=3)))  # noqa: B010 (as transformers does)
    assert set(made("input_ids=100", model=model).kwargs["input_ids"].tolist()) == {0, 1, 2}


def test_names_with_a_meaning() -> None:
    class Text(nn.Module):
        def forward(self, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
            return token_type_ids + position_ids

    found = made("token_type_ids=2x3", "position_ids=2x3:int32", model=Text()).kwargs
    assert found["token_type_ids"].tolist() == [[0] * 3] * 2
    assert found["position_ids"].tolist() == [[0, 1, 2]] * 2
    assert found["position_ids"].dtype == torch.int32


def test_a_seed_decides_the_numbers() -> None:
    first, again, other = (made("2x3", seed=seed).args[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


WRONG = {
    "": "'' is no shape",
    "1x3x": "'1x3x' is no shape",
    "x3": "'x3' is no shape",
    "1,3": "'1,3' is no shape",
    "-1x3": "'-1x3' is no shape",
    "1x3=x": "'1x3=x' is no shape",
    "1x٣": "is no shape",
    "1x0x3": "has a size of 0",
    "=1x3": "'' is no name of a parameter",
    "a b=1x3": "'a b' is no name of a parameter",
    "a=b=1x3": "is no shape",
    "1x3:float8": "'float8' is none of float64, float32",
    "1x3:": "'1x3:' is no shape",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_input(text: str) -> None:
    refused((text,), None, WRONG[text], "--input", "write 1x3x224x224, NAME=")


def refused(
    texts: tuple[str, ...], file: Path | None, words: str, option: str, hint: str = ""
) -> None:
    with pytest.raises(UsageError) as caught:
        maker = parse_inputs(texts, file)
        assert maker is not None
        maker(Model(), torch.float32, 0)
    error = caught.value
    assert (error.code, error.where.partition(" dummy")[0]) == ("CS090", option)
    assert words in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("x=1", "x=2"), "x is given twice"),
        (("1", "2"), "only one input can be without a name"),
        (("dummy", "1x3"), "'dummy' stands alone"),
        (("dummy", "dummy"), "'dummy' stands alone"),
    ],
)
def test_inputs_that_do_not_go_together(texts: tuple[str, ...], words: str) -> None:
    refused(texts, None, words, "--input", "write ")


def test_names_that_forward_does_not_have() -> None:
    hint = "it has attention_mask, input_ids, x"
    refused(("image=1x3",), None, "no parameter 'image'", "--input", hint)
    assert parameters(nn.Identity()) == {"input"}
    assert parameters(Open()) == frozenset()
    assert sorted(made("a=1", "b=1", model=Open()).kwargs) == ["a", "b"]


class Open(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


def test_a_library_without_dummy_inputs() -> None:
    refused(("dummy",), None, "library of a Model has no dummy inputs", "--input", "--input-file")


def test_the_size_that_timm_keeps() -> None:
    model = Model()
    setattr(model, "pretrained_cfg", {"input_size": (3, 5, 6)})  # noqa: B010 (as timm does)
    assert tuple(made("dummy", model=model).args[0].shape) == (1, 3, 5, 6)


def write(path: Path, **tensors: Tensor) -> Path:
    safetensors_torch.save_file(tensors, path)
    return path


def read(path: Path, dtype: torch.dtype = torch.float32) -> ModelInputs:
    maker = parse_inputs((), path)
    assert maker is not None
    return maker(Model(), dtype, 0)


def test_tensors_of_a_file(tmp_path: Path) -> None:
    x, ids = torch.randn(2, 3, dtype=torch.float64), torch.arange(4)
    path = write(tmp_path / "in.safetensors", x=x, input_ids=ids)
    found = read(path, torch.bfloat16)
    assert found.args == ()
    assert torch.equal(found.kwargs["x"], x.bfloat16())
    assert torch.equal(found.kwargs["input_ids"], ids)
    assert found.kwargs["input_ids"].dtype == torch.int64


def test_a_single_tensor_of_another_name_is_positional(tmp_path: Path) -> None:
    found = read(write(tmp_path / "in.safetensors", batch=torch.ones(2)))
    assert (len(found.args), found.kwargs) == (1, {})
    assert list(read(write(tmp_path / "in.safetensors", x=torch.ones(2))).kwargs) == ["x"]


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "in.safetensors", x=torch.ones(2), y=torch.ones(2))
    refused((), path, "no parameter 'y'", "--input-file", "it has attention_mask")
    refused(("1x3",), path, "it excludes --input", "--input-file")
    refused((), write(tmp_path / "none.safetensors"), "holds no tensor", "--input-file")
    with pytest.raises(UnreadableError, match="CS030"):
        read(tmp_path / "absent.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((5).to_bytes(8, "little") + b"{'a':")
    with pytest.raises(HeaderError, match="CS040"):
        read(broken)
