"""Settings that every test shares."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A shell lets its background jobs ignore Ctrl-C, and what they start ignores it too: the tests that
# send it would wait for nothing.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before torch is imported: workers side by side that wait for each other's threads take ten times
# as long for the small layers of the tests. Processes that a test starts inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The default profile draws the same examples every time, so that a red test stays red; a hunt for
# new ones is asked for by name: HYPOTHESIS_PROFILE=hunt pytest.
settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "hunt", parent=settings.get_profile("steady"), derandomize=False, max_examples=5000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(params=["one thread", "two threads"])
def either_writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let files be written by the thread that reads them, then by one of their own, however small.

    Returns:
        Whether they are read while they are written.
    """
    from convsurgeon.store import behind

    two = bool(request.param == "two threads")
    monkeypatch.setattr(behind, "ALONE", 0 if two else 1 << 60)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return two
