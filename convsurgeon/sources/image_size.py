"""How large the images of a model are, where the config.json beside its checkpoint says so.

The fields: transformers has `image_size`, one number or [height, width], `num_channels` and, for
video, `num_frames`; models of text and images keep them in `vision_config`. diffusers has
`sample_size` and `in_channels`, both of the latent. timm has `[C, H, W]` as `input_size`, in
`pretrained_cfg` where the hub wrote the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from convsurgeon.sources.config_file import read_object

_PARTS = ("vision_config", "pretrained_cfg")
_SIDES = ("image_size", "sample_size")
_CHANNELS = ("num_channels", "in_channels", "in_chans")
_RGB = 3
_LARGEST = 16_384
"""No model has longer sides; a number above it would only fill the memory."""


@dataclass(frozen=True, slots=True)
class ImageSize:
    """What the model takes.

    Attributes:
        sides: height and width.
        channels: of an image or a latent.
        frames: of a video; None where nothing says.
        source: the file and the field, for the report.
    """

    sides: tuple[int, ...]
    channels: int
    frames: int | None
    source: str

    @classmethod
    def beside(cls, path: Path) -> Self | None:
        """Read the config.json beside a checkpoint; None where it is not there or does not say.

        Raises:
            RefusedError: CS063 where the config cannot be read.
        """
        file = path.parent / "config.json"
        return next(cls._in(read_object(file), file.name), None) if file.is_file() else None

    @classmethod
    def _in(cls, config: Mapping[str, Any], name: str) -> Iterator[Self]:
        whole = _sizes(config.get("input_size"))
        if len(whole) == 3:  # [C, H, W]
            yield cls(whole[1:], whole[0], None, f"{name}: input_size")
        for field in _SIDES:
            sides = _sizes(config.get(field))
            channels = [*_known(config, _CHANNELS), _RGB][0]
            frames = next(_known(config, ("num_frames",)), None)
            if 1 <= len(sides) <= 2:
                yield cls((sides[0], sides[-1]), channels, frames, f"{name}: {field}")
        for part in _PARTS:
            inner = config.get(part)
            if isinstance(inner, dict):
                yield from cls._in(inner, name)


def _known(config: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[int]:
    for field in fields:
        yield from _sizes(config.get(field))[:1]


def _sizes(value: object) -> tuple[int, ...]:
    """Return one number, or those of a list; nothing where it is neither, or out of range."""
    values: list[Any] = value if isinstance(value, list) else [value]
    good = (isinstance(v, int) and not isinstance(v, bool) and 0 < v <= _LARGEST for v in values)
    return tuple(values) if all(good) else ()
