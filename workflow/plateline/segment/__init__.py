"""Nuclei, cells and cytoplasm as label images, and one table row per object.

The methods themselves are loaded by name: an edit of one must not redo the fields of another.
"""

from plateline.segment.cells import complete
from plateline.segment.field import compare_nuclei, in_pixels, options_of, segment_field
from plateline.segment.labels import check_labels, count, status
from plateline.segment.objects import no_fields, no_objects, object_table

__all__ = [
    "check_labels",
    "compare_nuclei",
    "complete",
    "count",
    "in_pixels",
    "no_fields",
    "no_objects",
    "object_table",
    "options_of",
    "segment_field",
    "status",
]
