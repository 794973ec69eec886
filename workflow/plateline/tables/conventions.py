"""What other programs call the identity of a row: their columns -> ours.

Knows the names of pycytominer, CytoTable, CellProfiler, Harmony and Columbus, IN Carta and MetaXpress. It renames
identity only: a measurement keeps the name it came with.
"""

import re

from plateline.errors import ConfigError
from plateline.identity import PREFIX

# Ours -> their names without case and without what is no letter or digit, whole or as an expression; of several the
# first is taken. Harmony: `Nuclei - Number of Objects`, `Object No in Nuclei`; MetaXpress: `Total Cells (...)`.
KNOWN = {
    "Plate": ["metadataplate", "imagemetadataplate", "platename", "plate", "plateid", "platebarcode", "barcode"],
    "Well": ["metadatawell", "imagemetadatawell", "wellname", "well", "welllabel", "wellid", "metadatawellposition"],
    "Row": ["metadatarow", "row"],
    "Column": ["metadatacolumn", "metadatacol", "column"],
    "Site": ["metadatasite", "imagemetadatasite", "imagemetadatafield", "site", "siteid", "field", "fieldid", "fov"],
    "Timepoint": ["metadatatimepoint", "imagemetadatatimepoint", "timepoint"],
    "ObjectNumber": [
        "metadataobjectnumber",
        "objectnumber",
        "objectno",
        "objectid",
        "cellid",
        "metadatacellid",
        r"objectnoin\w+",
        "cellcellid",
    ],
    "Object_Count": [
        "metadataobjectcount",
        "metadatacellcount",
        "imagecountcells",
        "countcells",
        "imagecountnuclei",
        "countnuclei",
        r"\w*numberofobjects",
        r"totalcells\w*",
        "objectcount",
        "cellcount",
    ],
    "Site_Count": ["metadatasitecount", "sitecount", "numberofanalyzedfields", "numberoffields"],
    "Sites_Expected": ["metadatasitesexpected"],
    "Compound": ["metadatacompound", "imagemetadatacompound", "compound", "compoundname"],
    "Concentration": ["metadataconcentration", "imagemetadataconcentration", "concentration"],
    "CellLine": ["metadatacellline", "cellline", "celltype"],
    "MoA": ["metadatamoa", "imagemetadatamoa", "moa"],
    "SMILES": ["metadatasmiles", "smiles"],
    "InChIKey": ["metadatainchikey", "inchikey"],
    "VendorID": ["metadatavendorid", "vendorid"],
    "PixelSize_um": ["metadatapixelsizeum", "pixelsizeum"],
}
# Columns of other programs that describe a row and are no measurement.
NO_FEATURE = {
    "indexlevel0",  # numbers of rows that pandas leaves in Parquet and CSV
    "unnamed0",
    "imagenumber",
    "tablenumber",
    "imagename",
    "imageplane",
    "measurementsetid",
    "plane",
    "absplane",
    "series",
    "x",
    "y",
    "boundingbox",
    "positionxm",
    "positionym",
    "heightm",
    "times",
    "screenname",
    "screenid",
    "measurementdate",
    "measurementid",
}


def rename(theirs: list[str], text: set[str], columns: dict[str, str]) -> dict[str, str]:
    """Our name of every column of a table, by theirs.

    Parameters
    ----------
    theirs : list of str
        Columns of the table.
    text : set of str
        Those that hold no numbers: they can be no feature.
    columns : dict of str to str
        What the user says: their name -> ours, with or without ``Metadata_`` for identity.

    Returns
    -------
    dict of str to str
        In the order of `theirs`. Identity and what is no measurement begins with ``Metadata_``; the others keep their
        name.

    Raises
    ------
    ConfigError
        If `columns` names a column that the table lacks, or two columns become one.
    """
    if missing := [name for name in columns if name not in theirs]:
        msg = f"profile.imported: the table has no column {missing[0]!r}, named there; it has {', '.join(theirs[:12])}"
        raise ConfigError(msg)
    found = {name: _house(ours) for name, ours in columns.items()}
    for ours, known in KNOWN.items():
        if PREFIX + ours not in found.values() and (name := _first(known, theirs, found)):
            found[name] = PREFIX + ours
    names = {name: found.get(name) or _unknown(name, name in text) for name in theirs}
    if twice := [name for name in names.values() if list(names.values()).count(name) > 1]:
        both = " and ".join(repr(name) for name, ours in names.items() if ours == twice[0])
        msg = f"profile.imported: the columns {both} both become {twice[0]}; give one another name in columns"
        raise ConfigError(msg)
    return names


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _house(ours: str) -> str:
    """Our name as the user writes it: identity without its prefix is known by its word."""
    if ours in KNOWN or ours.startswith("Concentration") or ours in {"ControlType", "Treatment"}:
        return PREFIX + ours
    return ours


def _first(known: list[str], theirs: list[str], taken: dict[str, str]) -> str:
    """Their column for one of ours, empty if there is none."""
    free = {_plain(name): name for name in reversed(theirs) if name not in taken}
    if "celltype" in free:
        free.pop("cellcount", None)  # Harmony's cells that were seeded, not those that were found
    fitting = (free[plain] for name in known for plain in sorted(free) if re.fullmatch(name, plain))
    return next(fitting, "")


def _unknown(name: str, is_text: bool) -> str:
    """Name of a column that is none of ours."""
    bare = name.removeprefix("Image_") if name.startswith("Image_" + PREFIX) else name
    if bare.startswith(PREFIX):
        return bare
    if not bare.strip():
        return PREFIX + "RowName"
    return PREFIX + name if is_text or _plain(name) in {*NO_FEATURE, "cellcount"} else name
