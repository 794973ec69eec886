"""A few wells of a plate segmented with several methods, as a page, before the plate is run; and its approval."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from plateline import check, methods, platemap, segment, segmenters, store
from plateline import config as settings
from plateline import preview as choice
from plateline.cli import campaign, pixels
from plateline.errors import ConfigError, ImageError, PlatelineError
from plateline.identity import FIELD, channel_numbers, parse_well
from plateline.report.preview import preview_page

# Enough to see how bright a plate's wells are, and for an illumination that is worth looking at, in seconds.
N_FIELDS = 12
# Methods of other packages may fetch weights first: they run where they are named.
SHIPPED = [name for name, path in methods.SEGMENTERS.items() if not path.startswith("plateline.segment.plugins")]
# Side of the square of each field that is pictured.
SIDE_PX = 320


def folder_of(plate: str) -> Path:
    """Where the preview of a plate is."""
    return Path("results", "preview", plate)


def preview(plate: str, *, wells: list[str], names: list[str], seed: int) -> str:
    """Segment a few wells of a plate of the campaign in the working directory, and write the page that shows them.

    Parameters
    ----------
    plate : str
        A plate in use.
    wells : list of str
        Wells to show, in any spelling; none shows controls, the top dose and extremes.
    names : list of str
        Methods; none takes the configured one, then all others that need no package of somebody else.
    seed : int
        Draws wells and sites.

    Returns
    -------
    str
        Where the page is, for a person.

    Raises
    ------
    PlatelineError
        For a plate, well, channel or method that there is not, and where no field can be read or no method runs.
    """
    start = time.monotonic()
    config, sheet = campaign.read()
    line = campaign.plate_line(sheet, plate)
    section = settings.section(config, "segment", "part", line)
    source = pixels.open_plate(config, line)
    channels = [section["nuclei_channel"], *section["cell_channels"]]
    channel_numbers(source.channels, channels, key="segment", plate=plate)
    shots, facts = _take(config, line, source, channels, wells=wells, seed=seed)
    wanted = dict.fromkeys(names or [*segmenters.names_of(section), *SHIPPED])
    found, refused = _segment(shots, {name: _section_of(config, line, name) for name in wanted}, source, plate)
    shown = section["method"] in shots[0]["labels"]
    words = facts | {"plate": plate, "method": section["method"], "refused": refused}
    words["approve"] = settings.override(config, line)["segment"]["approve"]
    page = preview_page(
        shots,
        found,
        channels=channels,
        size_px=SIDE_PX,
        words=words | {"seconds": f"{time.monotonic() - start:.0f}"},
        record={"approves": check.segment_digest(config, line) if shown else ""},
        templates=store.read_texts((campaign.CLONE / "workflow" / "report").glob("*.[hc]*")),
    )
    store.save_pages(page, folder_of(plate))
    return f"{folder_of(plate)}/index.html is there; fields: {len(shots)}, seconds: {time.monotonic() - start:.0f}"


def approve(plate: str) -> str:
    """Approve the configured segmentation of a plate, as its last preview showed it; what was done, for a person.

    Raises
    ------
    ConfigError
        If there is no preview of this plate, or it did not show the configured method as it is configured now.
    """
    config, sheet = campaign.read()
    line, record = campaign.plate_line(sheet, plate), folder_of(plate) / "preview.json"
    digest = check.segment_digest(config, line)
    if not record.is_file() or dict(store.read_json(record)).get("approves") != digest:
        method = settings.method_of(config, "segment", line)
        msg = (
            f"plate {plate}: there is no preview of method {method} as it is configured now; run plateline preview "
            f"{plate} and look at it first"
        )
        raise ConfigError(msg)
    check.approval_of(plate).write_text(digest + "\n")
    return f"the segmentation of plate {plate} is approved as it is configured now"


def _take(
    config: dict, line: dict[str, str], source: pixels.Plate, channels: list[str], *, wells: list[str], seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The fields to show, under even illumination, and what the page says of how they were taken."""
    even = settings.section(config, "flatfield", "plate", line)
    estimated = even["method"] not in ("none", "provided")
    asked, plate_map = _asked(wells, line, source), _plate_map(config, line, source)
    n_fields = N_FIELDS if estimated or not asked else 0
    picked = choice.pick_fields(source.fields, plate_map, asked=asked, n_fields=n_fields, seed=seed)
    picked, raw, unread = _read(source, picked, channels)
    estimate, options = methods.load("flatfield", even["method"]), [even["options"]] * len(channels)
    if even["method"] == "provided":
        options = [store.read_illumination(**even["options"], plate=line["plate"], channel=name) for name in channels]
    images = choice.even_out(raw, estimate, options)
    how = f"{even['method']}, as configured"
    if estimated:
        how = f"a quick estimate by {even['method']} from {len(raw)} fields; a run takes up to {even['max_fields']}"
    shown = choice.add_extremes(picked, images)
    facts = {"origin": source.origin, "flatfield": how, "unread": unread, "pixel_size_um": source.pixel_size_um}
    return [field | {"image": images[n], "labels": {}} for n, field in shown.to_dict("index").items()], facts


def _asked(wells: list[str], line: dict[str, str], source: pixels.Plate) -> list[str]:
    """The wells asked for by their own names, once they are known to have images."""
    names = [parse_well(well, int(line["shape"])) for well in wells]
    imaged = sorted(set(source.fields["Metadata_Well"]))
    if missing := [name for name in names if name not in imaged]:
        msg = f"plate {line['plate']} has no images of well {', '.join(missing)}; it has {', '.join(imaged)}"
        raise ConfigError(msg)
    return names


def _plate_map(config: dict, line: dict[str, str], source: pixels.Plate):
    """The plate map of the wells with images, as `platemap_plate` makes it."""
    section, shape, plate = settings.section(config, "platemap", "plate", line), int(line["shape"]), line["plate"]
    raw, _ = platemap.read_map(store.read_sheets(settings.platemap_of(line)), plate=plate, shape=shape)
    words = {name: section[name] for name in ("columns", "controls", "unit")}
    tidy = platemap.tidy(raw, plate=plate, shape=shape, **words)
    return platemap.whole_plate(tidy, list(source.fields["Metadata_Well"]), plate=plate)[0]


def _read(source: pixels.Plate, picked, channels: list[str]):
    """Those of the picked fields that can be read, their pixels, and the reasons of the others by field."""
    raw, unread, kept = [], {}, []
    asked = picked.index[picked["why"] == "asked for"]
    for number, place in enumerate(picked[FIELD[1:]].itertuples(index=False, name=None)):
        try:
            raw.append(source.read(*place, channels))
            kept.append(number)
        except ImageError as error:
            unread["{} site {} time {}".format(*place)] = str(error)
    if not raw or (len(asked) and not set(asked) & set(kept)):
        reasons = "; ".join(f"{place}: {reason}" for place, reason in unread.items())
        msg = (
            f"none of the {len(asked) or len(picked)} fields chosen can be read: {reasons}; choose other wells or seed"
        )
        raise ConfigError(msg)
    return picked.iloc[kept].reset_index(drop=True), raw, unread


def _section_of(config: dict, line: dict[str, str], method: str) -> dict:
    """The section of `segment` as the plate would see it under another method."""
    others = {column: text for column, text in line.items() if column != "segment.method"}
    config = config | {"segment": config["segment"] | {"method": method}}
    section = settings.section(config, "segment", "part", others)
    return section | {"model_file": settings.model_of(config, "segment", others)}


def _segment(
    shots: list[dict[str, Any]], sections: dict[str, dict], source: pixels.Plate, plate: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Labels into the shots; the objects of each field and method, and the reasons of methods that do not run."""
    found, refused = [], {}
    for name, section in sections.items():
        try:
            method = segmenters.load_segmenter(section, section["model_file"])
            results = [_segment_field(shot, method, section["cells"], source.pixel_size_um, plate) for shot in shots]
        except (PlatelineError, TypeError, ImportError) as error:  # it lacks an option or a package: the others go on
            refused[name] = str(error)
            continue
        for shot, (labels, seconds) in zip(shots, results, strict=True):
            shot["labels"][name] = labels
            row = {"well": shot["Metadata_Well"], "method": name, "seconds": seconds}
            found.append(row | choice.count_objects(labels))
    if not found:
        msg = "no method runs: " + "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ConfigError(msg)
    return found, refused


def _segment_field(
    shot: dict[str, Any], method: tuple[Callable, dict], cells: dict, pixel_size_um: float, plate: str
) -> tuple[dict, float]:
    """Labels of one field, as `segment_part` makes them, and the seconds that took."""
    where = f"plate {plate} well {shot['Metadata_Well']} site {shot['Metadata_Site']}"
    function, options = method
    start = time.perf_counter()
    given = partial(function, **segment.in_pixels(options, pixel_size_um, where=where))
    labels = segment.segment_field(shot["image"], given, cells=cells, where=where)
    return labels, time.perf_counter() - start
