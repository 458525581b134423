"""`--input dummy`: what a model's own library says about inputs to try it with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from convsurgeon.api.wanted import Wanted
from convsurgeon.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

PIXELS = "pixel_values"
_FEW = 2
_HINT = "name the shapes, --input 1x3x224x224, or give the tensors, --input-file"


def dummy_inputs(model: nn.Module, names: Collection[str]) -> tuple[Wanted, ...]:
    """Return the inputs that a model's library has for trying it.

    timm keeps the size of an image with each architecture (`pretrained_cfg`). transformers names
    the main input of each class (`main_input_name`), has ids for those that take text
    (`dummy_inputs`) and states the size of an image in the config. diffusers and torchvision have
    nothing of the kind.

    Args:
        model: built by its library.
        names: of the parameters of its `forward`.

    Raises:
        UsageError: CS090 where nothing is said, or nothing about an input that the model needs.
    """
    kept = getattr(model, "pretrained_cfg", None)
    size = kept.get("input_size") if isinstance(kept, dict) else None
    if size:
        return (Wanted("", (1, *size)),)
    main = getattr(model, "main_input_name", None)
    if main is None:
        raise _nothing(f"the library of a {type(model).__name__} has no dummy inputs")
    return tuple(_of_transformers(model, str(main), names))


def vocabulary(model: nn.Module) -> int:
    """Return below what number the ids of tokens are.

    It is that of the config; without one, the length of the model's shortest table, or else 2.
    """
    from torch import nn

    stated = [config["vocab_size"] for config in _configs(model) if "vocab_size" in config]
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    sizes = [size for size in stated or tables if isinstance(size, int) and size > 0]
    return min(sizes, default=_FEW)


def _of_transformers(model: Any, main: str, names: Collection[str]) -> Iterator[Wanted]:
    ids = {n: tuple(t.shape) for n, t in model.dummy_inputs.items() if n in names and n != PIXELS}
    # Every class inherits ids; those with a main input of another kind do not need them.
    asked = [*ids] if main in ids else [main]
    for name in (*asked, *({PIXELS} & set(names) - {main})):
        if name == PIXELS:
            yield Wanted(name, _image(model))
        elif name in ids:
            yield Wanted(name, ids[name])
        else:
            raise _nothing(f"transformers has no dummy {name} for a {type(model).__name__}")


def _image(model: Any) -> tuple[int, ...]:
    """Return `[1, C, H, W]`, or `[1, T, C, H, W]` for a video, of the first config that says it."""
    for config in _configs(model):
        size = config.get("image_size")
        sides = (size, size) if isinstance(size, int) else tuple(size or ())
        if len(sides) == 2 and all(isinstance(side, int) for side in sides):
            channels = config.get("num_channels", config.get("in_channels", 3))
            frames = config.get("num_frames")
            return (1, *([frames] if isinstance(frames, int) else []), channels, *sides)
    raise _nothing(f"the config of a {type(model).__name__} does not say how large its images are")


def _configs(model: Any) -> Iterator[dict[str, Any]]:
    """Yield the config of a model of transformers, and those in it."""
    pending = [getattr(model, "config", None)]
    while pending:
        config = pending.pop(0)
        if hasattr(config, "to_dict"):
            fields = {name: value for name, value in vars(config).items() if name[:1] != "_"}
            yield fields
            pending += [value for value in fields.values() if hasattr(value, "to_dict")]


def _nothing(text: str) -> UsageError:
    return UsageError("CS090", text, where="--input dummy", hint=_HINT)
