"""Crafted headers that break one rule of the format each, and the small ones they are made from.

Each is the JSON text without the eight bytes of length; the tensors take four bytes of data.
"""

from __future__ import annotations


def one(fields: str) -> str:
    """A header with one tensor of the given fields."""
    return f'{{"a":{{{fields}}}}}'


def u8(shape: str, offsets: str = "[0,4]") -> str:
    return one(f'"dtype":"U8","shape":{shape},"data_offsets":{offsets}')


def f32(dtype: str) -> str:
    return one(f'"dtype":{dtype},"shape":[1],"data_offsets":[0,4]')


FINE = u8("[4]")
TENSOR = FINE[5:-1]
META = f'{{"__metadata__":%s,"a":{TENSOR}}}'
FOUR = '"dtype":"U8","shape":[4],"data_offsets":[0,4]'

GRAMMAR: dict[str, str | bytes] = {
    "nothing": "",
    "spaces only": "   ",
    "array": "[]",
    "null": "null",
    "string": '"a"',
    "number": "1",
    "leading space": " " + FINE,
    "leading tab": "\t" + FINE,
    "leading newline": "\n" + FINE,
    "BOM": "\ufeff" + FINE,
    "UTF-16": FINE.encode("utf-16"),
    "UTF-16 without BOM": FINE.encode("utf-16-le"),
    "UTF-32": FINE.encode("utf-32"),
    "Latin-1": '{"é":{}}'.encode("latin-1"),
    "overlong UTF-8": b'{"\xc0\xaf":{}}',
    "surrogate in UTF-8": b'{"\xed\xa0\x80":' + TENSOR.encode() + b"}",
    "trailing newline": FINE + "\n",
    "trailing tab": FINE + "\t",
    "trailing NUL": FINE + "\0",
    "trailing NULs after spaces": FINE + "   \0\0",
    "trailing no-break space": FINE + "\xa0",
    "trailing comma": FINE[:-1] + ",}",
    "trailing brace": FINE + "}",
    "two documents": FINE + FINE,
    "comment": FINE[:-1] + "/**/}",
    "single quotes": FINE.replace('"', "'"),
    "name without quotes": FINE.replace('"a"', "a"),
    "name is a number": FINE.replace('"a"', "1"),
    "colon missing": FINE.replace('"a":', '"a"'),
    "comma missing": f'{{"a":{TENSOR} "b":{TENSOR}}}',
    "two commas": FINE[:-1] + ",,}",
    "raw newline in a name": FINE.replace('"a"', '"a\n"'),
    "raw NUL in a name": FINE.replace('"a"', '"a\0"'),
    "raw escape in a name": FINE.replace('"a"', '"\x1b[2J"'),
    "raw tab in metadata": META % '{"k":"\t"}',
    "unknown escape": FINE.replace('"a"', r'"\x41"'),
    "short escape": FINE.replace('"a"', r'"\u00e"'),
    "lone high surrogate": FINE.replace('"a"', r'"\ud800"'),
    "lone low surrogate": FINE.replace('"a"', r'"\udc00"'),
    "surrogates the wrong way round": FINE.replace('"a"', r'"\udc00\ud800"'),
    "lone surrogate in metadata": META % r'{"k":"\ud83d"}',
    "lone surrogate as metadata key": META % r'{"\ud83d":"v"}',
    "deep arrays": '{"a":' + "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "deep unknown field": one(f'{FOUR},"x":' + "[" * 50_000 + "]" * 50_000),
    "form feed as white space": FINE.replace(":", ":\f"),
    "full-width digits": u8("[４]"),
    **{f"cut after {n}": FINE[:n] for n in range(1, len(FINE), 7)},
}

FIELDS: dict[str, str] = {
    "no fields": one(""),
    "dtype missing": one('"shape":[4],"data_offsets":[0,4]'),
    "shape missing": one('"dtype":"U8","data_offsets":[0,4]'),
    "offsets missing": one('"dtype":"U8","shape":[4]'),
    "unknown field": one(FOUR + ',"x":1'),
    "unknown field first": one('"x":1,' + FOUR),
    "field in capitals": one(FOUR.replace("dtype", "DTYPE")),
    "field through an escape": one(FOUR.replace("dtype", r"\u0064type")),
    "dtype twice": one(FOUR + ',"dtype":"U8"'),
    "shape twice": one('"dtype":"U8","shape":[4],"shape":[4]'),
    "offsets twice": one(FOUR + ',"data_offsets":[0,4]'),
    "entry is an array": '{"a":["U8",[4],[0,4]]}',
    "entry is null": '{"a":null}',
    "entry is a string": '{"a":"U8"}',
    "entry is a number": '{"a":4}',
    "dtype is an object": f32('{"F32":null}'),
    "dtype is null": f32("null"),
    "dtype is a number": f32("32"),
    "dtype is an array": f32('["F32"]'),
    "dtype is empty": f32('""'),
    "dtype in small letters": f32('"f32"'),
    "dtype with a space": f32('"F32 "'),
    "dtype through an escape": f32(r'"\u004632"'),
    "dtype unknown": f32('"F128"'),
    "dtype C128": f32('"C128"'),
    "dtype very long": f32('"' + "F" * 10_000 + '"'),
    "shape is null": u8("null"),
    "shape is a number": u8("4"),
    "shape is an object": u8("{}"),
    "shape is a string": u8('"4"'),
    "shape holds null": u8("[null]"),
    "shape holds a string": u8('["4"]'),
    "shape holds true": u8("[true]", "[0,1]"),
    "shape holds an array": u8("[[4]]"),
    "shape ends in a comma": u8("[4,]"),
    "shape holds a float": u8("[4.0]"),
    "shape holds an exponent": u8("[4e0]"),
    "shape holds NaN": u8("[NaN]"),
    "shape holds Infinity": u8("[Infinity]"),
    "shape holds -1": u8("[-1]"),
    "shape holds two -1": u8("[-1,-1]", "[0,1]"),
    "shape holds -0": u8("[-0]", "[0,0]"),
    "shape holds +4": u8("[+4]"),
    "shape holds a leading zero": u8("[04]"),
    "shape holds 00": u8("[00]", "[0,0]"),
    "shape holds hex": u8("[0x4]"),
    "shape holds an underscore": u8("[1_0]", "[0,10]"),
    "shape holds 2^64": u8("[18446744073709551616]"),
    "shape holds 2^64 beside 0": u8("[0,18446744073709551616]", "[0,0]"),
    "shape holds 21 digits": u8("[" + "9" * 21 + "]"),
    "shape holds 6,000 digits": u8("[" + "9" * 6000 + "]"),
    "shape of rank 65": u8("[" + ",".join(["1"] * 65) + "]", "[0,1]"),
    "shape of rank 100,000": u8("[" + ",".join(["1"] * 100_000) + "]", "[0,1]"),
    "shape overflows elements": u8("[4294967296,4294967296]"),
    "shape overflows bits": u8("[2305843009213693952]"),
    "shape wraps to 4": u8("[4,4611686018427387905]"),
    "shape overflows beside 0": u8("[1099511627776,1099511627776,0]", "[0,0]"),
    "shape smaller than offsets": u8("[3]"),
    "shape larger than offsets": u8("[5]"),
    "F4 of half a byte": u8("[1]", "[0,1]").replace("U8", "F4"),
    "F6 of 6 bits": u8("[1]", "[0,1]").replace("U8", "F6_E2M3"),
    "F6 of 18 bits": u8("[3]", "[0,2]").replace("U8", "F6_E3M2"),
    "offsets are null": u8("[4]", "null"),
    "offsets are one": u8("[4]", "[4]"),
    "offsets are three": u8("[4]", "[0,4,4]"),
    "offsets are an object": u8("[4]", '{"0":0,"1":4}'),
    "offsets are floats": u8("[4]", "[0.0,4.0]"),
    "offsets are booleans": u8("[1]", "[false,true]"),
    "offsets are strings": u8("[4]", '["0","4"]'),
    "offset -0": u8("[4]", "[-0,4]"),
    "offset negative": u8("[4]", "[-4,0]"),
    "offset with a leading zero": u8("[4]", "[0,04]"),
    "offset of 6,000 digits": u8("[4]", "[0," + "4" * 6000 + "]"),
    "offset 2^64": u8("[4]", "[0,18446744073709551616]"),
    "offsets swapped": u8("[4]", "[4,0]"),
    "offsets begin behind 0": u8("[4]", "[4,8]"),
}

SECOND = '"dtype":"U8","shape":%s,"data_offsets":%s'
PAIR = f'{{"a":{TENSOR},"b":{{{SECOND}}}}}'
WHOLE: dict[str, str] = {
    "one name twice": f'{{"a":{TENSOR},"a":{TENSOR}}}',
    "one name twice, empty": '{"a":{%s},"a":{%s}}' % ((SECOND % ("[0]", "[0,0]"),) * 2),
    "one name twice through an escape": f'{{"a":{TENSOR},"\\u0061":{TENSOR}}}',
    "one name twice, other dtype": f'{{"a":{TENSOR},"a":{TENSOR.replace("U8", "I8")}}}',
    "overlap": PAIR % ("[2]", "[3,5]"),
    "same place": PAIR % ("[4]", "[0,4]"),
    "inside": PAIR % ("[2]", "[1,3]"),
    "empty one inside": PAIR % ("[0]", "[2,2]"),
    "hole": PAIR % ("[2]", "[5,7]"),
    "empty one behind the end": PAIR % ("[0]", "[5,5]"),
    "__metadata__ is a tensor": f'{{"__metadata__":{TENSOR}}}',
    "__metadata__ is a tensor through an escape": f'{{"\\u005f_metadata__":{TENSOR}}}',
    "__metadata__ is null": META % "null",
    "__metadata__ is an array": META % "[]",
    "__metadata__ is a string": META % '"x"',
    "__metadata__ twice": '{"__metadata__":{},"__metadata__":{}}',
    "__metadata__ twice through an escape": '{"__metadata__":{},"\\u005f_metadata__":{}}',
    "metadata value is null": META % '{"k":null}',
    "metadata value is a number": META % '{"k":1}',
    "metadata value is true": META % '{"k":true}',
    "metadata value is an object": META % '{"k":{}}',
    "metadata value is an array": META % '{"k":["v"]}',
    "metadata value is missing": META % '{"k"}',
    "metadata key twice": META % '{"k":"1","k":"2"}',
    "metadata key twice, same value": META % '{"k":"1","k":"1"}',
    "metadata key twice through an escape": META % r'{"k":"1","\u006B":"1"}',
    "metadata ends in a comma": META % '{"k":"1",}',
}

MALFORMED = GRAMMAR | FIELDS | WHOLE
