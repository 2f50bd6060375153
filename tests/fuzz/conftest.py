"""The profiles of the fuzz suite: see `test_readers`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

settings.register_profile(
    "short", max_examples=100, deadline=None, suppress_health_check=CHECKS, derandomize=True, database=None
)
# times 18 tests
settings.register_profile("long", max_examples=11_200, deadline=None, suppress_health_check=CHECKS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
