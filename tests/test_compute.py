"""One job's wells on its cores and GPUs: equal results on one and two workers, and errors that reach the caller."""

import logging
import os
import platform
import sys
import time

import numpy as np
import pytest

from plateline.compute import map_wells
from plateline.compute.cluster import _environment_of_workers, _hidden_script, share

WELLS = ["A01", "A02", "B01", "B02", "C01"]


def square(well):
    """Something a worker can do, and where it did it."""
    return int(well[1:]) ** 2, os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ.get("CUDA_VISIBLE_DEVICES")


def fail_in_b01(well):
    if well == "B01":
        msg = "well B01 is broken"
        raise ValueError(msg)
    return well


@pytest.fixture(scope="module")
def on_two():
    """Results of two workers, and what the cluster left behind in this process."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    main = sys.modules["__main__"]
    had, file = "__file__" in main.__dict__, getattr(main, "__file__", None)
    main.__file__ = "/a/script/that/fails/when/run/again.py"
    try:
        results = list(map_wells(square, WELLS, workers=2))
        restored = main.__file__
    finally:
        if had:
            main.__file__ = file
        else:
            del main.__file__
    after = {name: os.environ.get(name) for name in before}
    return results, restored, before == after


def test_one_and_two_workers_give_equal_results(on_two, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    alone = list(map_wells(square, WELLS, workers=1))
    assert [well for well, _ in alone] == WELLS
    assert {found[1] for _, found in alone} == {os.getpid()}
    assert {well: result[0] for well, result in on_two[0]} == {well: result[0] for well, result in alone}


def test_two_workers_are_other_single_threaded_processes(on_two):
    processes = {found[1] for _, found in on_two[0]}
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2
    assert {found[2] for _, found in on_two[0]} == {"1"}
    assert {found[3] for _, found in on_two[0]} == {""}  # none sees a GPU that the job was not given


def test_the_script_and_the_environment_are_as_before(on_two):
    _, restored, same_environment = on_two
    assert restored == "/a/script/that/fails/when/run/again.py"
    assert same_environment


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_in_a_well_reaches_the_caller(workers):
    with pytest.raises(ValueError, match="well B01 is broken"):
        list(map_wells(fail_in_b01, WELLS[1:3], workers=workers))


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_no_wells_and_one_well_need_no_cluster(workers, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list(map_wells(square, [], workers=workers)) == []
    assert list(map_wells(square, ["A02"], workers=workers)) == [("A02", (4, os.getpid(), "3", None))]


def test_each_well_is_a_line_of_the_log(caplog):
    with caplog.at_level(logging.INFO, logger="plateline.compute"):
        list(map_wells(str.lower, WELLS[:2], workers=1))
    assert caplog.messages == ["well A01 done, 1 of 2", "well A02 done, 2 of 2"]


def test_results_come_one_by_one():
    seen = []
    results = map_wells(lambda well: seen.append(well) or well, WELLS, workers=1)
    next(results)
    assert seen == ["A01"]


def test_only_warnings_of_dask_reach_the_log(on_two):
    loggers = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    assert loggers
    assert not any(logging.getLogger(name).isEnabledFor(logging.INFO) for name in loggers)


def seen(well):
    """Which process does a well, and the devices it sees; slow enough that every worker gets one."""
    time.sleep(0.2)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]


def test_each_worker_sees_one_device_and_each_device_has_a_worker(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    by_process = dict(found for _, found in map_wells(seen, WELLS, workers=1, devices=["7", "GPU-ab"]))
    assert sorted(by_process.values()) == ["7", "GPU-ab"]
    assert os.getpid() not in by_process
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


def test_devices_are_dealt_round():
    assert share(["0", "1"], 5) == ["0", "1", "0", "1", "0"]
    assert share([], 2) == ["", ""]


@pytest.mark.parametrize("had_file", [True, False])
def test_the_script_is_hidden_and_comes_back_after_an_error(had_file, monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)
    if not had_file:
        monkeypatch.delattr(main, "__file__")
    with pytest.raises(RuntimeError, match="inside"), _hidden_script():
        assert not hasattr(main, "__file__")
        msg = "inside"
        raise RuntimeError(msg)
    assert hasattr(main, "__file__") is had_file


def pages_of_a_second_array(_well):
    """Pages that the system hands out for an array as large as one that this process has just freed."""
    resource = pytest.importorskip("resource")
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways")
@pytest.mark.parametrize("workers", [1, 2])
def test_memory_that_was_freed_is_used_again(workers):
    pages = [found for _, found in map_wells(pages_of_a_second_array, WELLS[:2], workers=workers)]
    assert max(pages) < 1000  # of 15,625


def test_thread_limits_come_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with _environment_of_workers():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "MKL_NUM_THREADS" not in os.environ
