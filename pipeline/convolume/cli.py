"""The command line: a command for each thing to do; what is heavy is imported by the command that needs it.

Exit codes: 0 done, 2 the user's input is wrong, 3 the run failed, 130 interrupted (SIGTERM counts as Ctrl-C).
"""

from __future__ import annotations

import _thread
import json
import logging
import shlex
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

import click

from convolume.errors import ConvolumeError, InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["commands", "main"]

FAILED = 3
INTERRUPTED = 130

_TRACEBACK_FRAMES = 6
# Long enough for what dropped an interrupt to be over.
_AGAIN_S = 0.05
_VERBOSITY = "convolume.verbosity"
_TAKEN_ONCE = ("restart", "same_input")


def main() -> None:
    """Run the command line; the entry point of ``convolume``."""
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    sys.unraisablehook = _interrupt_again
    for stream in (sys.stdout, sys.stderr):
        # A pipe may be narrower than what is written: a letter becomes a ?, and the run goes on.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    commands(prog_name="convolume")


class _Commands(click.Group):
    """The group, which turns every way to fail into a sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.UsageError as error:
            usage = f"{error.ctx.get_usage()}\n" if error.ctx else ""
            click.echo(usage, err=True, nl=False)
            _fail(error.exit_code, error.format_message())
        except KeyboardInterrupt:
            _fail(INTERRUPTED, "interrupted")
        except ConvolumeError as error:
            _fail(error.exit_code, str(error))
        except Exception as error:  # noqa: BLE001 - the last line of defence of a command
            _fail_unexpectedly(error, is_verbose=bool(ctx.meta.get(_VERBOSITY)))


def _verbose(function: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_start_logging,
        help="Show what is done; -vv shows Dask's words too.",
    )
    return option(function)


def _start_logging(context: click.Context, _parameter: click.Parameter, count: int) -> None:
    context.meta[_VERBOSITY] = count
    levels = {"convolume": (logging.WARNING, logging.INFO, logging.DEBUG)[min(count, 2)]}
    if count > 1:
        levels |= {"dask": logging.DEBUG, "distributed": logging.INFO}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [_StandardError()]
        logger.propagate = False


class _StandardError(logging.Handler):
    """Writes to whatever standard error is at the moment: a live bar stands in for it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        sys.stderr.write(f"{self.format(record)}\n")


_config = click.option("--config", metavar="FILE", help="Where it runs: a YAML file such as configs/laptop.yaml.")
_set = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a value of the workflow: outputs.mean.path=out.ome.zarr. May be given several times.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_restart = click.option(
    "--restart", is_flag=True, help="Delete what an unfinished run left, instead of going on with it."
)
_same_input = click.option(
    "--same-input",
    is_flag=True,
    help="Go on though the input's files were changed or copied since, in the same sizes: no voxel changed.",
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="convolume", message="%(prog)s %(version)s")
def commands() -> None:
    """Filter images that are larger than memory, to OME-Zarr, NIfTI or OME-TIFF: by blocks, with OpenCL and Dask."""


@commands.command(short_help="Run a workflow, or go on where it was broken off.")
@click.argument("workflow")
@_restart
@_same_input
@_config
@_set
@_verbose
def run(workflow: str, config: str | None, overrides: tuple[str, ...], *, restart: bool, same_input: bool) -> None:
    """Run WORKFLOW, a YAML file, and write its outputs; or go on where an earlier attempt was broken off."""
    from convolume import runner  # noqa: PLC0415 - heavy
    from convolume.report.terminal import TerminalProgress  # noqa: PLC0415 - heavy

    with _telling_how_to_go_on(), TerminalProgress() as progress:
        where = _where(config)
        runner.run(
            workflow, config=where, overrides=overrides, progress=progress, restart=restart, same_input=same_input
        )


@commands.command()
@click.argument("workflow")
@_config
@_set
@_json
@_verbose
def plan(workflow: str, config: str | None, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """Print what running WORKFLOW would do; nothing is written."""
    from convolume import runner  # noqa: PLC0415 - heavy
    from convolume.report.terminal import plan_text, show  # noqa: PLC0415 - heavy

    planned = runner.plan(workflow, config=_where(config), overrides=overrides)
    show(_as_json(planned.as_dict()) if as_json else plan_text(planned))


_dataset = click.option("--dataset", metavar="NAME", help="The array that is meant, where a file holds several.")


@commands.command(short_help="Copy an image in any format to an OME-Zarr, bit for bit.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@_dataset
@click.option("--channel", metavar="C", help="The one channel that is taken, by position or name.")
@click.option("--time", metavar="T", type=click.IntRange(0), help="The one time point that is taken.")
@click.option("--axes", metavar="zyx", help="Names of IN's axes, where it does not tell.")
@click.option(
    "--spacing",
    metavar="LENGTH",
    multiple=True,
    help='IN\'s voxel size, where it does not tell: "0.5 um". Once, or once for each space axis.',
)
@click.option("--chunks", metavar="N,N,N", help="Extents of OUT's chunks, in voxels.")
@click.option("--overwrite", is_flag=True, help="Replace the image at OUT.")
@_restart
@_same_input
@_config
@_set
@_verbose
def convert(
    source: str,
    target: str,
    config: str | None,
    overrides: tuple[str, ...],
    *,
    restart: bool,
    same_input: bool,
    **options: Any,
) -> None:
    """Copy IN, an image in any format, to OUT, an OME-Zarr with a pyramid: dtype, voxels and voxel size are kept.

    Where OUT ends in .nii, .nii.gz, .tif or .tiff, it becomes a NIfTI file or an OME-TIFF.

    The part to take, and all else that a workflow's input and outputs have, comes by --set: input.region.z=[0,10],
    input.level=1, outputs.image.dtype=uint8. A conversion that was broken off goes on when it is started again.
    """
    from convolume import runner  # noqa: PLC0415 - heavy
    from convolume.conversion import conversion, in_words_of_convert  # noqa: PLC0415 - only where it is needed
    from convolume.report.terminal import TerminalProgress  # noqa: PLC0415 - heavy

    options["chunks"] = _extents(options["chunks"])
    workflow = conversion(source, target, **options)
    # Nothing is computed: no device needs to be found.
    where = {"device": "numpy"} if config is None else config
    try:
        with _telling_how_to_go_on(), TerminalProgress() as progress:
            runner.run(
                workflow, config=where, overrides=overrides, progress=progress, restart=restart, same_input=same_input
            )
    except InputError as error:
        raise InputError(in_words_of_convert(str(error))) from error


def _extents(written: str | None) -> tuple[int, ...] | None:
    if written is None:
        return None
    extents = [text.strip() for text in written.split(",")]
    if not all(text.isdecimal() and int(text) for text in extents):
        message = f"{written!r} does not tell extents; write a number for each axis, such as 64,64,64"
        raise click.BadParameter(message, param_hint="--chunks")
    return tuple(map(int, extents))


@commands.command(short_help="Print what an image is; no voxel is read.")
@click.argument("path")
@_dataset
@_json
@_verbose
def info(path: str, dataset: str | None, *, as_json: bool) -> None:
    """Print what the image at PATH is: axes, voxel size, levels, storage, and who wrote it; no voxel is read."""
    from convolume.conversion import in_words_of_convert  # noqa: PLC0415 - only where it is needed
    from convolume.inspection import inspect  # noqa: PLC0415 - heavy
    from convolume.report.terminal import image_text, show  # noqa: PLC0415 - heavy

    try:
        report = inspect(path, dataset=dataset)
    except InputError as error:
        raise InputError(in_words_of_convert(str(error))) from error
    show(_as_json(report.as_dict()) if as_json else image_text(report))


@commands.command(short_help="Read an output again, and name files that are damaged.")
@click.argument("path")
@_config
@_set
@_verbose
def verify(path: str, config: str | None, overrides: tuple[str, ...]) -> None:
    """Read every block of PATH, an output, again, and name those that are damaged or missing."""
    from convolume import runner  # noqa: PLC0415 - heavy
    from convolume.report.terminal import show  # noqa: PLC0415 - heavy

    # Threads of this process are the quickest start; reading needs no device.
    where = {"cluster": "in_process", "device": "numpy"} if config is None else config
    verdict = runner.verify(path, config=where, overrides=overrides)
    for flaw in verdict.flaws:
        show(str(flaw))
    if verdict.flaws:
        files = f"{len(verdict.flaws)} files are" if len(verdict.flaws) > 1 else "1 file is"
        message = f"{path}: {files} damaged or missing, of those of {verdict.block_count} blocks"
        raise RunError(message)
    if verdict.unmarked_voxels:
        message = (
            f"{path}: {verdict.block_count} blocks are as they were written, and {verdict.unmarked_voxels:,} voxels of "
            "all levels are not written yet; run its workflow again to go on"
        )
        raise RunError(message)
    show(f"{path}: {verdict.block_count} blocks are as they were written")


@commands.command(short_help="List the devices, and tell which one would be taken.")
@click.option("--tune", is_flag=True, help="Time the shapes of the programs of the device that would be taken.")
@_json
@_verbose
def devices(*, tune: bool, as_json: bool) -> None:
    """List the devices of this machine, which one would be taken and why."""
    from convolume.devices._selection import choose_device, list_devices  # noqa: PLC0415 - heavy
    from convolume.report.terminal import devices_text, show  # noqa: PLC0415 - heavy

    if tune:
        _tune(as_json=as_json)
        return

    found = list_devices()
    try:
        choice = choose_device()
    except ConvolumeError:
        # What there is helps to correct the wish that found nothing.
        if not as_json:
            show(devices_text(found, None))
        raise
    if as_json:
        show(_as_json({"devices": [asdict(info) for info in found], "taken": asdict(choice)}))
    else:
        show(devices_text(found, choice))


def _tune(*, as_json: bool) -> None:
    from convolume.devices._selection import choose_device, tune_device  # noqa: PLC0415 - heavy
    from convolume.report.terminal import show, tuning_text  # noqa: PLC0415 - heavy

    info = choose_device().info
    records = tune_device(info, lambda line: click.echo(line, err=True))
    show(_as_json([asdict(record) for record in records]) if as_json else tuning_text(info, records))


@contextmanager
def _telling_how_to_go_on() -> Iterator[None]:
    """Tell of a run that failed or was interrupted how it is gone on with."""
    try:
        yield
    except RunError as error:
        message = f"{error}\nwhen the cause is mended, go on with: {shlex.join(_same_command())}"
        raise RunError(message) from error
    except KeyboardInterrupt:
        _fail(INTERRUPTED, "interrupted: outputs that are not finished do not open as images; run it again to go on")


def _same_command() -> list[str]:
    """Return the words of this command as it was given, without the ways out that are taken once."""
    context = click.get_current_context()
    words = ["convolume", context.info_name or ""]
    for parameter in context.command.params:
        value: Any = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            words.append(value)
        elif not (value is None or value is False or value == () or parameter.name in _TAKEN_ONCE):
            for each in value if isinstance(parameter, click.Option) and parameter.multiple else [value]:
                words += [parameter.opts[-1]] if each is True else [parameter.opts[-1], str(each)]
    return words


def _where(config: str | None) -> str | Mapping[str, Any]:
    """Return where a run happens: without a file, in worker processes of this machine."""
    return {} if config is None else config


def _as_json(values: Any) -> str:
    return json.dumps(values, indent=2, default=str)


def _interrupt(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _interrupt_again(what: sys.UnraisableHookArgs) -> None:
    """Repeat an interrupt that came while the collector of garbage ran, or a finalizer: Python has dropped it there."""
    if isinstance(what.exc_value, KeyboardInterrupt):
        threading.Timer(_AGAIN_S, _interrupt_main_thread).start()
    else:
        sys.__unraisablehook__(what)


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        # A flag alone would not wake a thread that waits.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _fail(code: int, message: str) -> NoReturn:
    from convolume.report.wording import printable  # noqa: PLC0415 - only where something went wrong

    click.echo(f"error: {printable(message)}", err=True)
    raise click.exceptions.Exit(code)


def _fail_unexpectedly(error: Exception, *, is_verbose: bool) -> NoReturn:
    if is_verbose:
        frames = traceback.format_exception(error, limit=-_TRACEBACK_FRAMES)
        click.echo("".join(frames).rstrip(), err=True)
        hint = "the traceback is above"
    else:
        hint = "run again with -v for the traceback"
    _fail(FAILED, f"{type(error).__name__}: {error} (unexpected: {hint})")


if __name__ == "__main__":
    main()
