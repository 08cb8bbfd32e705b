"""Configurations: those that are shipped can be read, and mistakes are told as a workflow's are."""

from __future__ import annotations

from pathlib import Path

import pytest

from convolume.errors import InputError
from convolume.planning.spec import Config, read_config
from convolume.registry import member_names

CLUSTERS = ", ".join(member_names("clusters"))
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_there_are_configurations() -> None:
    """A laptop, a workstation, this process and a scheduler of others are told."""
    assert {path.stem for path in CONFIGS} >= {"in_process", "laptop", "standing_scheduler", "workstation"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_reads(path: Path) -> None:
    """Each names a kind of cluster that there is, and opens with a sentence."""
    assert read_config(path).model.cluster in member_names("clusters")
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_values_arrive() -> None:
    """What is written is what is read."""
    by_name = {path.stem: read_config(path).model for path in CONFIGS}
    assert by_name["in_process"] == Config(cluster="in_process", threads_per_worker=2, dashboard=False)
    assert by_name["workstation"].memory == 64_000_000_000
    assert by_name["standing_scheduler"] == Config(cluster="address", scheduler="tcp://127.0.0.1:8786")


def test_none_is_needed() -> None:
    """Without a file the defaults hold, and overrides work on them."""
    assert read_config().model == Config()
    assert read_config(overrides=["workers=3", "device=[RTX, any]"]).model == Config(workers=3, device=("RTX", "any"))


def test_configurations() -> None:
    """Memory takes units; mistakes are told as a workflow's are."""
    amounts = {"4 GB": 4 * 10**9, "512 MiB": 2**29, "1.5GiB": 3 * 2**29, "100 kB": 10**5, "77 B": 77, "1000": 1000}
    for text, memory_bytes in amounts.items():
        assert read_config(f"memory: {text}\n").model.memory == memory_bytes
    with pytest.raises(InputError) as caught:
        read_config("cluster: locl\nmemory: 4 gigs\nworkers: 0\ndevice: []\ndashbord: true\nthreads_per_worker: 1e0\n")
    assert str(caught.value).splitlines() == [
        "6 mistakes in <configuration>:",
        (
            "<configuration>:1:10: cluster: there is no kind of cluster 'locl'; did you mean 'local'? "
            f"(there are: {CLUSTERS})"
        ),
        (
            "<configuration>:2:9: memory: '4 gigs' is not an amount of memory: "
            "write bytes, or a number and a unit (4 GB, 512 MiB)"
        ),
        "<configuration>:3:10: workers: must be at least 1, not 0",
        "<configuration>:4:9: device: write a part of a device's name, or a list of such wishes ([RTX, any])",
        (
            "<configuration>:5:1: dashbord: this key is not known; did you mean 'dashboard'? "
            "(there are: cluster, scheduler, workers, threads_per_worker, device, memory, dashboard, tls, insecure, "
            "host)"
        ),
        "<configuration>:6:21: threads_per_worker: must be a whole number, not 1.0",
    ]


def test_open_addresses_need_certificates_or_a_word() -> None:
    """Others than loopback are refused at their place; certificates are found beside the file that names them."""
    with pytest.raises(InputError) as caught:
        read_config("cluster: local\nhost: 0.0.0.0\n")
    assert str(caught.value).splitlines()[1] == (
        "<configuration>:2:7: host: 0.0.0.0 is reached from other machines, and whoever reaches a Dask scheduler can "
        "run any program here: give certificates (`tls: {ca: …, cert: …, key: …}`), or write `insecure: true` to let "
        "everybody in"
    )
    for written in ("host: 127.0.0.2", "host: '::1'", "{host: 0.0.0.0, insecure: true}"):
        assert read_config(written + "\n").model.host != "127.0.0.1"
    certified = read_config("host: 0.0.0.0\ntls: {ca: ca.pem, cert: c.pem, key: k.pem}\n").model
    assert certified.tls is not None
    assert not certified.insecure


def test_certificates_are_found_beside_their_file(tmp_path: Path) -> None:
    """As all paths of a YAML file are."""
    file = tmp_path / "where.yaml"
    file.write_text("tls: {ca: ca.pem, cert: c.pem, key: k.pem}\n", encoding="utf-8")
    certified = read_config(file).model
    assert certified.tls is not None
    assert certified.tls.key == str(tmp_path / "k.pem")


def mistakes_in(text: str) -> list[str]:
    """Return what is wrong with a configuration, without its first line."""
    with pytest.raises(InputError) as caught:
        read_config(text)
    return [line.removeprefix("<configuration>:") for line in str(caught.value).splitlines()[1:]]


def test_a_scheduler_and_how_it_is_joined_belong_together() -> None:
    """One without the other is told where it stands, and so is what is for processes that a run starts itself."""
    assert mistakes_in("cluster: local\nscheduler: tcp://node7:8786\n") == [
        "2:12: scheduler: a scheduler that runs already is joined by `cluster: address`; write it, too"
    ]
    assert mistakes_in("cluster: address\n") == [
        "1:10: cluster: address joins a Dask scheduler that runs already: say which (`scheduler: tcp://node7:8786`)"
    ]
    own = (
        "cluster: address\nscheduler: tcp://node7:8786\nworkers: 2\nthreads_per_worker: 2\nmemory: 4 GB\n"
        "dashboard: false\ninsecure: true\nhost: 0.0.0.0\n"
    )
    keys = {3: (10, "workers"), 4: (21, "threads_per_worker"), 5: (9, "memory"), 6: (12, "dashboard")}
    keys |= {7: (11, "insecure"), 8: (7, "host")}
    assert mistakes_in(own) == [
        f"{line}:{column}: {key}: is for processes that a run starts; those of `cluster: address` run already: leave "
        "it out"
        for line, (column, key) in keys.items()
    ]


def test_protocol_and_certificates_belong_together() -> None:
    """As the scheduler was started, so it is joined."""
    assert mistakes_in("cluster: address\nscheduler: tls://node7:8786\n") == [
        "2:12: scheduler: tls:// needs certificates: give them (`tls: {ca: …, cert: …, key: …}`)"
    ]
    files = "tls: {ca: ca.pem, cert: c.pem, key: k.pem}\n"
    assert mistakes_in(f"cluster: address\nscheduler: tcp://node7:8786\n{files}") == [
        "3:6: tls: tcp:// takes no certificates: write tls:// in `scheduler`, or leave `tls` out"
    ]
    assert read_config(f"cluster: address\nscheduler: tls://node7:8786\n{files}").model.tls is not None


@pytest.mark.parametrize(
    "address",
    [
        *("node7", "node7:8786", "tcp://node7", "tcp://node7:0", "tcp://node7:99999", "http://node7:8786"),
        *("tcp://:8786", "tcp://node7:8786/status", "tcp://me@node7:8786", "tcp://node7:port", "tcp://[::1:8786"),
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    """Protocol, host and port, nothing else."""
    assert mistakes_in(f"cluster: address\nscheduler: '{address}'\n") == [
        (
            f"2:12: scheduler: {address!r} is not the address of a scheduler: write the one that `dask scheduler` "
            "prints, such as tcp://node7:8786, or tls://node7:8786 where it has certificates"
        )
    ]
