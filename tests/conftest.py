"""What holds for every test."""

from hypothesis import HealthCheck, settings

# A loaded machine is no fault of the code: no property is timed unless it says so itself.
settings.register_profile("yuheng", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("yuheng")
