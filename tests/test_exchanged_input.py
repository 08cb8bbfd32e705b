"""The input was exchanged while its run stood still: that is noticed, and a mere copy is told from it."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from tests.test_resume import BLOCKS, CHUNK, SHAPE, Calls, Folder, assert_same

from convolume.errors import InputError
from convolume.execution import task

if TYPE_CHECKING:
    from collections.abc import Callable

# Chunks of fill value would have no files.
IMAGE = np.random.default_rng(8).integers(1, 200, SHAPE).astype(np.float32)
OTHER = np.minimum(IMAGE, 3)
BEFORE_NS, AFTER_NS = 1_767_225_600 * 10**9, 1_767_398_400 * 10**9
DONE = 2
BEGIN_ANEW = "; begin anew with `--restart` (or `if_exists: overwrite`), which deletes what it wrote"
MOMENT = r"of 202\d-\d\d-\d\d \d\d:\d\d:\d\d\.000[+-]\d\d:\d\d"


class AnyFolder(Folder):
    """A folder whose image has any format; its files are of one moment."""

    kind = ""

    def take(self, kind: str) -> AnyFolder:
        """Write the image in a format, and let the workflow read it."""
        self.kind = kind
        self.values["input"] = {"path": self.name(f"input.{FORMATS[kind][0]}")}
        self.exchange(IMAGE)
        return self

    def exchange(self, image: npt.NDArray[Any], changed_ns: int = BEFORE_NS) -> None:
        """Write an image in the input's place."""
        shutil.rmtree(self.input, ignore_errors=True)
        FORMATS[self.kind][1](self, self.input, image)
        self.touch(changed_ns)

    def touch(self, changed_ns: int) -> None:
        """Give every file of the input this time."""
        for file in [self.input, *self.input.rglob("*")]:
            os.utime(file, ns=(changed_ns, changed_ns))

    @property
    def input(self) -> Path:
        """The input's file or folder."""
        return Path(self.values["input"]["path"])

    def refusal(self, *overrides: str, **settings: Any) -> str:
        """Run, and return why that is refused; nothing that was written is touched."""
        before = self.files()
        with pytest.raises(InputError) as refusal:
            self.run(*overrides, **settings)
        assert self.files() == before
        return str(refusal.value).removeprefix(f"{self.name('copy.ome.zarr')}: ")


def _zarr(**layout: Any) -> Callable[[AnyFolder, Path, npt.NDArray[Any]], None]:
    layout = {"chunks": CHUNK, **layout}
    return lambda _folder, path, image: zarr.create_array(path, data=image, **layout) and None


def _nifti(_folder: AnyFolder, path: Path, image: npt.NDArray[Any]) -> None:
    nibabel.Nifti1Image(image.T, np.eye(4)).to_filename(path)


def _tiff(_folder: AnyFolder, path: Path, image: npt.NDArray[Any]) -> None:
    tifffile.imwrite(path, image, compression="zlib", photometric="minisblack")


FORMATS: dict[str, tuple[str, Callable[[AnyFolder, Path, npt.NDArray[Any]], None]]] = {
    "Zarr v2": ("zarr", _zarr(zarr_format=2)),
    "Zarr v3": ("zarr", _zarr()),
    "Zarr v3, sharded": ("zarr", _zarr(chunks=(12, 32, 32), shards=CHUNK)),
    "OME-Zarr": ("ome.zarr", lambda folder, path, image: folder.write_input(image, path.name)),
    "NIfTI": ("nii.gz", _nifti),
    "TIFF": ("tif", _tiff),
}


@pytest.fixture
def folder(tmp_path: Path) -> AnyFolder:
    """Make it."""
    return AnyFolder(tmp_path)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Count blocks."""
    return Calls(monkeypatch, task, "filter_patch")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, npt.NDArray[Any]]:
    """Return what an undisturbed run writes."""
    undisturbed = AnyFolder(tmp_path_factory.mktemp("undisturbed")).take("Zarr v3")
    undisturbed.run()
    return undisturbed.arrays()


@pytest.mark.parametrize("kind", FORMATS)
def test_an_untouched_input_is_gone_on_with(
    folder: AnyFolder, blocks: Calls, expected: dict[str, npt.NDArray[Any]], kind: str
) -> None:
    """Without a word."""
    blocks.break_off(folder.take(kind), DONE + 1)
    record = folder.run()
    assert blocks.count == BLOCKS - DONE
    assert not [note for note in record.notes if "vouched" in note]
    assert_same(folder, expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_exchanged_voxels_are_refused(folder: AnyFolder, blocks: Calls, kind: str) -> None:
    """Under the same metadata; the user's word helps against no other size."""
    blocks.break_off(folder.take(kind), DONE + 1)
    # A copy may keep times.
    folder.exchange(OTHER)
    some = r"\d of the \d files looked at, the first " if folder.input.is_dir() else ""
    told = (
        rf"was left unfinished by a run that differs: files of the input have another size: {some}"
        rf"{re.escape(str(folder.input))}\S*: [\d,]+ bytes, now [\d,]+ bytes{re.escape(BEGIN_ANEW)}"
    )
    for refusal in (folder.refusal(), folder.refusal(same_input=True)):
        assert re.fullmatch(told, refusal)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_copied_input_is_asked_about_once(
    folder: AnyFolder, blocks: Calls, expected: dict[str, npt.NDArray[Any]], kind: str
) -> None:
    """Whoever knows that its voxels are the same keeps what is done, and later attempts ask no more."""
    blocks.break_off(folder.take(kind), DONE + 1)
    folder.touch(AFTER_NS)
    some = r"\d of the \d files looked at, the first " if folder.input.is_dir() else ""
    changed = (
        rf"the input looks the same, but was changed or copied since an earlier attempt \({some}"
        rf"{re.escape(str(folder.input))}\S*: {MOMENT}, now {MOMENT}\)"
    )
    ways = (
        ": with other voxels the outputs would be a mix of two images; there are two ways: keep what is done with "
        "`--same-input` (in Python, `same_input=True`) if you know that no voxel changed"
    )
    refusal = folder.refusal()
    assert re.fullmatch(f"was left unfinished, and {changed}{re.escape(ways + BEGIN_ANEW)}", refusal)
    first, then = re.findall(MOMENT, refusal)
    assert first < then
    blocks.break_off(folder, 2, same_input=True)
    record = folder.run()
    assert blocks.count == BLOCKS - DONE - 1
    assert not [note for note in record.notes if "vouched" in note]
    assert_same(folder, expected)


def test_the_users_word_is_in_the_record(folder: AnyFolder, blocks: Calls) -> None:
    """And in what the outputs say of their making."""
    blocks.break_off(folder.take("NIfTI"), DONE + 1)
    folder.touch(AFTER_NS)
    (note,) = (note for note in folder.run(same_input=True).notes if "vouched" in note)
    told = rf"since an earlier attempt \({folder.input}: {MOMENT}, now {MOMENT}\); the user vouched for its voxels"
    assert re.search(told, note)
    written = json.loads(Path(folder.name("sum.ome.zarr/zarr.json")).read_text())
    assert note in written["attributes"]["convolume"]["plan"]["notes"]


def test_the_users_word_is_for_times_only(folder: AnyFolder, blocks: Calls) -> None:
    """Another parameter is refused; and with `--restart` it has no meaning."""
    blocks.break_off(folder.take("TIFF"), DONE + 1)
    folder.touch(AFTER_NS)
    told = rf"files of the input were changed or copied since: \S+: {MOMENT}, now {MOMENT}; cval was 0\.0 and is 1\.5"
    assert re.search(told, folder.refusal("cval=1.5", same_input=True))
    assert (
        folder.refusal(restart=True, same_input=True)
        == "`--restart` deletes what `--same-input` goes on with; give one of them"
    )


def test_what_may_be_overwritten_is_begun_anew(folder: AnyFolder, blocks: Calls) -> None:
    """Unless the user's word is there."""
    for output in folder.take("TIFF").values["outputs"].values():
        output["if_exists"] = "overwrite"
    for settings, count in (({}, BLOCKS), ({"same_input": True}, BLOCKS - DONE)):
        blocks.break_off(folder, DONE + 1, restart=True)
        folder.touch(AFTER_NS + count)
        folder.run(**settings)
        assert blocks.count == count


@pytest.mark.parametrize("missing", ["before", "now"])
def test_a_file_that_is_there_at_one_time_only(folder: AnyFolder, blocks: Calls, missing: str) -> None:
    """It is another image, even where missing files are fill value."""
    folder.take("Zarr v3").values["input"]["missing"] = "fill"
    file = folder.input / "c/0/1/1"
    voxels = file.read_bytes()
    if missing == "before":
        file.unlink()
    blocks.break_off(folder, DONE + 1)
    if missing == "before":
        file.write_bytes(voxels)
    else:
        file.unlink()
    size = f"{len(voxels):,} bytes"
    was, now = ("not there", size) if missing == "before" else (size, "not there")
    told = f"files of the input have another size: 1 of the 6 files looked at, the first {file}: {was}, now {now};"
    assert told in folder.refusal()


def test_what_is_not_read_may_change(folder: AnyFolder, blocks: Calls) -> None:
    """Such as later time points, which a microscope still writes."""
    folder.take("Zarr v3").values["input"]["region"] = {"y": [0, 128]}
    blocks.break_off(folder, DONE + 1)
    read, unread = (folder.input / f"c/0/{y}/1" for y in (1, 2))
    unread.write_bytes(b"other")
    blocks.break_off(folder, 1)
    read.touch()
    assert f"1 of the 4 files looked at, the first {read}: of " in folder.refusal()


def test_a_run_file_that_tells_nothing_of_files(folder: AnyFolder, blocks: Calls) -> None:
    """It was written before they were looked at: such a run is begun anew."""
    blocks.break_off(folder.take("Zarr v3"), DONE + 1)
    for file in folder.path.glob("*.convolume/run.json"):
        values = json.loads(file.read_text())
        del values["fingerprint"]["input"]["file_sizes_bytes"], values["fingerprint"]["input"]["files_changed_ns"]
        file.write_text(json.dumps(values))
    told = r"was left unfinished by a run that differs: input\.file_sizes_bytes was nothing and is \[[\d, ]+\]"
    for refusal in (folder.refusal(), folder.refusal(same_input=True)):
        assert re.fullmatch(f"{told}{re.escape(BEGIN_ANEW)}", refusal)
