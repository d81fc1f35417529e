"""Loads the plugins of the test suite; fixtures stand in tests/."""

pytest_plugins = ("tests.conformance_plugin", "pytester")
