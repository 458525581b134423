"""Damage to everything else: names, shapes, dtypes, other tensors, metadata, the file itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from random import Random

from mutation.content import SIZES, Content, Tensor, data_start, header, pack
from mutation.kind import Kind, Parameters, Subject

Change = Callable[..., Content]
"""Takes what a file holds, and what else was drawn; returns something else."""
Cut = Callable[..., bytes]
"""The same for a file's bytes."""


def _damage(change: Change) -> Callable[[Subject, Parameters], bytes]:
    return lambda subject, parameters: pack(change(subject.after, *parameters))


def _cut(cut: Cut) -> Callable[[Subject, Parameters], bytes]:
    return lambda subject, parameters: cut(pack(subject.after), *parameters)


def _once(_: Subject, __: Random) -> Iterator[Parameters]:
    yield ()


def _each(subject: Subject, _: Random) -> Iterator[Parameters]:
    yield from ((name,) for name in subject.after.tensors)


def _each_filled(subject: Subject, _: Random) -> Iterator[Parameters]:
    yield from ((name,) for name, tensor in subject.after.tensors.items() if tensor.data)


def _untouched(subject: Subject) -> list[str]:
    mine = {*subject.case.weights, *subject.case.biases}
    return [n for n, tensor in subject.after.tensors.items() if n not in mine and tensor.data]


def _bits_of_others(subject: Subject, draw: Random) -> Iterator[Parameters]:
    for name in _untouched(subject):
        size = len(subject.after.tensors[name].data)
        yield from ((name, bit) for bit in draw.sample(range(8 * size), 2))


def _each_untouched(subject: Subject, _: Random) -> Iterator[Parameters]:
    yield from ((name,) for name in _untouched(subject))


def _alike(subject: Subject, _: Random) -> Iterator[Parameters]:
    """Pairs of tensors of one dtype and shape."""
    for one, other in combinations(subject.after.tensors, 2):
        first, second = subject.after.tensors[one], subject.after.tensors[other]
        if first.data and first[:2] == second[:2]:
            yield one, other


def _same_sized(subject: Subject, draw: Random) -> Iterator[Parameters]:
    for name, tensor in subject.after.tensors.items():
        size = SIZES[tensor.dtype]
        others = [d for d in SIZES if SIZES[d] == size and d != tensor.dtype]
        yield name, draw.choice(others)


def _numbers(*choices: range) -> Callable[[Subject, Random], Iterator[Parameters]]:
    def ways(_: Subject, draw: Random) -> Iterator[Parameters]:
        yield from ((draw.choice(choice),) for choice in choices)

    return ways


def _renamed(content: Content, name: str, to: str = "") -> Content:
    names = {name: to or f"{name}_"}
    return replace(content, tensors={names.get(n, n): t for n, t in content.tensors.items()})


def _exchanged(content: Content, one: str, other: str) -> Content:
    tensors = content.tensors
    return content.having(**{one: tensors[other], other: tensors[one]})


def _flipped(content: Content, name: str, bit: int) -> Content:
    data = bytearray(content.tensors[name].data)
    data[bit // 8] ^= 1 << bit % 8
    return content.having(**{name: content.tensors[name]._replace(data=bytes(data))})


def _of_dtype(content: Content, name: str, dtype: str) -> Content:
    return content.having(**{name: content.tensors[name]._replace(dtype=dtype)})


def _reshaped(content: Content, name: str) -> Content:
    """Return it with the same bytes under another shape: reversed, or else with an axis more."""
    tensor = content.tensors[name]
    turned = tensor.shape[::-1]
    shape = turned if turned != tensor.shape else (*tensor.shape, 1)
    return content.having(**{name: tensor._replace(shape=shape)})


def _unswapped(subject: Subject, parameters: Parameters) -> bytes:
    """Return the file with a weight in its old form."""
    (name,) = map(str, parameters)
    return pack(subject.after.having(**{name: subject.before.tensors[name]}))


def _shorter(content: Content, name: str) -> Content:
    """Return it without the last row, or the only element, of a tensor."""
    dtype, shape, data = content.tensors[name]
    rows = shape[0] if shape else 1
    rest = Tensor(dtype, (rows - 1, *shape[1:]), data[: len(data) // rows * (rows - 1)])
    return content.having(**{name: rest})


def _zeroed(content: Content, name: str) -> Content:
    tensor = content.tensors[name]
    return content.having(**{name: tensor._replace(data=bytes(len(tensor.data)))})


def _data_shifted(file: bytes, by: int) -> bytes:
    """Return the file with the data behind its header rotated."""
    start = data_start(file)
    data = file[start:]
    return file[:start] + data[by:] + data[:by]


def _header_bit(file: bytes, place: int) -> bytes:
    """Return the file with a bit of its header, or of the header's length, flipped."""
    bit = place % (8 * data_start(file))
    damaged = bytearray(file)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def _elsewhere(content: Content, one: str, other: str) -> bytes:
    """Return a file in which two names have the data of one of them."""
    entries = header(content)
    entries[one]["data_offsets"] = entries[other]["data_offsets"]
    return pack(content, entries)


def _all_offsets(content: Content, by: int) -> bytes:
    """Return a file in which all data are said to begin later than they do."""
    entries = header(content)
    for name in content.tensors:
        entries[name]["data_offsets"] = [at + by for at in entries[name]["data_offsets"]]
    return pack(content, entries)


def _padded(file: bytes) -> bytes:
    start = data_start(file)
    return (start + 56).to_bytes(8, "little") + file[8:start] + b" " * 64 + file[start:]


def _entries_reversed(content: Content) -> bytes:
    return pack(content, dict(reversed(header(content).items())))


def _other_order(content: Content) -> Content:
    return replace(content, tensors=dict(reversed(list(content.tensors.items()))))


_FLAG = Tensor("U8", (1,), b"\0")

TENSORS: tuple[Kind, ...] = (
    Kind("a tensor missing", _each, _damage(Content.without)),
    Kind("a tensor renamed", _each, _damage(_renamed)),
    Kind("a tensor more", _once, _damage(lambda c: c.having(extra=_FLAG))),
    Kind("a tensor's last row missing", _each_filled, _damage(_shorter)),
    Kind("another dtype with the same bytes", _same_sized, _damage(_of_dtype)),
    Kind("another shape with the same bytes", _each, _damage(_reshaped)),
    Kind("two tensors exchanged", _alike, _damage(_exchanged)),
    Kind("a bit of another tensor", _bits_of_others, _damage(_flipped)),
    Kind("another tensor zero", _each_untouched, _damage(_zeroed)),
    Kind("a weight in its old form", lambda s, _: ((n,) for n in s.case.weights), _unswapped),
)
METADATA: tuple[Kind, ...] = (
    Kind("metadata changed", _once, _damage(lambda c: c.saying(author="nobody"))),
    Kind("metadata emptied", _once, _damage(lambda c: c.saying(author=""))),
    Kind("metadata added", _once, _damage(lambda c: c.saying(licence="none"))),
    Kind("metadata removed", _once, _damage(lambda c: c.silent("author"))),
)
FILES: tuple[Kind, ...] = (
    Kind("end cut off", _numbers(range(1, 9), range(9, 40)), _cut(lambda f, n: f[:-n])),
    Kind("bytes added", _numbers(range(1, 9)), _cut(lambda f, n: f + bytes(n))),
    Kind("data shifted", _numbers(*[range(1, 9)] * 2), _cut(_data_shifted)),
    Kind("a bit of the header", _numbers(*[range(1 << 40)] * 6), _cut(_header_bit)),
    Kind(
        "data of another tensor",
        _alike,
        lambda subject, names: _elsewhere(subject.after, *map(str, names)),
    ),
    Kind(
        "all offsets shifted",
        _numbers(range(1, 9)),
        lambda subject, by: _all_offsets(subject.after, int(by[0])),
    ),
)
CONTROLS: tuple[Kind, ...] = (
    Kind("no damage: data in another order", _once, _damage(_other_order)),
    Kind("no damage: a longer header", _once, _cut(_padded)),
    Kind("no damage: header in another order", _once, lambda s, _: _entries_reversed(s.after)),
)
"""Other bytes, the same content: these must not be called different."""
