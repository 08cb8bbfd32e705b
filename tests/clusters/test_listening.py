"""What is listened on: loopback by every default command; elsewhere behind certificates, or by the user's word."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distributed import Client

from convolume.clusters import ClusterSettings, Task, local
from convolume.clusters._distributed import DistributedCluster
from convolume.testing.processes import LOOPBACK_ADDRESSES, listening_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sockets are listed in /proc")

ROOT = Path(__file__).resolve().parents[2]
ONE_WORKER = ClusterSettings(workers=1, threads_per_worker=1)
EVERYWHERE = "00000000"
WORKFLOW = """\
input: {path: "sample:mni152-t1", region: {z: [0, 24]}}
block: [1, 64, 64]
outputs: {smooth: {path: smooth.ome.zarr, chunks: [1, 64, 64], steps: [{gaussian: {sigma: 3}}]}}
"""


def watched(words: Iterable[str]) -> set[str]:
    """Run a command; return every address that it was seen to listen on."""
    command = [sys.executable, "-m", "convolume", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # noqa: S603 (our own)
    seen: set[str] = set()
    while process.poll() is None:
        seen |= set(listening_addresses(process.pid))
        time.sleep(0.02)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return seen


def test_default_commands_listen_on_loopback_only(tmp_path: Path) -> None:
    """A run without a configuration, with its dashboard and workers; the others listen on nothing."""
    (tmp_path / "smooth.yaml").write_text(WORKFLOW, encoding="utf-8")
    workflow = str(tmp_path / "smooth.yaml")
    assert watched(["plan", workflow]) == watched(["devices"]) == set()
    in_process = ["run", workflow, "--config", str(ROOT / "configs" / "in_process.yaml")]
    assert watched([*in_process, "--set", f"outputs.smooth.path={tmp_path}/first.ome.zarr"]) == set()
    seen = watched(["run", workflow])
    assert seen
    assert seen <= LOOPBACK_ADDRESSES


def addresses_of(settings: ClusterSettings) -> tuple[str, list[str]]:
    """Run a task on a cluster; return the scheduler's address, and what is listened on."""
    before = listening_addresses(os.getpid())
    with local.open_cluster(settings) as cluster:
        assert list(cluster.map_unordered(iter([Task("absolute", (0,), abs, (-1,))]))) == [1]
        now = listening_addresses(os.getpid())
        for address in before:
            now.remove(address)
        return cluster.client.scheduler_info()["address"], now


def test_by_the_users_word_everybody_is_let_in() -> None:
    """Scheduler, workers and pages."""
    address, listening = addresses_of(replace(ONE_WORKER, host="0.0.0.0", insecure=True))  # noqa: S104 (the test)
    assert address.startswith("tcp://")
    assert set(listening) == {EVERYWHERE}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str, str]:
    """Make a certificate that signs itself."""
    names = [str(tmp_path / name) for name in ("certificate.pem", "key.pem")]
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=convolume"
    subprocess.run([*command.split(), "-out", names[0], "-keyout", names[1]], check=True, capture_output=True)  # noqa: S603 (a fixed text)
    return names[0], names[0], names[1]


def test_certificates_let_in_who_has_one(certificate: tuple[str, str, str]) -> None:
    """Scheduler and workers are open to other machines; pages, which know no certificates, are not."""
    settings = replace(ONE_WORKER, host="0.0.0.0", tls=certificate)  # noqa: S104 (the test)
    address, listening = addresses_of(settings)
    assert address.startswith("tls://")
    assert EVERYWHERE in listening
    assert LOOPBACK_ADDRESSES & set(listening)
    with local.open_cluster(settings) as cluster:
        assert isinstance(cluster, DistributedCluster)
        port = cluster.client.scheduler_info()["address"].rpartition(":")[2]
        with pytest.raises(OSError, match=r"Timed out|expected|closed|Connect"):
            Client(f"tcp://127.0.0.1:{port}", timeout="2 s")
