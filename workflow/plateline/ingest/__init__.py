"""From planes on disk to fields.

`index` is the table of the planes of a plate and what they share; `field` makes the pixels of a field from its planes.
"""

from plateline.ingest.field import COARSEST, build_field, field_planes, level_sizes, project, pyramid
from plateline.ingest.index import (
    Geometry,
    acquired,
    facts,
    geometry,
    illuminations,
    index_table,
    no_fields,
    set_pixel_size,
    stage_positions,
    told_of_channels,
)

__all__ = [
    "COARSEST",
    "Geometry",
    "acquired",
    "build_field",
    "facts",
    "field_planes",
    "geometry",
    "illuminations",
    "index_table",
    "level_sizes",
    "no_fields",
    "project",
    "pyramid",
    "set_pixel_size",
    "stage_positions",
    "told_of_channels",
]
