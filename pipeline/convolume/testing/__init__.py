"""Conformance suites and strategies for the four families; imported by no room."""
