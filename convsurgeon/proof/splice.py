"""A model run as it is, but for one tensor: where its head begins, another one is put.

The forward is its own code, unchanged. A mode of torch sees each operation as it is called; the one
that the head begins with is found by the weight that it leads to, which is all that the proof is
told. Nothing here comes from a graph of the model or from what was made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from convsurgeon.errors import ModelError
from convsurgeon.proof.leaves import leaves


@dataclass(frozen=True, eq=False, slots=True)
class _Operation:
    name: str
    tensors: tuple[Tensor, ...]
    results: tuple[Tensor, ...]


class _Done(BaseException):
    """What was looked for is there: the rest of the forward need not run."""


class _Recorder(TorchFunctionMode):
    """Keeps every operation of one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[_Operation] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", func))
        self.operations.append(_Operation(name, _tensors((args, kwargs)), _tensors(result)))
        return result


class _Splicer(TorchFunctionMode):
    """Runs a forward up to the entries of its head, and gives them another tensor.

    Args:
        entries: places of the operations in the order of their calls.
        windows: what they are given; None to stop there.
        empty: whether what comes before the first of them is computed without values.
    """

    def __init__(self, entries: Sequence[int], windows: Tensor | None, *, empty: bool) -> None:
        super().__init__()
        self.entries, self.windows, self.empty = frozenset(entries), windows, empty
        self.names: list[str] = []
        self.found: Tensor | None = None
        self._first = min(entries)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        place = len(self.names)
        self.names.append(str(getattr(func, "__name__", func)))
        kwargs = kwargs or {}
        if place in self.entries:
            if self.windows is None:
                self.found = next(one for one in _tensors((args, kwargs)))
                raise _Done
            args, kwargs = _replaced(args, kwargs, self.windows)
        elif self.empty and place < self._first:
            args, kwargs = tree_map(_without_values, (args, kwargs))
        return func(*args, **kwargs)


@dataclass(frozen=True, eq=False, slots=True)
class Splice:
    """A model whose head can be given any map.

    Attributes:
        model: in eval mode.
        native: `[C, *spatial]` of its images.
        entries: the operations that the map goes into, by their place in the forward.
        names: of all operations up to the first of them.
        window: `[C, *spatial]` of the map that the head takes.
        dtype: of the images.
    """

    model: nn.Module
    native: tuple[int, ...]
    entries: tuple[int, ...]
    names: tuple[str, ...]
    window: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, model: nn.Module, image: Tensor, weights: Sequence[str], *, pooled: bool) -> Splice:
        """Find where the head of a model begins.

        Args:
            model: in eval mode.
            image: random, of the native size.
            weights: names of the weights that it leads to.
            pooled: whether the head begins with a global pool, which takes maps of any size.

        Raises:
            ModelError: CS064 where no map leads to one of these weights.
        """
        recorder = _Recorder()
        own = image.clone()  # a model may write to what it is given
        with torch.no_grad(), recorder:
            model(own)
        done = recorder.operations
        wanted = [model.get_parameter(name) for name in weights]
        entries = {
            _entry(done, place, pooled=pooled)
            for place, one in enumerate(done)
            if any(tensor is weight for tensor in one.tensors for weight in wanted)
        }
        if not entries or None in entries:
            raise ModelError("CS064", f"no map leads to {', '.join(weights)} in its forward")
        places = tuple(sorted(place for place in entries if place is not None))
        names = tuple(one.name for one in done[: places[0]])
        window = (1,) * (image.ndim - 2) if pooled else done[places[0]].tensors[0].shape[2:]
        channels = done[places[0]].tensors[0].shape[1]
        return cls(model, tuple(image.shape[1:]), places, names, (channels, *window), image.dtype)

    def map(self, image: Tensor) -> Tensor:
        """Return the map that the model makes of an image of any size.

        Raises:
            ModelError: CS064 where it takes another way than at the native size.
        """
        splicer = _Splicer(self.entries, None, empty=False)
        own = image.clone()
        try:
            with torch.no_grad(), splicer:
                self.model(own)
        except _Done:
            pass
        if splicer.found is None or tuple(splicer.names[:-1]) != self.names:
            raise ModelError("CS064", "on a larger image its forward takes another way")
        return splicer.found

    def head(self, windows: Tensor) -> Mapping[str, Tensor]:
        """Return what the model makes of maps `[N, C, *window]`, each as of its native size."""
        images = torch.zeros((len(windows), *self.native), dtype=self.dtype)
        try:
            found = self._spliced(images, windows.clone(), empty=True)
        except Exception:  # noqa: BLE001 - an operation that needs values; then it gets them
            found = self._spliced(images, windows.clone(), empty=False)
        return {name: one for name, one in leaves(found) if isinstance(one, Tensor)}

    def _spliced(self, images: Tensor, windows: Tensor, *, empty: bool) -> Any:
        with torch.no_grad(), _Splicer(self.entries, windows, empty=empty):
            return self.model(images)


def _entry(done: Sequence[_Operation], place: int, *, pooled: bool) -> int | None:
    """Go back from a Linear to the operation that takes the map; None where there is none.

    It is the one that takes rows out of it. But an adaptive pool in front that changes nothing here
    would do so on a larger map, so that the head begins before it; and a pooled head begins where
    all positions are taken together.
    """
    at, found = done[place].tensors[0], None
    for number in range(place - 1, -1, -1):
        one = done[number]
        if not one.tensors or not any(result is at for result in one.results):
            continue
        source, alike = one.tensors[0], one.tensors[0].shape == at.shape
        if found is None:
            found = number if source.ndim > 2 else None
        elif pooled and set(at.shape[2:]) <= {1}:
            found = number
        elif pooled or not alike:
            return found
        elif "adaptive" in one.name and torch.equal(source, at):
            found = number
        at = source
    return found


def _tensors(value: Any) -> tuple[Tensor, ...]:
    return tuple(one for one in tree_flatten(value)[0] if isinstance(one, Tensor))


def _without_values(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _replaced(args: Any, kwargs: Any, windows: Tensor) -> tuple[Any, Any]:
    """Put the windows in the place of the first tensor."""
    first = next(one for one in _tensors((args, kwargs)))

    def put(value: Any) -> Any:
        return windows if value is first else value

    replaced: tuple[Any, Any] = tree_map(put, (args, kwargs))
    return replaced
