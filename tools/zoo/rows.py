"""One row for one architecture: its tensors as saved, and the geometry of its convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from tools.zoo.disk import Saved, saved_tensors
from tools.zoo.provenance import expression_of

AXES = ("kernel", "stride", "padding", "dilation")
_ATTRIBUTES = {"kernel": "kernel_size"}


def row_of(model: Any, source: str, name: str, family: str, config: Any) -> dict[str, Any]:
    """Return the row of a live nn.Module, which may lie on the meta device.

    Args:
        model: the module.
        source: the library; it decides how tensors are named when saved.
        name: the architecture's name in that library.
        family: the file or package that defines it.
        config: what the library would write into config.json; None where there is none.

    Returns:
        A value for JSON with `source`, `name`, `family`, `cls`, `config`, `tensors` (name in the
        file -> [dtype, shape]), `tied` (name that is not saved -> the one that the same tensor
        is saved under) and `convs`. Each conv has its geometry and, under `from`, the
        expressions of that geometry (tools/zoo/provenance.py).
    """
    saved = saved_tensors(model, source)
    return {
        "source": source,
        "name": name,
        "family": family,
        "cls": type(model).__name__,
        "config": config,
        "tied": dict(saved.tied),
        "tensors": {key: [_dtype(t), list(t.shape)] for key, t in saved.tensors.items()},
        "convs": list(_convs(model, saved)),
    }


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _convs(model: Any, saved: Saved) -> Iterator[dict[str, Any]]:
    base = import_module("torch.nn.modules.conv")._ConvNd  # noqa: SLF001 - what all of them share
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, base):
            yield conv_of(module, name, saved.names)


def conv_of(module: Any, name: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Return one convolution as JSON; `names` maps names in the model to names in the file."""
    key = f"{name}.weight" if name else "weight"
    geometry = {axis: _plain(_attribute(module, axis)) for axis in AXES}
    groups = int(module.groups)
    facts = {
        "transposed": bool(module.transposed),
        "bias": module.bias is not None,
        "padding_mode": module.padding_mode,
        "overrides_forward": _overrides_forward(module),
        "parametrized": is_parametrized(module),
    }
    found = {"module": name, "key": names.get(key, key), "type": _type(module), **geometry}
    found |= {"groups": groups, **facts}
    return found | {"eligible": is_eligible(found), "from": provenance(module)}


def provenance(module: Any) -> dict[str, Any]:
    """Return the expressions of the live attributes; a changed attribute brings its own."""
    found: dict[str, Any] = {}
    for axis in AXES:
        value = _attribute(module, axis)
        found[axis] = value if isinstance(value, str) else [expression_of(v) for v in value]
    return found | {"groups": expression_of(module.groups)}


def _attribute(module: Any, axis: str) -> Any:
    value = getattr(module, _ATTRIBUTES.get(axis, axis))
    rank = len(module.kernel_size)
    return (value,) * rank if isinstance(value, int) else value


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else [int(v) for v in value]


def _type(module: Any) -> str:
    kind = type(module)
    inner = kind.__module__.startswith("torch.nn.")
    return f"{'torch.nn' if inner else kind.__module__}.{kind.__qualname__}"


def _overrides_forward(module: Any) -> bool:
    """Tell whether a class that is not torch's own computes something."""
    for kind in type(module).__mro__:
        if "forward" in vars(kind):
            return not kind.__module__.startswith("torch.nn.")
    return False


def is_parametrized(module: Any) -> bool:
    """Tell whether the weight is computed from other tensors: in all three of torch's ways."""
    parametrize = import_module("torch.nn.utils.parametrize")
    if parametrize.is_parametrized(module):
        return True
    stored = vars(module)["_parameters"]
    return any(name in stored for name in ("weight_g", "weight_orig"))


def is_eligible(conv: Mapping[str, Any]) -> bool:
    """Tell whether the conv is a Linear over patches or pixels, whatever the input."""
    kernel, pointwise = conv["kernel"], all(k == 1 for k in conv["kernel"])
    plain = conv["type"] in ("torch.nn.Conv1d", "torch.nn.Conv2d", "torch.nn.Conv3d")
    padding = conv["padding"]
    unpadded = padding == "valid" or (
        pointwise if padding == "same" else not any(padding)  # nothing to pad where k is 1
    )
    return (
        plain
        and not conv["parametrized"]
        and conv["stride"] == kernel
        and unpadded
        and (pointwise or all(d == 1 for d in conv["dilation"]))
        and conv["groups"] == 1
    )
