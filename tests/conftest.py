"""Settings of every test."""

from __future__ import annotations

from hypothesis import settings

# A timing never decides a test: machines are busy and differ.
settings.register_profile("sheily", deadline=None)
settings.load_profile("sheily")
