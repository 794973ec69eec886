"""The layout `load_data`: every file the table names is indexed or left out, and nothing outside the source is read."""

import csv
import gzip
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import ingest
from plateline.errors import SourceError
from plateline.layouts.load_data import index, read_plane
from plateline.layouts.planes import COLUMNS, EXTRA, PLANE

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5)
ROW = {"Metadata_Plate": "P1", "Metadata_Well": "A01", "Metadata_Site": "1", "FileName_OrigDNA": "a.tif"}


def write(folder, name, pixels=PIXELS, **options):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", **options})
    return file


def write_table(folder, rows, name="load_data.csv"):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text.getvalue(), encoding="utf-8-sig")


def indexed(folder, rows=None, *, plate="P1", shape=96, file="load_data.csv", moved_from=""):
    if rows is not None:
        write_table(folder, rows)
    return index(folder, plate=plate, shape=shape, file=file, moved_from=moved_from)


def test_a_table_of_the_gallery_gives_every_plane_and_its_pixels(tmp_path):
    rows = []
    for number, well in enumerate(["A01", "b2", "H12"]):
        row = {"Metadata_Plate": "P1", "Metadata_Well": well, "Metadata_Site": "02"}
        for channel in ("DNA", "ER"):
            write(tmp_path, f"images/{number}-{channel}.tif", PIXELS + number)
            row |= {f"FileName_Orig{channel}": f"{number}-{channel}.tif", f"PathName_Orig{channel}": "images/"}
            row |= {f"FileName_Illum{channel}": f"P1_Illum{channel}.npy", f"PathName_Illum{channel}": "illum"}
        rows.append(row)
    planes, left_out = indexed(tmp_path, rows)
    assert list(planes.columns) == [*COLUMNS, *EXTRA, "illum"]
    assert left_out.empty
    assert planes[PLANE].to_numpy().tolist()[:3] == [
        ["A01", 2, 0, 0, "OrigDNA"],
        ["A01", 2, 0, 0, "OrigER"],
        ["B02", 2, 0, 0, "OrigDNA"],
    ]
    assert planes.loc[0, ["path", "illum"]].tolist() == ["images/0-DNA.tif", "illum/P1_IllumDNA.npy"]
    last = planes.iloc[-1]
    np.testing.assert_array_equal(read_plane(tmp_path, last["path"], last["page"]), PIXELS + 2)
    table, _ = ingest.index_table(planes, left_out, plate="P1", channels={"OrigDNA": "DNA", "OrigER": "ER"})
    assert table["illum"].tolist() == planes["illum"].tolist()


@pytest.mark.parametrize(
    ("names", "identity"),
    [
        ({"Metadata_Row": "2", "Metadata_Col": "3"}, ["B03", 1, 0, 0]),
        ({"Metadata_Row": "B", "Metadata_Column": "03"}, ["B03", 1, 0, 0]),
        ({"Metadata_Well": "b3", "Metadata_FieldID": "7.0", "Metadata_PlaneID": "4"}, ["B03", 7, 0, 4]),
        ({"metadata_well": "r2c3", "Metadata_site": "5", "Metadata_Timepoint": "9"}, ["B03", 5, 9, 0]),
    ],
)
def test_columns_of_many_names(tmp_path, names, identity):
    write(tmp_path, "a.tif")
    planes, _ = indexed(tmp_path, [names | {"FileName_DNA": "a.tif"}])
    assert planes[PLANE[:-1]].to_numpy().tolist() == [identity]


@pytest.mark.parametrize("form", ["{s}/x/a.tif", "file://{s}/x/a.tif", "file:{s}/x/a.tif", "x/a.tif", "x\\a.tif"])
def test_files_inside_the_source_however_written(tmp_path, form):
    source = tmp_path / "a source"
    write(source, "x/a.tif")
    url = form.format(s=str(source).replace(" ", "%20") if form.startswith("file") else source)
    planes, _ = indexed(source, [{"Metadata_Well": "A01", "URL_DNA": url}])
    assert planes[["path", "status"]].to_numpy().tolist() == [["x/a.tif", "ok"]]


@pytest.mark.parametrize(
    "path",
    ["/outside/a.tif", "../a.tif", "x/../../a.tif", "C:\\a.tif", "link.tif", "a\0.tif", "file://host/a.tif", "."],
)
def test_files_outside_the_source_are_refused(tmp_path, path):
    source = tmp_path / "source"
    write(tmp_path, "a.tif")
    source.mkdir()
    (source / "link.tif").symlink_to(tmp_path / "a.tif")
    with pytest.raises(SourceError, match=r"line 2 of load_data.csv names .*, outside the source folder .*moved_from"):
        indexed(source, [ROW | {"FileName_OrigDNA": path}])


@pytest.mark.parametrize("url", ["s3://bucket/a.tif", "https://host/a.tif", "gs://b/a.tif"])
def test_other_machines_are_refused_with_what_to_do(tmp_path, url):
    row = {"Metadata_Well": "A01", "URL_DNA": url}
    with pytest.raises(SourceError, match=r"names '.*a.tif' on another machine; nothing is fetched: copy .*moved_from"):
        indexed(tmp_path, [row])
    write(tmp_path, "a.tif")
    planes, _ = indexed(tmp_path, [row], moved_from=url.removesuffix("a.tif"))
    assert planes[["path", "status"]].to_numpy().tolist() == [["a.tif", "ok"]]


def test_a_moved_folder_is_no_start_of_another_name(tmp_path):
    with pytest.raises(SourceError, match="outside the source folder"):
        indexed(tmp_path, [ROW | {"FileName_OrigDNA": "/data/P10/a.tif"}], moved_from="/data/P1")


def test_rows_of_other_plates_and_files_without_a_row_are_counted(tmp_path):
    for name in ("a.tif", "b.tif", "c.tif", "notes.txt"):
        write(tmp_path, name)
    rows = [ROW, ROW | {"Metadata_Plate": "P2", "FileName_OrigDNA": "b.tif"}]
    planes, left_out = indexed(tmp_path, rows)
    assert planes["path"].tolist() == ["a.tif"]
    assert left_out.to_numpy().tolist() == [["b.tif", "of plate 'P2'"], ["c.tif", "the table does not name it"]]


def test_missing_and_broken_files_are_unreadable(tmp_path):
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    rows = [ROW, ROW | {"Metadata_Site": "2", "FileName_OrigDNA": "b.tif"}, ROW | {"FileName_OrigDNA": ""}]
    planes, _ = indexed(tmp_path, rows)
    assert planes["status"].tolist() == ["unreadable", "unreadable"]
    assert planes["reason"][0] == "the table names this file, but there is none"
    assert planes["reason"][1]


def test_pages_and_frames(tmp_path):
    write(tmp_path, "a.tif", np.stack([PIXELS, PIXELS + 1]))
    assert indexed(tmp_path, [ROW])[0]["z"].tolist() == [0, 1]
    rows = [ROW | {"Metadata_Site": str(n), "Frame_OrigDNA": str(n)} for n in range(3)]
    planes, _ = indexed(tmp_path, rows)
    assert planes["page"].tolist() == [0, 1, 0]
    assert planes["status"].tolist() == ["ok", "ok", "unreadable"]
    assert planes["reason"][2] == "the table asks for frame 2 of 2, counted from 0"
    planes, _ = indexed(tmp_path, [ROW | {"Metadata_PlaneID": "1"}])
    assert planes["reason"][0] == "2 pages along z, which the table already gives"


def test_positions_in_metres_travel(tmp_path):
    write(tmp_path, "a.tif")
    row = ROW | {"Metadata_PositionX": "0.00065", "Metadata_PositionY": "-3e-4", "Metadata_ImageResolutionX": "6e-7"}
    planes, _ = indexed(tmp_path, [row])
    found = planes.loc[0, ["position_x_um", "position_y_um", "pixel_size_um"]].astype(float)
    np.testing.assert_allclose(found, [650, -300, 0.6])
    planes, _ = indexed(tmp_path, [row | {"Metadata_PositionX": "650", "Metadata_ImageResolutionX": "0.6"}])
    assert planes[["position_x_um", "pixel_size_um"]].isna().all(axis=None), "of no plain unit"


def test_the_table_may_be_gzipped_and_named_by_the_plate(tmp_path):
    write(tmp_path, "a.tif")
    write_table(tmp_path, [ROW], "lists/P1/x.csv")
    (tmp_path / "lists/P1/x.csv.gz").write_bytes(gzip.compress((tmp_path / "lists/P1/x.csv").read_bytes()))
    assert len(indexed(tmp_path, file="lists/{plate}/x.csv")[0]) == 1
    assert len(indexed(tmp_path, file="lists/{plate}/x.csv.gz")[0]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column Metadata_Well"),
        ("Metadata_Well\nA01\n", "no column FileName_"),
        ("Metadata_Well,FileName_A\n", "no row of plate P1, only of"),
        ("Metadata_Well,FileName_A\nA01,\n", "names no image of plate P1"),
        ("Metadata_Plate,Metadata_Well,FileName_A\n0P1,A01,a.tif\n", "only of .*'0P1'.* taken leading zeros"),
        ("Metadata_Well,FileName_A\nA01,a.tif\nA0", "line 3 of load_data.csv has 1 cells, its header 2"),
        ("Metadata_Well,FileName_A,FileName_A\nA01,a.tif,b.tif\n", r"columns \['FileName_A'\] more than once"),
        ('Metadata_Well,FileName_A\nA01,"a.tif\n', "cannot be read .*; expected CSV text"),
        (
            "Metadata_Well,FileName_A\nA99,a.tif\n",
            "line 2 of load_data.csv cannot be read: well 'A99' is not on a plate",
        ),
        ("Metadata_Well,FileName_A,Metadata_Site\nA01,a.tif,x\n", "cannot be read: 'x' is no whole number"),
        ("Metadata_Well,FileName_A\nA01,a.tif\nA1,a.tif\n", "a.tif and a.tif in .* are both Well A01"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path, text, message):
    (tmp_path / "load_data.csv").write_text(text)
    with pytest.raises(SourceError, match=message):
        indexed(tmp_path)


def test_missing_folders_and_tables_are_refused(tmp_path):
    with pytest.raises(SourceError, match="is no folder"):
        indexed(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"holds no 'load_data.csv'; name the table in ingest.load_data.file"):
        indexed(tmp_path)
    with pytest.raises(SourceError, match=r"holds no '\.\./x\.csv'"):
        indexed(tmp_path, file="../x.csv")
    (tmp_path / "load_data.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(SourceError, match="or such text gzipped"):
        indexed(tmp_path, file="load_data.csv.gz")


CELLS = st.one_of(
    st.sampled_from(["", "P1", "A01", "b2", "1", "2.0", "a.tif", "../a.tif", "s3://x/a.tif", "/a", "file:///a"]),
    st.text(max_size=8),
)
FIELDS = ["Metadata_Plate", "Metadata_Well", "Metadata_Row", "Metadata_Col", "Metadata_Site", "Metadata_PlaneID"]
FILES = ["FileName_A", "PathName_A", "URL_A", "FileName_B", "Frame_A", "FileName_IllumA", "Metadata_PositionX"]
HEADERS = st.sampled_from(FIELDS + FILES)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_table_is_indexed_whole_or_refused(data):
    header = data.draw(st.lists(HEADERS, min_size=1, unique=True))
    rows = data.draw(st.lists(st.fixed_dictionaries({name: CELLS for name in header}), min_size=1, max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), "a.tif")
        try:
            planes, left_out = indexed(Path(folder), rows)
        except SourceError:
            return
        named = 0
        for row in rows:
            for channel in "AB":
                named += bool(row.get(f"FileName_{channel}", "").strip() or row.get(f"URL_{channel}", "").strip())
        unnamed = (left_out["reason"] == "the table does not name it").sum()
        assert len(planes) + len(left_out) - unnamed == named
        assert set(planes["path"]) | set(left_out["path"]) >= {"a.tif"} or (planes["path"].str.contains("/")).all()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_are_refused_or_read(content, cut):
    whole = b"Metadata_Well,FileName_A\nA01,a.tif\nA02,b.tif\n"
    for text in (content, whole[:cut] + content + whole[cut:]):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "load_data.csv").write_bytes(text)
            try:
                planes, left_out = indexed(Path(folder))
            except SourceError:
                continue
            assert len(planes) + len(left_out) > 0
