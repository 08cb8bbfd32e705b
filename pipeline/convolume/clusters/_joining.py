"""A client of a Dask scheduler that runs already, or the reason why there can be none."""

from __future__ import annotations

import socket
import ssl
import sys
import warnings
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distributed import Client
from distributed.versions import VersionMismatchWarning

from convolume.clusters._security import security_of
from convolume.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["joined"]

# A scheduler may have been started a moment ago.
_PATIENCE_S, _LOOK_EVERY_S = 12.0, 0.25
# What answers at once is given so long for the rest.
_LEAST_S = 5.0
_LENGTH_BYTES, _LONGEST_GREETING_BYTES = 8, 2**20


def joined(address: str, tls: tuple[str, str, str] | None) -> Client:
    """Return a client of the scheduler at an address.

    Raises
    ------
    InputError
        Says what was found there instead of a scheduler that lets this client in, and what to do.
    """
    context = None if tls is None else _context(tls)
    until = monotonic() + _PATIENCE_S
    _wait_for_answer(address, context, until)
    try:
        with warnings.catch_warnings():
            # Versions are compared, and told, by who joins.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            return Client(
                address,
                security=None if tls is None else security_of(tls),
                timeout=max(_LEAST_S, until - monotonic()),
            )
    except (OSError, ValueError) as error:
        message = (
            f"{address}: the scheduler lets this client not in ({_deepest(error)}): is it of a version near to this "
            "one's (`pip show distributed`)?"
        )
        raise InputError(message) from error


def _context(tls: tuple[str, str, str]) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = security_of(tls).get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        # Which of the three it is, the system does not say.
        message = (
            f"the files of `tls` ({', '.join(tls)}) cannot be used: {error}; they are PEM, the key without a password"
        )
        raise InputError(message) from error
    return context


def _wait_for_answer(address: str, context: ssl.SSLContext | None, until: float) -> None:
    """Return when a scheduler answers at an address, and trusts and is trusted where there is a context."""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 0
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(_LOOK_EVERY_S, until - monotonic())) as answered:
                talk = answered if context is None else context.wrap_socket(answered, server_hostname=host)
                with talk:
                    _check_greeting(talk, until)
        except OSError as error:
            if monotonic() > until or isinstance(error, (socket.gaierror, ssl.SSLError, _StrangerError)):
                raise InputError(_told(address, host, port, error)) from error
            sleep(_LOOK_EVERY_S)
        else:
            return


class _StrangerError(OSError):
    """What answers does not greet as Dask does."""


def _check_greeting(talk: socket.socket, until: float) -> None:
    """Refuse what is not Dask: a client waits for its greeting without an end."""
    talk.settimeout(max(_LEAST_S, until - monotonic()))
    try:
        with talk.makefile("rb") as received:
            length = received.read(_LENGTH_BYTES)
    except ssl.SSLError:
        raise
    except OSError as error:
        raise _StrangerError from error
    # Dask's messages begin with their length; a text would be a number beyond all bounds.
    if len(length) < _LENGTH_BYTES or int.from_bytes(length, sys.byteorder) > _LONGEST_GREETING_BYTES:
        raise _StrangerError


def _told(address: str, host: str, port: int, error: OSError) -> str:
    """Say what is at an address instead of a scheduler, and what to do."""
    if isinstance(error, socket.gaierror):
        return f"{address}: no machine of the name {host!r} is known here ({error.strerror}): check its name"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or error.reason
        return (
            f"{address}: its certificate is not signed by the authority of `tls: {{ca: …}}` ({why}): give the file "
            "that the scheduler was started with (`--tls-ca-file`)"
        )
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return (
            f"{address}: the scheduler does not accept this certificate ({error.reason}): give one that its authority "
            "has signed (`dask scheduler --tls-ca-file`)"
        )
    if isinstance(error, _StrangerError):
        return (
            f"{address}: something listens there, and does not greet as a Dask scheduler does: check the port; one "
            "that has certificates is joined by tls:// and `tls: {ca: …, cert: …, key: …}`"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"{address}: what answers there does not speak TLS ({error.reason or error}): start the scheduler with "
            "certificates (`dask scheduler --protocol tls …`), or write tcp:// and leave `tls` out"
        )
    if isinstance(error, ConnectionRefusedError):
        what, check = "the connection is refused, nothing listens there", "check the port"
    elif isinstance(error, TimeoutError):
        what, check = f"nothing answers within {_PATIENCE_S:g} s", "check the address, and firewalls on the way"
    else:
        what, check = f"it cannot be reached ({error.strerror or error})", "check the address"
    return f"{address}: {what}: start a scheduler on that machine (`dask scheduler --port {port}`), or {check}"


def _deepest(error: BaseException) -> str:
    """Return the words of the first cause that has any."""
    said = [str(cause) for cause in _causes(error) if str(cause)]
    return said[-1] if said else type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
