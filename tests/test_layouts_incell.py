"""The layout `incell`: `.xdce` files written here, whole and broken; no image of them is lost."""

import math
import re
import tempfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import ingest
from plateline.errors import SourceError
from plateline.layouts.incell import index, read_plane
from plateline.layouts.planes import COLUMNS, EXTRA, PLANE

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5)
WAVES = (("DAPI", "DAPI", 365, 420), ("Cy3", "Cy5", 542, 604))
CALIBRATION = '<ObjectiveCalibration magnification="20.0" pixel_width="0.37" pixel_height="0.37" unit="um"/>'
CREATION = '<Creation date="2010-11-17" time="20:23:53"/>'


def tag(name, inner="", /, **attributes):
    """An element; an attribute of None is absent."""
    told = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items() if value is not None)
    return f"<{name}{told}>{inner}</{name}>"


def image(well="A - 1", field=0, wave=0, *, time=0, z=0, row=None, column=None, inner=None, **attributes):
    """Name of the file of one image, and its element."""
    excitation, emission, *_ = WAVES[wave] if wave in (0, 1) else ("X", "X")
    number = field + 1 if isinstance(field, int) else 1
    stack = f" z {z + 1}" if isinstance(z, int) and z else ""
    name = attributes.setdefault("filename", f"{well}(fld {number} wv {excitation} - {emission}{stack}).tif")
    place = tag("Row", number=row) * (row is not None) + tag("Column", number=column) * (column is not None)
    facts = tag("PlatePosition_um", x=14380.5, y=-11240) + tag("FocusPosition", z=42.5, unit="um")
    facts += tag("Exposure", time=150, unit="ms") + tag("ExcitationFilter", name=excitation)
    facts += tag("EmissionFilter", name=emission)
    identifier = tag("Identifier", field_index=field, wave_index=wave, time_index=time, z_index=z)
    inside = tag("Well", place, label=well) + (facts if inner is None else inner) + identifier
    return name, tag("Image", inside, **attributes)


def index_text(images, *, root="ImageStack", size=(8, 12), calibration=CALIBRATION, creation=CREATION, namespace=""):
    waves = "".join(
        tag(
            "Wavelength",
            tag("ExcitationFilter", name=ex, wavelength=nm, unit="nm") + tag("EmissionFilter", name=em, wavelength=far),
            index=n,
            fusion_wave="false",
        )
        for n, (ex, em, nm, far) in enumerate(WAVES)
    )
    plate = tag("Plate", rows=size[0], columns=size[1], name="96 well") if size else ""
    return (
        '<?xml version="1.0" encoding="ISO-8859-1" standalone="no"?>\n'
        f'<{root}{namespace}><Application name="IN Cell Analyzer 2000" software_version="3.0.0.5"/>{creation}'
        f"<AutoLeadAcquisitionProtocol>{calibration}{plate}<Wavelengths>{waves}</Wavelengths>"
        f"</AutoLeadAcquisitionProtocol><Images>{''.join(element for _, element in images)}</Images></{root}>"
    )


def export(folder, images, *, name="Plate 1.xdce", write=None, **options):
    """An acquisition on disk: its index and the files of the images, or those in `write`."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(index_text(images, **options), encoding="latin-1", errors="xmlcharrefreplace")
    for path in [path for path, _ in images] if write is None else write:
        tifffile.imwrite(file.parent / path, PIXELS, photometric="minisblack")
    return folder


def indexed(folder, plate="P1", shape=96, measurement=""):
    return index(folder, plate=plate, shape=shape, measurement=measurement)


def test_the_index_tells_identity_and_facts_of_a_plane(tmp_path):
    export(tmp_path, [image("B - 11", 2, 1, time=4, z=5, acquisition_time_ms=1500)])
    planes, left_out = indexed(tmp_path)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert left_out.empty
    row = planes.iloc[0]
    assert row[PLANE].tolist() == ["B11", 3, 4, 6, "Cy3 - Cy5"]
    assert row["path"] == "B - 11(fld 3 wv Cy3 - Cy5 z 6).tif"
    assert (row["status"], row["height"], row["width"], row["dtype"]) == ("ok", 4, 5, "uint16")
    assert row[["pixel_size_um", "full_scale", "exposure_ms", "excitation_nm", "emission_nm"]].tolist() == [
        0.37,
        65535,
        150,
        542,
        604,
    ]
    assert row[[f"position_{axis}_um" for axis in "xyz"]].tolist() == [14380.5, -11240, 42.5]
    assert (row["channel_name"], row["acquired"]) == ("Cy3 - Cy5", "2010-11-17T20:23:54.500")
    np.testing.assert_array_equal(read_plane(tmp_path, row["path"], row["page"]), PIXELS)


def test_the_table_makes_an_index_of_the_plate(tmp_path):
    export(tmp_path, [image(f"A - {c}", f, w) for c in (1, 2) for f in (0, 1) for w in (0, 1)])
    table, left_out = ingest.index_table(*indexed(tmp_path), plate="P1", channels={"DAPI": "DNA", "Cy3 - Cy5": "RNA"})
    assert len(table) == 8
    assert left_out.empty
    assert ingest.geometry(table).channels == ["RNA", "DNA"]
    assert ingest.geometry(table).pixel_size_um == 0.37


@pytest.mark.parametrize(
    ("options", "well"),
    [
        ({"well": "A - 1"}, "A01"),
        ({"well": "h - 12"}, "H12"),
        ({"well": "B03"}, "B03"),
        ({"well": "B - 03", "row": 2, "column": 3}, "B03"),
        ({"well": "", "row": 2, "column": 3, "filename": "x.tif"}, "B03"),
    ],
)
def test_a_well_is_told_by_its_label_or_by_row_and_column(tmp_path, options, well):
    export(tmp_path, [image(**options)])
    assert indexed(tmp_path)[0]["Metadata_Well"].tolist() == [well]


def test_channels_that_share_their_filters_are_told_apart_by_their_wave(tmp_path):
    inner = tag("ExcitationFilter", name="Cy3") + tag("EmissionFilter", name="Cy3")
    images = [image(wave=0, inner=inner), image(wave=1, inner=inner), image(wave=7, inner="", filename="bare.tif")]
    export(tmp_path, images)
    assert indexed(tmp_path)[0]["channel"].tolist() == ["Cy3 w1", "Cy3 w2", "w8"]


def test_absent_facts_are_unknown_and_not_nought(tmp_path):
    export(tmp_path, [image(wave=7, time=None, z=None, inner="")], size=None, calibration="", creation="")
    row = indexed(tmp_path)[0].iloc[0]
    assert row[PLANE].tolist() == ["A01", 1, 0, 0, "w8"]
    assert (row["status"], row["full_scale"], row["acquired"]) == ("ok", 65535, "")
    numbers = [key for key, value in EXTRA.items() if value != ""]
    assert row[["pixel_size_um", *numbers]].isna().all()


@pytest.mark.parametrize(
    ("inner", "column", "expected"),
    [
        (tag("Exposure", time=0.25, unit="s"), "exposure_ms", 250),
        (tag("Exposure", time="auto"), "exposure_ms", math.nan),
        (tag("Exposure", time=0), "exposure_ms", math.nan),
        (tag("ExcitationFilter", name="x", wavelength=405), "excitation_nm", 405),
        (tag("EmissionFilter", name="x"), "emission_nm", 420),
        (tag("OffsetFromWellCenter", x=-1.5, y=2, unit="mm"), "position_x_um", -1500),
        (tag("PlatePosition_um", x=1) + tag("OffsetFromWellCenter", x=3, y=4), "position_x_um", 3),
        (tag("FocusPosition", z="1e999"), "position_z_um", math.nan),
    ],
)
def test_a_fact_is_believed_where_it_is_plain(tmp_path, inner, column, expected):
    export(tmp_path, [image(inner=inner)])
    assert indexed(tmp_path)[0][column].tolist() == pytest.approx([expected], nan_ok=True)


@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        (tag("ObjectiveCalibration", pixel_width=370, pixel_height=370, unit="nm"), 0.37),
        (tag("ObjectiveCalibration", pixel_width=0.37, pixel_height=0.5), math.nan),
        (tag("ObjectiveCalibration", pixel_width=0.37, pixel_height=0.37, unit="px"), math.nan),
        (tag("ObjectiveCalibration"), math.nan),
        (CALIBRATION + CALIBRATION, 0.37),
        (CALIBRATION + CALIBRATION.replace("0.37", "0.74"), math.nan),
    ],
)
def test_the_pixel_size_is_that_of_the_objective(tmp_path, calibration, expected):
    export(tmp_path, [image()], calibration=calibration)
    assert indexed(tmp_path)[0]["pixel_size_um"].tolist() == pytest.approx([expected], nan_ok=True)


@pytest.mark.parametrize(
    ("attributes", "creation", "expected"),
    [
        ({"timestamp_sec": 1.6e9}, CREATION, "2020-09-13T12:26:40.000+00:00"),
        ({"timestamp_sec": 12}, CREATION, ""),
        ({"acquisition_time_ms": 0}, CREATION, "2010-11-17T20:23:53.000"),
        ({"acquisition_time_ms": "1e300"}, CREATION, ""),
        ({"acquisition_time_ms": 1}, '<Creation date="17.11.2010" time="8 pm"/>', ""),
        ({}, CREATION, ""),
    ],
)
def test_a_time_is_one_that_can_be_meant(tmp_path, attributes, creation, expected):
    export(tmp_path, [image(**attributes)], creation=creation)
    assert indexed(tmp_path)[0]["acquired"].tolist() == [expected]


# --- what is missing or bad is said, and counted


def test_a_missing_or_broken_file_is_a_row_with_its_reason(tmp_path):
    images = [image(f"A - {n}") for n in range(1, 4)] + [image("A - 4", filename=None)]
    export(tmp_path, images, write=[images[0][0], images[1][0]])
    (tmp_path / images[1][0]).write_bytes(b"")
    table, left_out = indexed(tmp_path)
    assert table["status"].tolist() == ["ok", *["unreadable"] * 3]
    assert "is not there" in table["reason"][2]
    assert "no file" in table["reason"][3]
    assert left_out.empty


def test_images_without_identity_and_files_that_nobody_names_are_left_out(tmp_path):
    images = [
        image(),
        image("A - 2", field=None),
        image("A - 3", z="x"),
        image("", filename="no well.tif"),
        image("A - 4", row=2, column=4),
    ]
    export(tmp_path, images)
    tifffile.imwrite(tmp_path / "A - 1(fld 1 wv DAPI - DAPI)_thumb.tif", PIXELS)
    (tmp_path / "log.txt").write_text("no image")
    table, left_out = indexed(tmp_path)
    assert len(table) == 1
    reasons = "\n".join(left_out["reason"])
    for expected in (
        "image 2 of Plate 1.xdce has the identifier",
        "image 3 of Plate 1.xdce has the identifier",
        "image 4 of Plate 1.xdce has no well",
        "image 5 of Plate 1.xdce has the well 'A - 4' in row 2 and column 4",
        "Plate 1.xdce does not name it",
    ):
        assert expected in reasons
    assert len(left_out) == 5


def test_names_in_the_files_own_encoding_and_in_folders_are_found(tmp_path):
    (tmp_path / "Bilder").mkdir()
    export(tmp_path, [image(filename="Bilder\\größe.TIF")], write=["Bilder/größe.tif"])
    assert indexed(tmp_path)[0]["status"].tolist() == ["ok"]


def test_a_plane_that_the_index_lacks_is_a_row_that_says_so(tmp_path):
    images = [image(f"A - {n}", z=z) for n in (1, 2, 3) for z in (0, 1)]
    export(tmp_path, images[:-1])
    table, _ = indexed(tmp_path)
    assert table["status"].tolist() == [*["ok"] * 5, "unreadable"]
    assert "a plane of its stack is missing" in table["reason"][5]


# --- what is refused


@pytest.mark.parametrize("name", ["../x.tif", "/x.tif", "D:\\x.tif", "\\\\server\\x.tif"])
def test_a_file_outside_the_folder_of_the_index_is_refused(tmp_path, name):
    export(tmp_path / "in", [image(filename=name)], write=[])
    tifffile.imwrite(tmp_path / "x.tif", PIXELS)
    with pytest.raises(SourceError, match="outside its own folder"):
        indexed(tmp_path)


def test_several_acquisitions_are_refused_by_name_until_one_is_picked(tmp_path):
    export(tmp_path, [image()], name="one/P 1.xdce")
    export(tmp_path, [image(), image("A - 2")], name="two/P 2.XDCE")
    with pytest.raises(SourceError, match=r"2 xdce files: 'one/P 1', 'two/P 2'; ingest.incell.measurement is ''"):
        indexed(tmp_path)
    for wanted in ("two/P 2", "P 2"):
        planes, left_out = indexed(tmp_path, measurement=wanted)
        assert len(planes) == 2
        assert left_out["reason"].tolist() == ["of one/P 1.xdce, not picked"]


def test_two_indexes_of_one_folder_do_not_take_each_others_files(tmp_path):
    export(tmp_path, [image()], name="a.xdce")
    export(tmp_path, [image("A - 2")], name="b.xdce")
    planes, left_out = indexed(tmp_path, measurement="b")
    assert planes["Metadata_Well"].tolist() == ["A02"]
    assert left_out["reason"].tolist() == ["b.xdce does not name it"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "Columbus"}, "is <Columbus>, written by IN Cell Analyzer 2000; expected <ImageStack>"),
        ({"namespace": ' xmlns="urn:later"'}, "is <{urn:later}ImageStack>"),
        ({"size": (16, 24)}, "16 x 24 = 384 wells; the plate sheet says 96"),
    ],
)
def test_an_index_that_cannot_be_meant_is_refused(tmp_path, options, message):
    export(tmp_path, [image()], **options)
    with pytest.raises(SourceError, match=re.escape(message)):
        indexed(tmp_path)


@pytest.mark.parametrize("well", ["J - 1", "A - 13", "Z99", "well 1"])
def test_a_well_that_the_plate_lacks_is_refused(tmp_path, well):
    export(tmp_path, [image(well)])
    with pytest.raises(SourceError, match=r"Plate 1.xdce: .*correct `shape`"):
        indexed(tmp_path)


def test_two_images_of_one_plane_are_refused(tmp_path):
    export(tmp_path, [image(), image(filename="b.tif")])
    with pytest.raises(SourceError, match="are both Well A01"):
        indexed(tmp_path)


def test_a_folder_without_index_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds no .xdce file among its 0 files"):
        indexed(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("<ImageStack>", "cannot be read as XML"), ('<!DOCTYPE x [<!ENTITY a "b">]><ImageStack/>', "DOCTYPE")],
)
def test_broken_and_hostile_xml_is_refused(tmp_path, text, message):
    (tmp_path / "p.xdce").write_text(text)
    with pytest.raises(SourceError, match=message):
        indexed(tmp_path)


# --- nothing is lost, whatever the index holds

TEXTS = st.sampled_from([None, "", "0", "1", "-1", "1.5", "x", "٣", "9" * 30])
ODD = st.fixed_dictionaries(
    {"filename": st.sampled_from(["a.tif", "A.TIF", "b/a.tif", "gone.tif", "?*", "", "a/.."])},
    optional={key: TEXTS for key in ("field", "wave", "time", "z", "row", "column")}
    | {"well": st.sampled_from(["A - 1", "A - 2", "", "-"]), "timestamp_sec": TEXTS, "acquisition_time_ms": TEXTS},
)


@settings(max_examples=80, deadline=None)
@given(odd=st.lists(ODD, max_size=5), files=st.sets(st.sampled_from(["a.tif", "b/a.tif", "c.png"])))
def test_every_image_of_the_index_and_every_file_is_indexed_or_left_out(odd, files):
    images = [image(**{"field": n, **facts}) for n, facts in enumerate(odd)]
    with tempfile.TemporaryDirectory() as folder:
        source = export(Path(folder), images, write=[])
        (source / "b").mkdir()
        for name in files:
            (source / name).write_bytes(b"" if name == "b/a.tif" else b"II*\0")
        try:
            table, left_out = indexed(source)
        except SourceError as error:
            assert re.search("are both|is not a well|not on a plate", str(error))
            return
    lost = left_out["reason"].str.contains("identifier|has no well|has the well").sum()
    own = table[~table["reason"].str.startswith("no image of well")]  # the others fill the gaps of stacks
    assert len(own) + lost == len(images)
    named = {path.lower() for path in (*table["path"], *left_out["path"])}
    assert files <= named
    assert (table["status"] == "unreadable").all()
    assert (table["reason"] != "").all()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 3000), noise=st.binary(max_size=8))
def test_no_damage_to_an_index_gives_more_than_a_source_error(cut, noise):
    text = index_text([image(), image("A - 2")]).encode("latin-1")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "p.xdce").write_bytes(text[: cut % len(text)] + noise + text[cut % len(text) :])
        try:
            indexed(Path(folder))
        except SourceError:
            return
