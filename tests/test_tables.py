"""Tables of other programs: each family drawn as its program writes it, read back as rows of a plate."""

import gzip

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plateline import tables
from plateline.errors import ConfigError, SourceError
from plateline.tables import conventions, delimited, source

WELLS = ["A01", "A02", "B01", "B02"]


def read(path, *, plate="P1", columns=None, shape=96, barcode=""):
    paths = [str(path)] if path.is_file() else sorted(map(str, path.rglob("*.*")))
    return tables.open_source(paths, str(path), plate=plate, barcode=barcode, shape=shape, columns=columns or {})


def everything(found):
    """Identity and features of all rows, as one frame."""
    rows = tables.read_identity(found)
    values = tables.read_columns(found, found.features, np.ones(len(rows), bool))
    return rows.astype({"Metadata_Well": object}), values


def pycytominer(plates=("P1", "P2")):
    rows = [(plate, well) for plate in plates for well in WELLS]
    frame = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well"])
    frame["Metadata_broad_sample"] = ["", "BRD-1", "BRD-2", "BRD-3"] * len(plates)
    frame["Metadata_Object_Count"] = np.arange(len(frame)) + 100
    frame["Cells_AreaShape_Area"] = np.arange(len(frame)) * 1.5
    frame["Nuclei_Texture_Contrast_DNA_3"] = np.arange(len(frame)) - 2
    return frame


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.csv.gz", "t.tsv"])
def test_pycytominer_in_every_form_gives_the_rows_of_one_plate(tmp_path, name):
    frame = pycytominer()
    path = tmp_path / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(
        path, index=False, sep="\t" if name.endswith("tsv") else ","
    )
    found = read(path, plate="P2")
    rows, values = everything(found)
    assert rows["Metadata_Well"].tolist() == WELLS
    assert rows["Metadata_Object_Count"].tolist() == [104, 105, 106, 107]
    assert values["Cells_AreaShape_Area"].tolist() == [6, 7.5, 9, 10.5]
    assert found.features == ["Cells_AreaShape_Area", "Nuclei_Texture_Contrast_DNA_3"]
    metadata = tables.read_metadata(found, tables.read_identity(found)["Metadata_Well"])
    assert metadata["Metadata_broad_sample"].fillna("").tolist() == ["", "BRD-1", "BRD-2", "BRD-3"]


def test_a_plate_may_be_named_by_its_barcode(tmp_path):
    pycytominer().to_csv(tmp_path / "t.csv", index=False)
    assert len(everything(read(tmp_path / "t.csv", plate="mine", barcode="P2"))[0]) == 4


def test_barcodes_keep_their_zeros(tmp_path):
    frame = pycytominer(("0017",))
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert len(everything(read(tmp_path / "t.csv", plate="0017"))[0]) == 4


def test_cytotable_cells_are_cells(tmp_path):
    frame = pd.DataFrame(
        {
            "Metadata_ImageNumber": [1, 1, 2],
            "Image_Metadata_Plate": "P1",
            "Image_Metadata_Well": ["A01", "A01", "B02"],
            "Image_Metadata_Site": [1, 1, 2],
            "Metadata_ObjectNumber": [1, 2, 1],
            "Cells_AreaShape_Area": [3.0, 4.0, np.nan],
            "Image_FileName_DNA": ["a.tif", "a.tif", "b.tif"],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    rows, values = everything(found)
    assert rows["Metadata_Site"].tolist() == [1, 1, 2]
    assert "Metadata_ObjectNumber" in found.names
    assert found.features == ["Cells_AreaShape_Area"]
    metadata = tables.read_metadata(found, tables.read_identity(found)["Metadata_Well"])
    assert list(metadata["Metadata_Well"]) == ["A01", "B02"]
    np.testing.assert_array_equal(values.iloc[:, 0], [3, 4, np.nan])


def test_cellprofiler_per_image_keeps_numbers_and_counts(tmp_path):
    frame = pd.DataFrame(
        {
            "ImageNumber": [1, 2],
            "Metadata_Plate": "P1",
            "Metadata_Well": ["A1", "A2"],
            "Metadata_Site": [1, 1],
            "Count_Cells": [10, 20],
            "Mean_Cells_AreaShape_Area": [1.5, 2.5],
        }
    )
    frame.to_csv(tmp_path / "Image.csv", index=False)
    found = read(tmp_path / "Image.csv")
    rows, _ = everything(found)
    assert rows["Metadata_Well"].tolist() == ["A01", "A02"]
    assert rows["Metadata_Object_Count"].tolist() == [10, 20]
    assert found.features == ["Mean_Cells_AreaShape_Area"]
    assert "Metadata_ImageNumber" in found.names


HARMONY = "\ufeffDatabase Name\tlab\nEvaluation Name\tx\nPlate Name\tP1\n\n[Data]\n"


def test_harmony_plate_results_have_rows_and_columns_in_numbers(tmp_path):
    header = "Row\tColumn\tTimepoint\tNuclei - Number of Objects\tNuclei - Nucleus Area [µm²] - Mean per Well\t"
    header += "Number of Analyzed Fields\tHeight [µm]\tCompound\tConcentration\tCell Type\tCell Count\n"
    lines = "1\t1\t0\t120\t88.5\t9\t0\tDMSO\t\tHeLa\t2000\n2\t11\t0\t90\t70.25\t9\t0\tdrug\t5\tHeLa\t2000\n"
    (tmp_path / "PlateResults.txt").write_text(HARMONY + header + lines, encoding="utf-8")
    found = read(tmp_path / "PlateResults.txt")
    rows, values = everything(found)
    assert rows["Metadata_Well"].tolist() == ["A01", "B11"]
    assert rows["Metadata_Object_Count"].tolist() == [120, 90]
    assert found.features == ["Nuclei - Nucleus Area [µm²] - Mean per Well"]
    assert values.iloc[:, 0].tolist() == [88.5, 70.25]
    assert {"Metadata_CellLine", "Metadata_Cell Count"} <= set(found.names)
    metadata = tables.read_metadata(found, tables.read_identity(found)["Metadata_Well"])
    assert metadata["Metadata_Compound"].tolist() == ["DMSO", "drug"]
    assert metadata["Metadata_Site_Count"].tolist() == [9, 9]
    with pytest.raises(SourceError, match="no row of plate P2; its 1 plates are P1"):
        read(tmp_path / "PlateResults.txt", plate="P2")


def test_harmony_objects_of_several_files_are_one_table(tmp_path):
    header = "Row\tColumn\tField\tObject No in Nuclei\tX\tY\tNuclei - Area\n"
    for name, line in (("1", "1\t1\t3\t1\t5\t6\t40\n1\t1\t3\t2\t7\t8\t50\n"), ("2", "1\t2\t4\t1\t5\t6\t60\n")):
        (tmp_path / f"Objects_Population - Nuclei{name}.txt").write_text(HARMONY + header + line, encoding="utf-8")
    found = read(tmp_path)
    rows, values = everything(found)
    assert rows["Metadata_Well"].tolist() == ["A01", "A01", "A02"]
    assert rows["Metadata_Site"].tolist() == [3, 3, 4]
    assert found.features == ["Nuclei - Area"]
    assert values.iloc[:, 0].tolist() == [40, 50, 60]
    assert "Metadata_ObjectNumber" in found.names


def test_in_carta_wells_have_blanks(tmp_path):
    text = "PLATE ID,WELL LABEL,FOV,OBJECT ID,Nuclei Area wv1\nP1,A - 1,1,1,40\nP1,H - 12,2,1,50\n"
    (tmp_path / "t.csv").write_text(text)
    found = read(tmp_path / "t.csv")
    rows, values = everything(found)
    assert rows["Metadata_Well"].tolist() == ["A01", "H12"]
    assert rows["Metadata_Site"].tolist() == [1, 2]
    assert found.features == ["Nuclei Area wv1"]
    assert values.iloc[:, 0].tolist() == [40, 50]


def test_metaxpress_has_lines_above_its_header(tmp_path):
    text = "Barcode\tP1\nProtocol\tCell Scoring\n\nWell Name\tSite ID\tTotal Cells (Cell Scoring)\tCell: Mean Area\n"
    (tmp_path / "t.txt").write_text(text + "A01\t1\t30\t1.5\nA02\t1\t40\t2.5\n")
    found = read(tmp_path / "t.txt")
    rows, values = everything(found)
    assert rows["Metadata_Object_Count"].tolist() == [30, 40]
    assert found.features == ["Cell: Mean Area"]
    assert values.iloc[:, 0].tolist() == [1.5, 2.5]


def test_semicolons_and_decimal_commas(tmp_path):
    (tmp_path / "t.csv").write_text("Plate;Well;f\nP1;A1;1,5\nP1;A2;2,5\n")
    assert everything(read(tmp_path / "t.csv"))[1]["f"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize("name", ["P1/A01/3.npz", "P1/A01_3.npz", "P1_A01_3.npz", "A01_s3.npz"])
def test_deepprofiler_sites(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    features = np.arange(6.0).reshape(3, 2)
    np.savez(path, features=features, metadata=np.array({"Plate": "P1"}, dtype=object))
    found = read(tmp_path)
    rows, values = everything(found)
    assert rows["Metadata_Well"].tolist() == ["A01"] * 3
    assert rows["Metadata_Site"].tolist() == [3] * 3
    assert found.features == ["DeepProfiler_0", "DeepProfiler_1"]
    np.testing.assert_array_equal(values, features)


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "P1_A01_1.npz", features=np.array([Trap()], dtype=object))
    with pytest.raises(SourceError, match=r"no array `features` can be read .* without pickles"):
        read(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_deepprofiler_files_that_tell_nothing(tmp_path):
    np.savez(tmp_path / "features.npz", features=np.zeros((1, 2)))
    with pytest.raises(SourceError, match="its name tells no well and site"):
        read(tmp_path)
    (tmp_path / "features.npz").unlink()
    np.savez(tmp_path / "P1_A01_1.npz", features=np.zeros(2))
    with pytest.raises(SourceError, match=r"has the shape \(2,\); expected \(cells, features\)"):
        read(tmp_path)


def test_anndata(tmp_path):
    obs = pd.DataFrame({"Metadata_Plate": ["P1", "P2"], "Metadata_Well": ["A01", "A02"]}, index=["a", "b"])
    anndata.AnnData(np.array([[1.0, 2.0], [3.0, 4.0]]), obs=obs, var=pd.DataFrame(index=["f", "g"])).write_h5ad(
        tmp_path / "t.h5ad"
    )
    rows, values = everything(read(tmp_path / "t.h5ad", plate="P2"))
    assert rows["Metadata_Well"].tolist() == ["A02"]
    assert values.to_dict("list") == {"f": [3.0], "g": [4.0]}
    (tmp_path / "t.h5ad").write_text("no")
    with pytest.raises(SourceError, match="cannot be read as AnnData"):
        read(tmp_path / "t.h5ad")


def test_what_is_read_in_blocks_through_a_file_is_the_same(tmp_path, monkeypatch):
    frame = pycytominer(("P1",) * 1)
    frame = pd.concat([frame] * 50, ignore_index=True)
    frame.to_csv(tmp_path / "t.csv", index=False)
    whole = everything(read(tmp_path / "t.csv"))
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1 << 11)
    monkeypatch.setattr(source, "HELD_BYTES", 1 << 10)
    monkeypatch.setattr(source, "BLOCK_ROWS", 7)
    found = read(tmp_path / "t.csv")
    assert found.kept is not None
    for one, other in zip(whole, everything(found), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_fractions_may_follow_whole_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1 << 8)
    lines = [f"P1,A{n % 12 + 1:02d},{n}\n" for n in range(200)] + ["P1,B01,0.5\n"]
    (tmp_path / "t.csv").write_text("Plate,Well,f\n" + "".join(lines))
    assert everything(read(tmp_path / "t.csv"))[1]["f"].iloc[-1] == 0.5


def test_some_rows_of_some_columns(tmp_path):
    pycytominer(("P1",)).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    rows = np.array([True, False, False, True])
    assert tables.read_columns(found, ["Cells_AreaShape_Area"], rows).iloc[:, 0].tolist() == [0, 4.5]
    assert tables.read_columns(found, [], rows).shape == (2, 0)


def test_the_row_numbers_of_pandas_are_no_feature(tmp_path):
    frame = pycytominer(("P1", "P2")).iloc[2:]
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv")
    for name in ("t.parquet", "t.csv"):
        rows, values = everything(read(tmp_path / name))
        assert rows["Metadata_Well"].tolist() == ["B01", "B02"]
        assert list(values) == ["Cells_AreaShape_Area", "Nuclei_Texture_Contrast_DNA_3"]


def test_what_differs_within_a_well_is_not_said_of_it(tmp_path):
    text = "Well,ObjectNumber,Compound,File,f\nA01,1,x,a.tif,1\nA01,2,x,b.tif,2\nA02,1,,c.tif,3\n"
    (tmp_path / "t.csv").write_text(text)
    found = read(tmp_path / "t.csv")
    metadata = tables.read_metadata(found, tables.read_identity(found)["Metadata_Well"])
    assert list(metadata) == ["Metadata_Well", "Metadata_Compound"]
    assert metadata["Metadata_Compound"].fillna("").tolist() == ["x", ""]


# --- names


def test_a_mapping_names_what_follows_no_convention(tmp_path):
    frame = pd.DataFrame({"Spot": ["A01"], "Drug": ["x"], "area px": [3.0], "other": [4.0], "note": ["text"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = read(tmp_path / "t.csv", columns={"Spot": "Well", "Drug": "Compound", "area px": "Cells_AreaShape_Area"})
    assert found.features == ["Cells_AreaShape_Area", "other"]
    assert set(found.names) == {*found.features, "Metadata_Well", "Metadata_Compound", "Metadata_note"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"Spit": "Well"}, "the table has no column 'Spit'"),
        (
            {"f": "Metadata_Note", "Note": "Metadata_Note"},
            "the columns 'f' and 'Note' both become Metadata_Note",
        ),
    ],
)
def test_a_mapping_that_cannot_be_meant(columns, message):
    with pytest.raises(ConfigError, match=message):
        conventions.rename(["Well", "f", "Note"], {"Note"}, columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a table"),
        ("a,b\n1,2\n", "no column of wells among a, b"),
        ("Well,name\nA01,x\n", "has no column of numbers that is a feature"),
        ("Well,f,f\nA01,1,2\n", "has more than one column 'f'"),
        ("Well,f\nA01,1\nA02,1,2\n", "cannot be read as a table"),
    ],
)
def test_text_that_is_no_table_of_profiles(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SourceError, match=message):
        everything(read(tmp_path / "t.csv"))


@pytest.mark.parametrize("well", ["Z99", "plate"])
def test_a_well_that_is_none(tmp_path, well):
    (tmp_path / "t.csv").write_text(f"Well,f\n{well},1\n")
    with pytest.raises(SourceError, match="profiles, column of wells"):
        everything(read(tmp_path / "t.csv"))


def test_rows_without_a_well_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text("Well,f\nA01,1\n,2\n")
    rows, _ = everything(read(tmp_path / "t.csv"))
    assert rows["Metadata_Well"].isna().tolist() == [False, True]


def test_files_that_are_no_parts_of_one_table(tmp_path):
    (tmp_path / "a.csv").write_text("Well,f\nA01,1\n")
    (tmp_path / "b.csv").write_text("Well,g\nA01,1\n")
    with pytest.raises(SourceError, match="2 columns are not in both, as 'f'; choose the files"):
        read(tmp_path)


def test_no_file_and_no_parquet(tmp_path):
    with pytest.raises(SourceError, match="no table for plate P1"):
        tables.open_source([], "gone", plate="P1", barcode="", shape=96, columns={})
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        read(tmp_path / "t.parquet")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"Well,f\nA01,1\n" * 100)[:-20])
    with pytest.raises(SourceError, match="cannot be read as a table"):
        read(tmp_path / "t.csv.gz")


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """A table of cells that is far larger than a block: what Arrow holds at its peak is a share of it."""
    rows, features = 200_000, 40
    path, rng = tmp_path / "t.parquet", np.random.default_rng(0)
    schema = pa.schema([("Metadata_Well", pa.string())] + [(f"f{i}", pa.float64()) for i in range(features)])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 20_000):
            columns = [pa.array([WELLS[start // 20_000 % 4]] * 20_000)]
            columns += [pa.array(rng.normal(size=20_000)) for _ in range(features)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    found = read(path)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    peak, keep = 0, np.ones(rows, bool)
    for name in found.features[:4]:
        values = tables.read_columns(found, [name], keep)
        assert len(values) == rows
        peak = max(peak, pool.bytes_allocated() - before)
    assert peak < rows * features * 8 / 10


# --- real data


def test_bbbc021_plates_share_one_table(data):
    """Ljosa's per-well means: the rows of a plate are those that pandas finds, values and all."""
    path = data / "bbbc021" / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
    if not path.is_file():
        pytest.skip(f"no table {path}")
    whole = pd.read_csv(path)
    assert len(whole) == 632
    for plate in ("Week1_22123", "Week10_40111"):
        rows, values = everything(read(path, plate=plate))
        own = whole[whole["Image_Metadata_Plate"] == plate]
        assert rows["Metadata_Well"].tolist() == own["Image_Metadata_Well"].tolist()
        assert values.shape == (len(own), 516)
        np.testing.assert_allclose(values, own[list(values)], rtol=1e-12)
