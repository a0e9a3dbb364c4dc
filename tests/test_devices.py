"""Which process has which GPU: real processes that lock pretended devices."""

import os
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


def test_locks_follow_no_link_and_change_no_file_of_others(tmp_path):
    """Another user may write where the locks lie."""
    folder, victim = tmp_path / "locks", tmp_path / "victim"
    folder.mkdir(mode=0o755)
    victim.write_text("kept")
    victim.chmod(0o600)
    (folder / "device-0").symlink_to(victim)
    with pytest.raises(UserError, match="device-0 is no file"), claimed(["0"], 1, folder):
        pass
    (folder / "device-0").unlink()
    os.mkfifo(folder / "device-0")
    with pytest.raises(UserError, match="device-0 is no file"), claimed(["0"], 1, folder):
        pass
    (folder / "device-0").unlink()
    (folder / "device-0").touch(mode=0o640)
    with claimed(["0", "1"], 2, folder):
        pass
    modes = [path.stat().st_mode & 0o7777 for path in (victim, folder, folder / "device-0", folder / "device-1")]
    assert modes == [0o600, 0o755, 0o640, 0o666], "only what was just made"
    assert victim.read_text() == "kept"
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(UserError, match="link is no folder: remove it"), claimed(["0"], 1, link):
        pass


SHOWN = """
import os, sys
from pathlib import Path
from invp.plumbing import devices
devices.FOLDER = Path(sys.argv[1])
with devices.reserved(1):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
"""


def test_jobs_inside_an_allocation_share_its_devices_and_other_allocations_number_theirs_anew(tmp_path):
    def start(job: str) -> subprocess.Popen:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_ID": job}
        command = [sys.executable, "-c", SHOWN, str(tmp_path / "locks")]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    processes = [start("7"), start("7"), start("8")]
    shown = [process.stdout.readline().strip() for process in processes]
    for process in processes:
        process.communicate("\n", timeout=60)
    assert sorted(shown[:2]) == ["0", "1"] and shown[2] in ("0", "1")
    assert {process.returncode for process in processes} == {0}
