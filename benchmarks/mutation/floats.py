"""The numbers that the bits of each dtype stand for.

The 8-bit formats are those of the OCP 8-bit Floating Point Specification (OFP8), revision 1.0,
tables 1 and 2; the FNUZ ones (no infinities, one NaN at minus zero, the exponent's bias one higher)
those of the documentation of ONNX, "Float stored in 8 bits".
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.unsignedinteger[Any]]
Floats = npt.NDArray[np.float64]


class Format(NamedTuple):
    """How a dtype divides its bits: one of sign, then exponent, then fraction."""

    exponent: int
    fraction: int
    infinities: bool = True

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return 1 + self.exponent + self.fraction

    @property
    def sign(self) -> int:
        """The code of the sign bit alone."""
        return 1 << self.bits - 1

    @property
    def infinity(self) -> int:
        """The code of infinity, where the format has one: all ones in the exponent."""
        return (1 << self.exponent) - 1 << self.fraction


FORMATS = {
    "F64": Format(11, 52),
    "F32": Format(8, 23),
    "F16": Format(5, 10),
    "BF16": Format(8, 7),
    "F8_E5M2": Format(5, 2),
    "F8_E4M3": Format(4, 3, infinities=False),
    "F8_E5M2FNUZ": Format(5, 2, infinities=False),
    "F8_E4M3FNUZ": Format(4, 3, infinities=False),
}
"""Every dtype whose elements are numbers as they stand, one by one."""


def codes(data: bytes, dtype: str) -> Codes:
    """Return the elements as unsigned integers, flat, to be written to."""
    return np.frombuffer(data, f"<u{FORMATS[dtype].bits // 8}").copy()


def values(elements: Codes, dtype: str) -> Floats:
    """Return the numbers that unsigned integers stand for, exactly."""
    with np.errstate(invalid="ignore"):  # signalling NaN become quiet ones
        if dtype in _WIDER:
            wider, shift = _WIDER[dtype]
            return (elements.astype(f"<u{wider}") << shift).view(f"<f{wider}").astype(np.float64)
        if dtype in _SMALL:
            return _small(dtype)[elements]
        return elements.view(f"<f{elements.itemsize}").astype(np.float64)


# A bfloat16 is the first half of a float32, an E5M2 that of a float16.
_WIDER = {"BF16": (4, 16), "F8_E5M2": (2, 8)}
_SMALL = {"F8_E4M3": 7, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 16}
"""The exponent's bias of the formats that are like no larger one."""


@cache
def _small(dtype: str) -> Floats:
    """Return the number of each of the 256 codes."""
    form = FORMATS[dtype]
    found = []
    for code in range(256):
        exponent = code >> form.fraction & (1 << form.exponent) - 1
        fraction = (code & (1 << form.fraction) - 1) / (1 << form.fraction)
        lead, power = (1, exponent) if exponent else (0, 1)
        size = (lead + fraction) * 2.0 ** (power - _SMALL[dtype])
        found.append(-size if code & 128 else size)
    for code in (128,) if dtype.endswith("FNUZ") else (0x7F, 0xFF):
        found[code] = np.nan
    return np.array(found)


def unusual(dtype: str) -> list[int]:
    """Return codes of zeros, the smallest and largest numbers, infinities and several NaN."""
    form = FORMATS[dtype]
    low = [0, 1, 1 << form.fraction]
    if form.infinities:
        quiet = 1 << form.fraction - 1
        nan = [form.infinity + 1, form.infinity + quiet, form.infinity + quiet + 1]
        high = [form.infinity - 1, form.infinity, *nan]
    else:
        high = [form.sign - 2, form.sign - 1]
    return [code + sign for code in (*low, *high) for sign in (0, form.sign)]


def normal(dtype: str, count: int, draw: np.random.Generator) -> Codes:
    """Return elements as a trained weight has them; 8-bit ones are spread evenly."""
    form = FORMATS[dtype]
    if form.bits == 8:
        every = np.arange(256, dtype="<u1")
        sizes = np.abs(values(every, dtype))
        return draw.choice(every[(sizes >= 2.0**-5) & (sizes <= 4)], count)
    found = draw.standard_normal(count)
    if dtype == "BF16":
        return (found.astype("<f4").view("<u4") >> 16).astype("<u2")
    return found.astype(f"<f{form.bits // 8}").view(f"<u{form.bits // 8}")
