"""Leases of fake devices among real processes: one holder each, freed by any death, all or nothing."""

import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from plateline.compute import leases

# Takes leases one after the other; while it has a device, a file says so, which nobody else may find.
HOLDER = """
import os, random, sys, time
from plateline.compute.leases import lease
folder, pool, count, rounds = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4])
for _ in range(rounds):
    with lease(pool, count) as held:
        assert len(held) == len(set(held)) == count and set(held) <= set(pool)
        marks = [os.path.join(folder, "busy-" + name) for name in held]
        for mark in marks:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        time.sleep(random.uniform(0.01, 0.05))
        for mark in marks:
            os.unlink(mark)
print("done")
"""
SLEEPER = """
import sys, time
from plateline.compute.leases import lease
with lease(sys.argv[1].split(","), 1) as held:
    print(*held, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    monkeypatch.setenv("PLATELINE_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(leases, "_PAUSE_S", 0.01)
    return tmp_path / "locks"


def started(program, *arguments):
    return subprocess.Popen([sys.executable, "-c", program, *arguments], text=True, stdout=subprocess.PIPE)


def test_many_processes_never_hold_one_device_at_once(tmp_path):
    wanted = ["1", "1", "1", "2", "2", "3"]  # of three
    holders = [started(HOLDER, str(tmp_path), "0,1,2", count, "4") for count in wanted]
    assert [holder.communicate(timeout=120)[0] for holder in holders] == ["done\n"] * len(wanted)
    assert [holder.returncode for holder in holders] == [0] * len(wanted)


def test_a_killed_holder_frees_its_device():
    holders = [started(SLEEPER, "a,b") for _ in range(2)]
    assert sorted(holder.stdout.readline() for holder in holders) == ["a\n", "b\n"]
    assert leases._try(leases._folder(), ["a", "b"], 1) == {}
    for holder in holders:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with leases.lease(["a", "b"], 2) as held:
        assert held == ["a", "b"]


def test_half_of_what_is_wanted_is_given_back(locks):
    with leases.lease(["1"], 1):
        assert leases._try(leases._folder(), ["0", "1"], 2) == {}
        with leases.lease(["0"], 1) as held:
            assert held == ["0"]


def test_waiting_is_logged_at_first_and_then_from_time_to_time(caplog, monkeypatch):
    monkeypatch.setattr(leases, "_SAY_EVERY_S", 0.15)
    got = []

    def wait():
        with leases.lease(["0"], 1) as held:
            got.append(held)

    with caplog.at_level(logging.INFO, logger="plateline.compute.leases"):
        with leases.lease(["0"], 1):
            waiting = threading.Thread(target=wait)
            waiting.start()
            time.sleep(0.5)
            assert got == []
        waiting.join(20)
    assert got == [["0"]]
    said = [message for message in caplog.messages if message.startswith("waiting for 1 of the GPUs 0: others hold")]
    assert 2 <= len(said) <= 4
    assert caplog.messages[-1].startswith("leased GPU 0 after 0.")


def test_a_lease_is_over_after_an_error():
    with pytest.raises(ValueError, match="inside"), leases.lease(["0"], 1):
        msg = "inside"
        raise ValueError(msg)
    with leases.lease(["0"], 1) as held:
        assert held == ["0"]


def test_the_folder_is_open_to_every_user_and_names_of_devices_stay_in_it(locks):
    with leases.lease(["GPU-1/../../x", "MIG-2"], 2) as held:
        assert held == ["GPU-1/../../x", "MIG-2"]
    assert stat.S_IMODE(locks.stat().st_mode) == 0o1777
    assert sorted(path.name for path in locks.iterdir()) == ["gate", "gpu-GPU-1_______x", "gpu-MIG-2"]


def test_the_lock_of_another_user_is_opened_as_it_is(locks):
    with leases.lease(["0"], 1):
        pass
    (locks / "gpu-0").chmod(0o444)
    opened = []
    real = os.open
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(leases.os, "open", lambda path, flags, *mode: opened.append(flags) or real(path, flags, *mode))
        with leases.lease(["0"], 1):
            pass
    assert not any(flags & os.O_CREAT for flags in opened)


def test_a_lock_that_appears_meanwhile_is_opened(tmp_path, monkeypatch):
    path, real = tmp_path / "gpu-0", os.open

    def slow(name, flags, *mode):
        if not flags & os.O_CREAT and not Path(name).exists():
            try:
                return real(name, flags)
            finally:
                path.touch()  # another process is faster
        return real(name, flags, *mode)

    monkeypatch.setattr(leases.os, "open", slow)
    os.close(leases._open(path))
