"""A segmenter as a campaign that sets nothing has it: its default options, and the shipped model where it has one."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
# The library that is timed and scored is the clone's beside this file, whichever one is installed.
sys.path.insert(0, str(ROOT / "workflow"))
from plateline import config, methods, segment, store  # noqa: E402

SCHEMA = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())["properties"]["segment"]
DEFAULTS = config.fill_defaults({}, SCHEMA)


def method_of(name: str, pixel_size_um: float = float("nan")) -> Callable:
    """A method by name, its options set, lengths in pixels."""
    function = methods.load("segment", name)
    path = config.model_of({"segment": DEFAULTS | {"method": name}}, "segment")
    section = DEFAULTS | {"options": DEFAULTS[name]}
    options = segment.options_of(function, section, store.read_model(path) if path else None)
    return partial(function, **segment.in_pixels(options, pixel_size_um, where="the benchmark"))
