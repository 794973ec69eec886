"""The only module that opens files: OME-Zarr plates, Parquet tables, keys, resume.

`plate` owns pixels and labels, `tables` the Parquet files and their provenance, `parts` what a killed job leaves,
`models` weights and training sets, `illumination` what other programs estimated, `files` the rest. `FORMAT` is raised
by hand when what is written changes; that reruns every stage.
"""

from plateline.store.files import (
    read_json,
    read_mapping,
    read_sheets,
    read_texts,
    read_values,
    save_array,
    save_csv,
    save_json,
    save_pages,
)
from plateline.store.illumination import keep_illuminations, read_illumination
from plateline.store.keys import chain, checksum
from plateline.store.models import (
    drop_state,
    read_model,
    read_pairs,
    read_state,
    read_training,
    save_model,
    save_state,
)
from plateline.store.parts import part, share_wells
from plateline.store.plate import (
    images_of,
    keeps_planes,
    lay_out,
    read_field,
    read_labels,
    read_stack,
    reset_field,
    reset_labels,
    write_field,
    write_labels,
    write_planes,
)
from plateline.store.strays import stray_arrays
from plateline.store.tables import (
    columns_of,
    provenance,
    read_flatfield,
    read_metadata,
    read_rows,
    read_table,
    read_tables,
    save_anndata,
    save_table,
)

FORMAT = 1

__all__ = [
    "chain",
    "checksum",
    "columns_of",
    "drop_state",
    "images_of",
    "keep_illuminations",
    "keeps_planes",
    "lay_out",
    "part",
    "provenance",
    "read_field",
    "read_flatfield",
    "read_illumination",
    "read_json",
    "read_labels",
    "read_mapping",
    "read_metadata",
    "read_model",
    "read_pairs",
    "read_rows",
    "read_sheets",
    "read_stack",
    "read_state",
    "read_table",
    "read_tables",
    "read_texts",
    "read_training",
    "read_values",
    "reset_field",
    "reset_labels",
    "save_anndata",
    "save_array",
    "save_csv",
    "save_json",
    "save_model",
    "save_pages",
    "save_state",
    "save_table",
    "share_wells",
    "stray_arrays",
    "write_field",
    "write_labels",
    "write_planes",
]
