"""Which process has which GPU: real processes that lock pretended devices."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from invp.plumbing.devices import claimed, devices_of
from invp.plumbing.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
HOLD = """
import sys, time
from pathlib import Path
from invp.plumbing.devices import claimed
folder, number, seconds, log = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
with claimed(["0", "1", "2"], number, folder) as own:
    began = time.monotonic()
    time.sleep(seconds)
    log.write_text(f"{began} {time.monotonic()} {','.join(own)}")
"""


def hold(folder: Path, number: int, seconds: float, log: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(folder), str(number), str(seconds), str(log)], cwd=ROOT)


def test_no_two_processes_have_a_device_at_once_and_all_devices_are_used(tmp_path):
    numbers = [1, 1, 2, 1, 3, 1, 2, 1]
    processes = [hold(tmp_path / "locks", n, 0.15, tmp_path / f"log-{i}") for i, n in enumerate(numbers)]
    assert [process.wait(60) for process in processes] == [0] * len(numbers)
    spans: dict[str, list[tuple[float, float]]] = {}
    for i, number in enumerate(numbers):
        began, ended, own = (tmp_path / f"log-{i}").read_text().split()
        assert len(set(own.split(","))) == number
        for device in own.split(","):
            spans.setdefault(device, []).append((float(began), float(ended)))
    assert set(spans) == {"0", "1", "2"}
    for device, times in spans.items():
        times.sort()
        assert all(one[1] <= other[0] for one, other in zip(times, times[1:], strict=False)), device


def test_a_killed_process_gives_its_device_back(tmp_path):
    process = hold(tmp_path / "locks", 3, 60, tmp_path / "log")
    while len(list((tmp_path / "locks").glob("device-*"))) < 3 if (tmp_path / "locks").exists() else True:
        time.sleep(0.02)
    time.sleep(0.2)
    waiting = hold(tmp_path / "locks", 1, 0, tmp_path / "second")
    time.sleep(0.5)
    assert waiting.poll() is None
    process.kill()
    process.wait()
    assert waiting.wait(30) == 0


def test_more_processes_than_devices_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="3 processes want a GPU each, but there are 2"), claimed(["0", "1"], 3, tmp_path):
        pass


def test_the_environment_says_which_devices_there_are():
    assert devices_of({"CUDA_VISIBLE_DEVICES": "2, GPU-ab12"}) == ["2", "GPU-ab12"]
    assert devices_of({"CUDA_VISIBLE_DEVICES": ""}) == devices_of({"CUDA_VISIBLE_DEVICES": "-1"}) == []
