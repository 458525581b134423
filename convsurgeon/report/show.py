"""Any report, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsurgeon.plan import Plan

if TYPE_CHECKING:
    from rich.console import Console

    from convsurgeon.results import Report


def show(console: Console, report: Report) -> None:
    """Print a report; each view is imported when it is needed, since `scan` has to start fast."""
    if isinstance(report, Plan):
        _show_plan(console, report)
        return
    from convsurgeon.report.swaps import show_restore, show_swap
    from convsurgeon.report.verdicts import show_verdict
    from convsurgeon.results import RestoreReport, SwapReport
    from convsurgeon.timing import BenchReport

    if isinstance(report, SwapReport):
        show_swap(console, report)
    elif isinstance(report, RestoreReport):
        show_restore(console, report)
    elif isinstance(report, BenchReport):
        from convsurgeon.report.bench import show_bench

        show_bench(console, report)
    else:
        show_verdict(console, report)


def _show_plan(console: Console, plan: Plan) -> None:
    if any(file.silent for file in plan.files):
        from convsurgeon.report.explained import show_explained

        show_explained(console, plan)
        return
    from convsurgeon.report.plans import show_plan

    show_plan(console, plan)
