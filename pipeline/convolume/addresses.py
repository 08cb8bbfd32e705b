"""Addresses that processes listen on: which of them are this machine's alone."""

from __future__ import annotations

from ipaddress import ip_address

__all__ = ["LOOPBACK", "is_loopback"]

LOOPBACK = "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Say whether an address is this machine's alone.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "node7")]
    [True, True, True, False, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
