"""How model libraries name what they save: from the keys of a file to the names of a live model."""

from convsurgeon.integrations.units import Translation, Unit, translate

__all__ = ["Translation", "Unit", "translate"]
