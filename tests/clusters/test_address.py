"""Runs on the workers of a scheduler of others: as in this process, refused in plain words, and nothing is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import zarr
from distributed import Client, Security

import convolume
from convolume.clusters import ClusterSettings, Task, address
from convolume.clusters._versions import checked_versions
from convolume.errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

SOON_S = 60.0
IN_PROCESS = {"cluster": "in_process", "device": "numpy"}
BLOCK = [16, 32, 32]
HERE = str(Path(convolume.__path__[0]).parent)
PACKAGE = str(version("convolume"))


@dataclass
class Standing:
    """A scheduler and workers, each a process of its own, in a folder of their own."""

    folder: Path
    tls: tuple[str, str, str] | None = None
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_scheduler(self) -> None:
        """Start it on loopback, on a port that the system chooses."""
        file = self.folder / "scheduler.json"
        words = ["--port", "0", "--scheduler-file", str(file), "--dashboard-address", "127.0.0.1:0"]
        # Whatever becomes of this process, they go.
        words += ["--idle-timeout", "300"]
        self._start(["-m", "distributed.cli.dask_scheduler", *words, *self._protocol()])
        until = time.monotonic() + SOON_S
        while not self.address:
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)
            if file.exists() and file.read_text(encoding="utf-8").endswith("}"):
                self.address = json.loads(file.read_text(encoding="utf-8"))["address"]

    def start_worker(
        self,
        *words: str,
        before: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start one, and wait until the scheduler knows of it."""
        known = self.workers()
        named = [
            "--nthreads",
            "1",
            "--death-timeout",
            "60",
            "--dashboard-address",
            "127.0.0.1:0",
            "--local-directory",
            str(self.folder),
        ]
        command = [*before, "-m", "distributed.cli.dask_worker", self.address, *named, *self._files(), *words]
        self._start(command, environment or {}, folder)
        until = time.monotonic() + SOON_S
        while len(self.workers()) == len(known):
            assert time.monotonic() < until, self.said()
            time.sleep(0.1)

    def workers(self) -> list[str]:
        """Return the addresses of those that are there."""
        files = dict(zip(("tls_ca_file", "tls_client_cert", "tls_client_key"), self.tls or (), strict=False))
        security = Security(require_encryption=True, **files) if files else None
        with Client(self.address, security=security, set_as_default=False) as client:
            return list(client.scheduler_info(n_workers=-1)["workers"])

    def config(self, **more: Any) -> dict[str, Any]:
        """Return a configuration that joins them; NumPy is quickest to start."""
        tls = {"tls": dict(zip(("ca", "cert", "key"), self.tls, strict=True))} if self.tls else {}
        return {"cluster": "address", "scheduler": self.address, "device": "numpy", **tls, **more}

    def said(self) -> str:
        """Return what they wrote."""
        return "\n".join(file.read_text(encoding="utf-8") for file in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """Stop them all: nannies stop their workers where they are asked to, and what is left is killed."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start(
        self, words: list[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter)
                [sys.executable, *words, "--host", "127.0.0.1"],
                env={**os.environ, "PYTHONPATH": HERE, **(environment or {})},
                cwd=folder or self.folder,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.processes.append(process)

    def _protocol(self) -> list[str]:
        return ["--protocol", "tls", *self._files()] if self.tls else []

    def _files(self) -> list[str]:
        names = ("--tls-ca-file", "--tls-cert", "--tls-key")
        return [word for pair in zip(names, self.tls or (), strict=False) for word in pair]


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[Standing]:
    """Start a scheduler without workers."""
    folder = tmp_path / "standing"
    folder.mkdir()
    started = Standing(folder)
    try:
        started.start_scheduler()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Start a scheduler and two workers, one with a nanny, for the tests that leave them as they are."""
    started = Standing(tmp_path_factory.mktemp("standing"))
    try:
        started.start_scheduler()
        started.start_worker("--nanny", "--memory-limit", "1 GiB")
        started.start_worker("--no-nanny", "--memory-limit", "2 GiB", "--nthreads", "3")
        yield started
    finally:
        started.stop()


def write_image(folder: Path) -> npt.NDArray[np.uint16]:
    """Write a small volume, and return it."""
    image = np.random.default_rng(0).integers(0, 60000, (40, 64, 64), dtype=np.uint16)
    zarr.create_array(folder / "in.zarr", data=image, chunks=(16, 32, 32))
    return image


def workflow(folder: str | Path, name: str = "out.ome.zarr", sigma: float = 1.5) -> dict[str, Any]:
    """Return a workflow whose input and output lie in a folder."""
    output = {"path": f"{folder}/{name}", "chunks": BLOCK, "steps": [{"gaussian": {"sigma": sigma}}, "laplace"]}
    return {"input": {"path": f"{folder}/in.zarr", "axes": "zyx"}, "outputs": {"out": output}, "block": BLOCK}


def voxels(path: Path) -> npt.NDArray[Any]:
    """Return the finest level of an output."""
    return np.asarray(zarr.open_array(path / "0", mode="r")[...])


def refusal(where: Mapping[str, Any], what: dict[str, Any]) -> str:
    """Return why a run is refused; nothing is left of it."""
    with pytest.raises(InputError) as caught:
        convolume.run(what, config=where)
    return str(caught.value)


def test_as_in_this_process(shared: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, twice, with relative paths too; scheduler and workers are there before and after."""
    write_image(tmp_path)
    convolume.run(workflow(tmp_path, "here.ome.zarr"), config=IN_PROCESS)
    before = sorted(shared.workers())
    record = convolume.run(workflow(tmp_path, "there.ome.zarr"), config=shared.config())
    monkeypatch.chdir(tmp_path)
    convolume.run(workflow(".", "again.ome.zarr"), config=shared.config())
    for name in ("there.ome.zarr", "again.ome.zarr"):
        np.testing.assert_array_equal(voxels(tmp_path / name), voxels(tmp_path / "here.ome.zarr"))
    assert sorted(shared.workers()) == before
    assert len(before) == 2
    assert record.block_count == 12
    assert convolume.runner.verify("again.ome.zarr", config=shared.config()).is_whole


def test_what_the_plan_says_of_them(shared: Standing, tmp_path: Path) -> None:
    """The fewest threads, the least memory, less what a worker pauses at; nothing is left behind."""
    write_image(tmp_path)
    planned = convolume.plan(workflow(tmp_path), config=shared.config())
    resources = planned.resources
    assert (resources.cluster, resources.workers, resources.threads_per_worker) == ("address", 2, 1)
    assert resources.worker_memory_bytes == int(2**30 * 0.8)
    assert resources.worker_held_bytes
    assert "workers pause at 80% of their memory" in planned.notes[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def test_too_little_memory(shared: Standing, tmp_path: Path) -> None:
    """What helps is said of workers that others start."""
    zarr.create_array(tmp_path / "in.zarr", shape=[2048] * 3, chunks=[256] * 3, dtype="uint8")
    huge = workflow(tmp_path) | {"block": [2048] * 3}
    huge["input"]["missing"] = "fill"
    del huge["outputs"]["out"]["chunks"]
    words = refusal(shared.config(), huge)
    assert re.search(r"Ways out: workers with \d+ MiB each \(`dask worker --memory-limit`\); smaller blocks", words)


def test_command_line(shared: Standing, tmp_path: Path) -> None:
    """From a file, at whose place what is wrong is told."""
    write_image(tmp_path)
    (tmp_path / "w.yaml").write_text(json.dumps(workflow(".")), encoding="utf-8")
    where = tmp_path / "where.yaml"
    where.write_text(f"cluster: address\nscheduler: {shared.address}\ndevice: numpy\n", encoding="utf-8")
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "convolume",
        "run",
        str(tmp_path / "w.yaml"),
        "--config",
        str(where),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own program)
    assert (done.returncode, done.stderr) == (0, "")
    convolume.run(workflow(tmp_path, "here.ome.zarr"), config=IN_PROCESS)
    np.testing.assert_array_equal(voxels(tmp_path / "out.ome.zarr"), voxels(tmp_path / "here.ome.zarr"))
    where.write_text(f"cluster: address\nscheduler: {shared.address}\ndevice: RTX 9\n", encoding="utf-8")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own program)
    assert done.returncode == InputError.exit_code
    assert f"where.yaml:3:9: device: worker {shared.address[:16]}" in done.stderr
    assert "no device is like 'RTX 9' (asked for); there are: " in done.stderr


def test_a_worker_that_lost_its_device_gets_nothing_more(shared: Standing) -> None:
    """It is not this run's to stop: others do the work, as long as there are any."""
    with address.open_cluster(ClusterSettings(scheduler=shared.address)) as cluster:
        one, other = shared.workers()
        assert cluster.retire_worker(one)
        tasks = (Task("where", (number,), os.getpid, ()) for number in range(20))
        pids = set(cluster.map_unordered(tasks))
        assert pids == {cluster.client.run(os.getpid)[other]}
        assert not cluster.retire_worker(other)
    assert sorted(shared.workers()) == sorted([one, other])


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who shows one is let in; who has none, or one of another authority, is told what is wrong."""
    files = {name: certificate(tmp_path, name) for name in ("ours", "other")}
    write_image(tmp_path)
    folder = tmp_path / "standing"
    folder.mkdir()
    started = Standing(folder, files["ours"])
    try:
        started.start_scheduler()
        started.start_worker("--no-nanny")
        assert started.address.startswith("tls://")
        convolume.run(workflow(tmp_path), config=started.config())
        convolume.run(workflow(tmp_path, "here.ome.zarr"), config=IN_PROCESS)
        np.testing.assert_array_equal(voxels(tmp_path / "out.ome.zarr"), voxels(tmp_path / "here.ome.zarr"))
        others = dict(zip(("ca", "cert", "key"), files["other"], strict=True))
        words = refusal(started.config(tls=others), workflow(tmp_path, "no.ome.zarr"))
        assert "its certificate is not signed by the authority of `tls: {ca: …}` (self-signed certificate)" in words
        words = refusal(started.config(tls={**others, "ca": files["ours"][0]}), workflow(tmp_path, "no.ome.zarr"))
        assert "the scheduler does not accept this certificate (TLSV1_ALERT_UNKNOWN_CA): give one that" in words
        monkeypatch.setattr("convolume.clusters._joining._PATIENCE_S", 0.5)
        monkeypatch.setattr("convolume.clusters._joining._LEAST_S", 0.5)
        bare = {"cluster": "address", "scheduler": started.address.replace("tls", "tcp")}
        words = refusal(bare, workflow(tmp_path, "no.ome.zarr"))
        assert (
            "does not greet as a Dask scheduler does: check the port; one that has certificates is joined by" in words
        )
        words = refusal(started.config(tls={**others, "key": files["ours"][2]}), workflow(tmp_path, "no.ome.zarr"))
        assert "cannot be used: " in words
    finally:
        started.stop()


def certificate(folder: Path, name: str) -> tuple[str, str, str]:
    """Make a certificate that signs itself; return authority, certificate and key."""
    names = [str(folder / f"{name}-{part}.pem") for part in ("certificate", "key")]
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN="
    words = [*f"{command}{name}".split(), "-out", names[0], "-keyout", names[1]]
    subprocess.run(words, check=True, capture_output=True)  # noqa: S603 (a fixed text)
    return names[0], names[0], names[1]


def test_nothing_listens_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address, what failed, and what to do."""
    monkeypatch.setattr("convolume.clusters._joining._PATIENCE_S", 0.5)
    write_image(tmp_path)
    with socket.socket() as taken:
        # Bound, and not listened on: nobody else gets it.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        words = refusal({"cluster": "address", "scheduler": f"tcp://127.0.0.1:{port}"}, workflow(tmp_path))
        assert words.splitlines()[1] == (
            f"scheduler: tcp://127.0.0.1:{port}: the connection is refused, nothing listens there: start a scheduler "
            f"on that machine (`dask scheduler --port {port}`), or check the port"
        )
    words = refusal({"cluster": "address", "scheduler": "tcp://nowhere.invalid:8786"}, workflow(tmp_path))
    assert "tcp://nowhere.invalid:8786: no machine of the name 'nowhere.invalid' is known here" in words


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"], ids=["silent", "another protocol"])
def test_something_else_listens_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes) -> None:
    """A client of distributed would wait for ever."""
    monkeypatch.setattr("convolume.clusters._joining._PATIENCE_S", 0.5)
    monkeypatch.setattr("convolume.clusters._joining._LEAST_S", 0.5)
    write_image(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as stranger, ThreadPoolExecutor(1) as pool:
        talking = pool.submit(lambda: stranger.accept()[0])
        talking.add_done_callback(lambda done: done.result().sendall(greeting))
        place = f"tcp://127.0.0.1:{stranger.getsockname()[1]}"
        words = refusal({"cluster": "address", "scheduler": place}, workflow(tmp_path))
        talking.result().close()
        assert f"{place}: something listens there, and does not greet as a Dask scheduler does: check the port" in words


def test_no_workers(standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that starts one is told."""
    monkeypatch.setattr(address, "_PATIENCE_S", 0.5)
    write_image(tmp_path)
    words = refusal(standing.config(), workflow(tmp_path))
    assert f"the scheduler has no workers: start some (`dask worker {standing.address}`) and run again" in words
    assert [path.name for path in tmp_path.iterdir() if path != standing.folder] == ["in.zarr"]


def test_a_worker_with_another_version(standing: Standing, tmp_path: Path) -> None:
    """Told with its address, both versions, and the command that mends it."""
    write_image(tmp_path)
    metadata = tmp_path / "site" / "convolume-0.0.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: convolume\nVersion: 0.0.9\n", encoding="utf-8")
    standing.start_worker("--no-nanny", environment={"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{HERE}"})
    (there,) = standing.workers()
    assert refusal(standing.config(), workflow(tmp_path)).splitlines()[1] == (
        f"scheduler: worker {there} has convolume 0.0.9, and this process {PACKAGE} "
        f"(`pip install convolume=={PACKAGE}` there): give all of them the same environment, and start them again"
    )


def test_a_worker_without_the_package(standing: Standing, tmp_path: Path) -> None:
    """One that has everything else."""
    write_image(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if "convolume" not in entry.name:
                (site / entry.name).symlink_to(entry)
    # Without `site` it finds nothing else, links to this repository among it.
    standing.start_worker("--no-nanny", before=("-S",), environment={"PYTHONPATH": str(site)})
    (there,) = standing.workers()
    words = refusal(standing.config(), workflow(tmp_path))
    assert f"convolume is not installed for worker {there} (`pip install convolume=={PACKAGE}` there)" in words


@pytest.mark.skipif(sys.platform != "linux", reason="one path with two meanings is made by /proc")
def test_a_worker_that_sees_other_files(standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that is not there for it, or is another one, and an output that would be written elsewhere."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    write_image(mine)
    standing.start_worker("--no-nanny", folder=theirs)
    (there,) = standing.workers()
    monkeypatch.chdir(mine)
    monkeypatch.setattr("convolume.execution.standing._PATIENCE_S", 0.5)
    shared = "input and outputs must lie where every worker finds them under the same path, as on a shared file system"
    own = "/proc/self/cwd"
    words = refusal(standing.config(), workflow(own))
    assert re.search(
        rf"input\.path: {own}/in\.zarr: worker {there} does not see the same image there \(.+\): {shared}$", words
    )
    zarr.create_array(theirs / "in.zarr", data=np.zeros((40, 64, 64), np.float32), chunks=(16, 32, 32))
    words = refusal(standing.config(), workflow(own))
    assert "(what lies there has other metadata, or files of other sizes)" in words
    seen = workflow(own)
    seen["input"]["path"] = str(mine / "in.zarr")
    words = refusal(standing.config(), seen)
    assert words.endswith(
        f"outputs.out.path: {own}/out.ome.zarr: worker {there} cannot write there (a file that was just written there "
        f"is not seen): {shared}"
    )
    assert [path.name for path in mine.iterdir()] == ["in.zarr"]


def test_the_workers_devices_count(standing: Standing, tmp_path: Path) -> None:
    """What their own variables say, where the configuration says nothing; not two different ones."""
    write_image(tmp_path)
    where = {"cluster": "address", "scheduler": standing.address}
    standing.start_worker("--no-nanny", environment={"CONVOLUME_DEVICE": "numpy"})
    planned = convolume.plan(workflow(tmp_path), config=where)
    assert planned.device.backend == "numpy"
    assert planned.device_reason == "like 'numpy', by the variable CONVOLUME_DEVICE"
    standing.start_worker("--no-nanny", environment={"CONVOLUME_DEVICE": "any"})
    words = refusal(where, workflow(tmp_path))
    assert "the workers would take different devices: worker tcp://127.0.0.1:" in words
    assert words.endswith("; name one that all of them have (`device:`)")
    # This process has none of the workers' device where it finds no driver.
    (tmp_path / "w.yaml").write_text(json.dumps(workflow(".")), encoding="utf-8")
    words = ["--set", "cluster=address", "--set", f"scheduler={standing.address}", "--set", "device=opencl"]
    done = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-m", "convolume", "plan", str(tmp_path / "w.yaml"), *words],
        env={**os.environ, "OCL_ICD_VENDORS": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == InputError.exit_code
    assert "and this machine has none of it to plan with (it has " in done.stderr


def begun(folder: Path, where: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """Start a run of 256 blocks as a process of its own; returns when some of them are done."""
    rng = np.random.default_rng(1)
    zarr.create_array(folder / "in.zarr", data=rng.random((256, 128, 128), dtype=np.float32), chunks=(16, 32, 32))
    (folder / "w.yaml").write_text(json.dumps(workflow(folder, sigma=6)), encoding="utf-8")
    (folder / "where.yaml").write_text(json.dumps(where), encoding="utf-8")
    names = [str(folder / name) for name in ("w.yaml", "where.yaml")]
    command = [sys.executable, "-m", "convolume", "run", names[0], "--config", names[1]]
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1 s"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603 (our own program)
    until = time.monotonic() + SOON_S
    while not list((folder / "out.ome.zarr.convolume").glob("*.marks")):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail("no block was done")
        time.sleep(0.02)
    time.sleep(0.3)
    return process


def check_resumed(folder: Path, where: Mapping[str, Any]) -> None:
    """Go on, and compare with an undisturbed run."""
    convolume.run(workflow(folder, "here.ome.zarr", sigma=6), config=IN_PROCESS)
    record = convolume.run(workflow(folder, sigma=6), config=where)
    assert any(re.match(r"resumed: [1-9]\d* of 256 blocks", note) for note in record.notes), record.notes
    np.testing.assert_array_equal(voxels(folder / "out.ome.zarr"), voxels(folder / "here.ome.zarr"))


def test_a_client_that_is_killed(shared: Standing, tmp_path: Path) -> None:
    """The next one goes on with what the workers did for it."""
    process = begun(tmp_path, shared.config())
    process.kill()
    process.wait()
    check_resumed(tmp_path, shared.config())


def test_a_scheduler_that_is_killed(standing: Standing, tmp_path: Path) -> None:
    """The run ends with an error; with another scheduler it goes on with what was done."""
    standing.start_worker("--no-nanny")
    process = begun(tmp_path, standing.config())
    standing.processes[0].kill()
    assert process.wait(60) == RunError.exit_code
    standing.stop()
    standing.address = ""
    (standing.folder / "scheduler.json").unlink(missing_ok=True)
    standing.start_scheduler()
    standing.start_worker("--no-nanny")
    check_resumed(tmp_path, standing.config())


def test_a_nanny_that_is_killed(standing: Standing, tmp_path: Path) -> None:
    """Its worker goes with it; the run goes on with the other, and ends well or is gone on with."""
    standing.start_worker("--nanny")
    standing.start_worker("--no-nanny")
    process = begun(tmp_path, standing.config())
    standing.processes[1].kill()
    if process.wait(120) == 0:
        convolume.run(workflow(tmp_path, "here.ome.zarr", sigma=6), config=IN_PROCESS)
        np.testing.assert_array_equal(voxels(tmp_path / "out.ome.zarr"), voxels(tmp_path / "here.ome.zarr"))
    else:
        check_resumed(tmp_path, standing.config())


def test_a_scheduler_that_is_gone(standing: Standing) -> None:
    """A run that has lost it ends, and says so."""
    standing.start_worker("--no-nanny")

    def tasks() -> Iterator[Task]:
        yield from (Task("sleep", (number,), time.sleep, (0.1,)) for number in range(20))
        standing.processes[0].kill()
        yield from (Task("sleep", (number,), time.sleep, (0.1,)) for number in range(20, 1000))

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1 s"}),
        address.open_cluster(ClusterSettings(scheduler=standing.address)) as cluster,
        pytest.raises(RunError, match=r"^the connection to the scheduler was lost: see whether it still runs"),
    ):
        list(cluster.map_unordered(tasks()))


def told(here: Mapping[str, str | None], there: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what distributed says of versions, with a difference."""
    usual = dict.fromkeys(("dask", "distributed", "tensorstore", "zarr", "pyopencl"), "3.1.0")
    usual |= {"python": "3.11.7.final.0", "numpy": "2.4.6", "convolume": "0.1.0"}
    workers = {f"tcp://node{number}:1": {"packages": {**usual, **there}} for number in (1, 2)}
    return {"client": {"packages": {**usual, **here}}, "workers": workers}


def test_versions_that_are_the_same() -> None:
    """Nothing is said."""
    assert checked_versions(told({}, {})) == ()


@pytest.mark.parametrize(("package", "other"), [("dask", "3.0"), ("pyopencl", None), ("numpy", "2.3.1")])
def test_versions_that_may_differ(package: str, other: str | None) -> None:
    """They are told, once for all workers that are alike."""
    values = told({}, {package: other})
    here = values["client"]["packages"][package]
    assert checked_versions(values) == (
        f"{package} differs: this process has {here}; worker tcp://node1:1 and 1 more has {other or 'none'}",
    )


@pytest.mark.parametrize(("package", "other"), [("python", "3.12.1.final.0"), ("numpy", "1.26.4"), ("numpy", None)])
def test_versions_that_may_not(package: str, other: str | None) -> None:
    """They are refused."""
    with pytest.raises(InputError, match=rf"^{package} differs: this process has .*has {other or 'none'}: give all"):
        checked_versions(told({}, {package: other}))
