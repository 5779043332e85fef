from hypothesis import settings

settings.register_profile("patient")  # a loaded machine is no fault
settings.load_profile("patient")
