"""A few wells of a plate segmented with several methods, as a page, before the plate is run; and its approval."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from plateline import check, flatfield, platemap, segment, store
from plateline import config as settings
from plateline import methods as known
from plateline import preview as choice
from plateline.cli import campaign, pixels
from plateline.errors import ConfigError, ImageError, PlatelineError
from plateline.identity import channel_numbers, parse_well
from plateline.report.preview import preview_page

# Enough to see how bright a plate's wells are, and for an illumination that is worth looking at, in seconds.
N_FIELDS = 12
SIDE_PX = 400


def preview(plate: str, *, wells: list[str], names: list[str], seed: int) -> str:
    """Segment a few wells of a plate of the campaign in the working directory, and write the page that shows them.

    Parameters
    ----------
    plate : str
        A plate in use.
    wells : list of str
        Wells to show, in any spelling; none shows controls, the top dose and extremes.
    names : list of str
        Methods; none takes the configured one, then all others that are known.
    seed : int
        Draws wells and sites.

    Returns
    -------
    str
        Where the page is, for a person.

    Raises
    ------
    PlatelineError
        For a plate, well, channel or method that there is not, and where nothing can be read or no method runs.
    """
    start = time.monotonic()
    config, sheet = campaign.read()
    line = campaign.plate_line(sheet, plate)
    section = settings.section(config, "segment", "part", line)
    source = pixels.open_plate(config, line)
    channels = [section["nuclei_channel"], *section["cell_channels"]]
    channel_numbers(source.channels, channels, key="segment", plate=plate)
    picked = choice.pick_fields(
        source.fields, _plate_map(config, line, source), asked=_asked(wells, line, source), n_fields=N_FIELDS, seed=seed
    )
    picked, raw, unread = _read(source, picked, channels, plate)
    even, how = _illumination(config, line, channels, raw)
    images = [flatfield.correct(image, *even) for image in raw]
    shown = choice.add_extremes(picked, images)
    shots = [
        {"well": field["Metadata_Well"], "site": field["Metadata_Site"], "why": field["why"], "title": field["title"]}
        | {"image": images[place], "labels": {}}
        for place, field in shown.to_dict("index").items()
    ]
    wanted = list(dict.fromkeys(names or [section["method"], *known.SEGMENTERS]))
    found, refused = _segment(shots, _segmenters(config, line, wanted, source), plate)
