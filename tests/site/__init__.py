"""The documentation as it was built, looked at in a browser."""
