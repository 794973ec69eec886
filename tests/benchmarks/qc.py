"""What quality control finds: blur drawn into real fields, false alarms on sharp ones, saturation, and plate edges.

Run it from anywhere: ``python tests/benchmarks/qc.py``. Real fields of BBBC013 (resources/) and, where PLATELINE_DATA
or ../shared/data has it, of dsb2018_fluo, its fields of one size taken for a plate. Blurring an image removes its
noise, which makes any score perfect; so the noise is separated first, the rest blurred, and the noise redrawn. The
sharp fields go the same way without the blur. Focus is scored within one plate and channel; the
last line has the worst of them.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
import yaml
from scipy import ndimage
from scipy.optimize import nnls
from shipped import DEFAULTS
from skimage import io
from skimage.restoration import denoise_nl_means
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).parents[2]
# The library that is scored is the clone's beside this file, whichever one is installed.
sys.path.insert(0, str(ROOT / "workflow"))
from plateline import qc  # noqa: E402
from plateline.segment import classical  # noqa: E402

SEED = 0
N_EDGE_PLATES = 400
PERCENTILE = 5
# At least so many fields of one size make a plate of dsb2018_fluo, and no more are read.
FEWEST, MOST = 80, 81
SCORES = ["focus_score", "focus_slope", "focus_laplacian", "focus_tenengrad"]
TARGETS = {"2px": 0.95, "1px": 0.85}
FALSE_FLAGS_TARGET, MS_TARGET = 0.05, 60.0


def read_plates() -> Iterator[tuple[str, list[npt.NDArray[np.uint8]], npt.NDArray]]:
    """Name of a plate and channel, its fields (Y, X), and the number of nuclei in each."""
    fields = [
        np.stack([tifffile.imread(path.with_name(path.name.replace("Channel1", f"Channel{c}"))) for c in (1, 2)])
        for path in sorted((ROOT / "resources" / "bbbc013" / "images").glob("Channel1-*.tif"))
    ]
    counts = np.array(
        [classical.otsu(field[1:].astype(np.float32), **DEFAULTS["otsu"])["nuclei"].max() for field in fields]
    )
    for channel, name in enumerate(("FKHR", "DNA")):
        yield f"bbbc013 {name}", [field[channel] for field in fields], counts
    folder = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data")) / "dsb2018_fluo"
    if not folder.is_dir():
        print(f"no folder {folder}: dsb2018_fluo is left out; set PLATELINE_DATA")
        return
    for (height, width), rows in pd.read_csv(folder / "index.csv").groupby(["height", "width"]):
        if len(rows) >= FEWEST:
            rows = rows.head(MOST)
            paths = [next((folder / row.split / "images").glob(f"{row.id}.*")) for row in rows.itertuples()]
            images = [image if image.ndim == 2 else image[..., 0] for image in map(io.imread, paths)]
            yield f"dsb2018 {height}x{width}", images, rows["n_nuclei"].to_numpy()


def separate(plane: npt.NDArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The light of a field without its noise, and the noise's variance as (per count of light, constant).

    Non-local means on the square root, where shot noise has one variance; the variance of what it takes away, in
    twelfths of the pixels by brightness, is fitted by a line that is nowhere negative.
    """
    root = np.sqrt(plane + 3 / 8)
    mixed = ndimage.convolve(root, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6)
    sigma = max(1.4826 * np.median(np.abs(mixed)), 1e-3)
    options = {"patch_size": 5, "patch_distance": 5, "h": 0.8 * sigma, "sigma": sigma}
    light = np.maximum(denoise_nl_means(root.astype(np.float32), **options).astype(float) ** 2 - 3 / 8, 0)
    shares = np.array_split(np.argsort(light, axis=None), 12)
    means = [light.ravel()[share].mean() for share in shares]
    variances = [(plane - light).ravel()[share].var() for share in shares]
    return light, nnls(np.stack([means, np.ones(12)], axis=1), np.array(variances))[0]


def redraw(light: npt.NDArray, noise: npt.NDArray, blur_px: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The field out of focus by a Gaussian of so many pixels, seen by the same camera."""
    blurred = ndimage.gaussian_filter(light, blur_px) if blur_px else light
    drawn = blurred + rng.normal(size=light.shape) * np.sqrt(noise[0] * blurred + noise[1])
    return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def measure(images: list[npt.NDArray]) -> pd.DataFrame:
    """Metrics of the fields of one plate and channel."""
    tables = [qc.measure_field(image[None], ["c"], [255], background_percentile=PERCENTILE) for image in images]
    return pd.concat(tables, ignore_index=True).assign(Metadata_Plate="P", acquired="")


def auroc(sharp: pd.Series, blurred: pd.Series) -> float:
    """Chance that a sharp field scores above a blurred one; a field without a score counts as sharp."""
    values = pd.concat([sharp, blurred]).fillna(np.inf).clip(upper=1e9)
    return float(roc_auc_score([1] * len(sharp) + [0] * len(blurred), values))


def flag(metrics: pd.DataFrame) -> pd.DataFrame:
    """The flags of the shipped config."""
    section = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["qc"]["plate"]
    limits = {name: value for name, value in section.items() if name not in ("drift_correlation", "roles")}
    return qc.flag_fields(metrics, **limits)


def share_found(sharp: pd.DataFrame, blurred: pd.DataFrame) -> float:
    """Share of blurred fields that are flagged, each tenth of the plate blurred in turn."""
    found = []
    for tenth in np.array_split(np.random.default_rng(SEED).permutation(len(sharp)), 10):
        mixed = pd.concat([sharp.drop(index=tenth), blurred.loc[tenth]], ignore_index=True)
        found.append(flag(mixed)["blurred"].iloc[-len(tenth) :])
    return float(pd.concat(found).mean())


def score_plate(name: str, images: list[npt.NDArray], counts: npt.NDArray) -> dict[str, float | str]:
    """AUROC of each score, share flagged at 2 px, and false flags of the sharp fields with fewest cells."""
    rng = np.random.default_rng(SEED)
    parts = [separate(image) for image in images]
    native = measure(images)
    at = {px: measure([redraw(*part, px, rng) for part in parts]) for px in (0, 1, 2)}
    row: dict[str, float | str] = {"plate and channel": name, "fields": len(images)}
    row |= {f"{score} {px}px": auroc(at[0][score], at[px][score]) for px in (2, 1) for score in SCORES}
    few = counts <= np.quantile(counts, 0.1)
    # As they were taken and as redrawn: the noise of the camera and that of the model.
    row["n_few"] = 2 * int(few.sum())
    flags = [flag(table)["flags"] != "" for table in (native, at[0])]
    row["n_few_flagged"] = sum(int(flagged[few].sum()) for flagged in flags)
    return row | {"all_flagged": float(np.mean(flags)), "found_2px": share_found(at[0], at[2])}


def check_saturation() -> int:
    """How many of 200 fields with a known number of saturated pixels are not scored exactly."""
    rng, wrong = np.random.default_rng(SEED), 0
    for dtype, top in [("uint8", 255), ("uint16", 4095), ("uint16", 65535), ("float32", 1.0)] * 50:
        plane = (rng.uniform(0, 0.9, (64, 64)) * top).astype(dtype)
        chosen = rng.permutation(plane.size)[: rng.integers(0, plane.size)]
        plane.ravel()[chosen] = top
        found = qc.measure_field(plane[None], ["c"], [top], background_percentile=PERCENTILE)["saturation"].iloc[0]
        wrong += found != len(chosen) / plane.size
    return wrong


def time_field() -> float:
    """Milliseconds of CPU for a field of two channels of 640 x 640 pixels."""
    paths = sorted((ROOT / "resources" / "bbbc013" / "images").glob("Channel?-01-*.tif"))
    image = np.stack([tifffile.imread(path) for path in paths])
    qc.measure_field(image, ["a", "b"], [255, 255], background_percentile=PERCENTILE)
    start = time.process_time()
    for _ in range(20):
        qc.measure_field(image, ["a", "b"], [255, 255], background_percentile=PERCENTILE)
    return (time.process_time() - start) / 20 * 1000


def print_plates(scores: pd.DataFrame) -> None:
    """AUROC of every score, then what the flags of the shipped config do."""
    print("AUROC of sharp against blurred fields, noise redrawn on both; blur in pixels (standard deviation)")
    for px in (2, 1):
        print(scores[["plate and channel", "fields", *(f"{score} {px}px" for score in SCORES)]].to_string(index=False))
    print("Flags of the shipped config; fields with the fewest nuclei (lowest tenth) as taken and as redrawn, sharp")
    columns = ["plate and channel", "n_few", "n_few_flagged", "all_flagged", "found_2px"]
    print(scores[columns].to_string(index=False, float_format="{:.3f}".format))


def edge_figures() -> tuple[float, float]:
    """Power and false alarm of the edge test, from the benchmark beside this one; NaN where there is none."""
    try:
        from edge import edge_power
    except ImportError as error:
        print(f"no edge test here ({error}): its figures are nan")
        return np.nan, np.nan
    return edge_power(N_EDGE_PLATES, SEED)


def verdict(name: str, value: float, target: float, *, at_least: bool) -> None:
    """One line: a figure, its target, and whether it was met."""
    met = value >= target if at_least else value <= target
    print(f"{name:<46} {value:8.3f}   {'>=' if at_least else '<='} {target:<6g} {'met' if met else 'MISSED'}")


def main() -> None:
    """Score every plate and channel, print the tables, then the line."""
    scores = pd.DataFrame([score_plate(*plate) for plate in read_plates()])
    print_plates(scores)
    worst = {px: scores[f"focus_score {px}"].min() for px in TARGETS}
    false_flags = scores["n_few_flagged"].sum() / scores["n_few"].sum()
    wrong, ms = check_saturation(), time_field()
    power, alarm = edge_figures()
    for px, target in TARGETS.items():
        verdict(f"AUROC of focus_score at {px}, worst of all", worst[px], target, at_least=True)
    verdict("false flags of sharp fields with few nuclei", false_flags, FALSE_FLAGS_TARGET, at_least=False)
    verdict("fields of 200 with a wrong saturation", wrong, 0, at_least=False)
    verdict("CPU of a field 640 x 640 x 2, ms", ms, MS_TARGET, at_least=False)
    print(
        f"focus_auroc_2px={worst['2px']:.3f} focus_auroc_1px={worst['1px']:.3f} false_flags={false_flags:.3f} "
        f"edge_power={power:.3f} edge_false_alarm={alarm:.3f}"
    )


if __name__ == "__main__":
    main()
