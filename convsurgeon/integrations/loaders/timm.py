"""Loading through `create_model` of timm, from a local folder.

Read in version 1.0.31. timm rewrites what it reads with the model's own filter, and hands it to
torch's `load_state_dict`: strictly, unless the config names another number of classes than the
model has; then it drops the classifier first and logs what is missing. What it hands over is
compared here, since it returns nothing about it. A filter that reshapes a weight wrongly is not
seen here, for the tensor has the right name and shape then, but by `same.differences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from convsurgeon.integrations.loaders.folder import FileNames, Place, laid_out
from convsurgeon.integrations.loaders.loaded import Attempt
from convsurgeon.integrations.loaders.refusal import refusal
from convsurgeon.sources.builders.timm import installed, of_config
from convsurgeon.sources.model import need_torch
from convsurgeon.store import Checkpoint

_FILES = FileNames("model.safetensors")
_UNHEARD = "timm loads this model in a way of its own: nobody knows what it left out"


def load(checkpoint: Checkpoint, config: Mapping[str, Any], place: Place, where: str) -> Attempt:
    """Load a checkpoint into the architecture that its config names.

    Args:
        checkpoint: its file.
        config: its `config.json`, as timm writes it for the hub.
        place: puts the weights into the folder that the library loads.
        where: the config, for errors.

    Raises:
        ModelError: CS062, see `refusal`; or the checkpoint has shards.
    """
    timm = installed(where)
    source = f"timm {timm.__version__}: {config.get('architecture')}"
    with laid_out(checkpoint, _FILES, config, place) as folder, _overheard(source) as heard:
        try:
            model = timm.create_model(f"local-dir:{folder}", pretrained=True)
        except Exception as error:  # noqa: BLE001 (a library may raise anything)
            wrong = [one for one in heard if one.missing or one.unexpected or one.mismatched]
            if wrong:  # which is what torch says no to, in one long line
                return wrong[-1]
            build = partial(of_config, config, where)
            return refusal(error, folder, Attempt(source, None), build)
    last = heard[-1] if heard else Attempt(source, None, failed=(_UNHEARD,))
    return replace(last, model=model.eval())


@contextmanager
def _overheard(source: str) -> Iterator[list[Attempt]]:
    """Collect what torch is asked to load, compared with what the module has."""
    module = need_torch().nn.Module
    known, heard = module.load_state_dict, []

    def listen(self: Any, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        heard.append(_compared(source, state_dict, self.state_dict()))
        return known(self, state_dict, *args, **options)

    module.load_state_dict = listen
    try:
        yield heard
    finally:
        module.load_state_dict = known


def _compared(source: str, file: Mapping[str, Any], own: Mapping[str, Any]) -> Attempt:
    shapes = [
        (name, tuple(file[name].shape), tuple(own[name].shape)) for name in file if name in own
    ]
    return Attempt(
        source,
        None,
        missing=tuple(name for name in own if name not in file),
        unexpected=tuple(name for name in file if name not in own),
        mismatched=tuple((name, theirs, ours) for name, theirs, ours in shapes if theirs != ours),
    )
