"""Views of the values that the public functions return: terminal, JSON, Markdown, SVG."""

from convsurgeon.report.markdown import as_markdown
from convsurgeon.report.plans import show_plan
from convsurgeon.report.save import FORMATS, Report, check_format, save, show
from convsurgeon.report.swaps import show_restore, show_swap
from convsurgeon.report.verdicts import show_verdict

__all__ = [
    "FORMATS",
    "Report",
    "as_markdown",
    "check_format",
    "save",
    "show",
    "show_plan",
    "show_restore",
    "show_swap",
    "show_verdict",
]
