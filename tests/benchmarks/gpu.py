"""Segmentation on a GPU: how fast with one and with more worker processes, how busy the device, how equal to the CPU.

``python tests/benchmarks/gpu.py [--device cpu] [--workers 1 2 4] [--wells 3]``. Fields are mosaics of 3 x 3 real wells
of BBBC013, two channels, 3.7 Mpx; each is read, segmented by the default method with cells around its nuclei, and
measured for the table of objects, as `segment_part` does between reading and writing its plate. Workers are those of
`compute.map_wells`, or processes of the standard library where `distributed` is not installed. A figure of a run counts
from when all workers have done a field to when the first has nothing left. Takes about a minute on a GPU; on a CPU a
field takes 10 s and more (``--wells 1`` makes fields of one well).
"""

import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from unittest import mock

# One thread per worker, as in a job: set before any library starts its own.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import numpy as np
import tifffile
from shipped import DEFAULTS, ROOT, method_of

from plateline import compute, metrics, segment
from plateline.identity import COMPARTMENTS

IMAGES = ROOT / "resources" / "bbbc013" / "images"
# Nuclei first, then cells.
CHANNELS = (2, 1)
STEADY_S, SAMPLE_S = 5.0, 0.1


def read_field(number: int, wells: int) -> np.ndarray:
    """A mosaic (2, Y, X) float32 of wells x wells real wells, another one for each number."""
    files = [sorted(IMAGES.glob(f"Channel{channel}-*.tif")) for channel in CHANNELS]
    rows = [[number * 7 + wells * y + x for x in range(wells)] for y in range(wells)]
    image = [np.block([[tifffile.imread(of[n % len(of)]) for n in row] for row in rows]) for of in files]
    return np.stack(image).astype(np.float32)


def segment_field(number: int, wells: int) -> dict:
    """Labels of a field as `segment_part` makes them, with the seconds of each step."""
    from plateline.models import predict

    spent = {"network": 0.0}
    maps_at = predict.maps_at

    def timed(*given):
        start = time.time()
        maps = maps_at(*given)  # waits for the device, since it brings the maps back
        spent["network"] += time.time() - start
        return maps

    start = time.time()
    image = read_field(number, wells)
    spent["reading"] = time.time() - start
    with mock.patch.object(predict, "maps_at", timed):
        labels = segment.segment_field(image, method_of(DEFAULTS["method"]), cells=DEFAULTS["cells"], where="benchmark")
    objects = segment.object_table(labels)
    end = time.time()
    spent["decoding, cells, table"] = end - start - sum(spent.values())
    nuclei = int((objects["compartment"] == COMPARTMENTS[0]).sum())
    return {"start": start, "end": end, "spent": spent, "labels": labels, "pixels": image[0].size, "nuclei": nuclei}


def work(name: str, wells: int) -> dict:
    """What a worker does with one field, and what that took of it and of the device."""
    import torch

    found = segment_field(int(name), wells)
    del found["labels"]
    on_device = torch.cuda.is_available()
    found["device_mb"] = torch.cuda.max_memory_allocated() / 2**20 if on_device else 0.0
    found["host_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found | {"worker": os.getpid()}


def results(names: list[str], wells: int, workers: int, devices: list[str]) -> list[dict]:
    """Figures of all fields, by the workers of a job."""
    task = partial(work, wells=wells)
    try:
        import distributed  # noqa: F401
    except ImportError:
        print("distributed is not installed: workers are processes of the standard library")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            return [done.result() for done in as_completed([pool.submit(task, name) for name in names])]
    return [found for _, found in compute.map_wells(task, names, workers=workers, devices=devices)]


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[float, float, float]]]:
    """Time, share of time the device is busy, and its memory in MB, as nvidia-smi tells; nothing without it."""
    samples: list[tuple[float, float, float]] = []
    tool, over = shutil.which("nvidia-smi"), threading.Event()

    def look() -> None:
        asked = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--id=0"]
        while not over.wait(SAMPLE_S):
            said = subprocess.run([tool, *asked], capture_output=True, text=True, check=False).stdout
            with contextlib.suppress(ValueError):
                busy, memory = map(float, said.split(","))
                samples.append((time.time(), busy / 100, memory))

    thread = threading.Thread(target=look, daemon=True)
    if tool:
        thread.start()
    try:
        yield samples
    finally:
        over.set()
        if tool:
            thread.join()


def steady(found: list[dict]) -> tuple[float, float]:
    """From when all workers have done their first field to when the first one has done its last."""
    by_worker: dict[int, list[float]] = {}
    for field in found:
        by_worker.setdefault(field["worker"], []).append(field["end"])
    return max(map(min, by_worker.values())), min(map(max, by_worker.values()))


def measure(names: list[str], wells: int, workers: int, devices: list[str]) -> dict[str, float]:
    """Mpx per second, share of time the device is busy, and memory, of so many workers; one line of the table."""
    with watched() as samples:
        found = results(names, wells, workers, devices)
    begin, end = steady(found)
    pixels = sum(field["pixels"] for field in found if begin < field["end"] <= end)
    inside = [busy for when, busy, _ in samples if begin <= when <= end]
    spent = {step: sum(field["spent"][step] for field in found[workers:]) for step in found[0]["spent"]}
    got = {
        "mpx_s": pixels / 1e6 / (end - begin) if end > begin else float("nan"),
        "busy": float(np.mean(inside)) if inside else float("nan"),
        "device_mb": max(field["device_mb"] for field in found),
        "all_mb": max((memory for *_, memory in samples), default=0.0),
        "host_mb": max(field["host_mb"] for field in found),
    }
    total = sum(spent.values()) or 1.0
    shares = ", ".join(f"{step} {value / total:.2f}" for step, value in spent.items())
    print(
        f"{workers} workers ({len({field['worker'] for field in found})} at work): {len(found)} fields, "
        f"{got['mpx_s']:.2f} Mpx/s, device busy {got['busy']:.2f}; memory of the device {got['device_mb']:.0f} MB "
        f"allocated by a worker, {got['all_mb']:.0f} MB in use, this process included; "
        f"host {got['host_mb']:.0f} MB a worker; {shares}"
    )
    return got


def compare(wells: int) -> dict[str, float]:
    """Labels of one field on the CPU against those on the device, and whether the device gives them twice."""
    import torch

    from plateline.models import room

    here, again = segment_field(0, wells), segment_field(0, wells)
    with mock.patch.object(room, "device", lambda: torch.device("cpu")):
        cpu = segment_field(0, wells)
    ours, theirs = here["labels"]["nuclei"], cpu["labels"]["nuclei"]
    ap = metrics.average_precision(metrics.match(theirs, ours))
    at = dict(zip(metrics.match(theirs, ours)["threshold"], ap, strict=True))
    either = (ours > 0) | (theirs > 0)
    got = {
        "cpu_mpx_s": cpu["pixels"] / 1e6 / (cpu["end"] - cpu["start"]),
        "nuclei_cpu": cpu["nuclei"],
        "nuclei_device": here["nuclei"],
        "ap50": at[0.5],
        "ap90": at[max(at)],
        "equal_pixels": float(((ours > 0) == (theirs > 0))[either].mean()) if either.any() else 1.0,
        "repeated": float(all(np.array_equal(here["labels"][name], again["labels"][name]) for name in here["labels"])),
    }
    print(
        f"CPU, one thread: {got['cpu_mpx_s']:.2f} Mpx/s; {cpu['nuclei']} nuclei, {here['nuclei']} on the device; AP "
        f"of one against the other {got['ap50']:.4f} at IoU 0.5, {got['ap90']:.4f} at {max(at)}; share of equal pixels "
        f"of nuclei {got['equal_pixels']:.5f}; the same labels again on the device: {bool(got['repeated'])}"
    )
    return got


def rate(wells: int) -> None:
    """Mpx per second of the network alone, by precision: what half of it would gain."""
    import torch

    from plateline import config, store
    from plateline.models import predict
    from plateline.models.fit import TARGETS
    from plateline.models.light import curves, unit

    model = store.read_model(config.model_of({"segment": DEFAULTS}, "segment"))
    target, device = TARGETS[DEFAULTS["method"]], torch.device("cuda")
    trained = predict.prepare(model["arrays"], target, diameter_px=model["card"]["diameter_px"], device=device)
    seen = torch.from_numpy(unit(read_field(0, wells)[0]))[None].to(device)
    for kind in ("float32", "tf32", "bfloat16"):  # tf32 is what torch takes for float32 convolutions
        torch.backends.cudnn.allow_tf32 = kind != "float32"
        half = torch.autocast("cuda", torch.bfloat16, enabled=kind == "bfloat16")
        with torch.inference_mode(), half, predict._repeatable():
            maps = [predict._tiled(curves(seen), trained, 0) for _ in range(3)]
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            marks[0].record()
            maps = [predict._tiled(curves(seen), trained, 0) for _ in range(10)]
            marks[1].record()
            torch.cuda.synchronize()
        ms = marks[0].elapsed_time(marks[1]) / 10
        print(f"network alone, {kind}: {ms:.1f} ms a field of {seen.numel() / 1e6:.1f} Mpx, {len(maps)} times")


def main() -> None:
    """Measure each number of workers, compare with the CPU, print the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="0", help="as CUDA_VISIBLE_DEVICES names it, or cpu")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--wells", type=int, default=3, help="wells along a side of a field")
    given = parser.parse_args()
    began = time.time()
    devices = [] if given.device == "cpu" else [given.device]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    import torch

    if devices and not torch.cuda.is_available():
        msg = f"torch sees no device {given.device}; --device cpu measures without one"
        raise SystemExit(msg)
    name = torch.cuda.get_device_name() if devices else "CPU"
    print(f"{name}, torch {torch.__version__}, {os.cpu_count()} cores; method {DEFAULTS['method']}")
    first = segment_field(0, given.wells)  # compiles what every worker then finds compiled
    print(f"first field, compiling included: {time.time() - began:.1f} s, {first['nuclei']} nuclei")
    second = segment_field(1, given.wells)
    fields = max(2, min(40, round(STEADY_S / (second["end"] - second["start"]))))  # per worker
    got = {
        workers: measure([str(n) for n in range((fields + 1) * workers)], given.wells, workers, devices)
        for workers in given.workers
    }
    if devices:
        rate(given.wells)
    agreed = compare(given.wells)
    print(f"{time.time() - began:.0f} s in all")
    line = {f"mpx_s_{workers}": of["mpx_s"] for workers, of in got.items()}
    line |= {f"busy_{workers}": of["busy"] for workers, of in got.items()}
    line |= {"device_mb": max(of["device_mb"] for of in got.values())} | agreed
    print(" ".join(f"{key}={value:.4g}" for key, value in line.items()))


if __name__ == "__main__":
    main()
