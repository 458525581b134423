"""Header + evidence + wish -> plan. Pure: nothing is opened here."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from convsurgeon.errors import ContradictionError, RecipeError
from convsurgeon.evidence import Speaker, Statement, weigh
from convsurgeon.geometry import LINEAR, Refusal, conv_form
from convsurgeon.header import Header, TensorInfo
from convsurgeon.plan.recipe import Step, recipe_of
from convsurgeon.plan.value import FilePlan, LayerPlan, Verdict
from convsurgeon.plan.wish import Wish
from convsurgeon.rules import Layer, Rewrite, decide
from convsurgeon.stored import PARAMETRISED, Stored, obstacle
from convsurgeon.tree import module_of, natural

_MATRIX = 2
_CONV_RANKS = (3, 4, 5)


@dataclass(frozen=True, slots=True)
class Shard:
    """A file's name and its header."""

    name: str
    header: Header


@dataclass(frozen=True, slots=True)
class Contents:
    """What a plan is made from: the headers of a checkpoint.

    Attributes:
        path: as the user wrote it.
        shards: one for a single file.
        bytes: of all files together.
        notes: what the reader of the files wants the user to know.
    """

    path: str
    shards: tuple[Shard, ...]
    bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    tensor: TensorInfo
    shard: Shard
    history: tuple[Step, ...]
    names: frozenset[str]

    @property
    def module(self) -> str:
        return module_of(self.tensor.name)

    @property
    def original_shape(self) -> tuple[int, ...]:
        return self.history[0].source_shape if self.history else self.tensor.shape

    @property
    def form_by_rank(self) -> str:
        if self.history:
            return self.history[-1].target_form
        rank = len(self.tensor.shape)
        return LINEAR if rank == _MATRIX else conv_form(rank - 2)


def make_plan(contents: Contents, speakers: Sequence[Speaker], wish: Wish) -> FilePlan:
    """Decide about every candidate of a checkpoint.

    Args:
        contents: its headers.
        speakers: the evidence; recipes inside the files are added here.
        wish: what the user asks for.

    Raises:
        ContradictionError: CS060 or CS061.
        RecipeError: CS082.
    """
    layers: list[LayerPlan] = []
    notes = list(contents.notes)
    for candidate in _candidates(contents, wish):
        layer, warnings = _judge(candidate, speakers, wish)
        layers.append(layer)
        notes.extend(warnings)
    layers.sort(key=lambda layer: natural(layer.key))
    first, *others = (shard.header.metadata_map for shard in contents.shards)
    common = {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}
    tensors = sum(len(shard.header.tensors) for shard in contents.shards)
    return FilePlan(contents.path, tensors, contents.bytes, common, tuple(layers), tuple(notes))


def _candidates(contents: Contents, wish: Wish) -> Iterator[_Candidate]:
    names = frozenset(name for shard in contents.shards for name in shard.header.by_name)
    for shard in contents.shards:
        recipe = recipe_of(shard.header)
        steps: dict[str, list[Step]] = {}
        for step in recipe.steps if recipe else ():
            steps.setdefault(step.key, []).append(step)
        for tensor in shard.header.tensors:
            history = tuple(steps.get(tensor.name, ()))
            if history and history[-1].target_shape != tensor.shape:
                text = f"its recipe made it {list(history[-1].target_shape)}, it is"
                raise RecipeError("CS082", f"{text} {list(tensor.shape)}", where=tensor.name)
            if history or _looks_like_a_layer(tensor, wish):
                yield _Candidate(tensor, shard, history, names)


def _looks_like_a_layer(tensor: TensorInfo, wish: Wish) -> bool:
    last = tensor.name.rpartition(".")[2]
    rank = len(tensor.shape)
    if last == "weight":
        return rank in _CONV_RANKS or (wish.to == "conv" and rank == _MATRIX)
    return rank in _CONV_RANKS and last in PARAMETRISED


def _judge(
    candidate: _Candidate, speakers: Sequence[Speaker], wish: Wish
) -> tuple[LayerPlan, tuple[str, ...]]:
    tensor, shard = candidate.tensor, candidate.shard
    said = [speaker.about(tensor.name, candidate.original_shape) for speaker in speakers]
    said += [step.statement() for step in candidate.history[:1]]
    weighed = weigh(candidate.module, filter(None, said))
    statement = weighed.statement
    if statement:
        _check_fit(candidate, statement)
    plan = LayerPlan(
        module=candidate.module,
        key=tensor.name,
        file=shard.name,
        form=_form(candidate, statement),
        weight_shape=tensor.shape,
        dtype=tensor.dtype,
        bias=_sibling(tensor.name, "bias") in candidate.names,
        geometry=statement.geometry if statement else None,
        evidence=(statement.level.label, statement.source) if statement else None,
        verdict=Verdict.UNDECIDED,
        code=None,
        reason="",
    )
    return _with_verdict(plan, candidate, statement, wish), weighed.warnings


def _form(candidate: _Candidate, statement: Statement | None) -> str:
    by_rank = candidate.form_by_rank
    # Evidence speaks about the layer before any swap, and none makes a matrix a conv or back.
    if candidate.history or statement is None or LINEAR in (by_rank, statement.form):
        return by_rank
    return statement.form


def _sibling(key: str, last: str) -> str:
    return key.removesuffix(key.rpartition(".")[2]) + last


def _check_fit(candidate: _Candidate, statement: Statement) -> None:
    shape, geometry = candidate.original_shape, statement.geometry
    if geometry is None or len(shape) == _MATRIX:
        return
    axes = not statement.form.startswith("conv") or statement.form.endswith(f"{geometry.ndim}d")
    if geometry.kernel == shape[2:] and axes:
        return
    text = f"{statement.source} says {statement.says()}, the weight is {list(shape)}"
    hint = "correct the evidence: the file's shape is what is stored"
    raise ContradictionError("CS061", text, where=candidate.module, hint=hint)


def _with_verdict(
    plan: LayerPlan, candidate: _Candidate, statement: Statement | None, wish: Wish
) -> LayerPlan:
    stored = Stored(plan.key, plan.dtype, candidate.names, candidate.shard.header.metadata_map)
    refusal = obstacle(stored) or (statement.refusal if statement else None)
    if refusal:
        return _refused(plan, refusal)
    if done := _already(plan, candidate, statement, wish):
        return replace(plan, verdict=Verdict.ALREADY, reason=done)
    if not statement or not statement.geometry or _reshaped_by_others(candidate, statement):
        return _undecided(plan, statement)
    layout = candidate.history[-1].layout if candidate.history else wish.layout
    layer = Layer(plan.form, plan.weight_shape, statement.geometry, layout)
    verdict = decide(wish.to, layer)
    if not isinstance(verdict, Rewrite):
        nothing = Refusal("CS015", f"no rule makes a {wish.to} layer of a {plan.form}")
        return _refused(plan, verdict or nothing)
    if statement.level < wish.require:
        text = f"evidence is {statement.level.label}, --require-evidence asks {wish.require.label}"
        return _refused(plan, Refusal("CS017", text))
    left_out = wish.left_out(plan.module, statement.geometry.window)
    reason = f"{verdict.why}; {left_out}" if left_out else verdict.why
    rewrite = None if left_out else verdict
    return replace(plan, verdict=Verdict.ELIGIBLE, reason=reason, rewrite=rewrite)


def _already(
    plan: LayerPlan, candidate: _Candidate, statement: Statement | None, wish: Wish
) -> str | None:
    if candidate.history and (plan.form == LINEAR) == (wish.to == "linear"):
        return f"already {plan.form}, by its recipe"
    if wish.to == "conv" and plan.form != LINEAR and statement:
        return f"already {plan.form}"
    return None


def _reshaped_by_others(candidate: _Candidate, statement: Statement) -> bool:
    # A matrix under a name that the evidence calls a conv was flattened by another tool, or a conv
    # made of what it calls a Linear: in which of the two layouts, no shape tells.
    matrix = len(candidate.tensor.shape) == _MATRIX
    return not candidate.history and matrix != (statement.form == LINEAR)


def _refused(plan: LayerPlan, refusal: Refusal) -> LayerPlan:
    return replace(plan, verdict=Verdict.REFUSED, code=refusal.code, reason=refusal.reason)


def _undecided(plan: LayerPlan, statement: Statement | None) -> LayerPlan:
    name = glob.escape(plan.module)
    if plan.form != LINEAR:
        sizes = "x".join(map(str, plan.weight_shape[2:]))
        hint = f"--geometry {shlex.quote(f'{name}=k{sizes},s{sizes},p0,d1,g1')}"
        reason = "the stride is unknown" if statement else "no evidence of its stride"
        return replace(plan, reason=reason, hint=hint)
    hint = f"--input-shape {shlex.quote(f'{name}=CxHxW')}"
    if statement is None:
        return replace(plan, reason="no evidence that it is a Linear", hint=hint)
    if statement.form != LINEAR:
        text = f"{statement.source} says {statement.form}, but the weight is a matrix"
        return replace(plan, reason=text, hint=hint)
    return replace(plan, reason="the shape of its input is unknown", hint=hint)
