"""`verify --input` and `--loader`: the original and the swapped model, whole, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from convsurgeon.api.live.loading import place
from convsurgeon.api.model_inputs import Maker, parse_inputs
from convsurgeon.api.run_dtype import (
    check_dtype,
    converted,
    dtype_notes,
    main_dtype,
    name_of,
    stored_dtypes,
    usual_dtype,
)
from convsurgeon.errors import ConvsurgeonError, MismatchError, ModelError, UsageError
from convsurgeon.integrations.recorded import Effect, Recorded, recorded
from convsurgeon.proof import LayerVerdict
from convsurgeon.proof.drift import ALLOWED, ModelInput, ModelVerdict
from convsurgeon.proof.inputs import SEED
from convsurgeon.rearrangement import between
from convsurgeon.sources.builders.guard import sealed
from convsurgeon.sources.live import build_live
from convsurgeon.sources.model import ModelSpeaker
from convsurgeon.store import Checkpoint, ReadOptions, only_path, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

    from convsurgeon.proof.moves import ModelInputs

HOW = "convsurgeon.load"
_ANOTHER = "the library makes another model of the swapped file: only --input compares the two"
_MAX_MESSAGE = 300
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trial:
    """What to do with whole models.

    Attributes:
        spec: what builds the model, see `sources.build`; None where a loader does.
        loader: the library that loads both; None for `convsurgeon.load`.
        inputs: what they are run on, see `model_inputs`; empty for none.
        input_file: the tensors that they are run on; None for random ones.
        dtype: that they are run in; None for that of the file.
        seed: of random inputs and of the perturbations.
        read: how checkpoints are read; a loader reads them in its own way.
    """

    spec: str | None
    loader: str | None
    inputs: tuple[str, ...] = ()
    input_file: Path | None = None
    dtype: str | None = None
    seed: int = SEED
    read: ReadOptions = field(default_factory=ReadOptions)


def try_models(
    original: Path, swapped: Path, trial: Trial, layers: Sequence[LayerVerdict] = ()
) -> ModelVerdict:
    """Load two checkpoints into the same model, run both, and compare all outputs.

    With a spec the model is built twice, with memory, and takes the dtype that most of the
    original's elements are stored in, buffers included; `convsurgeon.load` puts the layers of the
    swapped file into the form that they need. With a loader the library decides both.

    Args:
        original: a file, an index, or a folder with one checkpoint.
        swapped: what became of it.
        trial: what to do with them.
        layers: what the proofs of the files found to have been rewritten: what a swapped file
            without a recipe does not say itself.

    Returns:
        The verdict. What the loader left out or made up of the swapped file stands under `refused`,
        and then nothing is run; so does the reason where `convsurgeon.load` refuses that file.

    Raises:
        UsageError: CS090 where the trial cannot be understood.
        ModelError: CS052 without torch; CS062 where the model cannot be built; CS064 where it
            cannot be run.
        MismatchError: CS084 where the original does not load.
        RefusedError: where a file cannot be read.
    """
    make = parse_inputs(trial.inputs, trial.input_file)
    check_dtype(trial.dtype)
    if trial.loader is not None:
        return _through(trial.loader, (original, swapped), trial, make)
    if trial.spec is None or make is None:
        option, text = ("--input", "--model SPEC") if make else ("--model", "--input SHAPE")
        raise UsageError("CS090", f"it needs {text} beside it", where=option)
    return _placed(trial.spec, (original, swapped), trial, make, layers)


def _placed(
    spec: str,
    paths: tuple[Path, Path],
    trial: Trial,
    make: Maker,
    layers: Sequence[LayerVerdict],
) -> ModelVerdict:
    first, second = (read_checkpoint(only_path(p), trial.read) for p in paths)
    known = recorded(second)
    seen = {layer.key: effect for layer in layers if (effect := _effect(layer))}
    done = replace(known, effects={**seen, **known.effects})
    stored = stored_dtypes(first)
    dtype = trial.dtype or usual_dtype(stored)
    models = [converted(build_live(spec, trial.seed), dtype) for _ in range(2)]
    put(models[0], first, recorded(first), spec)
    verdict = ModelVerdict(spec, HOW, notes=tuple(dtype_notes(stored, dtype)))
    try:
        put(models[1], second, done, spec)
    except MismatchError as error:
        return replace(verdict, refused=(f"{HOW} refuses {error.where}: {error.message}",))
    return _ran(verdict, models, make, trial.seed)


def _effect(layer: LayerVerdict) -> Effect | None:
    try:
        move = between(*layer.shapes, layer.layout)
    except ValueError:  # no two forms of one layer, as the verdict on the layer says
        return None
    return Effect(layer.key, move, layer.layout, layer.given[0])


def put(model: nn.Module, checkpoint: Checkpoint, done: Recorded, spec: str) -> None:
    """Load a checkpoint, whose names may have one of the usual prefixes before the model's."""
    keys = [info.name for source in checkpoint.sources for info in source.header.tensors]
    told = ModelSpeaker.of(model, spec).for_names(keys)

    def named(key: str) -> str:
        return key if key in told.names else told.add + key.removeprefix(told.drop)

    try:
        # A model of its own: what the file holds apart may be apart in it.
        place(model, checkpoint, done, key_map=named, cast=True, untie=True)
    except ConvsurgeonError as error:
        error.where = ": ".join(filter(None, (str(checkpoint.path), error.where)))
        raise


def _through(
    library: str, paths: tuple[Path, Path], trial: Trial, make: Maker | None
) -> ModelVerdict:
    from convsurgeon.integrations.loaders import differences, load_through

    original, swapped = paths
    second = load_through(library, swapped)
    verdict = ModelVerdict(second.source, f"the loader of {library}", refused=second.complaints)
    if second.model is None or second.complaints:
        own = set(load_through(library, original).complaints) & set(second.complaints)
        note = f"{len(own)} of {len(second.complaints)} complaints hold for the original too"
        return replace(verdict, notes=(note,) if own else ())
    first = load_through(library, original)
    if first.model is None or first.complaints:
        text = f"the original itself does not load through {library}: {first.complaints[0]}"
        hint = "use --model SPEC in place of --loader"
        raise MismatchError("CS084", text, where=original, hint=hint)
    models = [first.model, second.model]
    if _form(models[0]) == _form(models[1]):
        verdict = replace(verdict, refused=differences(*models))
    elif make is None:
        verdict = replace(verdict, notes=(_ANOTHER,))
    if verdict.refused or make is None:
        return verdict
    if trial.dtype:
        models = [converted(model, trial.dtype) for model in models]
    name = name_of(main_dtype(models[0]))
    return _ran(
        replace(verdict, notes=tuple(dtype_notes(Counter(), name))), models, make, trial.seed
    )


def _form(model: nn.Module) -> dict[str, object]:
    """Return the shape of everything that a model holds, by name."""
    return {name: getattr(value, "shape", None) for name, value in model.state_dict().items()}


def _ran(
    verdict: ModelVerdict, models: Sequence[nn.Module], make: Maker, seed: int
) -> ModelVerdict:
    """Run both models and put what was found into the verdict.

    Raises:
        ModelError: CS064.
    """
    from convsurgeon.proof.whole import PERTURBATIONS, run_models

    first, second = (model.eval() for model in models)
    dtype = main_dtype(first)
    name = name_of(dtype)
    allowed = ALLOWED.get(name, ALLOWED["float32"])
    with sealed():
        inputs = _guarded(lambda: make(first, dtype, seed), verdict.source)
        found = _guarded(
            lambda: run_models(first, second, inputs, seed=seed, allowed=allowed), verdict.source
        )
    return replace(
        verdict,
        inputs=tuple(_described(inputs)),
        dtype=name,
        seed=seed,
        perturbations=PERTURBATIONS,
        outputs=found.outputs,
        layers=found.layers,
        notes=(*verdict.notes, *found.notes),
    )


def _guarded(step: Callable[[], T], where: str) -> T:
    """Run a model's own code; whatever it raises becomes one line."""
    try:
        return step()
    except ConvsurgeonError as error:
        raise error.at(where) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 (any code may stand there)
        message = " ".join(str(error).split())[:_MAX_MESSAGE]
        text = f"the model cannot be run: {type(error).__name__}: {message}".rstrip(": ")
        hint = "give the inputs that its forward takes: --input NAME=SHAPE, --input-file"
        raise ModelError("CS064", text, where=where, hint=hint) from None


def _described(inputs: ModelInputs) -> Iterator[ModelInput]:
    named = (*(("", tensor) for tensor in inputs.args), *inputs.kwargs.items())
    for name, tensor in named:
        yield ModelInput(name, tuple(tensor.shape), name_of(tensor.dtype))
