"""Every option that more than one command has, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from convsurgeon.api.choices import Choices
    from convsurgeon.sources.settings import Settings

# Parameter of a command -> keyword of the public functions, where the names differ.
_KEYWORDS = {"layer": "layers"}


def choices(context: typer.Context) -> Choices:
    """Return the options that were given and belong to `Choices`, with the configuration file.

    Raises:
        UsageError: CS090 where `--config` and `--no-config` are both there; CS092.
    """
    from convsurgeon.api.choices import Choices

    found: dict[str, Any] = {}
    for name, value in context.params.items():
        keyword = _KEYWORDS.get(name, name)
        source = context.get_parameter_source(name)
        # Defaults are those of the public functions; what was left open, a file may set.
        if keyword in Choices.__annotations__ and source is not None and source.name != "DEFAULT":
            found[keyword] = value
    found["settings"] = _settings(context.params)
    return cast("Choices", found)


def _settings(parameters: Mapping[str, Any]) -> Settings | None:
    from convsurgeon.errors import UsageError
    from convsurgeon.sources.settings import settings_of

    named: str | None = parameters["config"]  # typer makes a path of it for the command only
    if named is not None and parameters["no_config"]:
        raise UsageError("CS090", "it excludes --no-config", where="--config")
    if parameters["no_config"]:
        return None
    settings = _found() if named is None else settings_of(Path(named))
    return settings and settings.for_options(parameters)


def _found() -> Settings | None:
    from convsurgeon.sources.settings import find_settings

    try:
        return find_settings(Path.cwd())
    except FileNotFoundError:  # the working folder is gone
        return None


_EVIDENCE = "Evidence"
_LAYERS = "Layers"
_FILES = "Files"
_OUTPUT = "Output"

Paths = Annotated[
    list[str],
    typer.Argument(
        help="A .safetensors file, a shard index, a folder, a pattern, or a PyTorch file.",
        show_default=False,
    ),
]
To = Annotated[
    str, typer.Option("--to", help="linear or conv.", rich_help_panel=_LAYERS, metavar="FORM")
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", help="Only modules that match GLOB.", rich_help_panel=_LAYERS),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Not modules that match GLOB.", rich_help_panel=_LAYERS),
]
Only = Annotated[
    str | None,
    typer.Option("--only", help="patchify or pointwise.", rich_help_panel=_LAYERS, metavar="KIND"),
]
ChildKeys = Annotated[
    bool,
    typer.Option(
        "--child-keys",
        help="Name the Linear's side PROJ.linear.weight, as a drop-in does.",
        rich_help_panel=_LAYERS,
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        "--layout",
        help="Order of a flattened patch: 'c p1 p2' or 'p1 p2 c'.",
        rich_help_panel=_LAYERS,
        metavar="ORDER",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        help="For --to conv: kernel (the input's size) or 1x1.",
        rich_help_panel=_LAYERS,
        metavar="METHOD",
    ),
]
Untie = Annotated[
    bool,
    typer.Option(
        "--untie",
        help="For --to conv: rewrite a Linear that the model ties to an embedding, where the file "
        "holds both.",
        rich_help_panel=_LAYERS,
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        help="For --to conv: what a Linear's input was, as GLOB=512x7x7.",
        rich_help_panel=_EVIDENCE,
    ),
]
GeometryRule = Annotated[
    list[str] | None,
    typer.Option(
        "--geometry", help="State a geometry: GLOB=k16,s16,p0,d1,g1.", rich_help_panel=_EVIDENCE
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The model: timm:NAME, torchvision:NAME, transformers:PATH, diffusers:PATH, FILE.pt2, "
        "file.py:function or package.module:function.",
        rich_help_panel=_EVIDENCE,
        metavar="SPEC",
    ),
]
ExampleInput = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="Trace the model on images of this shape: 1x3x224x224, or dummy (the library's own).",
        rich_help_panel=_EVIDENCE,
        metavar="SHAPE",
    ),
]
Evidence = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        help="model: build it from config.json, with the library that wrote that.",
        rich_help_panel=_EVIDENCE,
        metavar="model",
    ),
]
Require = Annotated[
    str,
    typer.Option(
        "--require-evidence",
        help="Weakest evidence to act on: user, model, config, recipe, fingerprint.",
        rich_help_panel=_EVIDENCE,
        metavar="LEVEL",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The configuration file, instead of the first one found.",
        rich_help_panel=_FILES,
        metavar="FILE",
        show_default="searched from the working folder upwards",
    ),
]
NoConfig = Annotated[
    bool, typer.Option("--no-config", help="Use no configuration file.", rich_help_panel=_FILES)
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", help="Which dictionary of a PyTorch file, e.g. model_ema.", rich_help_panel=_FILES
    ),
]
MaxHeader = Annotated[
    int,
    typer.Option(
        "--max-header-bytes", help="Largest header to accept.", rich_help_panel=_FILES, metavar="N"
    ),
]
Recursive = Annotated[
    bool,
    typer.Option("--recursive", "-r", help="Search folders in folders.", rich_help_panel=_FILES),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A .safetensors file, or a folder.",
        rich_help_panel=_OUTPUT,
        show_default="beside the source",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an existing output.", rich_help_panel=_OUTPUT)
]
InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="Change the file's own header, and no other byte.",
        rich_help_panel=_OUTPUT,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_OUTPUT)
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Also write the report: FILE.json, .md or .svg.", rich_help_panel=_OUTPUT
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit 4 if layers stayed undecided, or a proof was sampled.",
        rich_help_panel=_OUTPUT,
    ),
]
