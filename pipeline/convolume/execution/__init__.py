"""Execution: how blocks are driven."""
