"""Which device is taken: by wishes, by speed, and never silently another one."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from convolume.devices import _selection
from convolume.devices._selection import choose_device, list_devices, open_device, select_device
from convolume.errors import InputError
from convolume.records import DeviceInfo

SLOW = DeviceInfo("Vega 8", "opencl", "amd/0", "gpu", platform="AMD APP", memory_bytes=64 << 30, speed_gflops=50.0)
QUICK = DeviceInfo("GeForce RTX 4090", "opencl", "nvidia/0", "gpu", platform="NVIDIA CUDA", speed_gflops=900.0)
UNMEASURED = DeviceInfo("A processor", "opencl", "pocl/0", "cpu", platform="Portable Computing Language")
NUMPY = DeviceInfo("NumPy 2", "numpy", "numpy", "cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[DeviceInfo]]:
    """Play a machine with the devices that a test puts into the list."""
    here: dict[str, list[DeviceInfo]] = {"opencl": [SLOW, UNMEASURED, QUICK], "numpy": [NUMPY]}

    def member(_: str, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            available=lambda: tuple(here[name]), measured_speed_gflops=lambda _: 7.0, open_device=lambda _: object()
        )

    monkeypatch.setattr(_selection, "load_member", member)
    monkeypatch.setattr(_selection, "member_names", lambda _: ("numpy", "opencl"))
    monkeypatch.setattr(_selection, "_said", set())
    monkeypatch.setattr(_selection, "_chosen", {})
    monkeypatch.setattr(_selection, "_wishes_of_process", {})
    monkeypatch.delenv("CONVOLUME_DEVICE", raising=False)
    return here


@pytest.mark.usefixtures("machine")
class TestWishes:
    """A machine with three OpenCL devices."""

    def test_numpy_is_listed_last(self) -> None:
        """It is the last resort."""
        assert list_devices() == (SLOW, UNMEASURED, QUICK, NUMPY)

    @pytest.mark.parametrize("wish", [None, "any", (), ["no such", "ANY"], "", "opencl"])
    def test_the_fastest_is_taken(self, wish: str | list[str] | None) -> None:
        """By measured speed, not by memory."""
        choice = choose_device(wish)
        assert choice.info == QUICK
        assert "fastest" in choice.reason

    @pytest.mark.parametrize(
        ("wish", "expected"),
        [("rtx", QUICK), ("amd", SLOW), ("portable", "A processor"), ("numpy", NUMPY), (["Arc", "vega"], SLOW)],
    )
    def test_a_part_of_a_name_is_enough(self, wish: str | list[str], expected: DeviceInfo | str) -> None:
        """Name, platform or backend, case ignored, wishes in order."""
        assert expected in {choose_device(wish).info, choose_device(wish).info.name}

    def test_what_was_not_taken_has_a_reason(self) -> None:
        """The plan shows it."""
        assert choose_device().rejected == (
            ("Vega 8", "not faster: 50 against 900 GFLOP/s"),
            ("A processor", "not faster: 7 against 900 GFLOP/s"),
            ("NumPy 2", "serves where there is no OpenCL"),
        )
        assert choose_device("vega").rejected[1] == ("GeForce RTX 4090", "not asked for")

    def test_a_wish_that_nothing_is_like_is_an_error(self) -> None:
        """The message lists what there is."""
        with pytest.raises(InputError) as caught:
            choose_device(["Arc", "Radeon"])
        assert str(caught.value) == (
            "no device is like 'Arc' or 'Radeon' (asked for); there are: Vega 8 (opencl, AMD APP); "
            "A processor (opencl, Portable Computing Language); GeForce RTX 4090 (opencl, NVIDIA CUDA); "
            "NumPy 2 (numpy). Name a part of one of these, or end the list of wishes in 'any' for the fastest"
        )

    def test_the_variable_counts_where_nothing_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A list, separated by commas."""
        monkeypatch.setenv("CONVOLUME_DEVICE", " arc , vega ")
        assert choose_device().info == SLOW
        assert choose_device("rtx").info == QUICK
        monkeypatch.setenv("CONVOLUME_DEVICE", "arc")
        with pytest.raises(InputError, match=r"by the variable CONVOLUME_DEVICE"):
            choose_device()

    def test_select_device_holds_for_the_process(self) -> None:
        """Other threads see it; it goes before the variable."""
        select_device("vega")
        seen = []
        thread = threading.Thread(target=lambda: seen.append(choose_device().info))
        thread.start()
        thread.join()
        assert seen == [SLOW]

    def test_select_device_as_a_block_is_undone(self) -> None:
        """Nested blocks, and an error on the way out."""
        select_device("portable")
        with select_device("vega") as outer:
            assert outer.choice.info == SLOW
            with select_device(["rtx"]):
                assert choose_device().info == QUICK
            assert choose_device().info == SLOW
            with pytest.raises(ZeroDivisionError), select_device("rtx"):
                _ = 1 // 0
            assert choose_device().info == SLOW
        assert choose_device().info == UNMEASURED

    def test_select_device_refuses_at_once(self) -> None:
        """And leaves what was selected."""
        select_device("vega")
        with pytest.raises(InputError, match="no device is like 'arc'"):
            select_device("arc")
        assert choose_device().info == SLOW

    def test_a_process_opens_a_device_once(self) -> None:
        """Contexts are costly."""
        assert open_device(QUICK) is open_device(QUICK)
        assert open_device(QUICK) is not open_device(SLOW)


def test_numpy_serves_where_there_is_no_opencl_and_says_so_once(
    machine: dict[str, list[DeviceInfo]], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in silence, and not at every call."""
    machine["opencl"].clear()
    with caplog.at_level(logging.WARNING, logger="convolume"):
        assert [choose_device().info for _ in range(3)] == [NUMPY] * 3
    assert [record.message for record in caplog.records] == [
        "no OpenCL device was found: NumPy serves, slowly. Install a driver, or `pip install pyopencl[pocl]`"
    ]


def test_one_device_is_not_measured(machine: dict[str, list[DeviceInfo]]) -> None:
    """There is nothing to choose."""
    machine["opencl"][:] = [UNMEASURED]
    assert choose_device().info == UNMEASURED
