"""The layout `phenix`: indexes written here in every version, whole and broken; no image of them is lost."""

import math
import re
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import ingest
from plateline.errors import SourceError
from plateline.layouts.phenix import index, read_plane
from plateline.layouts.planes import COLUMNS, EXTRA, PLANE

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5)
NAMESPACES = {
    "V4": "http://www.perkinelmer.com/PEHH/HarmonyV4",
    "V5": "http://www.perkinelmer.com/PEHH/HarmonyV5",
    "V6": "http://www.perkinelmer.com/PEHH/HarmonyV6",
    "V7": "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7",
}
CHANNEL = {
    "ChannelName": "HOECHST 33342",
    "ImageResolutionX": ("2.5E-07", "m"),
    "ImageResolutionY": ("2.5E-07", "m"),
    "MaxIntensity": "4096",
    "MainExcitationWavelength": ("375", "nm"),
    "MainEmissionWavelength": ("456", "nm"),
    "ExposureTime": ("0.04", "s"),
}


def element(name, value):
    text, unit = value if isinstance(value, tuple) else (value, None)
    return f"<{name}{f' Unit={chr(34)}{unit}{chr(34)}' if unit is not None else ''}>{escape(str(text))}</{name}>"


def plane(row=1, col=1, field=1, channel=1, **facts):
    """Elements of one image; a fact of None is absent."""
    z, time = facts.setdefault("PlaneID", 1), facts.setdefault("TimepointID", 0)
    stack, slow = (z if isinstance(z, int) else 0), (time if isinstance(time, int) else 0)
    url = f"r{row:02d}c{col:02d}f{field:02d}p{stack:02d}-ch{channel}sk{slow + 1}fk1fl1.tiff"
    identity = {"id": f"{row:02d}{col:02d}K{slow + 1}F{field}P{stack}R{channel}", "State": "Ok", "URL": url}
    identity |= {"Row": row, "Col": col, "FieldID": field, "ChannelID": channel}
    place = {f"Position{axis}": (value, "m") for axis, value in zip("XYZ", ("1E-04", "-2E-04", "3E-06"), strict=True)}
    return {
        k: v for k, v in {**identity, **place, "AbsTime": "2021-01-01T10:00:00+01:00", **facts}.items() if v is not None
    }


def index_text(planes, *, version="V5", plates=("P1",), size=(8, 12), namespace=None, maps="", wells=None):
    """Text of an index; from V6 on the channels stand in the maps, before in every image."""
    own = CHANNEL if version in ("V4", "V5") else {}
    if not own and not maps:
        entry = "".join(element(*fact) for fact in CHANNEL.items())
        maps = (
            '<Map><Entry ChannelID="1"><FlatfieldProfile>{Character: Null}</FlatfieldProfile></Entry></Map>'
            f'<Map><Entry ChannelID="1">{entry}</Entry></Map>'
        )
    images = "".join(f'<Image Version="1">{"".join(element(*f) for f in (own | p).items())}</Image>' for p in planes)
    listed = "".join(f'<Image id="{p["id"]}"/>' for p in planes if "id" in p) if wells is None else wells
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<EvaluationInputData xmlns:xsd="http://www.w3.org/2001/XMLSchema" Version="1" '
        f'xmlns="{NAMESPACES[version] if namespace is None else namespace}">'
        f"<User>A</User><InstrumentType>Phenix</InstrumentType><Plates>"
        + "".join(
            f"<Plate><PlateID>{name}</PlateID><PlateRows>{size[0]}</PlateRows><PlateColumns>{size[1]}</PlateColumns>"
            '<Well id="0101"/><Well id="0805"/></Plate>'
            for name in plates
        )
        + f"</Plates><Wells><Well><id>0101</id><Row>1</Row><Col>1</Col>{listed}</Well></Wells>"
        f"<Maps>{maps}</Maps><Images>{images}</Images></EvaluationInputData>"
    )


def export(folder, planes, *, home="M1/Images", name="Index.idx.xml", write=None, **options):
    """A measurement on disk: its index and the files of the planes, or of those in `write`."""
    images = folder / home
    images.mkdir(parents=True, exist_ok=True)
    (images / name).write_text(index_text(planes, **options), encoding="utf-8")
    for one in planes if write is None else write:
        tifffile.imwrite(images / one["URL"], PIXELS, photometric="minisblack")
    return folder


def indexed(folder, plate="P1", shape=96, measurement="", acquisition="", versions=tuple(NAMESPACES)):
    return index(folder, plate=plate, shape=shape, measurement=measurement, acquisition=acquisition, versions=versions)


@pytest.mark.parametrize("version", NAMESPACES)
def test_every_version_gives_the_same_table(tmp_path, version):
    export(tmp_path, [plane(2, 11, 3, TimepointID=4, PlaneID=5)], version=version)
    planes, left_out = indexed(tmp_path)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert left_out.empty
    row = planes.iloc[0]
    assert row[PLANE].tolist() == ["B11", 3, 4, 5, "HOECHST 33342"]
    assert row["path"] == "M1/Images/r02c11f03p05-ch1sk5fk1fl1.tiff"
    assert (row["status"], row["height"], row["width"], row["dtype"]) == ("ok", 4, 5, "uint16")
    told = row[["pixel_size_um", "full_scale", "exposure_ms", "excitation_nm", "emission_nm"]].tolist()
    assert told == pytest.approx([0.25, 4095, 40, 375, 456])
    assert row[[f"position_{axis}_um" for axis in "xyz"]].tolist() == pytest.approx([100, -200, 3])
    assert (row["channel_name"], row["acquired"]) == ("HOECHST 33342", "2021-01-01T10:00:00+01:00")
    np.testing.assert_array_equal(read_plane(tmp_path, row["path"], row["page"]), PIXELS)


def test_the_table_makes_an_index_of_the_plate(tmp_path):
    planes = [plane(1, c, f, ch, ChannelName=f"Dye {ch}") for c in (1, 2) for f in (1, 2) for ch in (1, 2)]
    export(tmp_path, planes)
    table, left_out = ingest.index_table(*indexed(tmp_path), plate="P1", channels={"Dye 1": "DNA", "Dye 2": "ER"})
    assert len(table) == 8
    assert left_out.empty
    assert ingest.geometry(table).channels == ["DNA", "ER"]
    assert ingest.geometry(table).pixel_size_um == pytest.approx(0.25)


@pytest.mark.parametrize("home", ["Images", ".", "hs/0a1b", "Plate 1 äöü__2021-01-01T10_00_00-Measurement 1/Images"])
@pytest.mark.parametrize("name", ["Index.idx.xml", "Index.xml", "index.xml", "Index.ref.xml"])
def test_the_index_is_found_wherever_harmony_puts_it(tmp_path, home, name):
    export(tmp_path, [plane()], home=home, name=name)
    planes, left_out = indexed(tmp_path)
    assert planes["status"].tolist() == ["ok"]
    assert left_out.empty


def test_of_two_forms_of_one_index_the_first_is_read(tmp_path):
    export(tmp_path, [plane(), plane(2)])
    export(tmp_path, [plane()], name="Index.xml")
    assert len(indexed(tmp_path)[0]) == 2


def test_a_channel_is_described_by_several_maps_and_the_image_has_the_last_word(tmp_path):
    maps = (
        '<Map><Entry ChannelID="1"><ChannelName>A</ChannelName></Entry></Map>'
        '<Map><Entry ChannelID="1"><ChannelName>B</ChannelName><ExposureTime>0.5</ExposureTime></Entry>'
        "<Entry><ChannelName>nobody</ChannelName></Entry></Map>"
    )
    export(tmp_path, [plane(), plane(2, ExposureTime=("20", "ms"), ChannelName="")], version="V6", maps=maps)
    planes, _ = indexed(tmp_path)
    assert planes["channel"].tolist() == ["A", "A"]
    assert planes["exposure_ms"].tolist() == [500, 20]


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (("A", "B"), ["A", "B"]),
        (("A", "A"), ["A ch1", "A ch2"]),
        ((None, "A"), ["A", "ch1"]),
        ((None, None), ["ch1", "ch2"]),
    ],
)
def test_channels_that_share_a_name_are_told_apart_by_their_number(tmp_path, names, channels):
    export(tmp_path, [plane(channel=n, ChannelName=name or "") for n, name in enumerate(names, start=1)])
    assert sorted(indexed(tmp_path)[0]["channel"]) == channels


def test_absent_facts_are_unknown_and_not_nought(tmp_path):
    bare = dict.fromkeys(["State", "PlaneID", "TimepointID", "PositionX", "PositionY", "PositionZ", "AbsTime"])
    export(tmp_path, [plane(**bare)], version="V6", maps="<Map/>")
    row = indexed(tmp_path)[0].iloc[0]
    assert row[PLANE].tolist() == ["A01", 1, 0, 0, "ch1"]
    assert (row["status"], row["full_scale"], row["acquired"]) == ("ok", 65535, "")
    numbers = [key for key, value in EXTRA.items() if value != ""]
    assert row[["pixel_size_um", *numbers]].isna().all()


@pytest.mark.parametrize(
    ("fact", "value", "column", "expected"),
    [
        ("MainEmissionWavelength", ("0", "nm"), "emission_nm", math.nan),
        ("MainEmissionWavelength", "525", "emission_nm", 525),
        ("ExposureTime", ("soon", "s"), "exposure_ms", math.nan),
        ("ExposureTime", ("1", "fortnight"), "exposure_ms", math.nan),
        ("PositionX", ("1e999", "m"), "position_x_um", math.nan),
        ("PositionX", ("12", "µm"), "position_x_um", 12),
        ("ImageResolutionX", ("3E-07", "m"), "pixel_size_um", math.nan),
        ("ImageResolutionX", "2.5E-07", "pixel_size_um", 0.25),
        ("MaxIntensity", "65536", "full_scale", 65535),
        ("MaxIntensity", "4095", "full_scale", 4095),
        ("MaxIntensity", "1", "full_scale", 65535),
        ("MaxIntensity", "1e9", "full_scale", 65535),
    ],
)
def test_a_fact_is_believed_where_it_is_plain(tmp_path, fact, value, column, expected):
    export(tmp_path, [plane(**{fact: value})])
    assert indexed(tmp_path)[0][column].tolist() == pytest.approx([expected], nan_ok=True)


# --- what is missing or bad is said, and counted


def test_wells_without_images_are_no_planes(tmp_path):
    export(tmp_path, [plane()])  # the plate declares H05 too
    assert indexed(tmp_path)[0]["Metadata_Well"].tolist() == ["A01"]


def test_a_missing_or_broken_file_is_a_row_with_its_reason(tmp_path):
    planes = [plane(1, n) for n in range(1, 6)]
    planes[4] |= {"State": "Failed"}
    planes[3] |= {"URL": ""}
    export(tmp_path, planes, write=[*planes[:2], planes[4]])
    (tmp_path / "M1/Images" / planes[1]["URL"]).write_bytes(b"")
    table, left_out = indexed(tmp_path)
    assert table["status"].tolist() == ["ok", *["unreadable"] * 4]
    for reason, expected in zip(table["reason"][2:], ["is not there", "no file", "state 'Failed'"], strict=True):
        assert expected in reason
    assert left_out.empty


def test_a_file_of_several_pages_or_named_twice_is_unreadable(tmp_path):
    planes = [plane(1, 1), plane(1, 2), plane(1, 3)]
    planes[2]["URL"] = planes[1]["URL"]
    export(tmp_path, planes)
    tifffile.imwrite(tmp_path / "M1/Images" / planes[0]["URL"], np.stack([PIXELS] * 3), photometric="minisblack")
    reasons = indexed(tmp_path)[0]["reason"].tolist()
    assert "3 pages" in reasons[0]
    assert ["for 2 planes" in reason for reason in reasons[1:]] == [True, True]


def test_images_that_the_index_does_not_describe_are_left_out_with_a_reason(tmp_path):
    planes = [plane(), plane(2, Row=None), plane(3, FieldID="x"), {}]
    listed = f'<Image id="{planes[0]["id"]}"/><Image id="0101K1F9P1R1"/>'
    export(tmp_path, planes, write=planes[:3], wells=listed)
    tifffile.imwrite(tmp_path / "M1/Images/stray.tiff", PIXELS)
    tifffile.imwrite(tmp_path / "M1/overview.tiff", PIXELS)
    (tmp_path / "M1/notes.txt").write_text("no image")
    table, left_out = indexed(tmp_path)
    assert len(table) == 1
    reasons = "\n".join(left_out["reason"])
    assert "image 2 of M1/Images/Index.idx.xml has no number as Row" in reasons
    assert "image 3 of M1/Images/Index.idx.xml has no number as FieldID" in reasons
    assert "image 4 of M1/Images/Index.idx.xml has no number as Row, Col, FieldID, ChannelID" in reasons
    assert "image 0101K1F9P1R1 of well 0101 is listed and not described" in reasons
    assert reasons.count("does not name it") == 2
    assert len(left_out) == 6


def test_images_without_ids_are_not_taken_for_missing_ones(tmp_path):
    export(tmp_path, [plane(id=None)], wells='<Image id="0101K1F1P1R1"/>')
    planes, left_out = indexed(tmp_path)
    assert len(planes) == 1
    assert left_out.empty


def test_names_may_differ_in_case_and_in_the_form_of_accents(tmp_path):
    planes = [plane(1, 1, URL="PLÄTE.TIFF"), plane(1, 2, URL="sub\\b.tiff"), plane(1, 3, URL="./sub/../c.tiff")]
    images = export(tmp_path, planes, write=[]) / "M1/Images"
    (images / "sub").mkdir()
    for name in ("pla\u0308te.tiff", "sub/b.tiff", "c.tiff"):
        tifffile.imwrite(images / name, PIXELS)
    table, left_out = indexed(tmp_path)
    assert table["status"].tolist() == ["ok"] * 3
    assert left_out.empty


def test_a_plane_that_the_index_lacks_is_a_row_that_says_so(tmp_path):
    planes = [plane(1, col, channel=ch, PlaneID=z) for col in (1, 2, 3) for ch in (1, 2) for z in (1, 2)]
    export(tmp_path, [one for one in planes if (one["Col"], one["ChannelID"], one["PlaneID"]) != (2, 2, 2)])
    table, _ = indexed(tmp_path)
    assert len(table) == 12
    gap = table[table["status"] != "ok"].iloc[0]
    assert gap[PLANE].tolist() == ["A02", 1, 0, 2, "HOECHST 33342 ch2"]
    assert "a plane of its stack is missing" in gap["reason"]


# --- what is refused


@pytest.mark.parametrize(
    "url",
    ["../x.tiff", "a/../../x.tiff", "/etc/x.tiff", "C:\\x.tiff", "c:x.tiff", "\\\\server\\x.tiff", "file:///x.tiff"],
)
def test_a_file_outside_the_folder_of_the_index_is_refused(tmp_path, url):
    export(tmp_path, [plane(URL=url)], write=[])
    tifffile.imwrite(tmp_path / "M1/x.tiff", PIXELS)
    with pytest.raises(SourceError, match="outside its own folder"):
        indexed(tmp_path)


def test_a_link_that_leads_outside_is_not_read(tmp_path):
    one = plane()
    export(tmp_path / "source", [one], write=[])
    tifffile.imwrite(tmp_path / "elsewhere.tiff", PIXELS)
    (tmp_path / "source/M1/Images" / one["URL"]).symlink_to(tmp_path / "elsewhere.tiff")
    table, left_out = indexed(tmp_path / "source")
    assert table["status"].tolist() == ["unreadable"]
    assert "leads outside" in left_out["reason"][0]


def test_several_measurements_are_refused_by_name_until_one_is_picked(tmp_path):
    export(tmp_path, [plane()], home="P1-Measurement 1/Images")
    export(tmp_path, [plane(), plane(2)], home="later/P1-Measurement 2/Images", version="V6")
    with pytest.raises(
        SourceError, match=r"2 measurements: 'P1-Measurement 1', 'later/P1-Measurement 2'; ingest.phenix"
    ):
        indexed(tmp_path)
    for wanted in ("later/P1-Measurement 2", "P1-Measurement 2"):
        planes, left_out = indexed(tmp_path, measurement=wanted)
        assert len(planes) == 2
        assert left_out["reason"].tolist() == ["of P1-Measurement 1/Images/Index.idx.xml, not picked"]
    with pytest.raises(SourceError, match="is 'Measurement 3' and must name one"):
        indexed(tmp_path, measurement="Measurement 3")


def test_several_acquisitions_are_refused_by_name_until_one_is_picked(tmp_path):
    export(tmp_path, [plane(field=f, AcquisitionID=name) for f, name in enumerate("aab", start=1)], version="V7")
    with pytest.raises(SourceError, match=r"2 acquisitions: 'a', 'b'; ingest.phenix.acquisition is ''"):
        indexed(tmp_path)
    planes, left_out = indexed(tmp_path, acquisition="a")
    assert planes["Metadata_Site"].tolist() == [1, 2]
    assert left_out["reason"].tolist() == ["of acquisition 'b', not picked"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"namespace": "http://www.perkinelmer.com/PEHH/HarmonyV9"}, "HarmonyV9.*expected.*V4, V5, V6, V7"),
        ({"namespace": "http://www.perkinelmer.com/Columbus"}, "Columbus"),
        ({"namespace": ""}, "namespace ''"),
        ({"plates": ("P1", "P2")}, "of 2 plates: 'P1', 'P2'"),
        ({"size": (16, 24)}, "16 x 24 = 384 wells; the plate sheet says 96"),
    ],
)
def test_an_index_that_cannot_be_meant_is_refused(tmp_path, options, message):
    export(tmp_path, [plane()], **options)
    with pytest.raises(SourceError, match=message):
        indexed(tmp_path)


def test_a_version_is_read_once_somebody_has_named_it(tmp_path):
    export(tmp_path, [plane()], namespace="http://www.perkinelmer.com/PEHH/HarmonyV9")
    assert len(indexed(tmp_path, versions=["V9"])[0]) == 1
    export(tmp_path, [plane()])
    with pytest.raises(SourceError, match="HarmonyV5"):
        indexed(tmp_path, versions=["V9"])


def test_a_holder_of_no_usual_shape_passes(tmp_path):
    export(tmp_path, [plane()], size=(1, 4))
    assert len(indexed(tmp_path)[0]) == 1


def test_a_well_that_the_plate_lacks_is_refused(tmp_path):
    export(tmp_path, [plane(9, 1)])
    with pytest.raises(SourceError, match=r"not on a plate of 96 wells.*correct `shape`"):
        indexed(tmp_path)


def test_two_images_of_one_plane_are_refused(tmp_path):
    export(tmp_path, [plane(), plane(URL="b.tiff")])
    with pytest.raises(SourceError, match="are both Well A01"):
        indexed(tmp_path)


def test_a_folder_without_index_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds no Index.idx.xml or Index.xml among its 0 files"):
        indexed(tmp_path)
    with pytest.raises(SourceError, match="is no folder"):
        indexed(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as XML"),
        ("<EvaluationInputData>", "cannot be read as XML"),
        ("<Other/>", "<Other>"),
        ('<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><EvaluationInputData>&c;</EvaluationInputData>', "DOCTYPE"),
    ],
)
def test_broken_and_hostile_xml_is_refused(tmp_path, text, message):
    export(tmp_path, [])
    (tmp_path / "M1/Images/Index.idx.xml").write_text(text)
    with pytest.raises(SourceError, match=re.escape(message)):
        indexed(tmp_path)


def test_an_index_without_images_gives_an_empty_table(tmp_path):
    planes, left_out = indexed(export(tmp_path, []))
    assert (len(planes), len(left_out)) == (0, 0)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]


# --- nothing is lost, whatever the index holds

TEXTS = st.one_of(st.none(), st.sampled_from(["", "1", "2", "-1", "1.5", "x", "٣", "nan", "1e400", "9" * 30]))
ODD = st.fixed_dictionaries(
    {},
    optional={
        key: TEXTS
        for key in (
            "Row",
            "Col",
            "FieldID",
            "PlaneID",
            "TimepointID",
            "ChannelID",
            "ChannelName",
            "State",
            "MaxIntensity",
        )
    }
    | {
        "URL": st.sampled_from(
            ["", "a.tiff", "A.TIFF", "b/a.tiff", "gone.tiff", "..", "a\x85.tiff", "?*", "a/./../a.tiff"]
        )
    },
)


@settings(max_examples=60, deadline=None)
@given(
    facts=st.lists(ODD, max_size=5),
    listed=st.integers(0, 2),
    files=st.sets(st.sampled_from(["a.tiff", "b/a.tiff", "c.png"])),
)
def test_every_image_of_the_index_and_every_file_is_indexed_or_left_out(facts, listed, files):
    planes = [plane(1 + n, **{"URL": f"{n}.tiff", **fact}) for n, fact in enumerate(facts)]
    wells = "".join(f'<Image id="lost{n}"/>' for n in range(listed))
    with tempfile.TemporaryDirectory() as folder:
        images = export(Path(folder), planes, write=[], wells=wells) / "M1/Images"
        (images / "b").mkdir()
        for name in files:
            (images / name).write_bytes(b"" if name == "b/a.tiff" else b"II*\0")
        try:
            table, left_out = indexed(Path(folder))
        except SourceError as error:
            assert re.search("are both|outside its own|is not a well|not on a plate", str(error))
            return
    own = table[~table["reason"].str.startswith("no image of well")]  # the others fill the gaps of stacks
    assert len(own) + (left_out["reason"].str.contains("has no number|not described")).sum() == len(planes) + listed
    named = {path.lower() for path in (*table["path"], *left_out["path"])}
    assert {f"m1/images/{name}" for name in files} <= named
    assert (table["status"] == "unreadable").all()
    assert (table["reason"] != "").all()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 3000), noise=st.binary(max_size=8))
def test_no_damage_to_an_index_gives_more_than_a_source_error(cut, noise):
    text = index_text([plane(), plane(2)]).encode()
    with tempfile.TemporaryDirectory() as folder:
        images = export(Path(folder), [plane(), plane(2)], write=[]) / "M1/Images"
        (images / "Index.idx.xml").write_bytes(text[: cut % len(text)] + noise + text[cut % len(text) :])
        try:
            table, left_out = indexed(Path(folder))
        except SourceError:
            return
    assert len(table) + len(left_out) >= 1
