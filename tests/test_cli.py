"""The command line: what reaches a run, what is printed where, and the exit codes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result

from convolume import cli, runner
from convolume.devices import _selection
from convolume.errors import DeviceError, InputError, RunError
from convolume.planning.plan import Plan, PlannedOutput, Resources, StrategyChoice
from convolume.records import DeviceInfo, OutputRecord, RunRecord, VariantRecord
from convolume.regions import Halo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICE = DeviceInfo("Some Processor", "opencl", "one", "cpu", "Some Platform", "3.0", 2**32, 2**31, 2)
PLAN = Plan(
    workflow="tour",
    input_path="brain.zarr",
    input_shape=(4, 5, 6),
    input_dtype="uint8",
    axes=("z", "y", "x"),
    outputs=(
        PlannedOutput(
            "mean",
            "mean.zarr",
            "float32",
            ("box",),
            Halo((1, 1, 1), (1, 1, 1)),
            (4, 5, 6),
            None,
            ((4, 5, 6),),
            480,
            480,
        ),
    ),
    shared=(),
    strategy=StrategyChoice("windows", "the input is a store"),
    block_shape_voxels=(4, 5, 6),
    block_count=1,
    block_reason="the whole image",
    block_rejected=(),
    task_count=11,
    bytes_read=120,
    read_amplification=1.0,
    bytes_decoded=12 * 2**20,
    decode_amplification=1.39,
    cache_bytes=2**22,
    bytes_written=480,
    peak_host_bytes=1000,
    peak_device_bytes=1000,
    seconds_blocks=61.0,
    seconds_pyramid=2.5,
    time_reason="by measured speeds",
    resources=Resources("local", 1, 2, 2**30),
    device=DEVICE,
    device_reason="the only one",
    precision="single",
    working_dtype="float32",
)
RECORD = RunRecord(
    workflow="tour",
    outputs=(OutputRecord("mean", "mean.zarr", (4, 5, 6), "float32", 1, 0.0, 1.0),),
    figures=(),
    devices=("Some Processor",),
    strategy="windows",
    block_count=1,
    output_voxels=120,
    bytes_read=120,
    bytes_written=480,
    seconds_total=2.0,
    seconds_blocks=1.0,
    seconds_pyramid=0.5,
)

NEITHER = {"restart": False, "same_input": False}

# A stand-in for the run, in a process of its own: the command line around it is the real one.
PROCESS = """
import sys, time, types
from pathlib import Path
def run(workflow, *, config, overrides, progress, restart, same_input):
    progress.phase("filter", 3)
    {body}
stand_in = types.ModuleType("convolume.runner")
stand_in.run = run
sys.modules["convolume.runner"] = stand_in
import convolume
convolume.runner = stand_in
from convolume.cli import main
sys.argv = ["convolume", "run", "x.yaml"]
main()
"""


def command(*arguments: str) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(cli.commands, list(arguments), prog_name="convolume")


def process(body: str, **settings: Any) -> subprocess.Popen[str]:
    """Call the command line in a process of its own, where a run does what `body` says."""
    arguments = [sys.executable, "-c", PROCESS.format(body=body)]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    return subprocess.Popen(arguments, text=True, **streams)  # noqa: S603 - our own interpreter and text


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Leave logging as it was."""
    loggers = [logging.getLogger(name) for name in ("convolume", "dask", "distributed")]
    before = [(logger, logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.level, logger.handlers, logger.propagate = level, handlers, propagate


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect what reaches run and plan, which succeed at once."""
    collected: list[dict[str, Any]] = []

    def run(workflow: str, *, config: Any, overrides: Any, progress: Any, restart: bool, same_input: bool) -> RunRecord:
        given = {"workflow": workflow, "config": config, "overrides": tuple(overrides)}
        given |= {"restart": restart, "same_input": same_input}
        collected.append(given)
        progress.started(PLAN, "http://127.0.0.1:8787/status")
        progress.phase("filter", 1)
        progress.advance()
        progress.finished(RECORD)
        return RECORD

    def plan(workflow: str, *, config: Any, overrides: Any) -> Plan:
        collected.append({"workflow": workflow, "config": config, "overrides": tuple(overrides)})
        return PLAN

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(runner, "plan", plan)
    return collected


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every run fail."""

    def run(*_arguments: Any, **_settings: Any) -> None:
        logging.getLogger("convolume").info("about to fail")
        logging.getLogger("convolume").debug("in detail")
        raise error

    monkeypatch.setattr(runner, "run", run)


def test_run_prints_dashboard_progress_and_summary(calls: list[dict[str, Any]]) -> None:
    """Plain lines, nothing on standard error; without a file a cluster of this machine is asked for."""
    result = command("run", "tour.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert calls == [{"workflow": "tour.yaml", "config": {}, "overrides": (), **NEITHER}]
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "tour: 1 block of 4 x 5 x 6 voxels, on Some Processor",
        "dashboard: http://127.0.0.1:8787/status",
        "filter: 0 of 1 block (0%)",
        lines[3],
    ]
    assert lines[3].startswith("filter: 1 of 1 block (100%), ")
    assert "done: tour" in lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", ["run", "plan"])
def test_options_reach_the_run(calls: list[dict[str, Any]], name: str) -> None:
    """In the order in which they were given."""
    assert command(name, "w.yaml", "--config", "c.yaml", "--set", "cval=1", "--set", "a=b=c").exit_code == 0
    given = {"workflow": "w.yaml", "config": "c.yaml", "overrides": ("cval=1", "a=b=c")}
    assert [call | NEITHER for call in calls] == [given | NEITHER]


@pytest.mark.parametrize("name", NEITHER)
def test_ways_out_reach_the_run(calls: list[dict[str, Any]], name: str) -> None:
    """What an unfinished run left is deleted, or another time of the input overlooked, only where that is asked for."""
    assert command("run", "w.yaml", f"--{name.replace('_', '-')}").exit_code == 0
    assert calls == [{"workflow": "w.yaml", "config": {}, "overrides": (), **NEITHER, name: True}]


@pytest.mark.usefixtures("calls")
def test_plan_prints_text_or_json() -> None:
    """The same plan."""
    assert command("plan", "w.yaml").stdout.startswith("plan of tour; it writes nothing\n")
    assert json.loads(command("plan", "w.yaml", "--json").stdout) == json.loads(json.dumps(PLAN.as_dict()))


def test_devices_prints_a_table_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """And which one would be taken."""
    choice = _selection.DeviceChoice(DEVICE, "the only one")
    monkeypatch.setattr(_selection, "list_devices", lambda: (DEVICE,))
    monkeypatch.setattr(_selection, "choose_device", lambda: choice)
    text = command("devices").stdout
    assert "* Some Processor" in text
    assert "the only one" in text
    values = json.loads(command("devices", "--json").stdout)
    assert values["devices"][0]["memory_bytes"] == 2**32
    assert values["taken"]["info"]["identifier"] == "one"
    assert values["taken"]["reason"] == "the only one"


def test_devices_are_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines on standard error while it goes on, then a table or JSON; the device is the one that would be taken."""
    records = (VariantRecord("3x3x3 float32", "4 rows", 80.0, is_chosen=True), VariantRecord("3x3x3 float32", "8 rows"))
    monkeypatch.setattr(_selection, "choose_device", lambda: _selection.DeviceChoice(DEVICE, "the only one"))
    monkeypatch.setattr(_selection, "tune_device", lambda info, tell: (tell(f"{info.name} works"), records)[1])
    result = command("devices", "--tune")
    assert result.stderr == "Some Processor works\n"
    assert "* 4 rows      80 GFLOP/s" in result.stdout
    assert json.loads(command("devices", "--tune", "--json").stdout)[0]["gflops"] == 80.0


def test_a_wish_that_finds_no_device_still_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is the user's input: 2."""
    monkeypatch.setenv("CONVOLUME_DEVICE", "no such device")
    result = command("devices")
    assert result.exit_code == 2
    assert "numpy" in result.stdout
    assert result.stderr.startswith("error: no device is like 'no such device' (by the variable CONVOLUME_DEVICE)")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("w.yaml:3:7: no such filter"), 2, "w.yaml:3:7: no such filter"),
        (
            RunError("block (0, 1) failed"),
            3,
            "block (0, 1) failed\nwhen the cause is mended, go on with: convolume run w.yaml",
        ),
        (DeviceError("out of memory"), 3, "out of memory"),
        (InputError("\x1b[31mred"), 2, "\\x1b[31mred"),
        (KeyError("key"), 3, "KeyError: 'key' (unexpected: run again with -v for the traceback)"),
        (
            BrokenPipeError(32, "a worker left"),
            3,
            "BrokenPipeError: [Errno 32] a worker left (unexpected: run again with -v for the traceback)",
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted: outputs that are not finished do not open as images; run it again to go on",
        ),
    ],
)
def test_failures_are_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    """And a code that scripts can tell apart."""
    failing(monkeypatch, error)
    result = command("run", "w.yaml")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"error: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'WORKFLOW'."),
        (["plan", "w.yaml", "--jsno"], "No such option"),
        (["ran"], "No such command 'ran'."),
        (["--bogus"], "No such option"),
    ],
)
def test_wrong_usage_is_the_users_input(arguments: list[str], message: str) -> None:
    """With the usage above it."""
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: convolume")
    assert message in result.stderr


def test_a_missing_workflow_is_told_by_the_reader_itself(tmp_path: Path) -> None:
    """The real run, as far as it comes."""
    result = command("run", str(tmp_path / "none.yaml"))
    message = f"error: {tmp_path / 'none.yaml'}: there is no such file; a workflow is a YAML file\n"
    assert (result.exit_code, result.stderr) == (2, message)


@pytest.mark.parametrize(
    ("flags", "shown"), [([], []), (["-v"], ["INFO"]), (["-vv"], ["INFO", "DEBUG"]), (["-v", "-v"], ["INFO", "DEBUG"])]
)
def test_verbose_shows_logs_and_the_traceback(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], shown: list[str]
) -> None:
    """The traceback of what was not expected, in a few lines."""
    failing(monkeypatch, KeyError("key"))
    result = command("run", "w.yaml", *flags)
    lines = result.stderr.splitlines()
    texts = {"INFO": "INFO convolume: about to fail", "DEBUG": "DEBUG convolume: in detail"}
    assert [line for line in lines if line in texts.values()] == [texts[level] for level in shown]
    assert ("Traceback (most recent call last):" in lines) == bool(flags)
    assert lines[-1].startswith("error: KeyError: 'key' (unexpected: ")
    assert len(lines) < 25


def test_version_and_help() -> None:
    """Each command has a line."""
    assert command("--version").stdout == "convolume 0.1.0\n"
    text = command("--help").stdout
    assert all(f"  {name}" in text for name in ("run", "plan", "verify", "devices"))


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_signals_interrupt(number: str) -> None:
    """130, in a sentence, and without a traceback."""
    with process("time.sleep(60)") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "filter: 0 of 3 blocks (0%)\n"
        running.send_signal(getattr(signal, number))
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 130
    assert errors == "error: interrupted: outputs that are not finished do not open as images; run it again to go on\n"


FINALIZER = """
    class Finalizer:
        def __del__(self):
            import os, signal
            os.kill(os.getpid(), signal.{name})
            sum(range(1000))
    Finalizer()
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupt_is_not_lost_in_a_finalizer(name: str) -> None:
    """Python drops what is raised there, with a traceback for a trace: the run is interrupted all the same."""
    with process(FINALIZER.format(name=name).strip()) as running:
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 130
    assert errors == "error: interrupted: outputs that are not finished do not open as images; run it again to go on\n"


def test_a_run_goes_on_when_its_reader_leaves(tmp_path: Path) -> None:
    """As in ``convolume run … | head``: it ends with 0 and says nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    done = tmp_path / "done"
    with process(f"progress.advance(3); Path({str(done)!r}).touch()", stdout=writer) as running:
        os.close(writer)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (0, "")
    assert done.exists()


def test_a_narrow_pipe_loses_a_letter_and_not_the_run() -> None:
    """A name that the stream's encoding lacks."""
    with process(
        "progress.phase('µm', 1)", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ) as running:
        output, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (0, "")
    assert output.splitlines()[1] == "?m: 0 of 1 (0%)"


def test_help_loads_nothing_heavy() -> None:
    """A fresh process knows what it imported."""
    heavy = [
        "bokeh",
        "dask",
        "distributed",
        "matplotlib",
        "numpy",
        "pydantic",
        "pyopencl",
        "rich",
        "scipy",
        "yaml",
        "zarr",
    ]
    code = (
        "import sys; from convolume.cli import commands; commands(['--help'], standalone_mode=False); "
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    text = subprocess.check_output([sys.executable, "-c", code], text=True)  # noqa: S603 - our own interpreter and text
    assert text.splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    """``python -m convolume``."""
    text = subprocess.check_output([sys.executable, "-m", "convolume", "--version"], text=True)
    assert text == "convolume 0.1.0\n"
    assert isinstance(cli.commands, click.Group)
