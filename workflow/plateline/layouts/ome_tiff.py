"""The layout `ome-tiff`: a set of OME-TIFF files whose OME-XML has a plate, in a companion file or in the files.

Owns the way from wells and samples to images, and from images to pages of files. OME-TIFF without a plate is for the
layout `pattern`. Pyramids are left alone: they are not among the pages that OME-XML counts.
"""

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pandas as pd
import tifffile

from plateline.errors import ImageError, SourceError
from plateline.layouts import named
from plateline.layouts.gaps import missing_planes
from plateline.layouts.planes import UNREADABLE, is_image, left_out_table, list_files, tabulate
from plateline.layouts.tiff import read_plane
from plateline.layouts.xml import local_name, parse_xml, read_xml

__all__ = ["index", "read_plane"]  # what a layout module must have

# An image with more planes has a damaged header, whose rows would fill the memory.
_MOST_PLANES = 100_000
# (height, width) or another shape, and dtype of each page; or why the file cannot be read.
_Pages = list[tuple[tuple[int, ...], np.dtype]] | str


def index(
    source: Path, *, plate: str, shape: int, measurement: str, plate_id: str, acquisition: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of one plate, and what is not in it.

    Parameters
    ----------
    source : Path
        Folder of one or several sets, searched with its subfolders.
    plate : str
        Name of the plate, for messages.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    measurement : str
        Path of the ``.companion.ome`` file inside the source; empty where there is one, or none and the OME-XML stands
        in the TIFF files.
    plate_id : str
        `ID` or `Name` of the `Plate`; empty where there is one only.
    acquisition : str
        `ID` of the `PlateAcquisition` to take; empty where there is one or none.

    Returns
    -------
    planes : pd.DataFrame
        One row per plane that an image of a well declares, as `plateline.layouts.planes.tabulate` has it, with pixel
        size, exposure, wavelengths and stage position. `Metadata_Site` is the place of the sample in its well, from 1;
        time and z count from 0. `channel` is the name, with ``ch`` and its number from 0 where it is shared or missing.
        A plane that no `TiffData` names, whose file is missing or bad, or whose page is not as declared, is a row with
        `status` ``unreadable``, and so is a sample without its image.
    left_out : pd.DataFrame
        `path` and `reason` of samples of another acquisition or plate, of images in no well, and of image files that
        are not named; sorted.

    Raises
    ------
    SourceError
        If the folder is missing or has no plate, several companions, plates or acquisitions of which none is picked,
        the OME-XML is broken or has a document type, names a file outside its folder or a well that the plate has not,
        no sample has planes, or two samples are the same field.
    """
    paths, left_out = list_files(source, plate)
    documents, others = _documents(paths, source, measurement)
    found, lost = _samples(documents, source, plate_id, acquisition)
    pages: dict[str, _Pages] = {}
    rows: list[dict[str, Any]] = []
    absent: dict[tuple[str, int], str] = {}
    for sample in found:
        field = named.place(sample["well"], shape, sample["document"]), sample["site"]
        try:
            rows += _planes_of(sample, field, set(paths), source, pages)
        except ImageError as error:
            absent[field] = f"{sample['document']}: {error}"
    rows = _without_repeats(named.name_channels(rows, "ch"))
    if not rows:
        first = next(iter(absent.values()), "")
        msg = f"none of the {len(found)} samples of plate {plate} in {source} has planes; the first: {first}"
        raise SourceError(msg)
    times = {row["Metadata_Timepoint"] for row in rows}
    gaps = missing_planes(rows, [(*place, time) for place in absent for time in times], "the plate")
    gaps = [gap | {"reason": absent.get(_place(gap), gap["reason"])} for gap in gaps]
    known = {row["path"] for row in rows} | {path for path, _ in [*left_out, *others]}
    lost += [(path, "no image of the plate names it") for path in paths if is_image(path) and path not in known]
    return tabulate(rows + gaps, source), left_out_table([*left_out, *others, *lost])


def _place(row: dict[str, Any]) -> tuple[str, int]:
    return row["Metadata_Well"], row["Metadata_Site"]


def _without_repeats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows once each: several files of a set may hold the same OME-XML."""
    keys = ("Metadata_Well", "Metadata_Site", "Metadata_Timepoint", "z", "channel", "path", "page")
    return list({tuple(row[key] for key in keys): row for row in rows}.values())


def _documents(paths: list[str], source: Path, measurement: str) -> tuple[dict[str, Element], list[tuple[str, str]]]:
    """File -> root of its OME-XML, of files with the same text one; and (path, reason) of files without use."""
    companions = [path for path in paths if path.lower().endswith((".companion.ome", ".companion.ome.xml"))]
    if companions:
        choices = dict(zip(companions, companions, strict=True))
        key = "ingest.ome-tiff.measurement"
        chosen = named.pick_one(choices, measurement, what="companion files", key=key, source=source)
        others = [(path, "another companion file, not picked") for path in companions if path != chosen]
        return {chosen: read_xml(source / chosen)}, others
    if measurement:
        msg = f"{source} holds no .companion.ome file; ingest.ome-tiff.measurement is {measurement!r}: leave it empty"
        raise SourceError(msg)
    texts: dict[str, str] = {}
    for path in paths:
        if path.lower().endswith((".tif", ".tiff", ".btf", ".tf2", ".tf8")) and (text := _description(source / path)):
            # The files of a set differ in their own UUID only; without file names each speaks of itself.
            shared = re.sub(r'UUID="[^"]*"', "", text, count=1) if "FileName" in text else f"{path}\n{text}"
            texts.setdefault(shared, path)
    return {path: parse_xml(_description(source / path).encode(), source / path) for path in texts.values()}, []


def _description(file: Path) -> str:
    """OME-XML in a TIFF file; empty where there is none or the file cannot be read."""
    try:
        with tifffile.TiffFile(file) as tif:
            return tif.ome_metadata or "" if tif.is_ome else ""
    except MemoryError:
        raise
    except Exception:  # tifffile raises whatever a broken header leads it to; the file is left out or unreadable
        return ""


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if local_name(child) == name]


def _samples(
    documents: dict[str, Element], source: Path, plate_id: str, acquisition: str
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Samples of the chosen plate and acquisition, with their image; (document, reason) of what is not taken."""
    plates = [(path, root, plate) for path, root in documents.items() for plate in _children(root, "Plate")]
    ids = {plate.get("ID", ""): plate.get("Name", "") for _, _, plate in plates}
    if not ids:
        msg = (
            f"no OME-XML of the {len(documents)} in {source} has a Plate; put the .companion.ome file beside the images"
            ", or read the names of the files with the layout `pattern`"
        )
        raise SourceError(msg)
    wanted = next((key for key, name in ids.items() if name == plate_id and plate_id), plate_id)
    chosen = named.pick_one({i: i for i in ids}, wanted, what="plates", key="ingest.ome-tiff.plate_id", source=source)
    picked = _pick_acquisition([p for _, _, p in plates if p.get("ID", "") == chosen], source, acquisition)
    found: list[dict[str, Any]] = []
    lost: list[tuple[str, str]] = []
    for path, root, plate in plates:
        images = {image.get("ID", ""): image for image in _children(root, "Image")}
        used = set()
        for well in _children(plate, "Well"):
            own = [s for s in _children(well, "WellSample") if picked is None or s.get("ID", "") in picked]
            for sample in _children(well, "WellSample"):
                name = next((ref.get("ID", "") for ref in _children(sample, "ImageRef")), "")
                used.add(name)
                if plate.get("ID", "") != chosen or sample not in own:
                    lost.append((path, f"sample {sample.get('ID')} is of another plate or acquisition"))
                    continue
                found.append(_sample(path, well, sample, own.index(sample) + 1, images.get(name)))
        if len(_children(root, "Plate")) == 1:
            lost += [(path, f"image {name} is in no well") for name in images if name not in used]
    return found, lost


def _pick_acquisition(plates: list[Element], source: Path, wanted: str) -> set[str] | None:
    """Ids of the samples to take; None for all."""
    runs: dict[str, set[str]] = {}
    for plate in plates:
        for run in _children(plate, "PlateAcquisition"):
            refs = {ref.get("ID", "") for ref in _children(run, "WellSampleRef")}
            runs.setdefault(run.get("ID", ""), set()).update(refs)
    if len(runs) < 2 and wanted in ("", *runs):
        return None
    key = "ingest.ome-tiff.acquisition"
    return runs[named.pick_one({i: i for i in runs}, wanted, what="acquisitions", key=key, source=source)]


def _sample(path: str, well: Element, sample: Element, site: int, image: Element | None) -> dict[str, Any]:
    row, column = (named.whole(well.get(key)) for key in ("Row", "Column"))
    name = f"R{row + 1}C{column + 1}" if row is not None and column is not None else f"{well.get('ID')}"
    return {"document": path, "well": name, "site": site, "sample": sample, "image": image}


def _planes_of(
    sample: dict[str, Any], field: tuple[str, int], paths: set[str], source: Path, pages: dict[str, _Pages]
) -> list[dict[str, Any]]:
    """Rows of one image, each with the `number` of its channel instead of its channel."""
    image = sample["image"]
    pixels = next(iter(_children(image, "Pixels")), None) if image is not None else None
    if pixels is None:
        msg = f"sample {sample['sample'].get('ID')} has no image with Pixels"
        raise ImageError(msg)
    sizes = _sizes(pixels)
    places = _places(pixels, sizes, sample["document"], paths, source, pages)
    facts = {tuple(named.whole(p.get(f"The{a}")) for a in "TCZ"): p for p in _children(pixels, "Plane")}
    channels = [_channel(pixels, number) for number in range(sizes["C"])]
    acquired = next(((date.text or "").strip() for date in _children(image, "AcquisitionDate")), "")
    rows = []
    for t, c, z in np.ndindex(sizes["T"], sizes["C"], sizes["Z"]):
        path, page = places.get((t, c, z), ("", 0))
        rows.append(
            {"Metadata_Well": field[0], "Metadata_Site": field[1], "Metadata_Timepoint": t, "z": z}
            | {"path": path, "page": page, "acquired": acquired, **channels[c]}
            | _measures(facts.get((t, c, z)), sample["sample"])
            | _header(path, page, pixels, sizes, pages)
        )
    return rows


def _sizes(pixels: Element) -> dict[str, int]:
    sizes = {axis: named.whole(pixels.get(f"Size{axis}")) or 0 for axis in "XYZCT"}
    planes = sizes["Z"] * sizes["C"] * sizes["T"]
    if not all(sizes.values()) or planes > _MOST_PLANES:
        msg = f"its sizes are {sizes}; expected whole numbers from 1, and at most {_MOST_PLANES} planes"
        raise ImageError(msg)
    return sizes


def _places(
    pixels: Element, sizes: dict[str, int], document: str, paths: set[str], source: Path, pages: dict[str, _Pages]
) -> dict[tuple[int, int, int], tuple[str, int]]:
    """(t, c, z) -> (file, page) as the TiffData have it."""
    order = pixels.get("DimensionOrder", "XYZCT")[2:]
    if sorted(order) != ["C", "T", "Z"]:
        msg = f"its DimensionOrder is XY{order}; expected XY and Z, C, T in any order"
        raise ImageError(msg)
    slowest_first = [sizes[axis] for axis in reversed(order)]
    places: dict[tuple[int, int, int], tuple[str, int]] = {}
    for block in _children(pixels, "TiffData"):
        told = next((uuid.get("FileName", "") for uuid in _children(block, "UUID")), "")
        path = named.inside(told, document, source) if told else document
        if path not in pages:
            pages[path] = _read_pages(source / path) if path in paths else "the file is not there"
        first = [named.whole(block.get(f"First{axis}")) or 0 for axis in reversed(order)]
        page = named.whole(block.get("IFD")) or 0
        if any(place >= size for place, size in zip(first, slowest_first, strict=True)):
            msg = f"a TiffData begins at {first} along {order[::-1]}; the sizes are {slowest_first}"
            raise ImageError(msg)
        start = int(np.ravel_multi_index(first, slowest_first))
        for step in range(min(_count(block, pages[path], page), int(np.prod(slowest_first)) - start)):
            at = dict(zip(reversed(order), np.unravel_index(start + step, slowest_first), strict=True))
            key = int(at["T"]), int(at["C"]), int(at["Z"])
            if places.setdefault(key, (path, page + step)) != (path, page + step):
                msg = f"time {key[0]}, channel {key[1]}, z {key[2]} is both in {places[key][0]} and {path}"
                raise ImageError(msg)
    return places


def _count(block: Element, pages: _Pages, page: int) -> int:
    """Planes of a TiffData: told, else one of a page that is told, else all that the file holds."""
    told = named.whole(block.get("PlaneCount"))
    if told is not None:
        return told
    return 1 if block.get("IFD") is not None or isinstance(pages, str) else max(len(pages) - page, 0)


def _read_pages(file: Path) -> _Pages:
    try:
        with tifffile.TiffFile(file) as tif:
            return [(tuple(page.shape), np.dtype(page.dtype)) for page in tif.pages]  # type: ignore[union-attr]
    except MemoryError:
        raise
    except Exception as error:  # tifffile raises whatever a broken header leads it to
        return " ".join(str(error).split()) or type(error).__name__


def _header(path: str, page: int, pixels: Element, sizes: dict[str, int], pages: dict[str, _Pages]) -> dict[str, Any]:
    """Columns from the page itself, and whether it is as the OME-XML declares it."""
    held = pages.get(path, "no TiffData names the plane")
    reason = held if isinstance(held, str) else ""
    if not isinstance(held, str) and page >= len(held):
        reason = f"page {page} is declared, the file holds {len(held)}"
    elif not isinstance(held, str) and held[page][0] != (sizes["Y"], sizes["X"]):
        reason = f"page {page} has shape {held[page][0]}; the OME-XML declares {(sizes['Y'], sizes['X'])}"
    if reason or isinstance(held, str):
        return {**UNREADABLE, "reason": f"{path}: {reason}" if path else reason}
    (height, width), dtype = held[page]
    largest = float(np.iinfo(dtype).max) if dtype.kind in "iu" else np.nan
    bits = named.whole(pixels.get("SignificantBits")) or 0
    told = [(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    return {
        "height": height,
        "width": width,
        "dtype": str(dtype.newbyteorder("=")),
        "pixel_size_um": named.side(*(named.number(text, unit, named.MICROMETRES) for text, unit in told)),
        "full_scale": min(largest, 2.0**bits - 1) if 8 <= bits <= 64 else largest,
        "status": "ok",
        "reason": "",
    }


def _channel(pixels: Element, number: int) -> dict[str, Any]:
    listed = _children(pixels, "Channel")
    channel = listed[number] if number < len(listed) else Element("Channel")
    return {
        "number": number,
        "channel_name": (channel.get("Name") or channel.get("Fluor") or "").strip(),
        "excitation_nm": _length(channel, "ExcitationWavelength", "nm", named.NANOMETRES),
        "emission_nm": _length(channel, "EmissionWavelength", "nm", named.NANOMETRES),
    }


def _measures(plane: Element | None, sample: Element) -> dict[str, float]:
    """Exposure and stage position, from the plane, else from the sample; without a unit a position says nothing."""
    own = Element("Plane") if plane is None else plane
    exposure = named.number(own.get("ExposureTime"), own.get("ExposureTimeUnit", "s"), named.MILLISECONDS)
    told = {f"position_{a}_um": _position(own, a.upper()) for a in "xyz"}
    for axis in "xy":
        if np.isnan(told[f"position_{axis}_um"]):
            told[f"position_{axis}_um"] = _position(sample, axis.upper())
    return {"exposure_ms": named.positive(exposure), **told}


def _position(element: Element, axis: str) -> float:
    unit = element.get(f"Position{axis}Unit", "reference frame")
    return named.number(element.get(f"Position{axis}"), unit, named.MICROMETRES)


def _length(element: Element, key: str, default: str, units: dict[str, float]) -> float:
    return named.positive(named.number(element.get(key), element.get(f"{key}Unit", default), units))
