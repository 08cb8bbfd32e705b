"""A configuration as a frozen model: where a run happens."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    PlainValidator,
    StrictBool,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from convolume.addresses import LOOPBACK, is_loopback, is_scheduler_address
from convolume.errors import InputError, did_you_mean
from convolume.planning.contradictions import STANDING, contradictions_of_config
from convolume.planning.models import Count, Part, PathText
from convolume.registry import member_names

__all__ = ["Config", "Tls"]

_BYTES = re.compile(r"\s*(\d{1,18}(?:\.\d*)?|\.\d+)\s*([kKMGT]i?)?B\s*")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def _memory(written: Any) -> int:
    match = _BYTES.fullmatch(written) if isinstance(written, str) else None
    if match:
        prefix = match[2] or ""
        written = round(float(match[1]) * (1024 if prefix.endswith("i") else 1000) ** _POWERS[prefix[:1].upper()])
    if not isinstance(written, int) or isinstance(written, bool) or written <= 0:
        message = f"{written!r} is not an amount of memory: write bytes, or a number and a unit (4 GB, 512 MiB)"
        raise InputError(message)
    return written


def _cluster(name: str) -> str:
    names = member_names("clusters")
    if name not in names:
        message = f"there is no kind of cluster {name!r}{did_you_mean(name, names)} (there are: {', '.join(names)})"
        raise InputError(message)
    return name


def _scheduler(address: str) -> str:
    if not is_scheduler_address(address):
        message = (
            f"{address!r} is not the address of a scheduler: write the one that `dask scheduler` prints, such as "
            "tcp://node7:8786, or tls://node7:8786 where it has certificates"
        )
        raise InputError(message)
    return address


def _device(written: Any) -> str | tuple[str, ...]:
    wishes = (written,) if isinstance(written, str) else written
    if not isinstance(wishes, (list, tuple)) or not wishes or not all(isinstance(w, str) and w for w in wishes):
        message = "write a part of a device's name, or a list of such wishes ([RTX, any])"
        raise InputError(message)
    return written if isinstance(written, str) else tuple(wishes)


class Tls(Part):
    """Certificates by which scheduler, workers and client know each other, as files in PEM format."""

    ca: PathText
    """The authority that both certificates are signed by; the certificate itself where it signs itself."""
    cert: PathText
    """The certificate."""
    key: PathText
    """Its private key."""


class Config(Part):
    """Where a run happens."""

    cluster: Annotated[StrictStr, AfterValidator(_cluster)] = "local"
    """Kind of cluster: a file in ``clusters/``."""
    scheduler: Annotated[StrictStr, AfterValidator(_scheduler)] | None = None
    """Address of the Dask scheduler that ``cluster: address`` joins."""
    workers: Count | None = None
    """Worker processes; what the machine has where none is named."""
    threads_per_worker: Count | None = None
    """Threads of each worker."""
    device: Annotated[str | tuple[str, ...], PlainValidator(_device)] | None = None
    """A part of a device's name, or a list of wishes; the fastest where none is named."""
    memory: Annotated[int, PlainValidator(_memory)] | None = None
    """Memory of all workers together in bytes; the YAML takes ``4 GB`` and ``512 MiB`` too."""
    dashboard: StrictBool = True
    """Whether Dask's dashboard is served."""
    tls: Tls | None = None
    """Certificates, where what passes between the processes is to be encrypted and nobody else let in."""
    insecure: StrictBool = False
    """Whether others may be let in without certificates: a Dask scheduler executes whatever it is sent."""
    host: StrictStr = LOOPBACK
    """The address of this machine that the processes listen on; others than loopback need `tls` or `insecure`."""

    @field_validator("host")
    @classmethod
    def _is_safe(cls, host: str, info: ValidationInfo) -> str:
        is_unused = info.data.get("cluster") == STANDING
        if is_unused or is_loopback(host) or info.data.get("tls") or info.data.get("insecure"):
            return host
        message = (
            f"{host} is reached from other machines, and whoever reaches a Dask scheduler can run any program here: "
            "give certificates (`tls: {ca: …, cert: …, key: …}`), or write `insecure: true` to let everybody in"
        )
        raise InputError(message)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for _, what in contradictions_of_config(self):
            kind = "contradiction"
            raise PydanticCustomError(kind, "{what}", {"what": what})
        return self
