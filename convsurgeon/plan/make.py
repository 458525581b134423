"""Header + evidence + wish -> plan. Pure: nothing is opened here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from convsurgeon.errors import ContradictionError, RecipeError
from convsurgeon.evidence import Level, Speaker, Statement, hearing, in_words, weigh
from convsurgeon.geometry import LINEAR, Refusal, conv_form
from convsurgeon.header import Header, TensorInfo
from convsurgeon.plan.naming import named
from convsurgeon.plan.recipe import recipe_of
from convsurgeon.plan.step import Step, chains
from convsurgeon.plan.undecided import undecided
from convsurgeon.plan.value import FilePlan, LayerPlan, Verdict
from convsurgeon.plan.wish import Wish
from convsurgeon.rules import Layer, Rewrite, decide
from convsurgeon.stored import Stored, Surroundings, obstacle, stands_for_weight
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
        silent: why the source of a level says nothing about a layer, where it does not.
    """

    path: str
    shards: tuple[Shard, ...]
    bytes: int
    notes: tuple[str, ...] = ()
    silent: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    tensor: TensorInfo
    shard: Shard
    history: tuple[Step, ...]
    around: Surroundings

    @property
    def module(self) -> str:
        return module_of(self.tensor.name)

    @property
    def original_name(self) -> str:
        return self.history[0].key if self.history else self.tensor.name

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
    found = FilePlan(contents.path, tensors, contents.bytes, common, tuple(layers), tuple(notes))
    return replace(found, silent=contents.silent) if wish.explain else found


def _candidates(contents: Contents, wish: Wish) -> Iterator[_Candidate]:
    headers = [shard.header for shard in contents.shards]
    shapes = {tensor.name: tensor.shape for header in headers for tensor in header.tensors}
    formats = frozenset(header.metadata_map.get("format", "").lower() for header in headers)
    around = Surroundings(shapes, formats)
    for shard in contents.shards:
        recipe = recipe_of(shard.header)
        steps = chains(recipe.steps if recipe else ())
        for tensor in shard.header.tensors:
            history = steps.get(tensor.name, ())
            if history and history[-1].target_shape != tensor.shape:
                text = f"its recipe made it {list(history[-1].target_shape)}, it is"
                raise RecipeError("CS082", f"{text} {list(tensor.shape)}", where=tensor.name)
            if history or _looks_like_a_layer(tensor, wish):
                yield _Candidate(tensor, shard, history, around)


def _looks_like_a_layer(tensor: TensorInfo, wish: Wish) -> bool:
    last = tensor.name.rpartition(".")[2]
    rank = len(tensor.shape)
    if last == "weight":
        return rank in _CONV_RANKS or (wish.to == "conv" and rank == _MATRIX)
    return rank in _CONV_RANKS and stands_for_weight(tensor.name)


def _judge(
    candidate: _Candidate, speakers: Sequence[Speaker], wish: Wish
) -> tuple[LayerPlan, tuple[str, ...]]:
    tensor, shard = candidate.tensor, candidate.shard
    answers = (
        speaker.about(candidate.original_name, candidate.original_shape) for speaker in speakers
    )
    said = [answer for answer in answers if answer]
    said += [step.statement() for step in candidate.history[:1]]
    weighed = weigh(candidate.module, said)
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
        bias=_sibling(tensor.name, "bias") in candidate.around.shapes,
        geometry=statement.geometry if statement else None,
        evidence=_evidence(statement),
        verdict=Verdict.UNDECIDED,
        code=None,
        reason="",
        heard=hearing(said, statement) if wish.explains(candidate.module, tensor.name) else None,
    )
    return _with_verdict(plan, candidate, statement, wish), weighed.warnings


def _evidence(statement: Statement | None) -> tuple[str, str] | None:
    if statement is None or statement.failed:
        return None
    return statement.level.label, statement.source


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
    text = f"{statement.named} says {statement.says()}, the weight is {list(shape)}"
    hint = "correct the evidence: the file's shape is what is stored"
    if geometry.kernel == shape[1:-1]:
        hint = "it looks channel-last, [out, *kernel, in]: convsurgeon explain CS009"
    raise ContradictionError("CS061", text, where=candidate.module, hint=hint)


def _with_verdict(
    plan: LayerPlan, candidate: _Candidate, statement: Statement | None, wish: Wish
) -> LayerPlan:
    stored = Stored(plan.key, plan.dtype, plan.weight_shape, plan.form, candidate.around)
    # A source that knows the very class gives a better reason than what stands beside the weight.
    refusal = (statement.refusal if statement else None) or obstacle(stored)
    if refusal:
        return _refused(plan, refusal)
    if done := _already(plan, candidate, statement, wish):
        return replace(plan, verdict=Verdict.ALREADY, reason=done)
    if not statement or not statement.geometry or _reshaped_by_others(candidate, statement):
        return undecided(plan, statement)
    layout = candidate.history[-1].layout if candidate.history else wish.layout
    layer = Layer(plan.form, plan.weight_shape, statement.geometry, layout)
    verdict = decide(wish.to, layer)
    if not isinstance(verdict, Rewrite):
        nothing = Refusal("CS015", f"no rule makes a {wish.to} layer of a {plan.form}")
        return _refused(plan, verdict or nothing)
    if statement.level < wish.require:
        inferred = statement.level is Level.FINGERPRINT
        level = statement.level.label
        evidence = in_words(level, statement.source) if inferred else f"evidence is {level}"
        text = f"{evidence}, --require-evidence asks {wish.require.label}"
        return _refused(plan, Refusal("CS017", text))
    return _eligible(plan, candidate, verdict, wish)


def _eligible(plan: LayerPlan, candidate: _Candidate, rewrite: Rewrite, wish: Wish) -> LayerPlan:
    plan = replace(plan, verdict=Verdict.ELIGIBLE, reason=rewrite.why)
    left_out = plan.geometry and wish.left_out(plan.module, plan.geometry.window)
    if left_out:
        return replace(plan, reason=f"{rewrite.why}; {left_out}")
    names = candidate.around.shapes, candidate.shard.header.by_name
    found = named(rewrite, plan.key, candidate.history, wish, names)
    return _refused(plan, found) if isinstance(found, Refusal) else replace(plan, rewrite=found)


def _already(
    plan: LayerPlan, candidate: _Candidate, statement: Statement | None, wish: Wish
) -> str | None:
    if candidate.history and (plan.form == LINEAR) == (wish.to == "linear"):
        other = wish.child_keys and wish.to == LINEAR and not candidate.history[-1].child
        return f"already {plan.form}, by its recipe" + (", under the old name" if other else "")
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
