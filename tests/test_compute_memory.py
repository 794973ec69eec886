"""Too little memory on a GPU: half as many tiles at once, at last the CPU, and the labels of an undisturbed run."""

import logging
from functools import partial

import numpy as np
import pytest
import torch
from drawn import picture

from plateline import compute, config, methods, store
from plateline.compute import memory
from plateline.models import predict, room
from plateline.models.fit import TARGETS

OPTIONS = {"diameter_px": 20, "mirrors": 0, "min_share": 0.15}


@pytest.fixture(autouse=True)
def tiles(monkeypatch):
    """A process in which nothing went wrong yet, that has four tiles of a field in a batch."""
    monkeypatch.setattr(room, "_TILES", {"cuda": 8, "cpu": 4})
    monkeypatch.setattr(room, "_SMALLER", {})
    monkeypatch.setattr(room, "_STANDS_IN", [])
    monkeypatch.setattr(memory, "_TOLD", [])
    monkeypatch.setattr(predict, "_READY", {})
    monkeypatch.setattr(predict, "_TILE_PX", 64)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def limit(monkeypatch):
    """Networks with room for so many tiles at once, until the CPU stands in; and how many they were given."""
    given: list[int] = []
    placed = predict.placed

    def limited(most):
        def small(network, device):
            whole = placed(network, device)

            def forward(x):
                given.append(len(x))
                if len(x) > most and not room._STANDS_IN:
                    msg = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 4 GiB"
                    raise torch.cuda.OutOfMemoryError(msg)
                return whole(x)

            return forward

        monkeypatch.setattr(predict, "placed", small)
        return given

    return limited


def find_nuclei(well):
    """Labels of a field of one well, in tiles, by the shipped network."""
    image = picture([(40, 50), (60, 200), (180, 90), (250, 300), (140, 310)], radius=10, shape=(290, 350))
    model = store.read_model(str(config.SHIPPED / "flow.safetensors"))
    return methods.load("segment", "flow")(image[None], model=model, **OPTIONS, **TARGETS["flow"].options)


@pytest.fixture(scope="module")
def undisturbed():
    """What `find_nuclei` gives with batches of one tile, as a job without a GPU has them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(predict, "_TILE_PX", 64)
        found = find_nuclei("A01")
    assert found["nuclei"].max() == 5
    return found


def assert_same(found, expected):
    np.testing.assert_array_equal(found["nuclei"], expected["nuclei"])
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-5)


def test_batches_of_tiles_do_not_change_a_label(limit, undisturbed):
    given = limit(4)
    assert_same(find_nuclei("A01"), undisturbed)
    assert max(given) == 4


def test_batches_are_halved_until_there_is_room_and_stay_so(limit, undisturbed, caplog):
    given = limit(1)
    results = dict(compute.map_wells(find_nuclei, ["A01", "A02"], workers=1))
    for found in results.values():
        assert_same(found, undisturbed)
    assert given[:3] == [4, 2, 1]
    assert given[3:] == [1] * (len(given) - 3)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        "well A01: GPU : CUDA out of memory. Tried to allocate 2.00 GiB.; going on with batches of 2 in place of 4",
        "well A01: GPU : CUDA out of memory. Tried to allocate 2.00 GiB.; going on with batches of 1 in place of 2",
    ]


def test_the_cpu_stands_in_for_one_well_where_not_even_one_tile_has_room(limit, undisturbed, caplog):
    given = limit(0)
    results = dict(compute.map_wells(find_nuclei, ["A01", "A02"], workers=1))
    for found in results.values():
        assert_same(found, undisturbed)
    assert given[:4] == [4, 2, 1, 1]
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.rpartition("going on with ")[2] for message in warned] == [
        "batches of 2 in place of 4",
        "batches of 1 in place of 2",
        "the CPU",
        "the CPU",
    ]
    assert warned[3].startswith("well A02: ")


def test_an_error_that_no_smaller_batch_mends_is_the_callers():
    calls = []

    def hopeless(well):
        calls.append(well)
        msg = "CUDA out of memory, always"
        raise torch.cuda.OutOfMemoryError(msg)

    with pytest.raises(torch.cuda.OutOfMemoryError, match="CUDA out of memory, always"):
        memory.within_memory(hopeless, "A01")
    assert len(calls) == 4  # four tiles, two, one, the CPU


@pytest.mark.parametrize(("message", "calls"), [("CUDA error: out of memory", 4), ("CUDA error: unspecified", 1)])
def test_only_errors_of_memory_are_tried_again(message, calls):
    called = []

    def fail(well):
        called.append(well)
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        memory.within_memory(fail, "A01")
    assert len(called) == calls


def test_a_job_without_torch_does_not_import_it(monkeypatch):
    monkeypatch.delitem(memory.sys.modules, "torch")
    assert memory.within_memory(str.lower, "A01") == ("a01", [])
    with pytest.raises(IndexError):
        memory.within_memory(lambda well: well[9], "A01")
    assert "torch" not in memory.sys.modules


def test_a_device_gives_way_step_by_step_to_the_cpu(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    seen = []
    while said := room.make_smaller():
        seen.append((said, room.device().type, room.tiles()))
    assert seen == [
        ("batches of 4 in place of 8", "cuda", 4),
        ("batches of 2 in place of 4", "cuda", 2),
        ("batches of 1 in place of 2", "cuda", 1),
        ("the CPU", "cpu", 4),
        ("batches of 2 in place of 4", "cpu", 2),
        ("batches of 1 in place of 2", "cpu", 1),
    ]
    assert len(emptied) == 7
    room.come_back()
    assert (room.device().type, room.tiles()) == ("cuda", 1)


def test_a_device_that_torch_does_not_see_is_told_of_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    notes = [memory.within_memory(str.lower, well)[1] for well in ("A01", "A02")]
    assert notes == [["GPU 3 was given to this job, but torch sees none; networks run on the CPU"], []]


def test_the_network_of_a_device_is_not_that_of_the_cpu(monkeypatch):
    prepared = []
    monkeypatch.setattr(
        predict, "prepare", lambda *given, **also: prepared.append(also["device"].type) or len(prepared)
    )
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ready = partial(predict._ready, {"checksum": "c", "card": {"diameter_px": 20}, "arrays": {}}, TARGETS["flow"])
    assert [ready(), ready()] == [1, 1]
    room._STANDS_IN.append(True)
    assert [ready(), ready()] == [2, 2]
    assert prepared == ["cuda", "cpu"]
