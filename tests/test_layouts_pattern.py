"""The layout `pattern`: every image file is indexed or left out, and what cannot be meant is refused by name."""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline.errors import ImageError, SourceError
from plateline.layouts.pattern import index, read_plane
from plateline.layouts.planes import COLUMNS, EXTRA, PLANE

BBBC013 = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"
BBBC013_REGEX = r"Channel(?P<channel>\d)-(?P<index>\d+)-(?P<row>[A-H])-(?P<column>\d+)\.tif"
REGEX = r"(?P<well>[A-Z]+\d+)(_s(?P<site>\d+))?(_t(?P<timepoint>\d+))?(_z(?P<z>\d+))?_(?P<channel>\w+?)\.tif"
PLANE_OF_20 = np.arange(20, dtype=np.uint16).reshape(4, 5)


def write(folder, name, pixels=PLANE_OF_20, **options):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", **options})
    return file


def indexed(folder, regex=REGEX, plate="P1", shape=96):
    return index(folder, plate=plate, shape=shape, regex=regex)


def test_real_plate_has_every_plane_once_and_its_pixels():
    planes, left_out = indexed(BBBC013, BBBC013_REGEX)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert len(planes) == 192
    assert left_out.empty
    assert planes["Metadata_Well"].nunique() == 96
    assert planes["channel"].value_counts().to_dict() == {"1": 96, "2": 96}
    assert (planes[["height", "width"]] == 640).all(axis=None)
    assert set(planes["dtype"]) == {"uint8"}
    assert set(planes["full_scale"]) == {255.0}
    assert planes["pixel_size_um"].isna().all()
    assert planes[PLANE].equals(planes[PLANE].sort_values(PLANE, ignore_index=True))
    row = planes.iloc[100]
    pixels = read_plane(BBBC013, row["path"], row["page"])
    np.testing.assert_array_equal(pixels, tifffile.imread(BBBC013 / row["path"]))


def test_vendor_export_reads_as_a_pattern(data):
    source = data / "vendor" / "imagexpress_projection_mix"
    regex = (
        r"[^/]+/\d+/(ZStep_(?P<z>\d+)/)?.*_(?P<well>[A-H]\d+)_s(?P<site>\d)_w(?P<channel>\d)(?!_thumb)[-0-9A-F]+\.tif"
    )
    planes, left_out = indexed(source, regex)
    assert len(planes) + len(left_out) == len(list(source.rglob("*.tif")))
    assert set(planes["status"]) == {"ok"}
    assert planes["pixel_size_um"].isna().all(), "its resolution tag is 1 dot an inch: no pixel size"


def test_identity_comes_from_the_groups(tmp_path):
    write(tmp_path, "x/B03_s2_t4_z5_DAPI.tif")
    write(tmp_path, "x/B03_GFP.tif")
    planes, _ = indexed(tmp_path, "x/" + REGEX)
    assert planes[PLANE].to_numpy().tolist() == [["B03", 1, 0, 0, "GFP"], ["B03", 2, 4, 5, "DAPI"]]
    assert planes["path"].tolist() == ["x/B03_GFP.tif", "x/B03_s2_t4_z5_DAPI.tif"]


@pytest.mark.parametrize(("row", "column"), [("B", "3"), ("b", "03"), ("2", "3"), ("02", "03")])
def test_rows_are_letters_or_numbers(tmp_path, row, column):
    write(tmp_path, f"{row}-{column}-1.tif")
    planes, _ = indexed(tmp_path, r"(?P<row>\w+)-(?P<column>\d+)-(?P<channel>\d)\.tif")
    assert planes["Metadata_Well"].tolist() == ["B03"]


def test_pages_are_z(tmp_path):
    write(tmp_path, "A01_1.tif", np.stack([PLANE_OF_20] * 3))
    planes, _ = indexed(tmp_path)
    assert planes["z"].tolist() == planes["page"].tolist() == [0, 1, 2]
    assert set(planes["Metadata_Timepoint"]) == {0}


@pytest.mark.parametrize("form", [{"ome": True}, {"imagej": True}, {}])
def test_pages_are_time_where_the_header_says_so(tmp_path, form):
    write(tmp_path, "A01_1.tif", np.stack([PLANE_OF_20, PLANE_OF_20 + 1]), metadata={"axes": "TYX"}, **form)
    planes, _ = indexed(tmp_path)
    assert planes["Metadata_Timepoint"].tolist() == [0, 1]
    assert set(planes["z"]) == {0}
    second = planes.iloc[1]
    np.testing.assert_array_equal(read_plane(tmp_path, second["path"], second["page"]), PLANE_OF_20 + 1)


@pytest.mark.parametrize(
    ("name", "pixels", "options", "reason"),
    [
        ("A01_1.tif", np.stack([PLANE_OF_20] * 2), {"ome": True, "metadata": {"axes": "CYX"}}, "along channel"),
        ("A01_1.tif", np.zeros((2, 3, 4, 5), np.uint8), {"imagej": True, "metadata": {"axes": "TZYX"}}, "z and timep"),
        ("A01_z1_1.tif", np.stack([PLANE_OF_20] * 2), {}, "along z, which the name"),
        ("A01_1.tif", np.zeros((4, 5, 3), np.uint8), {"photometric": "rgb"}, r"shape \(4, 5, 3\)"),
    ],
)
def test_planes_that_are_not_told_apart_make_the_file_unreadable(tmp_path, name, pixels, options, reason):
    write(tmp_path, name, pixels, **options)
    planes, _ = indexed(tmp_path)
    assert planes["status"].tolist() == ["unreadable"]
    assert re.search(reason, planes["reason"][0])


def test_a_header_that_declares_more_planes_than_it_has_is_unreadable(tmp_path):
    file = write(tmp_path, "A01_1.tif", np.stack([PLANE_OF_20] * 2), imagej=True, metadata={"axes": "ZYX"})
    file.write_bytes(file.read_bytes().replace(b"images=2\nslices=2", b"images=9\nslices=9"))
    planes, _ = indexed(tmp_path)
    assert "declares 9 planes, the file holds 2" in planes["reason"][0]


def test_thumbnails_are_no_planes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "A01_1.tif") as tif:
        tif.write(PLANE_OF_20, metadata=None)
        tif.write(PLANE_OF_20[:1], subfiletype=1, metadata=None)
    assert len(indexed(tmp_path)[0]) == 1


@pytest.mark.parametrize(
    "content", [b"", b"II*\x00", b"not an image", b"II*\x00\x08\x00\x00\x00\xff\xff" + b"\xff" * 40]
)
def test_a_broken_header_is_a_row_with_its_reason(tmp_path, content):
    write(tmp_path, "A01_1.tif")
    (tmp_path / "A02_1.tif").write_bytes(content)
    planes, _ = indexed(tmp_path)
    assert planes["status"].tolist() == ["ok", "unreadable"]
    assert planes["reason"][1]
    assert planes.loc[1, ["height", "width", "page", "dtype"]].tolist() == [0, 0, 0, ""]


@pytest.mark.parametrize(
    ("options", "pixel_size_um"),
    [
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.325, "PhysicalSizeY": 0.325}}, 0.325),
        ({"ome": True, "metadata": {"PhysicalSizeX": 325, "PhysicalSizeY": 325, "PhysicalSizeXUnit": "nm",
                                    "PhysicalSizeYUnit": "nm"}}, 0.325),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.3, "PhysicalSizeY": 0.4}}, np.nan),
        ({"ome": True}, np.nan),
        ({"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "um"}}, 0.5),
        ({"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "pixel"}}, np.nan),
        ({"resolution": (20000.0, 20000.0), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (72.0, 72.0), "resolutionunit": "INCH"}, np.nan),
        ({"resolution": (20000.0, 20000.0), "resolutionunit": "NONE"}, np.nan),
        ({}, np.nan),
    ],
)  # fmt: skip
def test_pixel_size_only_where_it_is_plain(tmp_path, options, pixel_size_um):
    write(tmp_path, "A01_1.tif", **options)
    np.testing.assert_allclose(indexed(tmp_path)[0]["pixel_size_um"][0], pixel_size_um, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "options", "full_scale"),
    [
        ("uint8", {}, 255),
        ("uint16", {}, 65535),
        ("uint16", {"extratags": [(281, 3, 1, 4095, True)]}, 4095),
        ("uint16", {"extratags": [(281, 3, 1, 3000, True)]}, 65535),
        ("uint16", {"ome": True, "metadata": {"SignificantBits": 12}}, 4095),
        ("float32", {}, np.nan),
    ],
)
def test_full_scale_is_the_cameras(tmp_path, dtype, options, full_scale):
    write(tmp_path, "A01_1.tif", np.zeros((4, 5), dtype), **options)
    np.testing.assert_equal(indexed(tmp_path)[0]["full_scale"][0], float(full_scale))


def test_packed_twelve_bits_are_a_twelve_bit_camera(tmp_path):
    write(tmp_path, "A01_1.tif", np.zeros((8, 8), np.uint16), bitspersample=12)
    planes, _ = indexed(tmp_path)
    assert planes.loc[0, ["dtype", "full_scale"]].tolist() == ["uint16", 4095.0]


def test_only_files_of_the_plate(tmp_path):
    for plate in ("P1", "P2"):
        write(tmp_path, f"{plate}/A01_1.tif")
    planes, left_out = indexed(tmp_path, "(?P<plate>P.)/" + REGEX)
    assert planes["path"].tolist() == ["P1/A01_1.tif"]
    assert left_out.to_numpy().tolist() == [["P2/A01_1.tif", "of plate 'P2'"]]
    with pytest.raises(
        SourceError, match=r"matches no file of plate P3 in .* 2 image files, for example 'P1/A01_1.tif'"
    ):
        indexed(tmp_path, "(?P<plate>P.)/" + REGEX, plate="P3")


def test_links_do_not_lead_out(tmp_path):
    source, outside = tmp_path / "source", tmp_path / "outside"
    write(source, "A01_1.tif")
    secret = write(outside, "A02_1.tif")
    (source / "A02_1.tif").symlink_to(secret)
    (source / "A03_1.tif").symlink_to(source / "A01_1.tif")
    (source / "A04_1.tif").symlink_to(source / "gone.tif")
    (source / "more").symlink_to(outside)
    planes, left_out = indexed(source)
    assert planes["path"].tolist() == ["A01_1.tif", "A03_1.tif"]
    assert left_out.set_index("path")["reason"].to_dict() == {
        "A02_1.tif": "the link leads outside the source folder",
        "A04_1.tif": "the link leads to no file",
        "more": "a link to a folder is not followed",
    }
    for path in ("A02_1.tif", "../outside/A02_1.tif", str(secret)):
        with pytest.raises(ImageError, match="leads outside the source folder"):
            read_plane(source, path, 0)


NAMES = st.lists(
    st.sampled_from(["A01_1.tif", "a1_2.tif", "B02_s2_1.tif", "sub/C03_1.tif", "x.png", "y.TIF", "log.txt", "é ü.jpg"]),
    unique=True,
)


@settings(max_examples=30, deadline=None)
@given(NAMES)
def test_every_image_file_is_indexed_or_left_out(names):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for name in ["H12_1.tif", *names]:
            write(source, name)
        planes, left_out = indexed(source, "(?i:" + REGEX + ")")
        images = {name for name in ["H12_1.tif", *names] if not name.endswith(".txt")}
        assert set(planes["path"]) | set(left_out["path"]) == images
        assert not set(planes["path"]) & set(left_out["path"])
        assert (left_out["reason"] != "").all()


def test_no_files_left_out_still_has_the_columns(tmp_path):
    write(tmp_path, "A01_1.tif")
    _, left_out = indexed(tmp_path)
    assert list(left_out.columns) == ["path", "reason"]
    assert isinstance(left_out, pd.DataFrame)
    assert left_out.empty


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("(", "is not a regular expression"),
        (r"(?P<well>\w+)\.tif", r"names the groups \['well'\]; expected \(\?P<channel>"),
        (r"(?P<channel>\w+)(?P<row>\w)\.tif", "expected .* either"),
        (r"(?P<well>nothing)(?P<channel>\d)", r"matches no file .* 1 image files, for example 'A01_1.tif'"),
        (r"(?P<well>...)(?P<site>_)(?P<channel>\d).tif", "the name of A01_1.tif cannot be read: .*'_'"),
        (r"A(?P<well>..)_(?P<channel>\d).tif", "the name of A01_1.tif cannot be read: '01' is not a well"),
    ],
)
def test_a_regex_that_cannot_be_meant_is_refused(tmp_path, regex, message):
    write(tmp_path, "A01_1.tif")
    with pytest.raises(SourceError, match=message):
        indexed(tmp_path, regex)


def test_a_well_the_plate_lacks_is_refused(tmp_path):
    write(tmp_path, "P24_1.tif")
    assert indexed(tmp_path, shape=384)[0]["Metadata_Well"].tolist() == ["P24"]
    with pytest.raises(SourceError, match=r"P24_1.tif .* is not on a plate of 96 wells"):
        indexed(tmp_path)


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"source .*/gone of plate P1 is no folder"):
        indexed(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"matches no file of plate P1 .* holds 0 image files"):
        indexed(tmp_path)


def test_one_plane_twice_is_refused_with_both_paths(tmp_path):
    write(tmp_path, "a/A01_1.tif")
    write(tmp_path, "b/A01_1.tif")
    with pytest.raises(SourceError, match=r"a/A01_1.tif and b/A01_1.tif .* are both Well A01, Site 1, .* channel 1"):
        indexed(tmp_path, "[ab]/" + REGEX)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_truncation_is_an_image_error(tmp_path, compression):
    pixels = np.random.default_rng(0).integers(0, 60000, (64, 64), dtype=np.uint16)
    whole = write(tmp_path, "A01_1.tif", pixels, compression=compression, rowsperstrip=16).read_bytes()
    for size in [0, 4, 100, len(whole) // 2, len(whole) - 1]:
        (tmp_path / "A01_1.tif").write_bytes(whole[:size])
        with pytest.raises(ImageError, match=r"cannot read page 0 of A01_1.tif"):
            read_plane(tmp_path, "A01_1.tif", 0)


def test_a_truncated_real_image_is_an_image_error(tmp_path):
    name = "Channel1-01-A-01.tif"
    shutil.copy(BBBC013 / name, tmp_path / name)
    with (tmp_path / name).open("r+b") as file:
        file.truncate(100_000)
    assert indexed(tmp_path, BBBC013_REGEX)[0]["status"].tolist() == ["ok"], "its header is whole"
    with pytest.raises(ImageError, match=f"{name}.*truncated"):
        read_plane(tmp_path, name, 0)


def test_an_image_unlike_its_index_is_an_image_error(tmp_path):
    write(tmp_path, "A01_1.tif")
    with pytest.raises(ImageError, match="the file holds 1 pages, unlike its index"):
        read_plane(tmp_path, "A01_1.tif", 3)
    with pytest.raises(ImageError, match=r"cannot read page 0 of gone.tif"):
        read_plane(tmp_path, "gone.tif", 0)
    write(tmp_path, "rgb.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(ImageError, match=r"rgb.tif .* its shape is \(4, 5, 3\); expected one 2-D plane"):
        read_plane(tmp_path, "rgb.tif", 0)


def test_running_out_of_memory_is_no_bad_image(tmp_path, monkeypatch):
    write(tmp_path, "A01_1.tif")

    def fail(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(tifffile, "TiffFile", fail)
    with pytest.raises(MemoryError):
        indexed(tmp_path)
    with pytest.raises(MemoryError):
        read_plane(tmp_path, "A01_1.tif", 0)
