"""Settings that every test shares."""

import os

from hypothesis import HealthCheck, settings

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
