"""What the tests of measuring share: settings, one call for a table of features, and fields drawn for the purpose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from plateline.config import fill_defaults
from plateline.measure import PREFIXES, Settings, measure_field

ROOT = Path(__file__).parents[1]
SCHEMA = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
DEFAULTS = Settings(**fill_defaults({}, SCHEMA["properties"]["measure"]))


def with_settings(**changed):
    """The defaults of the schema with other values."""
    return replace(DEFAULTS, **changed)


def measure(image, labels, channels, full_scale=None, **changed):
    """The table of cells of a field whose pixels are shares of full scale, if no scale is given."""
    scales = full_scale or [1.0] * len(channels)
    return measure_field(image, labels, channels, full_scale=scales, settings=with_settings(**changed))[0]


def random_field(seed, shape=(24, 31), numbers=(0, 0, 3, 4, 9)):
    """Noise cut into scattered objects, worse than any cell: pieces, holes, single pixels and borders."""
    rng = np.random.default_rng(seed)
    cells = np.array(numbers, np.int32)[rng.integers(0, len(numbers), shape)]
    nuclei = np.where(rng.random(shape) < 0.4, cells, 0).astype(np.int32)
    image = rng.normal(0.2, 0.3, (2, *shape)).astype(np.float32)
    return image, {"nuclei": nuclei, "cells": cells, "cytoplasm": np.where(nuclei > 0, np.int32(0), cells)}


def as_all(labels):
    """The same label image for all compartments."""
    return dict.fromkeys(PREFIXES, labels)
