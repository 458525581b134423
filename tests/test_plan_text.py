"""A plan prints: a line for each checkpoint, one for each candidate, one for each failure."""

from __future__ import annotations

from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import Geometry
from convsurgeon.header import pack
from convsurgeon.plan import Contents, Failure, Plan, Shard, Wish, make_plan

EXPECTED = r"""model.safetensors: 3 tensors
  a\x1b[2J: conv2d [4, 3, 2, 2] F32 -> linear [4, 12] (p1 p2 c), eligible: stride equals kernel [user, me\x1b[1m]
  b: conv2d [4, 3, 7, 7] F16, undecided: no evidence of its stride
  w: conv1d [4, 3, 2] F32, refused: weight_v is no weight: the layer computes its weight from it
bad\x07: there is no such file"""


class Speaker:
    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        if not key.startswith("a"):
            return None
        return Statement(Level.USER, "me\x1b[1m", "conv2d", Geometry.plain((2, 2), (2, 2)))


def test_a_plan_prints_without_raw_escapes() -> None:
    header = pack(
        [
            ("a\x1b[2J.weight", "F32", (4, 3, 2, 2)),
            ("b.weight", "F16", (4, 3, 7, 7)),
            ("w.weight_v", "F32", (4, 3, 2)),
        ]
    )
    contents = Contents("model.safetensors", (Shard("model.safetensors", header),), 1)
    file = make_plan(contents, [Speaker()], Wish(layout="p1 p2 c"))
    failure = Failure("bad\x07", "UnreadableError", "CS030", "there is no such file")

    assert str(Plan((file,), (failure,))) == EXPECTED
