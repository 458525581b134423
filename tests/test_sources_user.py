"""The user's statements: text of the options -> what is said about each weight."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from convsurgeon.errors import ContradictionError, UsageError
from convsurgeon.evidence import Level, Speaker, Statement, weigh
from convsurgeon.geometry import Geometry, Refusal
from convsurgeon.sources.user import UserSpeaker

KEY = "patch_embed.proj.weight"
CONV2D, CONV3D, MATRIX = (768, 3, 16, 16), (768, 3, 2, 14, 14), (768, 768)
G = Geometry


@pytest.mark.parametrize(
    ("option", "shape", "form", "geometry"),
    [
        ("k16,s16,p0,d1,g1", CONV2D, "conv2d", G((16, 16), (16, 16), (0, 0), (1, 1))),
        ("s16", CONV2D, "conv2d", G((16, 16), (16, 16), (0, 0), (1, 1))),
        ("s10,k16", CONV2D, "conv2d", G((16, 16), (10, 10), (0, 0), (1, 1))),
        ("s16,p2,d2,g3", CONV2D, "conv2d", G((16, 16), (16, 16), (2, 2), (2, 2), 3)),
        ("k2x14x14,s2x14x14", CONV3D, "conv3d", G.plain((2, 14, 14), (2, 14, 14))),
        ("s2x14x14,p0x1x1", CONV3D, "conv3d", G((2, 14, 14), (2, 14, 14), (0, 1, 1), (1, 1, 1))),
        ("s4", (8, 3, 4), "conv1d", G.plain((4,), (4,))),
        ("k8,s16", CONV2D, "conv2d", G.plain((8, 8), (16, 16))),  # the plan finds that it is wrong
        ("k16", CONV2D, "conv2d", None),
        ("p0", CONV2D, "conv2d", None),
        ("k16x16,s16", MATRIX, "linear", G.plain((16, 16), (16, 16))),
        ("k16,s16", MATRIX, "linear", G.plain((16,), (16,))),
        ("k16x16", MATRIX, "linear", None),
    ],
)
def test_geometry(
    option: str, shape: tuple[int, ...], form: str, geometry: Geometry | None
) -> None:
    speaker = UserSpeaker.parse(geometry=[f"patch_embed.proj={option}"])
    source = f"--geometry 'patch_embed.proj={option}'"
    assert speaker.about(KEY, shape) == Statement(Level.USER, source, form, geometry)


@pytest.mark.parametrize(
    ("pattern", "module", "hit"),
    [
        ("*", "a.b", True),
        ("*.proj", "a.proj", True),
        ("*.proj", "a.PROJ", False),
        ("a=b", "a=b", True),
        ("blocks.[0-3].sr", "blocks.2.sr", True),
        ("", "", True),
        ("proj", "a.proj", False),
    ],
)
def test_pattern_matches_module_names_and_ends_at_the_last_equals_sign(
    pattern: str, module: str, hit: bool
) -> None:
    key = f"{module}.weight".lstrip(".")
    assert (UserSpeaker.parse([f"{pattern}=s2"]).about(key, (4, 3, 2, 2)) is not None) is hit
    speaker = UserSpeaker.parse(input_shape=[f"{pattern}=3x2x2"])
    assert (speaker.about(key, (4, 12)) is not None) is hit


def test_last_option_counts() -> None:
    speaker = UserSpeaker.parse(["*=s16", "patch_embed.*=s8"])
    said = speaker.about(KEY, CONV2D)
    assert said is not None
    assert said.geometry == G.plain((16, 16), (8, 8))


@pytest.mark.parametrize(
    ("key", "shape"),
    [("a.bias", (4,)), ("a.weight", (4,)), ("a.weight_v", (4, 3, 2, 2)), ("a.weight", ())],
)
def test_nothing_is_said_about_other_tensors(key: str, shape: tuple[int, ...]) -> None:
    speaker = UserSpeaker.parse(["*=k2,s2"], ["b=3x2x2"], "1x1", ["*"])
    assert speaker.about(key, shape) is None


@pytest.mark.parametrize(
    "text",
    [
        "k16,s16",
        "a=",
        "a=16",
        "a=k16;s16",
        "a=k16,",
        "a=k16,k16",
        "a=x2",
        "a=k",
        "a=k-1",
        "a=k0",
        "a=s0",
        "a=d0",
        "a=g0",
        "a=g2x2",
        "a=k1x1x1x1",
        "a=k16 ,s16",
        "a=k1.5",
        "a=k²",
    ],
)
def test_malformed_geometry(text: str) -> None:
    with pytest.raises(UsageError, match=r"--geometry.*GLOB=k16,s16,p0,d1,g1") as caught:
        UserSpeaker.parse(geometry=[text])
    assert caught.value.code == "CS090"


@pytest.mark.parametrize("text", ["512x7x7", "a=", "a=512", "a=0x7", "a=1x2x3x4x5", "a=512*7"])
def test_malformed_input_shape(text: str) -> None:
    with pytest.raises(UsageError, match=r"--input-shape.*GLOB=512x7x7") as caught:
        UserSpeaker.parse(input_shape=[text])
    assert caught.value.code == "CS090"


def test_malformed_method() -> None:
    with pytest.raises(UsageError, match=r"--method.*kernel, 1, 1x1, 1x1x1"):
        UserSpeaker.parse(method="2x2")


@pytest.mark.parametrize("option", ["s2x14x14", "k2x14x14,s14", "s16,p1x1x1", "s16,d1x1x1"])
def test_another_number_of_axes_than_the_weight(option: str) -> None:
    with pytest.raises(ContradictionError, match="the weight is") as caught:
        UserSpeaker.parse([f"*={option}"]).about(KEY, CONV2D)
    assert caught.value.code == "CS061"


@pytest.mark.parametrize(
    ("option", "why"), [("s16", "gives no kernel"), ("k16x16,s16x16x16", "number of axes")]
)
def test_geometry_that_a_matrix_cannot_have(option: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        UserSpeaker.parse([f"*={option}"]).about(KEY, MATRIX)


@pytest.mark.parametrize(
    ("value", "kernel"), [("512x7x7", (7, 7)), ("512x49", (49,)), ("64x8x7x7", (8, 7, 7))]
)
def test_input_shape(value: str, kernel: tuple[int, ...]) -> None:
    said = UserSpeaker.parse(input_shape=[f"fc={value}"]).about("fc.weight", (4096, 25088))
    geometry = G.plain(kernel, (1,) * len(kernel))
    source = f"--input-shape 'fc={value}'"
    assert said == Statement(Level.USER, source, "linear", geometry)


def test_input_shape_that_does_not_fit() -> None:
    said = UserSpeaker.parse(input_shape=["fc=512x8x8"]).about("fc.weight", (4096, 25088))
    assert said is not None
    assert said.geometry is None
    assert said.refusal == Refusal("CS014", "512 × 8×8 = 32768, not 25088 inputs")


def test_input_shape_says_nothing_about_a_conv() -> None:
    assert UserSpeaker.parse(input_shape=["*=512x7x7"]).about(KEY, CONV2D) is None


def test_geometry_and_input_shape_for_one_matrix() -> None:
    with pytest.raises(UsageError, match="both speak"):
        UserSpeaker.parse(["*=k7x7,s7"], ["*=512x7x7"]).about("fc.weight", (4096, 25088))


@pytest.mark.parametrize(
    ("method", "layers", "kernel"),
    [
        ("1x1", ["fc*"], (1, 1)),
        ("1", ["fc*"], (1,)),
        ("1x1x1", ["x", "*"], (1, 1, 1)),
        ("1x1", [], None),
        ("1x1", ["head"], None),
        ("kernel", ["*"], None),
        (None, ["*"], None),
    ],
)
def test_method(method: str | None, layers: list[str], kernel: tuple[int, ...] | None) -> None:
    said = UserSpeaker.parse(method=method, layers=layers).about("fc1.weight", (5, 6))
    assert (said and said.geometry) == (kernel and G.plain(kernel, kernel))
    if said:
        assert said.source == f"--layer {layers[-1]!r} --method {method}"
        assert said.form == "linear"


def test_method_gives_way_to_an_input_shape() -> None:
    said = UserSpeaker.parse([], ["*=6x1"], "1x1", ["*"]).about("fc.weight", (5, 6))
    assert said is not None
    assert said.source.startswith("--input-shape")


def test_unused() -> None:
    speaker = UserSpeaker.parse(["a.*=s2", "b=s2"], ["c=3x2", "d=3x2"])
    assert speaker.unused(["a.x.weight", "d.weight"]) == (
        "--geometry 'b=s2'",
        "--input-shape 'c=3x2'",
    )
    assert UserSpeaker().unused([]) == ()


def test_a_quote_in_an_option_stays_pasteable() -> None:
    assert UserSpeaker.parse(["a'b=s2"]).unused([]) == ("""--geometry 'a'"'"'b=s2'""",)


@dataclass(frozen=True)
class Other:
    said: dict[str, Statement]

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        return self.said.get(key)


MODEL = Other(
    {
        "fc.weight": Statement(Level.MODEL, "model", "linear"),
        "embed.weight": Statement(
            Level.MODEL, "model", "embedding", refusal=Refusal("CS015", "an embedding")
        ),
        "own.weight": Statement(
            Level.MODEL, "model", "linear", refusal=Refusal("CS007", "a subclass")
        ),
        "conv.weight": Statement(Level.MODEL, "model", "conv2d", G.plain((2, 2), (2, 2))),
    }
)
CONFIG = Other({"fc.weight": Statement(Level.CONFIG, "config", "linear", G.plain((2, 2), (1, 1)))})


def heard(speakers: tuple[Speaker, ...], key: str, shape: tuple[int, ...]) -> Statement | None:
    said = [statement for s in speakers if (statement := s.about(key, shape))]
    return weigh(key, said).statement


@pytest.mark.parametrize("layers", [[], ["*"]])
def test_method_beside_others_that_know_the_linears(layers: list[str]) -> None:
    speakers = UserSpeaker.parse(method="1x1", layers=layers).beside([MODEL, CONFIG])
    fc = heard(speakers, "fc.weight", (8, 12))
    assert fc is not None
    assert (fc.level, fc.source) == (Level.MODEL, "model; --method 1x1")
    assert fc.geometry == G.plain((1, 1), (1, 1))
    for name, shape in (("embed", (8, 12)), ("own", (8, 12)), ("conv", (8, 3, 2, 2))):
        assert heard(speakers, f"{name}.weight", shape) == MODEL.said[f"{name}.weight"]
    unknown = heard(speakers, "unknown.weight", (8, 12))
    assert (unknown is not None) is bool(layers)


def test_own_geometry_goes_before_the_method() -> None:
    speakers = UserSpeaker.parse([], ["fc=3x2x2"], "1x1").beside([MODEL])
    fc = heard(speakers, "fc.weight", (8, 12))
    assert fc is not None
    assert fc.geometry == G.plain((2, 2), (1, 1))


def test_without_method_nothing_is_wrapped() -> None:
    user = UserSpeaker.parse(["*=s2"])
    assert user.beside([MODEL, CONFIG]) == (user, MODEL, CONFIG)
