"""Whether a run goes on with what an earlier attempt at it left, and how the outputs are begun, marked and closed."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from convolume import stores
from convolume.errors import InputError, RunError
from convolume.execution.journal import Coverage, Journal, check_claims
from convolume.execution.ownership import Claim, check_free, kept_alive, write_whole
from convolume.execution.patience import patiently, storage_errors_at
from convolume.execution.run_file import RunFile
from convolume.execution.totals import BlockTotals
from convolume.fingerprint import differences, files_changed, fingerprint
from convolume.planning.earlier import NOTHING_CHOSEN, Chosen
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convolume.planning.models import Workflow
    from convolume.preparation import Prepared
    from convolume.stores import Sink

__all__ = ["Decision", "Undertaking", "decide", "done_note", "undertaken"]

_BEGIN_ANEW = "begin anew with `--restart` (or `if_exists: overwrite`), which deletes what it wrote"
_OWNER = "whose the output is cannot be read"
_MARKS = "its marks cannot be read"


@dataclass(frozen=True)
class Decision:
    """What is to be run, and whether that goes on with an earlier attempt.

    Parameters
    ----------
    prepared : Prepared
        The run.
    found : dict of str to RunFile
        The run files that were there when this was decided, by output.
    resumed : str, optional
        Name of the run that is gone on with.
    """

    prepared: Prepared
    found: dict[str, RunFile]
    resumed: str | None = None

    def with_notes(self, notes: tuple[str, ...]) -> Decision:
        """Return the same with more notes in its plan."""
        plan = replace(self.prepared.plan, notes=(*self.prepared.plan.notes, *notes))
        return replace(self, prepared=replace(self.prepared, plan=plan))


def decide(
    workflow: Workflow,
    prepare_with: Callable[[Chosen], Prepared],
    *,
    restart: bool = False,
    same_input: bool = False,
    may_write: bool = True,
) -> Decision:
    """Prepare a run: a new one, or the next attempt at one that is unfinished.

    Parameters
    ----------
    workflow : Workflow
        What is run.
    prepare_with : callable
        Prepares it, given what an earlier attempt chose.
    restart : bool
        Whether an unfinished run is deleted instead of gone on with.
    same_input : bool
        Whether an unfinished run is gone on with though the input's files have other times, and only those.
    may_write : bool
        Whether outputs that another run is writing are refused.

    Raises
    ------
    InputError
        Another run is writing, or left something that is different or cannot be gone on with.
    """
    if restart and same_input:
        message = "`--restart` deletes what `--same-input` goes on with; give one of them"
        raise InputError(message)
    folders = {name: stores.journal_folder(spec.path) for name, spec in workflow.outputs.items()}
    if may_write:
        for name, folder in folders.items():
            if folder is not None:
                patiently(folder, _OWNER, partial(check_free, workflow.outputs[name].path, folder))
    found = _found(workflow)
    unfinished = {name: file for name, file in found.items() if file.state == "unfinished"}
    if not unfinished:
        return Decision(prepare_with(NOTHING_CHOSEN), found)
    if restart:
        return Decision(prepare_with(Chosen(if_exists=dict.fromkeys(unfinished, "overwrite"))), found)
    first, file = next(iter(unfinished.items()))
    why_not = _why_never(unfinished)
    if not why_not:
        prepared = prepare_with(_chosen(file, [name for name, each in found.items() if each.run == file.run]))
        prepared, why_not = _compared(file.fingerprint, prepared, same_input=same_input)
        if not why_not:
            return Decision(prepared, found, file.run)
    if not all(workflow.outputs[name].if_exists == "overwrite" for name in unfinished):
        message = f"{workflow.outputs[first].path}: {why_not}; {_BEGIN_ANEW}"
        raise InputError(message)
    return Decision(prepare_with(NOTHING_CHOSEN), found)


@dataclass
class Undertaking:
    """A run that has its outputs to itself: their journals, and what is done already.

    Parameters
    ----------
    prepared : Prepared
        The run.
    files : dict of str to RunFile
        What stands beside every output.
    journals : dict of str to Journal
        By output; those in memory have none.
    is_resumed : bool
        Whether earlier attempts may have done a part.
    coverages : dict of str to Coverage
        What they did, by output.
    totals : BlockTotals
        Sums over all blocks that are done.
    """

    prepared: Prepared
    files: dict[str, RunFile]
    journals: dict[str, Journal]
    is_resumed: bool
    coverages: dict[str, Coverage] = field(default_factory=dict)
    totals: BlockTotals = field(default_factory=BlockTotals)

    def begin(self) -> None:
        """Make the outputs ready to be written, or to be gone on with."""
        source = self.prepared.job.source
        patiently(source.path, "cannot be prepared", source.prepare)
        for name, sink in self.prepared.sinks.items():
            begin = partial(_begin, self.prepared, sink, self.journals.get(name), self.files[name])
            patiently(sink.path, "cannot be created", begin)
        if self.is_resumed:
            _read_marks(self)

    def is_done(self, region: Region) -> bool:
        """Say whether a block of the image is done in every output."""
        return bool(self.coverages) and all(each.holds(0, region) for each in self.coverages.values())

    def is_level_done(self, name: str, level: int, region: Region) -> bool:
        """Say whether a block of an output's pyramid is done."""
        return name in self.coverages and self.coverages[name].holds(level, region)

    def merge_marks(self) -> None:
        """Put the marks of every output into one file.

        Raises
        ------
        RunError
            There are voxels that no mark speaks for, or another run has taken an output over.
        """
        check_claims(self.journals.values())
        for name, journal in self.journals.items():
            sink = self.prepared.sinks[name]
            coverage = patiently(journal.folder, "its marks cannot be put together", partial(_merged, journal, sink))
            for level in range(len(coverage.shapes)):
                if missing := coverage.missing_voxels(level):
                    message = (
                        f"{sink.path}: {missing:,} voxels of level {level} have no mark; the output stays "
                        "unfinished: run again"
                    )
                    raise RunError(message)

    def close(self) -> None:
        """Say that the run is over: every output is whole."""
        # Killed anywhere in between, the run is still unfinished, and the next attempt does this again.
        for journal in self.journals.values():
            if journal.claim is not None:
                patiently(journal.folder, "cannot be cleared of its owners", journal.claim.forget)
        for name, journal in self.journals.items():
            sink, finished = self.prepared.sinks[name], replace(self.files[name], state="finished")
            patiently(sink.path, "cannot be cleared of leftovers", sink.remove_leftovers)
            patiently(journal.folder, "cannot be told to be finished", partial(finished.write, journal.folder))


@contextmanager
def undertaken(decision: Decision) -> Iterator[Undertaking]:
    """Take the outputs of a run; nothing but the claims to them is written yet.

    Raises
    ------
    InputError
        Another run is writing one of them, or has changed one since this run was decided on.
    """
    prepared = decision.prepared
    claims = _claims(prepared)
    with kept_alive(tuple(claims.values())), _nothing_left(claims):
        if _found(prepared.document.model) != decision.found:
            message = "another run has changed the outputs at this moment; run again"
            raise InputError(message)
        run = decision.resumed or uuid4().hex
        prints, cannot = fingerprint(prepared), _cannot_resume(prepared)
        files = {name: _run_file(run, sink, prints, cannot) for name, sink in prepared.sinks.items()}
        journals = {name: Journal(claim.folder, run, files[name].units, claim) for name, claim in claims.items()}
        yield Undertaking(prepared, files, journals, is_resumed=decision.resumed is not None)


@contextmanager
def _nothing_left(claims: dict[str, Claim]) -> Iterator[None]:
    """Remove the folders of outputs that no run began to write."""
    try:
        yield
    finally:
        for claim in claims.values():
            with suppress(OSError, RunError):
                if RunFile.read(claim.folder) is None:
                    claim.forget()
                    Path(claim.folder).rmdir()


def done_note(decision: Decision) -> tuple[str, ...]:
    """Return a note of what is done already, where a run goes on with an earlier attempt."""
    if decision.resumed is None:
        return ()
    journals = {
        name: Journal(sink.journal_folder, decision.resumed, decision.found[name].units)
        for name, sink in decision.prepared.sinks.items()
        if sink.journal_folder is not None
    }
    looked_at = Undertaking(decision.prepared, decision.found, journals, is_resumed=True)
    _read_marks(looked_at)
    total = decision.prepared.plan.block_count
    return (f"goes on with a run that was broken off: {looked_at.totals.block_count:,} of {total:,} blocks are done",)


def _found(workflow: Workflow) -> dict[str, RunFile]:
    folders = ((name, stores.journal_folder(spec.path)) for name, spec in workflow.outputs.items())
    files = ((name, RunFile.read(folder)) for name, folder in folders if folder is not None)
    return {name: file for name, file in files if file is not None}


def _chosen(file: RunFile, names: list[str]) -> Chosen:
    """Return what the run of a file chose, for the outputs that belong to it."""
    prints = file.fingerprint
    return Chosen(
        block_shape_voxels=tuple(prints["block"]),
        methods={name: tuple(output["methods"]) for name, output in prints["outputs"].items()},
        write_units={name: tuple(output["shards"] or output["chunks"]) for name, output in prints["outputs"].items()},
        if_exists=dict.fromkeys(names, "resume"),
    )


def _why_never(unfinished: dict[str, RunFile]) -> str:
    """Say why no run can go on with what is unfinished; nothing where one can."""
    for file in unfinished.values():
        if file.cannot_resume:
            return f"was left unfinished by a run that cannot be resumed, for {file.cannot_resume}"
    file, *others = unfinished.values()
    if any(other.run != file.run for other in others):
        return f"outputs {', '.join(map(repr, unfinished))} were left unfinished by different runs"
    return ""


def _compared(before: dict[str, Any], prepared: Prepared, *, same_input: bool) -> tuple[Prepared, str]:
    """Return a run that goes on with one of that fingerprint, and why it may not; nothing where it may."""
    now, source = fingerprint(prepared), prepared.job.source
    files = source.files(Region.whole(source.info.shape))
    changed = files_changed(before, now, files)
    if not changed:
        different = differences(before, now, files)
        return prepared, f"was left unfinished by a run that differs: {'; '.join(different)}" if different else ""
    told = f"the input looks the same, but was changed or copied since an earlier attempt ({changed})"
    if same_input:
        plan = replace(prepared.plan, notes=(*prepared.plan.notes, f"{told}; the user vouched for its voxels"))
        return replace(prepared, plan=plan), ""
    return prepared, (
        f"was left unfinished, and {told}: with other voxels the outputs would be a mix of two images; there are two "
        "ways: keep what is done with `--same-input` (in Python, `same_input=True`) if you know that no voxel changed"
    )


def _cannot_resume(prepared: Prepared) -> str:
    if prepared.plan.strategy.name == "overlap":
        return "its blocks were driven by `overlap`, as one graph"
    if not prepared.job.source.crosses_processes:
        return f"its input {prepared.job.source.path} was in a process's memory"
    for name, sink in prepared.sinks.items():
        if sink.journal_folder is None:
            return f"its output {name!r} was in a process's memory"
    return ""


def _claims(prepared: Prepared) -> dict[str, Claim]:
    """Take every output that can be taken, or none."""
    claims: dict[str, Claim] = {}
    try:
        for name, sink in prepared.sinks.items():
            if sink.journal_folder is not None:
                with storage_errors_at(sink.journal_folder, "cannot be taken for a run"):
                    claims[name] = Claim.take(sink.path, sink.journal_folder)
    except BaseException:
        for claim in claims.values():
            claim.release()
        raise
    return claims


def _run_file(run: str, sink: Sink, prints: dict[str, Any], cannot_resume: str) -> RunFile:
    coverage = _coverage(sink)
    return RunFile(run, "unfinished", prints, cannot_resume, coverage.shapes, coverage.units)


def _begin(prepared: Prepared, sink: Sink, journal: Journal | None, file: RunFile) -> None:
    """Make an output's empty arrays, or leave what is there; killed anywhere in between, the next attempt mends it."""
    if journal is None:
        sink.create()
        return
    for part in Path(journal.folder).glob("*.part"):
        part.unlink(missing_ok=True)
    known = RunFile.read(journal.folder)
    if not (sink.exists and known is not None and known.run == file.run):
        sink.check()
        # What is not there has no marks: they go last, so that none is left without its data.
        sink.remove()
        journal.clear()
        write_whole(Path(journal.folder, "plan.json"), json.dumps(prepared.plan.as_dict(), indent=2))
        file.write(journal.folder)
    elif known.fingerprint != file.fingerprint:
        # The input's files have other times, and the user vouched for them: the next attempt asks no more.
        replace(known, fingerprint=file.fingerprint).write(journal.folder)
    sink.create()


def _read_marks(undertaking: Undertaking) -> None:
    """Find what earlier attempts did."""
    sinks = undertaking.prepared.sinks
    for name, journal in undertaking.journals.items():
        undertaking.coverages[name] = patiently(journal.folder, _MARKS, partial(_covered, journal, sinks[name]))
    name, journal = next(iter(undertaking.journals.items()))
    undertaking.totals = patiently(journal.folder, _MARKS, partial(_counted, undertaking, journal, sinks[name]))


def _covered(journal: Journal, sink: Sink) -> Coverage:
    coverage = _coverage(sink)
    for mark in journal.marks():
        coverage.add(mark)
    return coverage


def _counted(undertaking: Undertaking, journal: Journal, sink: Sink) -> BlockTotals:
    """Return the sums over the blocks that are done in every output, each counted once."""
    counted, totals = _coverage(sink), BlockTotals()
    for mark in journal.marks():
        if mark.level == 0 and undertaking.is_done(mark.region) and counted.add(mark) and mark.record is not None:
            totals.add(mark.record)
    return totals


def _merged(journal: Journal, sink: Sink) -> Coverage:
    coverage = _coverage(sink)
    journal.merge(coverage)
    return coverage


def _coverage(sink: Sink) -> Coverage:
    units = tuple(level.shards or level.chunks or level.shape for level in sink.levels)
    return Coverage(tuple(level.shape for level in sink.levels), units)
