"""How reports look at 80 and 200 columns, without colour; names are folded, never cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.geometry import Geometry
from convsurgeon.plan import FilePlan, Plan
from convsurgeon.proof import (
    Bits,
    Digest,
    Drift,
    Environment,
    Error,
    FileDigest,
    FileVerdict,
    Floats,
    Function,
    Input,
    LayerVerdict,
    ModelInput,
    ModelVerdict,
    Probes,
    ReceiptCheck,
    Verdict,
)
from convsurgeon.report.markdown import as_markdown
from convsurgeon.report.save import markdown
from convsurgeon.report.words import duration, folded, size
from convsurgeon.results import Report
from tests.cli_helpers import NASTY, check_snapshot, f32, shown, write

WIDTHS = (80, 200)
GEOMETRY = ["*.proj=s2", "patch=s4", "dense.*=s1,p1", "blocks.*=s2"]
FUNCTION = Function(
    within=True,
    difference=1.5e-15,
    bound=2.25e-14,
    outputs=812,
    inputs=(Input((3, 2, 2)), Input((0, 3, 2, 2), memory="strided")),
    seed=20_260_101,
    probes=Probes(equal=True, tried=12, places=12),
)
FLOATS = Floats(
    "F32",
    before=Error(2.1e-6, 2.1e-7, 3.2, 0.61, 4e-8),
    after=Error(1.8e-6, 1.8e-7, 2.4, 0.55, 3e-8),
    between=Error(2.4e-6, 2.4e-7, 12.0, 0.8, 5e-8),
    outputs=48,
)


def model_plan(monkeypatch: pytest.MonkeyPatch, folder: Path) -> FilePlan:
    """The plan of a file with every kind of verdict, by a name without the machine's folders."""
    tensors = {f"blocks.{i}.conv.weight": f32((8, 8, 2, 2), i) for i in range(12)}
    tensors |= {"embed.proj.weight": f32((8, 3, 2, 2)), "embed.proj.bias": f32((8,))}
    tensors |= {"patch.weight": f32((6, 1, 4, 4)), "stem.weight": f32((4, 3, 7, 7))}
    tensors |= {"dense.1.weight": f32((4, 3, 3, 3)), "dense.2.weight": f32((4, 3, 3, 3))}
    tensors |= {"mask.weight_v": f32((2, 2, 2)), "head.weight": f32((3, 8))}
    write(folder / "model.safetensors", tensors, {"format": "pt"})
    monkeypatch.chdir(folder)
    (plan,) = cs.scan("model.safetensors", geometry=[*GEOMETRY, "none=s2"]).files
    return plan


def proved(plan: FilePlan, function: Function | None = FUNCTION) -> FileVerdict:
    layers = tuple(
        LayerVerdict(
            module=layer.module,
            key=layer.key,
            forms=(layer.form, layer.rewrite.to),
            shapes=(layer.weight_shape, layer.rewrite.weight_shape),
            given=(layer.geometry, *layer.evidence),
            bits=Bits(equal=True, elements=96),
            function=function,
            floats=FLOATS,
        )
        for layer in plan.rewrites
        if layer.rewrite and layer.geometry and layer.evidence
    )
    return FileVerdict(
        "model.safetensors", "model.linear.safetensors", layers, plan.tensors - len(layers)
    )


def refuted(plan: FilePlan) -> FileVerdict:
    good = proved(plan)
    first, second, *rest = good.layers
    note = "1 of 96 elements differ, the first is number 17"
    wrong = replace(
        first,
        bits=Bits(equal=False, elements=96, differing=1, note=note),
        function=replace(
            FUNCTION,
            within=False,
            difference=0.5,
            probes=Probes(equal=False, tried=12, places=12, differing=3),
        ),
    )
    lost = replace(
        second,
        shapes=((8, 8, 2, 2), ()),
        bits=Bits(equal=False, elements=0, note="the tensor is missing"),
        function=None,
        floats=None,
    )
    differences = ("tensor head.weight has other bytes", "metadata author changed")
    return replace(good, layers=(wrong, lost, *rest), differences=differences)


def kept(plan: FilePlan) -> Verdict:
    """A verdict with all that a receipt has, and a whole model that says no."""
    beside = Digest("swapped[bold].convsurgeon.json", 7, "cd" * 32)
    digests = (
        FileDigest("model.safetensors", 13, "ab" * 32),
        FileDigest("swapped", 13, "ab" * 32, beside),
    )
    model = ModelVerdict(
        source="timm:vit_tiny_patch16_224",
        how="convsurgeon.load",
        refused=("head.weight is newly initialised: the file has no such tensor",),
        inputs=(ModelInput("pixel_values", (1, 3, 224, 224), "float32"),),
        dtype="float32",
        seed=7,
        perturbations=8,
        outputs=(
            Drift("logits", (1, 10), 1e-6, 2e-6, 4.0),
            Drift("hidden[bold]", (1, 5), 1.0, 2e-6, 4.0),
            Drift("pooled", (), 0.0, 0.0, 0.0, note="another shape"),
        ),
        layers=(Drift("proj", (1, 4), 1e-6, 4e-6, 2.0), Drift("head", (1, 4), 0.0, 4e-6, 2.0)),
        notes=("two runs differ",),
    )
    return Verdict(
        (replace(proved(plan), digests=digests),),
        notes=("configuration of ./convsurgeon.toml",),
        models=(model,),
        environment=Environment("0.1.0", "3.11.7", "2.13.0", "Linux x86_64", 2),
        receipt=ReceiptCheck("old.json", 12, ("files[0].digests differ",), ("threads: 2, was 4",)),
    )


def values(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Report]:
    """Every kind of report, with no figure that a machine could change."""
    plan = model_plan(monkeypatch, folder)
    output = "model.linear.safetensors"
    swap = cs.swap("model.safetensors", verify="bits", geometry=GEOMETRY)
    (file,) = swap.files
    done = replace(
        file, plan=plan, seconds=0.0042, verdicts=(proved(plan),), output=output, whole=output
    )
    failing = cs.scan(["model.safetensors", "gone.safetensors"], geometry=GEOMETRY)
    sampled = replace(FUNCTION, probes=Probes(equal=True, tried=6, places=12))
    dry = replace(done, outcome="planned", verdicts=(), whole=None)
    skipped = replace(
        done,
        outcome="skipped",
        verdicts=(),
        output=None,
        whole=None,
        plan=replace(plan, layers=plan.layers[-2:]),
    )
    return {
        "scan": Plan((plan,)),
        "scan-part": replace(failing, files=(replace(plan, layers=plan.layers[:2]),)),
        "swap": replace(swap, files=(done,)),
        "swap-dry": replace(swap, files=(dry,)),
        "swap-batch": replace(
            swap,
            files=(replace(done, outcome="same", warning="the disk"), skipped),
            errors=failing.errors,
        ),
        "verify": Verdict((proved(plan),)),
        "verify-no": Verdict((refuted(plan),)),
        "verify-kept": kept(plan),
        "verify-sampled": Verdict((proved(plan, sampled),)),
        "verify-alone": Verdict((replace(proved(plan, None), original="", others=0),)),
        "restore": cs.restore(output),
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_snapshots(width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in values(monkeypatch, tmp_path).items():
        text = shown(value, width)
        assert max(map(len, text.splitlines())) <= width
        check_snapshot(f"{name}.{width}.txt", text)


def test_markdown_snapshots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in values(monkeypatch, tmp_path).items():
        check_snapshot(f"{name}.md", markdown(value))


def unfolded(text: str) -> str:
    """The text without line breaks, padding and the tree's guides."""
    return re.sub(r"[\s│├└─]", "", text)


@pytest.mark.parametrize("width", [40, *WIDTHS])
@pytest.mark.parametrize("name", ["n" * 300, "é重" * 150, "a.b" * 100, "/".join("xyz" * 100)])
def test_names_are_folded_never_cut(name: str, width: int, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.safetensors",
        {f"{name}.weight": f32((2, 1, 2, 2)), "q.weight": f32((2, 1, 2, 2))},
    )
    module = name if name.count(".") > 12 else name.rpartition(".")[2]
    for report in (
        cs.scan(path),
        cs.swap(path, geometry=["q=s2"], verify="bits"),
        cs.swap(path, geometry=["*=s2"], verify="bits", force=True),
    ):
        assert unfolded(module) in unfolded(shown(report, width))
    verdict = cs.verify(path, tmp_path / "m.linear.safetensors", function=False)
    assert unfolded(name) in unfolded(shown(verdict, width))


def test_a_module_of_many_parts_is_shown_whole(tmp_path: Path) -> None:
    name = ".".join(f"part{i}" for i in range(40))
    path = write(tmp_path / "m.safetensors", {f"{name}.weight": f32((2, 1, 2, 2))})
    assert unfolded(name) in unfolded(shown(cs.scan(path)))


FOLDED: list[tuple[Sequence[str], str]] = [
    ([f"blocks.{i}.conv" for i in range(12)], "blocks.{0…11}.conv"),
    (["blocks.10", "blocks.9", "blocks.8"], "blocks.{8…10}"),
    (["a.1", "a.2"], "a.{1,2}"),
    (["a.1", "a.3", "a.7"], "a.{1,3,7}"),
    (["a.1.b.1", "a.2.b.1"], "a.{1,2}.b.1"),
    (["stem"], "stem"),
    (["x\x1b[1m.0", "x\x1b[1m.1"], r"x\x1b[1m.{0,1}"),
]


@pytest.mark.parametrize(("names", "text"), FOLDED)
def test_groups_fold(names: Sequence[str], text: str) -> None:
    assert folded(names) == text


def test_layers_that_differ_are_not_grouped(tmp_path: Path) -> None:
    tensors = {f"blocks.{i}.weight": f32((2, 1, 2, 2)) for i in range(12)}
    tensors["blocks.5.weight"] = f32((2, 1, 4, 4))
    text = shown(cs.scan(write(tmp_path / "m.safetensors", tensors)))
    assert "{0,1,2,3,4,6,7,8,9,10,11}" in unfolded(text)
    assert text.count("verdict") == 2


@given(st.sampled_from(NASTY) | st.text(max_size=12))
def test_markdown_escapes_names(name: str) -> None:
    plan = FilePlan(name, 1, 10, {}, (), (name,))
    text = as_markdown(Plan((plan,)))
    title = text.splitlines()[0].removeprefix("## ")
    assert len(text.splitlines()) == 9
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|#<]", title)


def test_figures() -> None:
    assert [size(n) for n in (0, 999, 1000, 414_400, 2 * 10**9, 3 * 10**12)] == [
        "0 B", "999 B", "1.0 kB", "414.4 kB", "2.0 GB", "3.0 TB",
    ]  # fmt: skip
    assert [duration(s) for s in (0.0041, 0.9994, 2.34)] == ["4 ms", "999 ms", "2.3 s"]


def test_geometry_stands_in_the_report() -> None:
    layer = LayerVerdict("a", "a.weight", ("conv1d", "linear"), ((2, 1, 4), (2, 4)),
                         (Geometry.plain((4,), (4,)), "user", "me"), Bits(equal=True, elements=8))  # fmt: skip
    assert "given  conv1d, kernel 4, stride 4, patches c p1 p2; user, me" in shown(
        Verdict((FileVerdict("a", "b", (layer,), 0),))
    )
