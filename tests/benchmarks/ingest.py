"""How fast `ingest_part` and `qc_part` are beside the bare decoding of the same files, and what memory they take.

Run alone: `python tests/benchmarks/ingest.py`. Fields of five 16-bit channels, 1080 x 1080, LZW-compressed as many
microscopes write them, made of real cells with camera noise; one worker process, so that CPU-seconds compare. The loops
of `qc` are compiled before: that takes some seconds once per installation, not per job.
"""

import csv
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

sys.path.insert(0, str(ROOT / "workflow"))

from campaign import make_campaign, run, write_config, write_sheet  # noqa: E402

from plateline import qc  # noqa: E402

SIDE, CHANNELS, SIZES = 1080, 5, (16, 64)
REGEX = r"(?P<well>[A-P]\d+)_f(?P<site>\d)_c(?P<channel>\d)\.tif"
SITES = 4
# Share of the raw decode speed that the issue asks for.
TARGET = 1 / 3


def draw_field(cells: np.ndarray, seed: int) -> np.ndarray:
    """One channel, (Y, X) uint16: real cells, mirrored to the size, on 12 bits with shot and read noise."""
    rng = np.random.default_rng(seed)
    light = np.pad(cells.astype(np.float32), ((0, SIDE - cells.shape[0]), (0, SIDE - cells.shape[1])), mode="reflect")
    return (rng.poisson(12 * light) + rng.normal(100, 4, light.shape)).clip(0, 65535).astype(np.uint16)


def write_fields(folder: Path, n_fields: int) -> None:
    """The images of a plate, one file per channel."""
    folder.mkdir(parents=True)
    sources = sorted((ROOT / "resources" / "bbbc013" / "images").glob("*.tif"))
    for field in range(n_fields):
        well = f"{'ABCDEFGH'[field // SITES // 12]}{field // SITES % 12 + 1:02d}"
        for channel in range(CHANNELS):
            number = field * CHANNELS + channel
            image = draw_field(tifffile.imread(sources[number % len(sources)]), number)
            name = f"{well}_f{field % SITES + 1}_c{channel + 1}.tif"
            tifffile.imwrite(folder / name, image, compression="lzw")


def decode(folder: Path) -> tuple[float, float]:
    """CPU-seconds and MB of decoding every file once, one thread."""
    start, size = time.process_time(), 0
    for path in sorted(folder.glob("*.tif")):
        size += tifffile.imread(path, maxworkers=1).nbytes
    return time.process_time() - start, size / 1e6


def write_clock(folder: Path) -> None:
    """Have every Python process of a campaign note its CPU-seconds when it ends; Snakemake only samples them."""
    line = f"open({str(folder / 'cpu.tsv')!r}, 'a').write(f'{{sys.argv[0]}}\\t{{time.process_time()}}\\n')"
    text = f"import atexit, sys, time\natexit.register(lambda: {line})\n"
    (folder / "clone" / "workflow" / "sitecustomize.py").write_text(text)


def read_benchmark(folder: Path, rule: str) -> dict[str, float]:
    """CPU-seconds and peak MB of a rule's job."""
    path = next((folder / "logs" / rule).glob("*.benchmark.tsv"))
    with path.open(newline="") as file:
        row = next(csv.DictReader(file, delimiter="\t"))
    noted = [line.split("\t") for line in (folder / "cpu.tsv").read_text().splitlines()]
    (cpu_s,) = (float(seconds) for script, seconds in noted if script.endswith(f"{rule}.py"))
    return {"cpu_s": cpu_s, "peak_mb": float(row["max_rss"])}


def run_plate(folder: Path, n_fields: int) -> dict[str, float]:
    """Figures of one plate: decoding, both rules, memory."""
    make_campaign(folder, {})
    write_clock(folder)
    write_fields(folder / "images" / "P1", n_fields)
    channels = {str(number + 1): f"C{number + 1}" for number in range(CHANNELS)}
    ingest = {"plate": {"channels": channels}, "pattern": {"regex": REGEX}}
    write_config(folder, {"ingest": ingest, "segment": {"nuclei_channel": "C1"}, "profile": {}})
    write_sheet(folder, {"P1": {}})
    cpu_s, size_mb = decode(folder / "images" / "P1")
    run(folder, "--cores", "1", "results/qc/P1/part-1.parquet")
    jobs = {rule: read_benchmark(folder, rule) for rule in ("ingest_part", "qc_part")}
    return {
        "size_mb": size_mb,
        "decode_cpu_s": cpu_s,
        "ingest_cpu_s": jobs["ingest_part"]["cpu_s"],
        "qc_cpu_s": jobs["qc_part"]["cpu_s"],
        "peak_mb": max(job["peak_mb"] for job in jobs.values()),
    }


def main() -> None:
    """Print the table, then the figures by name."""
    figures = {}
    qc.measure_field(np.eye(SIDE, dtype=np.uint16)[None], ["c"], [1], background_percentile=5)
    with tempfile.TemporaryDirectory() as scratch:
        for n_fields in SIZES:
            figures[n_fields] = run_plate(Path(scratch, str(n_fields)), n_fields)
    print(f"{CHANNELS} channels of {SIDE} x {SIDE} x 16 bit, LZW; CPU-seconds of one process")
    print("fields  raw MB  decode  ingest_part  qc_part  peak MB  share of decode speed")
    for n_fields, found in figures.items():
        share = found["decode_cpu_s"] / (found["ingest_cpu_s"] + found["qc_cpu_s"])
        cells = [found[name] for name in ("size_mb", "decode_cpu_s", "ingest_cpu_s", "qc_cpu_s", "peak_mb")]
        print(f"{n_fields:6d}", *(f"{cell:9.1f}" for cell in cells), f"{share:9.2f}")
    last, small = figures[SIZES[-1]], figures[SIZES[0]]
    share = last["decode_cpu_s"] / (last["ingest_cpu_s"] + last["qc_cpu_s"])
    print(f"share of decode speed {share:.2f}, asked for {TARGET:.2f}: {'met' if share >= TARGET else 'MISSED'}")
    print(f"decode_share={share:.2f} peak_mb_16_fields={small['peak_mb']:.0f} peak_mb_64_fields={last['peak_mb']:.0f}")


if __name__ == "__main__":
    main()
