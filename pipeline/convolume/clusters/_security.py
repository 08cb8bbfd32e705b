"""Certificates by which scheduler, workers and client know each other."""

from __future__ import annotations

from distributed import Security

__all__ = ["security_of"]


def security_of(tls: tuple[str, str, str]) -> Security:
    """Return what lets in those alone whose certificate the authority has signed.

    Parameters
    ----------
    tls : tuple of str
        Files of authority, certificate and key.
    """
    authority, certificate, key = tls
    files = {
        f"tls_{who}_{what}": file
        for who in ("scheduler", "worker", "client")
        for what, file in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=authority, require_encryption=True, **files)
