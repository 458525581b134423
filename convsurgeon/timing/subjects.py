"""Which layers are timed, and on inputs of which size: pure values, made from a plan."""

from __future__ import annotations

from dataclasses import dataclass

from convsurgeon.errors import UsageError
from convsurgeon.geometry import Geometry, parse_sizes, times
from convsurgeon.plan import FilePlan, LayerPlan
from convsurgeon.sources.image_size import ImageSize
from convsurgeon.untrusted import safe

_WINDOWS = {1: (256,), 2: (16, 16), 3: (1, 16, 16)}
"""Number of axes -> windows along each, where nothing says how large the input is."""

Size = tuple[int, ...]

_OPTION = "--input-size"

DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""The dtypes that layers run in: as files and as torch call them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A layer as far as its speed depends on it. No weight of the file is needed.

    Attributes:
        form: `conv1d`, `conv2d` or `conv3d`.
        weight_shape: `[O, C, *kernel]`.
        dtype: as stored: `F32`, `BF16`, ...
        bias: whether there is one.
        geometry: with a stride equal to the kernel and nothing else.
        spatial: size of the input along each axis.
        size_source: where that comes from.
    """

    form: str
    weight_shape: tuple[int, ...]
    dtype: str
    bias: bool
    geometry: Geometry
    spatial: tuple[int, ...]
    size_source: str

    def dtype_in(self, asked: str | None) -> str:
        """Return the dtype to run in, as torch calls it: the one asked for, or the file's own.

        No kernel computes in an 8-bit type: models that are stored so are run in bfloat16.
        """
        return asked or DTYPES.get(self.dtype, "bfloat16")


@dataclass(frozen=True, slots=True)
class Alike:
    """Layers that are the same subject.

    Attributes:
        subject: what is timed, once.
        modules: the names of all of them.
        evidence: level and source of the geometry, of the first.
    """

    subject: Subject
    modules: tuple[str, ...]
    evidence: tuple[str, str]


def read_size(text: object) -> Size:
    """Read `--input-size`.

    Raises:
        UsageError: CS090.
    """
    if not isinstance(text, str):
        raise UsageError("CS090", f"{text!r} is no text", where=_OPTION, hint="write 224x224")
    try:
        sizes = parse_sizes(text)
    except ValueError as error:
        raise UsageError("CS090", str(error), where=_OPTION, hint="write 224x224") from None
    if not all(sizes):
        raise UsageError("CS090", f"{text!r} holds a 0", where=_OPTION, hint="write 224x224")
    return sizes


def subjects(plan: FilePlan, asked: Size | None, image: ImageSize | None) -> tuple[Alike, ...]:
    """Return each distinct layer that a swap would rewrite, in the order of the plan.

    Args:
        plan: of a swap to linear.
        asked: spatial size that the user gives for layers of so many axes; None without.
        image: what the checkpoint's config says; it is the input of layers with its channels.

    Raises:
        UsageError: CS090 where the user's size is smaller than a kernel, or fits no layer.
    """
    groups: dict[Subject, list[LayerPlan]] = {}
    evidence: dict[Subject, tuple[str, str]] = {}
    for layer in plan.rewrites:
        if layer.geometry and layer.evidence:  # as every layer that is rewritten has
            subject = _subject(layer, layer.geometry, asked, image)
            groups.setdefault(subject, []).append(layer)
            evidence.setdefault(subject, layer.evidence)
    axes = {subject.geometry.ndim for subject in groups}
    if asked and groups and len(asked) not in axes:
        have = " and ".join(map(str, sorted(axes)))
        text = f"{times(asked)} has {len(asked)} axes, the layers have {have}"
        raise UsageError("CS090", text, where=_OPTION)
    return tuple(
        Alike(subject, tuple(layer.module for layer in layers), evidence[subject])
        for subject, layers in groups.items()
    )


def _subject(
    layer: LayerPlan, geometry: Geometry, asked: Size | None, image: ImageSize | None
) -> Subject:
    size = _size(layer, geometry, asked, image)
    return Subject(layer.form, layer.weight_shape, layer.dtype, layer.bias, geometry, *size)


def _size(
    layer: LayerPlan, geometry: Geometry, asked: Size | None, image: ImageSize | None
) -> tuple[Size, str]:
    kernel, axes = geometry.kernel, geometry.ndim
    if asked and len(asked) == axes:
        if not _holds(asked, kernel):
            text = f"{times(asked)} is smaller than the kernel {times(kernel)}"
            raise UsageError("CS090", f"{text} of {safe(layer.module)}", where=_OPTION)
        return asked, _OPTION
    if image and layer.weight_shape[1] == image.channels:
        stated = _stated(image).get(axes)
        if stated and _holds(stated, kernel):
            return stated, image.source
    windows = _WINDOWS[axes]
    size = tuple(n * k for n, k in zip(windows, kernel, strict=True))
    return size, f"{times(windows)} windows, since nothing states a size"


def _stated(image: ImageSize) -> dict[int, Size]:
    """Return the size of an image, and of a video where it has a length, by the number of axes."""
    video = {3: (image.frames, *image.sides)} if image.frames else {}
    return {2: image.sides, **video}


def _holds(size: Size, kernel: Size) -> bool:
    return all(s >= k for s, k in zip(size, kernel, strict=True))
