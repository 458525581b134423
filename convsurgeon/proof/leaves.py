"""The tensors in what a model returns, however deep they lie, each with a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from numbers import Number
from typing import Any

_PLAIN = (str, bytes, Number, type(None))


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what lies in tuples, lists, mappings and dataclasses, with its path.

    The outputs of transformers and diffusers are mappings; numbers, texts and None are left out.

    Args:
        value: whatever a forward returned.
        name: of the value itself; a bare tensor is called `0`, as the only one of a tuple would be.

    Yields:
        Names like `logits`, `hidden_states.3` or `0.1`, with what stands there: a tensor, or an
        object that nothing is known about.
    """
    inner = _inside(value)
    if inner is None:
        if not isinstance(value, _PLAIN):
            yield name or "0", value
        return
    for key, one in inner:
        yield from leaves(one, f"{name}.{key}" if name else str(key))


def _inside(value: Any) -> Iterator[tuple[object, Any]] | None:
    """Return the parts of a container, or None for what is none."""
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return iter(zip(value._fields, value, strict=True))  # the fields of a namedtuple
    if isinstance(value, list | tuple):
        return iter(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return iter((field.name, getattr(value, field.name)) for field in fields(value))
    return None
