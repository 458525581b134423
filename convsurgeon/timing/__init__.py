"""Time the forms of a layer side by side on this machine, and advise on the figures.

The values here need no torch; what runs layers stands in modules of their own.
"""

from convsurgeon.timing.advice import Advice, advise
from convsurgeon.timing.figures import Spread, Timing
from convsurgeon.timing.value import BenchFile, BenchReport, Environment, Setup, TimedLayer

__all__ = [
    "Advice",
    "BenchFile",
    "BenchReport",
    "Environment",
    "Setup",
    "Spread",
    "TimedLayer",
    "Timing",
    "advise",
]
