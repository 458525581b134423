"""`try_models`: two checkpoints, one SPEC, and whether they are the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from torch import Tensor

import convsurgeon as cs
from convsurgeon.api.whole import Trial, try_models
from convsurgeon.errors import MismatchError, ModelError, PickleError, UsageError
from convsurgeon.proof import ModelVerdict
from convsurgeon.store import ReadOptions
from tests.test_samples import FOLDER
from tests.whole_cases import SAMPLES, changed, sample

VIT = "vit_digits"


def tried(files: tuple[Path, Path, str], inputs: tuple[str, ...], **options: Any) -> ModelVerdict:
    return try_models(*files[:2], Trial(files[2], None, inputs, **options))


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float64"])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_the_same_model_after_its_swap(
    name: str, dtype: str | None, tmp_path: Path
) -> None:
    found = tried(sample(name, tmp_path), SAMPLES[name][0], dtype=dtype)
    assert found.equivalent
    assert found.complaints == ()
    assert (found.how, found.dtype) == ("convsurgeon.load", dtype or "float32")
    assert {one.dtype for one in found.inputs} == {dtype or "float32"}
    assert all(0 < one.yardstick < one.scale for one in found.outputs)
    assert all(layer.within for layer in found.layers)
    assert len(found.layers) > 10
    assert found.begins == ""
    assert json.dumps(found.to_json(), allow_nan=False)


def exchanged(weight: Tensor) -> Tensor:
    return weight[:, [0, 2, 1, 3]]


def shifted(weight: Tensor) -> Tensor:
    weight[0] = weight[0].roll(1)
    return weight


def doubled(weight: Tensor) -> Tensor:
    return weight * 2


def one_high_bit(weight: Tensor) -> Tensor:
    weight.view(torch.int32)[0, 0] ^= 1 << 29
    return weight


WRONG: dict[str, tuple[str, Callable[[Tensor], Tensor], str]] = {
    "axes exchanged": ("patch_embed.proj.weight", exchanged, "patch_embed.proj"),
    "one row shifted": ("patch_embed.proj.weight", shifted, "patch_embed.proj"),
    "another tensor doubled": ("blocks.1.mlp.fc1.weight", doubled, "blocks.1.mlp.fc1"),
    "one bit of a high exponent": ("patch_embed.proj.weight", one_high_bit, "patch_embed.proj"),
    "the last tensor doubled": ("head.bias", doubled, "head"),
}


# In half precision a zero in place of one weight, or another bias, drifts less than last places do.
CAUGHT = [(name, dtype) for name in WRONG for dtype in ("float64", "float32")]
CAUGHT += [(name, dtype) for name in list(WRONG)[:3] for dtype in ("bfloat16", "float16")]


@pytest.mark.parametrize(("name", "dtype"), CAUGHT)
def test_a_wrong_swap_is_refuted_and_its_layer_named(name: str, dtype: str, tmp_path: Path) -> None:
    key, change, layer = WRONG[name]
    source, out, spec = sample(VIT, tmp_path)
    found = tried((source, changed(out, key, change), spec), ("4x1x8x8",), dtype=dtype)
    assert not found.equivalent
    assert found.begins == layer
    assert found.complaints[-1] == f"the drift begins at layer {layer}"
    names = [one.name for one in found.layers]
    assert all(one.difference == 0 or one.within for one in found.layers[: names.index(layer)])


def last_place(weight: Tensor) -> Tensor:
    weight[0, 0] = torch.nextafter(weight[0, 0], weight.new_tensor(torch.inf))
    return weight


def test_a_last_place_shows_in_float64_only(tmp_path: Path) -> None:
    source, out, spec = sample(VIT, tmp_path)
    files = source, changed(out, "patch_embed.proj.weight", last_place), spec
    assert tried(files, ("4x1x8x8",)).equivalent  # what the proof of the bits is for
    assert not tried(files, ("4x1x8x8",), dtype="float64").equivalent


def test_random_numbers_of_the_caller_stay(tmp_path: Path) -> None:
    files = sample(VIT, tmp_path)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again = (tried(files, ("4x1x8x8",)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again
    assert tried(files, ("4x1x8x8",), seed=1).outputs[0].scale != first.outputs[0].scale


@pytest.mark.parametrize("which", ["swapped", "original"])
def test_a_file_that_does_not_load(which: str, tmp_path: Path) -> None:
    source, out, spec = sample(VIT, tmp_path)
    if which == "original":
        with pytest.raises(MismatchError, match=r"1 missing: head\.bias") as caught:
            tried(
                (changed(tmp_path_copy(source, tmp_path), "head.bias", drop), out, spec),
                ("4x1x8x8",),
            )
        assert "changed-model.safetensors" in str(caught.value)
        return
    found = tried((source, changed(out, "head.bias", drop), spec), ("4x1x8x8",))
    assert not found.equivalent
    (line,) = found.refused
    assert line.startswith("convsurgeon.load refuses ")
    assert line.endswith("1 missing: head.bias")
    assert (found.inputs, found.outputs, found.layers) == ((), (), ())


def drop(_: Tensor) -> None:
    return None


def tmp_path_copy(path: Path, folder: Path) -> Path:
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    return copy


def test_a_file_in_another_dtype_decides_what_is_run(tmp_path: Path) -> None:
    source, _, spec = sample(VIT, tmp_path)
    half, out = tmp_path / "half.safetensors", tmp_path / "half.linear.safetensors"
    tensors = safetensors_torch.load_file(source)
    mixed = {name: t if "norm" in name else t.bfloat16() for name, t in tensors.items()}
    safetensors_torch.save_file(mixed, half)
    cs.swap(half, out, model=spec)
    found = tried((half, out, spec), ("4x1x8x8",))
    assert (found.dtype, found.equivalent) == ("bfloat16", True)
    norms = sum(t.numel() for name, t in tensors.items() if "norm" in name)
    assert found.notes[0] == f"{norms} elements are stored in F32 and run in bfloat16"
    assert "--dtype float64 sees" in found.notes[1]
    eighth = tmp_path / "eighth.safetensors"
    safetensors_torch.save_file({k: t.to(torch.float8_e4m3fn) for k, t in tensors.items()}, eighth)
    with pytest.raises(
        UsageError, match=r"--dtype: .* F8_E4M3, in which no model is run .*float32"
    ):
        tried((eighth, eighth, spec), ("4x1x8x8",))
    assert tried((eighth, eighth, spec), ("4x1x8x8",), dtype="float32").equivalent


@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_names_behind_a_wrapper(prefix: str, tmp_path: Path) -> None:
    source, _, spec = sample(VIT, tmp_path)
    wrapped, out = tmp_path / "wrapped.safetensors", tmp_path / "out.safetensors"
    tensors = safetensors_torch.load_file(source)
    safetensors_torch.save_file({prefix + k: t for k, t in tensors.items()}, wrapped)
    cs.swap(wrapped, out, model=spec)
    assert tried((wrapped, out, spec), ("4x1x8x8",)).equivalent


def test_a_dictionary_of_a_pytorch_file(tmp_path: Path) -> None:
    source, _, spec = sample(VIT, tmp_path)
    tensors = safetensors_torch.load_file(source)
    both, out = tmp_path / "both.pt", tmp_path / "out.safetensors"
    torch.save({"model": tensors, "ema": {k: 2 * t for k, t in tensors.items()}}, both)
    cs.swap(both, out, model=spec, key="model")
    for key, same in (("model", True), ("ema", False)):
        trial = Trial(spec, None, ("1x1x8x8",), read=ReadOptions(key=key))
        assert try_models(both, out, trial).equivalent == same
    with pytest.raises(PickleError, match="CS051"):
        try_models(both, out, Trial(spec, None, ("1x1x8x8",)))


@cache
def foreign(folder: Path) -> tuple[Path, Path, str]:
    """A model with three channels, and its swap by a tool that leaves no recipe."""
    script, source, out = folder / "m.py", folder / "in.safetensors", folder / "out.safetensors"
    script.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.Flatten(), nn.Linear(128, 5))\n"
    )
    torch.manual_seed(0)
    conv, head = torch.nn.Conv2d(3, 8, 2, 2), torch.nn.Linear(128, 5)
    state = {f"0.{k}": t for k, t in conv.state_dict().items()}
    state |= {f"2.{k}": t for k, t in head.state_dict().items()}
    safetensors_torch.save_file(state, source)
    flat = {
        **state,
        "0.weight": conv.weight.detach().permute(0, 2, 3, 1).reshape(8, 12).contiguous(),
    }
    safetensors_torch.save_file(flat, out)
    return source, out, f"{script}:build"


def test_a_file_of_another_tool(tmp_path: Path) -> None:
    source, out, spec = foreign(tmp_path)
    trial = Trial(spec, None, ("2x3x8x8",))
    layers = cs.verify(source, out, model=spec).files[0].layers
    assert [layer.layout for layer in layers] == ["p1 p2 c"]
    assert try_models(source, out, trial, layers).equivalent
    assert not try_models(source, changed(out, "0.weight", shifted), trial, layers).equivalent
    refused = try_models(source, out, trial).refused
    assert len(refused) == 1
    assert "[8, 12], the model [8, 3, 2, 2]" in refused[0]


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (Trial("m.py:build", None), "--model: it needs --input SHAPE"),
        (Trial(None, None, ("1x3",)), "--input: it needs --model SPEC"),
        (
            Trial("m.py:build", None, ("1x3",), dtype="float8"),
            "--dtype: 'float8' is none of float64",
        ),
        (Trial("m.py:build", None, ("1y3",)), "--input: '1y3' is no shape"),
        (Trial(None, "keras"), "loader: 'keras' is none of"),
    ],
)
def test_trials_that_cannot_be_understood(trial: Trial, words: str, tmp_path: Path) -> None:
    source = FOLDER / VIT / "model.safetensors"
    with pytest.raises(UsageError, match=words) as caught:
        try_models(source, source, trial)
    assert caught.value.code == "CS090"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (("1x3x8x8",), "RuntimeError: Given groups=1"),
        (("1x1x8x9999999999999",), "cannot be run"),
    ],
)
def test_a_model_that_cannot_be_run(inputs: tuple[str, ...], words: str, tmp_path: Path) -> None:
    files = sample(VIT, tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        tried(files, inputs)
    assert caught.value.code == "CS064"
    assert caught.value.where == files[2]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_model_that_exits(tmp_path: Path) -> None:
    """An exit code of its own would be taken for the answer."""
    source, out, _ = sample(VIT, tmp_path)
    (tmp_path / "config.json").write_text((FOLDER / VIT / "config.json").read_text())
    text = (FOLDER / VIT / "model.py").read_text()
    leaves = "x = self.patch_embed(x)"
    assert leaves in text
    (tmp_path / "exits.py").write_text(text.replace(leaves, "raise SystemExit(0)"))
    model = f"{tmp_path / 'exits.py'}:build"
    with pytest.raises(ModelError, match="cannot be run: SystemExit: 0") as caught:
        tried((source, out, model), ("1x1x8x8",))
    assert caught.value.code == "CS064"


def test_what_a_model_prints_or_fetches(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out, _ = sample(VIT, tmp_path)
    text = (FOLDER / VIT / "model.py").read_text()
    (tmp_path / "config.json").write_text((FOLDER / VIT / "config.json").read_text())
    loud = text.replace(
        "        x = self.patch_embed(x)\n", "        print('x')\n        x = self.patch_embed(x)\n"
    )
    online = loud.replace("print('x')", "__import__('socket').create_connection(('127.0.0.1', 9))")
    assert online != loud != text
    (tmp_path / "loud.py").write_text(loud)
    (tmp_path / "online.py").write_text(online)
    assert tried((source, out, f"{tmp_path}/loud.py:build"), ("1x1x8x8",)).equivalent
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ModelError, match="nothing is downloaded"):
        tried((source, out, f"{tmp_path}/online.py:build"), ("1x1x8x8",))
