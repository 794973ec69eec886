"""The layout `imagexpress`: names, folders and headers of MetaXpress; projections and stacks; what its `.HTD` plans."""

import html
import logging
import re
import tempfile
import uuid
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from campaign import make_campaign, run
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import ingest, store
from plateline.errors import ImageError, SourceError
from plateline.layouts.htd import read_plan
from plateline.layouts.imagexpress import PROJECTIONS, index, read_plane
from plateline.layouts.metaseries import plane_facts
from plateline.layouts.planes import COLUMNS, EXTRA, PLANE

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5)
HTD = """"HTSInfoFile", Version 1.0
"Description", "a plate, with a comma"
"TimePoints", {times}
"XWells", 12
"YWells", 8
"WellsSelection1", TRUE, TRUE, FALSE
"Sites", TRUE
"XSites", 2
"YSites", 1
"SiteSelection1", TRUE, TRUE
"Waves", TRUE
"NWavelengths", 2
"WaveName1", "DAPI"
"WaveName2", "FITC µ"
"EndFile"
"""


def uid(seed):
    return str(uuid.UUID(int=seed * 7919 + (seed << 90))).upper()


def write(folder, name, pixels=PIXELS, **options):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    return file


def metaseries(**properties):
    props = "".join(
        f'<prop id="{name.replace("_", "-")}" type="string" value="{html.escape(str(value))}"/>\n'
        for name, value in properties.items()
    )
    return f"<MetaData>\n<PlaneInfo>\n{props}</PlaneInfo>\n</MetaData>"


def indexed(folder, *, projections="stack", plate="P1", shape=96, measurement=""):
    return index(folder, plate=plate, shape=shape, projections=projections, measurement=measurement)


def accounted(folder, planes, left_out):
    """Every image file stands in one of the tables, once."""
    files = {
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.suffix.lower() in (".tif", ".png")
    }
    paths = [path for path in planes["path"] if path]
    return (
        len(paths) == len(set(paths))
        and set(paths) | set(left_out["path"]) >= files
        and not set(paths) & set(left_out["path"])
    )


# --- the real export


@pytest.mark.parametrize(
    ("projections", "channels", "left"),
    [
        ("stack", {"w1": 40, "w2": 40, "w3": 4, "w4": 4}, 96 + 8),
        ("projection", {"w1": 4, "w2": 4, "w3": 4, "w4": 4}, 96 + 80),
        ("both", {"w1": 40, "w1_projection": 4, "w2": 40, "w2_projection": 4, "w3": 4, "w4": 4}, 96),
    ],
)
def test_real_export_keeps_projections_and_stacks_apart(data, projections, channels, left):
    source = data / "vendor" / "imagexpress_projection_mix"
    planes, left_out = indexed(source, projections=projections)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert planes["channel"].value_counts().to_dict() == channels
    assert len(left_out) == left
    assert len(planes) + len(left_out) == 192
    assert accounted(source, planes, left_out)
    assert set(planes["status"]) == {"ok"}
    assert sorted(set(planes["Metadata_Well"])) == ["E07", "E08"]
    assert planes[PLANE].equals(planes[PLANE].sort_values(PLANE, ignore_index=True))


def test_real_headers_are_read(data):
    planes, _ = indexed(data / "vendor" / "imagexpress_projection_mix")
    assert set(planes["pixel_size_um"]) == {1.3668}
    assert set(planes["full_scale"]) == {65535.0}
    assert set(planes["exposure_ms"]) == {15.0}
    assert set(planes["emission_nm"]) == {536.0}
    assert set(planes["channel_name"]) == {"FITC_05"}
    stack = planes[(planes["Metadata_Well"] == "E07") & (planes["Metadata_Site"] == 1) & (planes["channel"] == "w1")]
    assert stack["z"].tolist() == list(range(1, 11))
    assert (stack["position_z_um"].diff().dropna() > 4).all(), "steps of 5 µm upwards"
    assert planes["acquired"].str.fullmatch(r"2023-02-21T10:42:\d\d\.\d{3}|2023-02-21T10:41:\d\d\.\d{3}").all()


@pytest.mark.parametrize("projections", PROJECTIONS)
def test_real_export_becomes_fields(data, projections):
    source = data / "vendor" / "imagexpress_projection_mix"
    found, left_out = indexed(source, projections=projections)
    table, left_out = ingest.index_table(found, left_out, plate="P1", channels={})
    shared = ingest.geometry(table)
    assert (shared.height, shared.width, shared.dtype, shared.pixel_size_um) == (512, 512, "uint16", 1.3668)
    field = table[(table["Metadata_Well"] == "E08") & (table["Metadata_Site"] == 2)]
    pixels = ingest.build_field(field, shared, partial(read_plane, source), projection="max")
    assert pixels.shape == (6 if projections == "both" else 4, 512, 512)
    own = field[field["Metadata_Channel"] == "w1"]["path"]
    naive = np.max([tifffile.imread(source / path) for path in own], axis=0)
    np.testing.assert_array_equal(pixels[shared.channels.index("w1")], naive)


@pytest.mark.slow
def test_real_export_through_the_workflow(data, tmp_path):
    campaign = make_campaign(
        tmp_path / "c",
        {"P1": {"layout": "imagexpress", "source": str(data / "vendor" / "imagexpress_projection_mix")}},
        config={
            "ingest": {"plate": {"channels": {"w1": "DNA", "w2": "GFP", "w3": "ER", "w4": "AGP"}}},
            "segment": {"nuclei_channel": "DNA"},
            "profile": {"readouts": {"cells": "per_field()"}},
        },
    )
    table = "results/ingest/P1/part-1.parquet"
    run(campaign, table)
    fields = store.read_table(campaign / table)
    assert fields["status"].tolist() == ["ok"] * 4
    assert fields["channels"].tolist() == ["DNA|GFP|ER|AGP"] * 4
    counts = store.read_table(campaign / "results/ingest/P1/images.ledger.parquet")
    assert counts[counts["kind"] == "count"][["count_in", "count_out"]].to_numpy().tolist() == [[192, 88]]


# --- names and folders


@pytest.mark.parametrize(
    ("path", "plane"),
    [
        ("P1_B03_s2_w4.tif", ["B03", 2, 0, 0, "w4"]),
        ("P1_B03_s2_w1.TIF", ["B03", 2, 0, 0, "w1"]),
        (f"P1_b03_s2_w1{uid(1)}.tif", ["B03", 2, 0, 0, "w1"]),
        (f"P1_B3_s2_w1{uid(2).lower()}.tif", ["B03", 2, 0, 0, "w1"]),
        (f"P1_B03_s12_w427{uid(3)[1:]}.tif", ["B03", 12, 0, 0, "w42"]),
        ("P1_B03_s12_w10ABCDEF0-0000-0000-0000-000000000000.tif", ["B03", 12, 0, 0, "w1"]),
        (f"P1_B03_w1{uid(4)}.tif", ["B03", 1, 0, 0, "w1"]),
        (f"P1_B03_s3{uid(5)}.tif", ["B03", 3, 0, 0, "w1"]),
        ("P1_B03.tif", ["B03", 1, 0, 0, "w1"]),
        ("P1_A01_B03_s12_w11.tif", ["B03", 12, 0, 0, "w11"]),
        ("Week1 é_A01_B03_s2_w1.tif", ["B03", 2, 0, 0, "w1"]),
        ("TimePoint_3/P1_B03_s2_w1.tif", ["B03", 2, 3, 0, "w1"]),
        ("2023-01-01/12/TimePoint_3/ZStep_07/P1_B03_s2_w1.tif", ["B03", 2, 3, 7, "w1"]),
        ("x/ZStep_2/P1_B03_s2_w1.tif", ["B03", 2, 0, 2, "w1"]),
        ("P1_B03_s2_w1_t4_z5.tif", ["B03", 2, 4, 5, "w1"]),
    ],
)
def test_identity_comes_from_the_path(tmp_path, path, plane):
    write(tmp_path, path)
    planes, left_out = indexed(tmp_path)
    assert planes[PLANE].to_numpy().tolist() == [plane]
    assert planes["path"].tolist() == [path]
    assert left_out.empty


def test_other_images_are_left_out_with_a_reason(tmp_path):
    write(tmp_path, "P1_B03_s2_w1.tif")
    names = {
        f"P1_B03_s2_w1_thumb{uid(1)}.tif": "a thumbnail",
        "overview.tif": "its name is not that of an ImageXpress image",
        "P1_w1.tif": "its name is not that of an ImageXpress image",
        "P1_B03_s2_w1.png": "its name is not that of an ImageXpress image",
    }
    for name in names:
        write(tmp_path, name)
    planes, left_out = indexed(tmp_path)
    assert len(planes) == 1
    assert left_out.set_index("path")["reason"].to_dict() == names


def test_1536_wells_have_two_letters(tmp_path):
    write(tmp_path, "P1_AF48_s1_w1.tif")
    assert indexed(tmp_path, shape=1536)[0]["Metadata_Well"].tolist() == ["AF48"]
    with pytest.raises(SourceError, match=r"the name of P1_AF48_s1_w1.tif cannot be read: .*correct `shape`"):
        indexed(tmp_path, shape=384)


def test_an_unreadable_file_is_a_row(tmp_path):
    write(tmp_path, "P1_A01_s1_w1.tif")
    write(tmp_path, "P1_A01_s2_w1.tif", np.stack([PIXELS] * 2))
    write(tmp_path, "P1_A01_s3_w1.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    (tmp_path / "P1_A01_s4_w1.tif").write_bytes(b"")
    planes, _ = indexed(tmp_path)
    assert planes["status"].tolist() == ["ok", "unreadable", "unreadable", "unreadable"]
    assert re.search("holds 2 pages", planes["reason"][1])
    assert re.search(r"shape \(4, 5, 3\)", planes["reason"][2])
    with pytest.raises(ImageError):
        read_plane(tmp_path, planes["path"][3], 0)


# --- one export, one plate


def test_several_exports_are_refused_or_picked(tmp_path):
    for root in ("2023-01-01/1", "2023-01-02/2"):
        write(tmp_path, f"{root}/TimePoint_1/P1_A01_s1_w1.tif")
    with pytest.raises(SourceError, match=r"2 exports, in the folders: '2023-01-01/1', '2023-01-02/2'.*measurement"):
        indexed(tmp_path)
    planes, left_out = indexed(tmp_path, measurement="2023-01-02/2/")
    assert planes["path"].tolist() == ["2023-01-02/2/TimePoint_1/P1_A01_s1_w1.tif"]
    assert left_out["reason"].tolist() == ["of the export in 2023-01-01/1"]


def test_files_of_other_plates_in_the_folder_are_left_out(tmp_path):
    for name in ("P1_A01_s1_w1.tif", "P2_A01_s1_w1.tif"):
        write(tmp_path, name)
    planes, left_out = indexed(tmp_path, plate="p2")
    assert planes["path"].tolist() == ["P2_A01_s1_w1.tif"]
    assert left_out.to_numpy().tolist() == [["P1_A01_s1_w1.tif", "of plate 'P1'"]]
    with pytest.raises(SourceError, match="images of 2 plates, P1, P2; none alone is called P3"):
        indexed(tmp_path, plate="P3")


def test_one_plane_twice_is_refused(tmp_path):
    for n in (1, 2):
        write(tmp_path, f"P1_A01_s1_w1{uid(n)}.tif")
    with pytest.raises(SourceError, match="are both Well A01, Site 1"):
        indexed(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(SourceError, match="holds no image named like Plate_A01_s1_w1"):
        indexed(tmp_path)
    with pytest.raises(SourceError, match="is no folder"):
        indexed(tmp_path / "gone")
    with pytest.raises(SourceError, match="projections is 'max'; expected one of stack, projection, both"):
        indexed(tmp_path, projections="max")


def test_links_do_not_lead_out(tmp_path):
    secret = write(tmp_path / "outside", "P1_A02_s1_w1.tif")
    write(tmp_path / "source", "P1_A01_s1_w1.tif")
    (tmp_path / "source" / "P1_A02_s1_w1.tif").symlink_to(secret)
    planes, left_out = indexed(tmp_path / "source")
    assert planes["path"].tolist() == ["P1_A01_s1_w1.tif"]
    assert left_out["reason"].tolist() == ["the link leads outside the source folder"]


# --- projections


def test_a_projection_in_zstep_0_is_told_by_its_header(tmp_path):
    projected = metaseries(**{"Z Projection Method": "Maximum"})
    write(tmp_path, "ZStep_0/P1_A01_s1_w1.tif", description=projected)
    write(tmp_path, "ZStep_1/P1_A01_s1_w1.tif")
    assert indexed(tmp_path)[0]["path"].tolist() == ["ZStep_1/P1_A01_s1_w1.tif"]
    assert indexed(tmp_path, projections="projection")[0]["path"].tolist() == ["ZStep_0/P1_A01_s1_w1.tif"]
    assert indexed(tmp_path, projections="both")[0]["channel"].tolist() == ["w1_projection", "w1"]


def test_a_field_with_only_a_projection_keeps_it(tmp_path):
    for site in (1, 2):
        write(tmp_path, f"P1_A01_s{site}_w1.tif")
    for z in (1, 2):
        write(tmp_path, f"ZStep_{z}/P1_A01_s1_w1.tif")
    planes, left_out = indexed(tmp_path)
    assert planes[["Metadata_Site", "z", "status"]].to_numpy().tolist() == [[1, 1, "ok"], [1, 2, "ok"], [2, 0, "ok"]]
    assert left_out["path"].tolist() == ["P1_A01_s1_w1.tif"]


def test_a_hole_in_a_stack_excludes_its_field(tmp_path):
    for well, z in [("A01", 1), ("A01", 2), ("A02", 1), ("A03", 1), ("A03", 2)]:
        write(tmp_path, f"ZStep_{z}/P1_{well}_s1_w1.tif")
    planes, left_out = indexed(tmp_path)
    assert planes.loc[planes["status"] != "ok", ["Metadata_Well", "z"]].to_numpy().tolist() == [["A02", 2]]
    table, _ = ingest.index_table(planes, left_out, plate="P1", channels={})
    shared = ingest.geometry(table)
    with pytest.raises(ImageError, match="no image of well A02, site 1, time point 0, z 2, channel w1"):
        ingest.build_field(
            table[table["Metadata_Well"] == "A02"], shared, partial(read_plane, tmp_path), projection="max"
        )


# --- the plan


def with_plan(folder, text=HTD, times=1, name="P1.HTD"):
    for well in ("A01", "A02"):
        for site in (1, 2):
            for wave in (1, 2):
                write(folder, f"P1_{well}_s{site}_w{wave}.tif")
    (folder / name).write_text(text.replace("{times}", str(times)), encoding="cp1252")
    return folder


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig"])
def test_the_plan_names_the_waves(tmp_path, encoding):
    with_plan(tmp_path)
    (tmp_path / "P1.HTD").write_text(HTD.format(times=1), encoding=encoding)
    planes, left_out = indexed(tmp_path)
    assert set(zip(planes["channel"], planes["channel_name"], strict=True)) == {("w1", "DAPI"), ("w2", "FITC µ")}
    assert set(planes["status"]) == {"ok"}
    assert left_out.empty


def test_what_the_plan_has_and_the_folder_lacks_is_a_row(tmp_path):
    with_plan(tmp_path)
    (tmp_path / "P1_A02_s2_w1.tif").unlink()
    (tmp_path / "P1_A02_s2_w2.tif").unlink()
    (tmp_path / "P1_A01_s1_w2.tif").unlink()
    planes, _ = indexed(tmp_path)
    missing = planes[planes["status"] != "ok"]
    assert missing[["Metadata_Well", "Metadata_Site", "channel"]].to_numpy().tolist() == [
        ["A01", 1, "w2"], ["A02", 2, "w1"], ["A02", 2, "w2"]
    ]  # fmt: skip
    assert missing["reason"].tolist() == [
        "no image of well A01, site 1, time point 0, z 0, channel w2",
        "no image of well A02, site 2, time point 0, z 0, channel w1: P1.HTD plans it, no image is there",
        "no image of well A02, site 2, time point 0, z 0, channel w2: P1.HTD plans it, no image is there",
    ]


def test_waves_and_times_never_imaged_are_noted(tmp_path):
    with_plan(tmp_path, times=4)
    for wave2 in tmp_path.glob("*_w2.tif"):
        wave2.unlink()
    planes, left_out = indexed(tmp_path)
    assert set(planes["status"]) == {"ok"}
    assert left_out["reason"].tolist() == [
        "plans 4 time points, images of 1 are there",
        "plans wave w2 (FITC µ), of which no image is there",
    ]


def test_sites_beyond_the_plan_are_kept(tmp_path):
    with_plan(tmp_path)
    for wave in (1, 2):
        write(tmp_path, f"P1_A01_s5_w{wave}.tif")
    planes, _ = indexed(tmp_path)
    assert (planes["status"] == "ok").sum() == 10
    assert set(planes.loc[planes["status"] != "ok", "Metadata_Site"]) == {5}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Version 1.0", "Version 2.0", "HTSInfoFile` Version 2.0; expected Version 1.0"),
        ('"HTSInfoFile"', '"Other"', "HTSInfoFile` nothing; expected"),
        ('"XWells", 12', '"XWells", 24', "of a plate of 8 x 24 wells, not 96; correct `shape`"),
        ('"XWells", 12', '"XWells", many', "says XWells 'many'; expected a whole number"),
        ('"YWells", 8', "", "says YWells 'nothing'"),
        ('"WellsSelection1"', '"WellsSelection9"', "selects a well that its plate lacks"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(tmp_path, old, new, message):
    with pytest.raises(SourceError, match=message):
        indexed(with_plan(tmp_path, HTD.replace(old, new)))


def test_a_minor_version_is_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        indexed(with_plan(tmp_path, HTD.replace("1.0", "1.3")))
    assert re.search(r"P1.HTD is of Version 1.3; only Version 1.0 is known", caplog.text)


def test_several_plans(tmp_path):
    with_plan(tmp_path)
    (tmp_path / "copy.HTD").write_text("nonsense")
    assert "DAPI" in set(indexed(tmp_path)[0]["channel_name"])
    (tmp_path / "P1.HTD").rename(tmp_path / "other.HTD")
    with pytest.raises(SourceError, match=r"2 .HTD files: copy.HTD, other.HTD; expected one, or one named P1.HTD"):
        indexed(tmp_path)


def test_a_plan_that_is_gone_is_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        read_plan(tmp_path / "gone.HTD", shape=96)


# --- headers


@pytest.mark.parametrize(
    ("properties", "facts"),
    [
        ({}, {"full_scale": 65535.0}),
        ({"Camera Bit Depth": "12"}, {"full_scale": 4095.0}),
        ({"Camera Bit Depth": "12", "Z Projection Method": "Sum"}, {"full_scale": 65535.0}),
        ({"Camera Bit Depth": "1"}, {"full_scale": 65535.0}),
        ({"Camera Bit Depth": "11.5"}, {"full_scale": 65535.0}),
        ({"Exposure Time": "0.5 sec"}, {"full_scale": 65535.0, "exposure_ms": 500.0}),
        ({"Exposure Time": "1.2.3 ms"}, {"full_scale": 65535.0}),
        ({"Exposure Time": "5 fortnights"}, {"full_scale": 65535.0}),
        ({"wavelength": "0"}, {"full_scale": 65535.0}),
        ({"stage-position-x": "-3.5"}, {"full_scale": 65535.0, "position_x_um": -3.5}),
        ({"stage-position-x": "inf", "stage-position-y": "here"}, {"full_scale": 65535.0}),
        ({"_IllumSetting_": "DAPI"}, {"full_scale": 65535.0, "channel_name": "DAPI"}),
    ],
)
def test_only_plain_facts_are_believed(properties, facts):
    assert plane_facts(properties, 65535.0) == facts


@pytest.mark.parametrize(
    ("state", "x", "y", "unit", "size"),
    [("on", 0.5, 0.5, "um", 0.5), ("on", 0.5, 0.5, "micron", 0.5), ("off", 0.5, 0.5, "um", np.nan),
     ("on", 0.5, 0.6, "um", np.nan), ("on", 1, 1, "pixel", np.nan), ("on", 0, 0, "um", np.nan)],
)  # fmt: skip
def test_pixel_size_only_where_calibrated(tmp_path, state, x, y, unit, size):
    told = metaseries(
        spatial_calibration_state=state,
        spatial_calibration_x=x,
        spatial_calibration_y=y,
        spatial_calibration_units=unit,
    )
    write(tmp_path, "P1_A01_s1_w1.tif", description=told)
    np.testing.assert_equal(indexed(tmp_path)[0]["pixel_size_um"][0], size)


# --- nothing is lost, nothing is unhandled

FOLDERS = st.sampled_from(["", "TimePoint_1/", "TimePoint_2/ZStep_1/", "ZStep_0/", "ZStep_1/", "ZStep_2/", "other é/"])
NAMES = st.one_of(
    st.builds(
        "P1_{}{}{}{}{}.tif".format,
        st.sampled_from(["A01", "a1", "H12", "B02", "P24"]),
        st.sampled_from(["", "_s1", "_s2"]),
        st.sampled_from(["", "_w1", "_w2"]),
        st.sampled_from(["", "_thumb"]),
        st.sampled_from(["", uid(1), uid(2)]),
    ),
    st.sampled_from(["x.tif", "y.png", "log.txt", "P2_A01_s1_w1.tif", "P1_A01_s9_w9.bad.tif", "empty_A01_s1_w1.tif"]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(FOLDERS, NAMES), max_size=12, unique=True),
    st.sampled_from(PROJECTIONS),
    st.sampled_from(["P1", "P2"]),
)
def test_every_image_file_is_indexed_or_left_out(names, projections, plate):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for where, name in names:
            file = write(source, where + name)
            if name.startswith("empty"):
                file.write_bytes(b"")
        try:
            planes, left_out = indexed(source, projections=projections, plate=plate)
        except SourceError as error:
            assert str(error)
        else:
            assert accounted(source, planes, left_out)
            assert (left_out["reason"] != "").all()
            assert (planes.loc[planes["status"] != "ok", "reason"] != "").all()


KEYS = st.sampled_from(
    ["HTSInfoFile", "XWells", "YWells", "WellsSelection1", "TimePoints", "SiteSelection1", "WaveName1", "é"]
)
VALUES = st.one_of(st.sampled_from(["Version 1.0", "12", "8", "TRUE", "FALSE", "TRUE, TRUE"]), st.text(max_size=8))


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.lists(st.tuples(KEYS, VALUES), max_size=8)))
def test_any_plan_is_read_or_refused_by_name(content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "P1.HTD"
        text = (
            content
            if isinstance(content, bytes)
            else "\n".join(f'"{k}", {v}' for k, v in content).encode(errors="replace")
        )
        file.write_bytes(text)
        try:
            assert read_plan(file, shape=96).times >= 0
        except SourceError as error:
            assert "P1.HTD" in str(error)
