"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

from datasets.confinement.process import REQUIRED_VARIABLE, kernel_support

# A loaded machine is no fault of the code: no property is timed unless it says so itself.
settings.register_profile("yuheng", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("yuheng")

# A kernel without Landlock still runs the other tests; those of confinement itself say why they are skipped.
if not kernel_support().is_complete:
    os.environ.setdefault(REQUIRED_VARIABLE, "false")
