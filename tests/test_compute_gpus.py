"""Which GPUs a job sees: those of the scheduler, those it leases, or none."""

import logging
import os

import pytest

from plateline import compute, methods
from plateline.compute import gpus as module
from plateline.errors import ConfigError

VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PLATELINE_GPU_POOL", "SLURM_JOB_ID", "SLURM_JOB_GPUS")


@pytest.fixture(autouse=True)
def host(monkeypatch, tmp_path):
    """A host that says nothing of devices, and has its locks in a folder of the test."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLATELINE_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(module.shutil, "which", lambda tool: None)
    monkeypatch.setattr(module.Path, "glob", lambda folder, pattern: iter(()))


def test_a_job_that_asks_for_none_sees_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with compute.devices(0) as given:
        assert given == []
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_what_the_scheduler_pinned_is_taken_without_a_lease(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_GPUS", "6,7")  # numbers of the host: not those that the job sees
    monkeypatch.setenv("PLATELINE_GPU_POOL", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with compute.devices(2) as given:
        assert given == ["0", "1"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert not (tmp_path / "locks").exists()


def test_a_scheduler_that_pins_nothing_leaves_it_to_a_lease(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PLATELINE_GPU_POOL", "5")
    with compute.devices(1) as given:
        assert given == ["5"]


@pytest.mark.parametrize(
    ("pool", "visible", "given"),
    [
        ("2, GPU-a1,3", "0", ["2", "GPU-a1"]),
        (None, "3,1", ["3", "1"]),
        (None, "4,4,5,-1,6", ["4", "5"]),
    ],
)
def test_a_lease_is_of_the_pool_or_of_what_is_visible(monkeypatch, pool, visible, given):
    if pool is not None:
        monkeypatch.setenv("PLATELINE_GPU_POOL", pool)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with compute.devices(2) as held:
        assert held == given
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(given)
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_the_drivers_tool_is_asked_for_the_devices(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1 $2" = "--query-gpu=index --format=csv,noheader" ] && printf "0\\n1\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(module.shutil, "which", lambda name: str(tool))
    with compute.devices(2) as given:
        assert given == ["0", "1"]
    tool.write_text("#!/bin/sh\necho 'has failed'; exit 9\n")
    assert module._pool() == []


def test_without_the_tool_the_devices_of_the_system_count(monkeypatch):
    files = [module.Path(f"/dev/nvidia{number}") for number in (1, 0)]
    monkeypatch.setattr(module.Path, "glob", lambda folder, pattern: iter(files if "[0-9]" in pattern else ()))
    assert module._pool() == ["0", "1"]


@pytest.mark.parametrize(("visible", "told"), [("0", r"has 1 to lend \(0\)"), ("", r"has 0 to lend \(none\)")])
def test_a_host_with_too_few_devices_is_refused(monkeypatch, visible, told):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    asks = rf"asks for 2 GPUs, but this host {told}; expected at least 2; lower `gpu` in the profile"
    with pytest.raises(ConfigError, match=asks), compute.devices(2):
        pass


def test_the_devices_stand_in_the_log(monkeypatch, caplog):
    monkeypatch.setenv("PLATELINE_GPU_POOL", "5")
    with caplog.at_level(logging.INFO, logger="plateline.compute"):
        with compute.devices(1):
            pass
        with compute.devices(0):
            pass
    assert caplog.messages[0].startswith("leased GPU 5 after ")
    assert caplog.messages[1] == "GPUs: none"


@pytest.mark.parametrize(
    ("name", "taken"),
    [("flow", 2), ("cellpose", 2), ("re:compile", 2), ("otsu", 0), ("plateline.segment.classical:adaptive", 0)],
)
def test_a_segmenter_without_a_network_takes_none(name, taken):
    assert methods.gpus([name], {"gpu": 2}) == taken
    assert methods.gpus([name], {}) == 0


def test_a_network_in_an_ensemble_takes_what_is_given():
    assert methods.gpus(["otsu", "adaptive"], {"gpu": 2}) == 0
    assert methods.gpus(["otsu", "flow", "adaptive"], {"gpu": 2}) == 2
