"""No deadline per hypothesis example: on a shared machine the clock says nothing about the code."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
