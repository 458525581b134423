"""Damage to the elements of rewritten weights and their biases: names, shapes and dtypes stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mutation.cases import stored
from mutation.content import pack
from mutation.edits import (
    Edit,
    all_up,
    becomes,
    channels_permuted,
    coarser,
    copied,
    exchanged,
    flip,
    in_conv_axes,
    in_matrix,
    in_place,
    nan,
    of_another_training,
    other_layout,
    shifted,
    step,
    turn_sign,
    turned,
)
from mutation.floats import FORMATS, codes
from mutation.kind import Kind, Parameters, Subject, Ways
from mutation.ways import (
    SEEDS,
    any_element,
    any_if_infinities,
    each_axis,
    each_bit,
    each_layer_tensor,
    each_weight,
    fraction,
    several,
    two_axes,
    two_elements,
    two_in,
    where,
    with_one_of,
)


def _damage(edit: Edit) -> Callable[[Subject, Parameters], bytes]:
    def damage(subject: Subject, parameters: Parameters) -> bytes:
        name, *others = parameters
        tensor = subject.after.tensors[str(name)]
        elements = codes(tensor.data, tensor.dtype).reshape(tensor.shape)
        after = stored(edit(subject, elements, *others), tensor.dtype)
        return pack(subject.after.having(**{str(name): after}))

    return damage


_ROWS: tuple[tuple[str, Ways, Edit], ...] = (
    ("a bit of an element", each_bit, in_place(flip)),
    (
        "an element a unit in the last place off",
        with_one_of(any_element, lambda _: range(-1, 2, 2)),
        in_place(step),
    ),
    ("all elements a unit in the last place off", each_layer_tensor, in_place(all_up)),
    ("last bits cut off", with_one_of(each_layer_tensor, fraction), in_place(coarser)),
    ("an element zero", any_element, becomes(lambda _: 0)),
    ("all elements zero", each_layer_tensor, becomes(lambda _: 0)),
    ("an element NaN", any_element, becomes(nan)),
    ("an element infinite", any_if_infinities, becomes(lambda dtype: FORMATS[dtype].infinity)),
    ("payload of a NaN", with_one_of(where(np.isnan, 3), fraction, 3), in_place(flip)),
    ("sign of a NaN", where(np.isnan), in_place(turn_sign)),
    ("sign of a zero", where(lambda numbers: numbers == 0, 4), in_place(turn_sign)),
    ("sign of an infinity", where(np.isinf), in_place(turn_sign)),
    ("all signs", each_layer_tensor, in_place(turn_sign)),
    ("byte order", each_layer_tensor, lambda _, elements: elements.byteswap()),
    (
        "two elements exchanged",
        two_elements,
        in_place(lambda _, flat, one, other: exchanged(flat, one, other)),
    ),
    ("elements reversed", several, in_place(turned)),
    ("elements shifted", several, in_place(shifted)),
    ("axes exchanged", two_axes, in_conv_axes(np.swapaxes)),
    ("an axis reversed", each_axis, in_conv_axes(np.flip)),
    ("matrix transposed", each_weight, in_matrix(np.transpose)),
    ("other layout", each_weight, other_layout),
    (
        "channels permuted",
        with_one_of(each_weight, lambda _: SEEDS, 2),
        in_conv_axes(channels_permuted),
    ),
    ("rows exchanged", two_in(0), in_matrix(exchanged)),
    ("a row over another", two_in(0), in_matrix(copied)),
    ("rows shifted", each_weight, in_matrix(lambda matrix: np.roll(matrix, 1, 0))),
    (
        "columns exchanged",
        two_in(1),
        in_matrix(lambda matrix, one, other: exchanged(matrix.T, one, other).T),
    ),
    ("columns shifted", each_weight, in_matrix(lambda matrix: np.roll(matrix, 1, 1))),
    (
        "elements of another training",
        with_one_of(each_layer_tensor, lambda _: SEEDS),
        of_another_training,
    ),
)
KINDS: tuple[Kind, ...] = tuple(Kind(name, ways, _damage(edit)) for name, ways, edit in _ROWS)
