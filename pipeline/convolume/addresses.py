"""Addresses that processes listen on: which of them are this machine's alone."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["LOOPBACK", "is_loopback", "is_scheduler_address"]

LOOPBACK = "127.0.0.1"

_PROTOCOLS = ("tcp", "tls")


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


def is_scheduler_address(text: str) -> bool:
    """Say whether a text is the address of a Dask scheduler: protocol, host and port, nothing else.

    Examples
    --------
    >>> [is_scheduler_address(text) for text in ("tcp://node7:8786", "tls://[::1]:8786", "node7:8786", "tcp://node7")]
    [True, True, False, False]
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    bare = f"{parts.scheme}://{parts.netloc}"
    return parts.scheme in _PROTOCOLS and text == bare and "@" not in bare and bool(parts.hostname and port)
