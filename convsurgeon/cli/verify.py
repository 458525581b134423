"""`convsurgeon verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convsurgeon.cli import options as o
from convsurgeon.cli.run import Show, run
from convsurgeon.errors import UsageError
from convsurgeon.limits import DEFAULT_MAX_HEADER

if TYPE_CHECKING:
    from convsurgeon.proof import Verdict

_PROOF = "Proof"
_MODEL = "Whole model"

Bits = Annotated[
    bool,
    typer.Option("--bits", help="Leave out the proofs that need torch.", rich_help_panel=_PROOF),
]
Exhaustive = Annotated[
    bool,
    typer.Option(
        "--exhaustive",
        help="Probe every place of every layer, whatever it takes.",
        rich_help_panel=_PROOF,
    ),
]
Receipt = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        help="An earlier verify --json: do it again and compare.",
        rich_help_panel=_PROOF,
        metavar="FILE.json",
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Run both models: 1x3x224x224, NAME=1x3x32x32, or dummy (the library's own).",
        rich_help_panel=_MODEL,
        metavar="SHAPE",
    ),
]
InputFile = Annotated[
    Path | None,
    typer.Option(
        "--input-file",
        help="Run both models on the tensors of this safetensors file.",
        rich_help_panel=_MODEL,
        metavar="FILE",
    ),
]
Loader = Annotated[
    str | None,
    typer.Option(
        "--loader",
        help="Load both through transformers, diffusers or timm; no weight may be made up.",
        rich_help_panel=_MODEL,
        metavar="LIBRARY",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="What the models are run in: float64, float32, bfloat16, float16.",
        rich_help_panel=_MODEL,
        show_default="as in the file",
        metavar="DTYPE",
    ),
]


Original = Annotated[
    Path | None,
    typer.Argument(
        help="The checkpoint before; alone: the swapped one, by its recipe.", show_default=False
    ),
]
Swapped = Annotated[Path | None, typer.Argument(help="What swap made of it.", show_default=False)]


def verify(
    ctx: typer.Context,
    original: Original = None,
    swapped: Swapped = None,
    bits: Bits = False,
    exhaustive: Exhaustive = False,
    receipt: Receipt = None,
    geometry: o.GeometryRule = None,
    input_shape: o.InputShape = None,
    method: o.Method = "kernel",
    layer: o.Layers = None,
    model: o.Model = None,
    input: Input = None,  # noqa: A002 (the option's name)
    input_file: InputFile = None,
    loader: Loader = None,
    dtype: Dtype = None,
    evidence: o.Evidence = None,
    require_evidence: o.Require = "fingerprint",
    config: o.Config = None,
    no_config: o.NoConfig = False,
    key: o.Key = None,
    max_header_bytes: o.MaxHeader = DEFAULT_MAX_HEADER,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    report: o.ReportFile = None,
    strict: o.Strict = False,
) -> None:
    """Prove, or refute, that two checkpoints are equivalent."""
    show = Show("convsurgeon.verify/1", as_json, quiet, report)
    run(show, lambda: _verdict(ctx), lambda verdict: verdict.exit_code(strict=strict))


_OWN = ("exhaustive", "input", "input_file", "loader", "dtype")


def _verdict(ctx: typer.Context) -> Verdict:
    asked = ctx.params
    original, swapped = asked["original"], asked["swapped"]
    given: dict[str, Any] = {**o.choices(ctx), "function": not asked["bits"]}
    given |= {name: asked[name] for name in _OWN if asked[name]}
    if asked["receipt"] is not None:
        from convsurgeon.api.receipts import verify_again

        return verify_again(asked["receipt"], original, swapped, **given)
    if original is None:
        hint = f"{ctx.command_path} --help shows how"
        raise UsageError("CS090", "Missing argument 'ORIGINAL'", hint=hint)
    from convsurgeon.api.verifying import verify as api_verify

    given["keep"] = asked["as_json"] or asked["report"] is not None
    return api_verify(original, swapped, **given)
