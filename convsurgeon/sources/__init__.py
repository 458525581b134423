"""Where evidence comes from: the user, a model, a config. Each is read once into a speaker."""

from convsurgeon.sources.build import build
from convsurgeon.sources.config import ConfigSpeaker
from convsurgeon.sources.model import ModelSpeaker
from convsurgeon.sources.user import UserSpeaker

__all__ = ["ConfigSpeaker", "ModelSpeaker", "UserSpeaker", "build"]
