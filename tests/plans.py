"""What the tests of plans share: headers in a line, and speakers that say what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import Geometry
from convsurgeon.header import Header, pack
from convsurgeon.plan import (
    METADATA_KEY,
    Contents,
    FilePlan,
    LayerPlan,
    Original,
    Recipe,
    Shard,
    Step,
    Wish,
    make_plan,
)

Shape = tuple[int, ...]
SIXTEEN = Geometry.plain((16, 16), (16, 16))
TWO = Geometry.plain((2, 2), (2, 2))
ONE = Geometry.plain((1, 1), (1, 1))


@dataclass(frozen=True)
class Says:
    """A speaker with a fixed answer for each key."""

    answers: Mapping[str, Statement] = field(default_factory=dict)

    def about(self, key: str, shape: Shape) -> Statement | None:
        return self.answers.get(key)


def config(
    key: str, geometry: Geometry | None, form: str = "conv2d", level: Level = Level.CONFIG
) -> Says:
    return Says({key: Statement(level, f"the {level.label}", form, geometry)})


def header(
    shapes: Mapping[str, Shape], metadata: dict[str, str] | None = None, dtype: str = "F32"
) -> Header:
    return pack([(name, dtype, shape) for name, shape in shapes.items()], metadata)


def contents(*headers_: Header) -> Contents:
    shards = tuple(Shard(f"model-{i}.safetensors", h) for i, h in enumerate(headers_))
    return Contents("model.safetensors", shards, 1000, ("a note",))


def plan(header_: Header, *speakers: Says, wish: Wish | None = None) -> FilePlan:
    return make_plan(contents(header_), speakers, wish or Wish())


def only_layer(header_: Header, *speakers: Says, wish: Wish | None = None) -> LayerPlan:
    (layer,) = plan(header_, *speakers, wish=wish).layers
    return layer


STEP = Step(
    key="proj.weight",
    rule="patchify",
    layout="c p1 p2",
    source_form="conv2d",
    source_shape=(4, 3, 2, 2),
    target_form="linear",
    target_shape=(4, 12),
    geometry=TWO,
    evidence=("config", "config.json: patch_size 2"),
    sha256="ab" * 32,
)
ORIGINAL = Original("model.safetensors", 120, "cd" * 32, has_metadata=True)
RECIPE = Recipe("convsurgeon 0.1.0", ORIGINAL, (STEP,))


def swapped(recipe: Recipe = RECIPE, shape: Shape = (4, 12)) -> Header:
    """The header of a file in which `proj` was rewritten."""
    return header({"proj.weight": shape, "proj.bias": (4,)}, {METADATA_KEY: recipe.to_text()})
