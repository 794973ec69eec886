"""What is kept: whole files, chained keys, wells in shares, tables with their provenance, and pixels vouched for."""

import errno
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import ome_zarr_models.v05
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from zarr.codecs import BloscCodec

from plateline import store
from plateline.errors import ConfigError, PlatemapError, StaleError, StorageError
from plateline.identity import CELL
from plateline.ingest import level_sizes, pyramid
from plateline.store import shards
from plateline.store.files import temporary, write_whole
from plateline.store.parts import _flush
from plateline.store.tables import PROVENANCE, digest_of

SIZE = (600, 520)  # two pyramid levels, odd at the second
WELLS = {"A01": [1, 2], "B02": [1], "H12": [1]}
MADE = {"section": "{}", "code": "c", "share": "[]", "version": "0", "key": "k"}


@pytest.fixture
def plate(tmp_path):
    """An empty plate of three wells, two channels and two time points."""
    return laid_out(tmp_path / "images" / "P1.zarr")


def laid_out(path, *, size=SIZE, pixel_size=0.5, wells=WELLS, times=2):
    omero = {"name": "P1", "shape": 96, "channels": ["DNA", "GFP"], "pixel_size_um": pixel_size, "full_scale": 65535}
    store.lay_out(path, wells=wells, times=times, sizes=level_sizes(*size), dtype="uint16", omero=omero)
    return path


def noise(seed, size=SIZE):
    """(C, Y, X) pixels."""
    return np.random.default_rng(seed).integers(0, 4096, (2, *size), dtype=np.uint16)


def write(path, well, site, time, pixels, key):
    store.write_field(path, well, site, time, pyramid(pixels), (key, store.checksum(pixels)))


# --- files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_whole(path, lambda file: file.write_text("one"))

    def fail(file):
        file.write_text("half")
        msg = "disk full"
        raise OSError(msg)

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert path.read_text() == "one"
    assert [child.name for child in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device; free space there, then start snakemake again: what is half written"),
        (errno.EDQUOT, "Disk quota exceeded; free space there"),
        (errno.EROFS, r"Read-only file system; make it writable \(mount options, chmod, chown\) or move the campaign"),
        (errno.EACCES, "Permission denied; make it writable"),
    ],
)
def test_what_cannot_be_written_is_told_with_its_place_and_the_remedy(tmp_path, number, message):
    def refuse(file):
        file.touch()
        raise OSError(number, "said the system")

    with pytest.raises(StorageError, match=rf"part-1\.parquet cannot be written: {message}"):
        write_whole(tmp_path / "part-1.parquet", refuse)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_pass_as_they_are(tmp_path):
    def fail(file):
        raise FileNotFoundError(errno.ENOENT, "No such file", str(file.parent / "x"))

    with pytest.raises(FileNotFoundError, match=r"No such file: '.*/x'"):
        write_whole(tmp_path / "y", fail)


def test_unfinished_files_name_host_process_and_job(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    name = temporary(tmp_path / "table.parquet").name
    assert name.startswith(".table.parquet.")
    assert name.endswith(f".{os.getpid()}.4711.tmp")


def test_json_has_null_for_what_is_not_finite(tmp_path):
    value = {"a": np.float64("nan"), 1: [np.int64(3), float("inf"), (True, None)], "µ": {"x": np.float32(0.5)}}
    store.save_json(value, tmp_path / "x.json")
    assert store.read_json(tmp_path / "x.json") == {"a": None, "1": [3, None, [True, None]], "µ": {"x": 0.5}}


def test_an_array_comes_back_without_pickles(tmp_path):
    array = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    store.save_array(array, tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        store.save_array(np.array([{}]), tmp_path / "b.npy")


def test_pages_replace_those_of_an_earlier_run(tmp_path):
    store.save_pages({"index.html": b"1", "old.png": b"2"}, tmp_path / "page")
    (tmp_path / "page" / "notes.txt").write_text("kept")
    store.save_pages({"index.html": b"3", "new.svg": b"4"}, tmp_path / "page")
    found = {file.name: file.read_bytes() for file in (tmp_path / "page").iterdir()}
    assert found == {"index.html": b"3", "new.svg": b"4", "notes.txt": b"kept"}
    assert store.read_texts([tmp_path / "page" / "index.html"]) == {"index.html": "3"}


@pytest.mark.parametrize("name", ["map.csv", "map.tsv", "map.txt", "map.xlsx", "map.XLSX"])
def test_plate_maps_are_read_as_typed(tmp_path, name):
    typed = pd.DataFrame({"Well": ["A01", "A02"], "Concentration": ["0.50", ""], "Compound": ["NA", "µ-x"]})
    path = tmp_path / name
    if path.suffix.lower() == ".xlsx":
        with pd.ExcelWriter(path, engine="openpyxl") as file:
            typed.to_excel(file, index=False)
    else:
        typed.to_csv(path, index=False, sep="," if name.endswith("csv") else "\t", encoding="utf-8-sig")
    pd.testing.assert_frame_equal(store.read_values(path), typed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.csv", None),
        ("empty.csv", b""),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n"),
        ("shifted.csv", b"Well,Compound\nA01,x,\nA02,y,\n"),
        ("latin.csv", b"Well,Compound\nA01,\xb5x\n"),
        ("broken.xlsx", b"no archive"),
        ("other.xlsx", b"PK\x05\x06" + bytes(18)),
        ("cut.xlsx", b"PK\x03\x04 xl/workbook.xml [Content_Types].xml"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        PlatemapError, match=rf"(?s)plate map .*{name} cannot be read as a table \(.*; expected CSV, TSV"
    ):
        store.read_values(tmp_path / name)


# --- keys


def test_a_key_changes_with_every_part_of_it():
    section = {"b": 1, "a": {"d": 2, "c": [1, 2]}}
    key = store.chain(section, "code", "in1", "in2")
    assert key == store.chain({"a": {"c": [1, 2], "d": 2}, "b": 1}, "code", "in1", "in2")
    others = [
        store.chain(section | {"b": 2}, "code", "in1", "in2"),
        store.chain(section, "edited", "in1", "in2"),
        store.chain(section, "code", "in2", "in1"),
        store.chain(section, "code", "in1"),
        store.chain(section, "code", "in1in2"),
    ]
    assert len({key, *others}) == 6
    assert len(key) == 32


def test_a_checksum_tells_dtype_shape_bytes_and_order():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    variants = [array, array.T, array.reshape(3, 2), array.astype(np.int64), array + 1, np.zeros((0, 3), np.int32)]
    assert len({store.checksum(variant) for variant in variants}) == len(variants)
    assert store.checksum(array, array[:1]) != store.checksum(array[:1], array)
    assert store.checksum(np.asfortranarray(array)) == store.checksum(array) == store.checksum(array.copy())
    assert store.checksum() == store.checksum()


# --- parts

names = st.lists(st.sampled_from([f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]), max_size=120)


@given(names, st.integers(1, 130))
def test_every_well_is_in_exactly_one_part(wells, parts):
    shares = [store.share_wells(wells, (part, parts)) for part in range(1, parts + 1)]
    assert [well for share in shares for well in share] == sorted(set(wells))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@given(names)
def test_two_parts_then_three_then_two_have_the_same_wells(wells):
    def cut(parts):
        return [store.share_wells(wells, (part, parts)) for part in range(1, parts + 1)]

    before, between = cut(2), cut(3)
    assert [*between[0], *between[1], *between[2]] == [*before[0], *before[1]]
    assert cut(2) == before


def run_part(table, key, wells, do):
    """What a part script does; returns the wells done and the joined table."""
    done = []
    with store.part(table, key, wells) as part:
        for well in part.todo:
            part.commit(well, {"fields": do(well)})
            done.append(well)
        joined = part.join("fields", pd.DataFrame({"Metadata_Well": pd.Series(dtype=object)}))
    return done, joined


def of_well(well):
    return pd.DataFrame({"Metadata_Well": [well], "x": [1.5]}, index=[7])


KILLED_JOB = """
import os, signal, sys
import pandas as pd
from plateline import store
from plateline.store import shards
from plateline.store.files import temporary

with store.part(sys.argv[1], "key", ["A01", "A02", "A03", "A04"]) as part:
    for number, well in enumerate(part.todo):
        if number == 2:
            temporary(part.folder / well).mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
        part.commit(well, {"fields": pd.DataFrame({"Metadata_Well": [well], "x": [1.5]})})
"""


def test_a_killed_job_redoes_only_unfinished_wells(tmp_path):
    table = tmp_path / "part-1.parquet"
    job = subprocess.run([sys.executable, "-c", KILLED_JOB, table], check=False)
    assert job.returncode == -signal.SIGKILL
    assert sorted(child.name for child in (tmp_path / ".part-1" / "key").glob("A*")) == ["A01", "A02"]
    done, joined = run_part(table, "key", ["A01", "A02", "A03", "A04"], of_well)
    assert done == ["A03", "A04"]
    assert joined["Metadata_Well"].tolist() == ["A01", "A02", "A03", "A04"]
    assert list(tmp_path.iterdir()) == []


KILLED_IN_THE_END = """
import os, shutil, signal, sys
import pandas as pd
from plateline import store

def delete_half(folder):
    next(folder.rglob("fields.parquet")).unlink()
    os.kill(os.getpid(), signal.SIGKILL)

with store.part(sys.argv[1], sys.argv[2], ["A01", "A02"]) as part:
    for well in part.todo:
        part.commit(well, {"fields": pd.DataFrame({"Metadata_Well": [well], "x": [1.5]})})
    shutil.rmtree = delete_half
"""


@pytest.mark.parametrize("key", ["key", "other"])
def test_commits_that_a_kill_left_half_deleted_do_not_count(tmp_path, key):
    table = tmp_path / "part-1.parquet"
    job = subprocess.run([sys.executable, "-c", KILLED_IN_THE_END, table, key], check=False)
    assert job.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("fields.parquet"))) == 1
    done, joined = run_part(table, "key", ["A01", "A02"], of_well)
    assert done == joined["Metadata_Well"].tolist() == ["A01", "A02"]
    assert list(tmp_path.iterdir()) == []


def flip(table):
    """A table with other bytes in the middle of its first column."""
    return table[:40] + bytes(255 - byte for byte in table[40:43]) + table[43:]


@pytest.mark.parametrize("damage", [lambda table: table[:-9], lambda table: b"", flip, None])
def test_a_commit_that_a_crash_of_the_computer_damaged_is_done_again(tmp_path, damage, caplog):
    table = tmp_path / "part-1.parquet"
    with pytest.raises(KeyboardInterrupt), store.part(table, "key", ["A01", "A02", "A03"]) as part:
        for well in ("A01", "A02"):
            part.commit(well, {"fields": of_well(well)})
        raise KeyboardInterrupt
    commit = tmp_path / ".part-1" / "key" / "A02" / "fields.parquet"
    if damage:
        commit.write_bytes(damage(commit.read_bytes()))
    else:
        commit.unlink()
    done, joined = run_part(table, "key", ["A01", "A02", "A03"], of_well)
    assert done == ["A02", "A03"]
    assert joined["x"].tolist() == [1.5, 1.5, 1.5]
    assert "key/A02 is damaged; the well is done again" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_another_key_redoes_all(tmp_path):
    table = tmp_path / "part-1.parquet"
    with pytest.raises(KeyboardInterrupt), store.part(table, "old", ["A01", "A02"]) as part:
        part.commit("A01", {"fields": of_well("A01")})
        raise KeyboardInterrupt
    assert (tmp_path / ".part-1" / "old" / "A01").is_dir()
    done, _ = run_part(table, "new", ["A01", "A02"], of_well)
    assert done == ["A01", "A02"]
    assert not (tmp_path / ".part-1").exists()


def test_a_finished_part_is_done_again_when_asked(tmp_path):
    assert run_part(tmp_path / "part-1.parquet", "key", ["A01"], of_well)[0] == ["A01"]
    assert run_part(tmp_path / "part-1.parquet", "key", ["A01"], of_well)[0] == ["A01"]


def test_parts_beside_each_other_do_not_meet(tmp_path):
    with store.part(tmp_path / "part-1.parquet", "key", ["A01"]) as one:
        one.commit("A01", {"fields": of_well("A01")})
        assert run_part(tmp_path / "part-2.parquet", "key", ["A02"], of_well)[0] == ["A02"]
        assert one.todo == []


def test_a_part_without_wells_or_rows_has_the_empty_table(tmp_path):
    empty = pd.DataFrame({"Metadata_Well": pd.Series(dtype=object)})
    assert run_part(tmp_path / "part-1.parquet", "key", [], of_well)[1].equals(empty)
    none = run_part(tmp_path / "part-1.parquet", "key", ["A01"], lambda well: of_well(well).iloc[:0])[1]
    assert list(none.columns) == ["Metadata_Well"]
    _flush(tmp_path)


# --- tables

texts = st.text("abcXYZ 012µ'\"|,", max_size=6)
frames = st.integers(0, 12).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "Metadata_Well": st.lists(st.sampled_from(["A01", "A02", "H12"]), min_size=n, max_size=n),
            "Metadata_Site": st.lists(st.integers(1, 3), min_size=n, max_size=n),
            "reason": st.lists(texts, min_size=n, max_size=n),
            "x": st.lists(st.floats(width=64), min_size=n, max_size=n),
            "kept": st.lists(st.booleans(), min_size=n, max_size=n),
        }
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames)
def test_a_table_comes_back_sorted_by_identity(tmp_path, columns):
    types = {"Metadata_Well": object, "Metadata_Site": "int64", "reason": object, "x": float, "kept": bool}
    frame = pd.DataFrame(columns).astype(types)
    store.save_table(frame, tmp_path / "t.parquet", MADE)
    order = sorted(range(len(frame)), key=lambda n: (columns["Metadata_Well"][n], columns["Metadata_Site"][n]))
    found = store.read_table(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(found, frame.iloc[order].reset_index(drop=True), check_exact=True)
    assert list(store.read_table(tmp_path / "t.parquet", ["x"]).columns) == ["x"]


def test_a_table_is_packed_and_says_what_made_it(tmp_path):
    frame = pd.DataFrame({"Metadata_Well": ["A01"] * 50, "x": np.repeat(0.5, 50), "y": np.float32(0.5), "n": 1})
    params = SimpleNamespace(section={"b": 1, "a": 2}, code="digest", get={"share": (1, 2)}.get)
    made = store.provenance(params, [])
    path = tmp_path / "t.parquet"
    store.save_table(frame, path, made)
    file = pq.ParquetFile(path)
    group = file.metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {name: column.has_dictionary_page for name, column in columns.items()} == {
        "Metadata_Well": True,
        "x": False,
        "y": False,
        "n": True,
    }
    kept = json.loads(file.schema_arrow.metadata[PROVENANCE])
    assert kept == made
    assert json.loads(kept["section"]) == {"a": 2, "b": 1}
    assert set(kept) == {"section", "code", "share", "version", "key"}


@pytest.mark.parametrize("damage", [lambda table: table[:-9], lambda table: b"", flip])
def test_a_damaged_table_is_refused_with_what_makes_it_again(tmp_path, damage):
    path = tmp_path / "part-1.parquet"
    store.save_table(pd.DataFrame({"x": np.random.default_rng(0).random(100)}), path, {"section": "{}"})
    path.write_bytes(damage(path.read_bytes()))
    message = r"part-1\.parquet is damaged \((.|\n)*\); make it again: snakemake -R .*part-1\.parquet"
    with pytest.raises(StaleError, match=message):
        store.read_table(path)
    with pytest.raises(StaleError, match=message):
        store.read_rows([path], ["x"], np.ones(100, bool))
    if damage is not flip:
        with pytest.raises(StaleError, match=message):
            store.columns_of(path)
    with pytest.raises(FileNotFoundError):
        store.read_table(tmp_path / "none.parquet")


def test_only_float_columns_means_no_dictionary_at_all(tmp_path):
    store.save_table(pd.DataFrame({"x": np.repeat(0.5, 9)}), tmp_path / "t.parquet", MADE)
    assert not pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0).column(0).has_dictionary_page


def test_a_tables_key_rests_on_section_code_share_and_the_bytes_of_the_inputs(tmp_path):
    inputs = [tmp_path / "a", tmp_path / "b"]
    for file in inputs:
        file.write_text(file.name)

    def key(section=None, code="c", share=(1, 2), inputs=inputs):
        params = SimpleNamespace(section=section or {"x": 1}, code=code, get={"share": share}.get)
        return store.provenance(params, inputs)["key"]

    base = key()
    assert base == key()
    others = [key(section={"x": 2}), key(code="d"), key(share=(2, 2)), key(share=(1, 3)), key(inputs=inputs[:1])]
    inputs[1].write_text("other bytes")
    others.append(key())
    assert len({base, *others}) == 7
    assert digest_of(inputs[0]) == "ca978112ca1bbdcafac231b39a23dc4d"  # sha256 of "a"


def test_tables_one_below_the_other(tmp_path):
    one, two = pd.DataFrame({"Metadata_Well": ["A01"], "x": [1.0]}), pd.DataFrame({"Metadata_Well": ["B01"], "y": [2]})
    paths = [tmp_path / "1.parquet", tmp_path / "2.parquet", tmp_path / "3.parquet"]
    for frame, path in zip([one.iloc[:0], one, two], paths, strict=True):
        store.save_table(frame, path, MADE)
    found = store.read_tables(paths)
    assert found["Metadata_Well"].tolist() == ["A01", "B01"]
    assert found["y"].isna().tolist() == [True, False]
    assert list(store.read_tables(str(paths[1])).columns) == ["Metadata_Well", "x"]
    assert list(store.read_tables(paths[:1]).columns) == ["Metadata_Well", "x"]
    assert store.read_tables(paths[:2], ["x"])["x"].tolist() == [1.0]


def test_another_program_reads_the_identity_columns(tmp_path):
    store.save_table(pd.DataFrame({name: ["1"] for name in reversed(CELL)}), tmp_path / "t.parquet", MADE)
    assert set(pq.read_schema(tmp_path / "t.parquet").names) == set(CELL)


@pytest.fixture
def flatfield(tmp_path):
    """Table and arrays as flatfield_plate leaves them."""
    rng, rows = np.random.default_rng(0), []
    for channel in ("DNA", "GFP"):
        pair = [rng.random((4, 5), np.float32) for _ in range(2)]
        for kind, array in zip(("Illum", "Dark"), pair, strict=True):
            store.save_array(array, tmp_path / f"P1_{kind}{channel}.npy")
        rows.append({"Metadata_Plate": "P1", "Metadata_Channel": channel, "checksum": store.checksum(*pair)})
    store.save_table(pd.DataFrame(rows), tmp_path / "flatfield.parquet", MADE)
    return tmp_path / "flatfield.parquet"


def test_flatfield_comes_back_as_stacks(flatfield):
    found = store.read_flatfield(flatfield, "P1")
    illum, dark = found["images"]
    assert illum.shape == dark.shape == (2, 4, 5)
    assert np.array_equal(illum[1], np.load(flatfield.parent / "P1_IllumGFP.npy"))
    assert np.array_equal(dark[0], np.load(flatfield.parent / "P1_DarkDNA.npy"))
    assert found["channels"] == ["DNA", "GFP"]
    assert found["key"] == "".join(store.read_table(flatfield)["checksum"])


def test_flatfield_of_a_plate_without_channels_is_empty(tmp_path):
    rows = {"Metadata_Channel": pd.Series(dtype=object), "checksum": pd.Series(dtype=object)}
    store.save_table(pd.DataFrame(rows), tmp_path / "flatfield.parquet", MADE)
    found = store.read_flatfield(tmp_path / "flatfield.parquet", "P1")
    assert [image.shape for image in found["images"]] == [(0, 0, 0)] * 2
    assert found["channels"] == []


@pytest.mark.parametrize("how", ["replaced", "deleted", "damaged"])
def test_a_flatfield_that_its_table_does_not_name_is_refused(flatfield, how):
    path = flatfield.parent / "P1_DarkGFP.npy"
    if how == "replaced":
        store.save_array(np.zeros((4, 5), np.float32), path)
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[:-8])
    else:
        path.unlink()
    with pytest.raises(StaleError, match=r"P1_IllumGFP.npy is not what .* speaks of; rerun rule flatfield_plate"):
        store.read_flatfield(flatfield, "P1")


def test_profiles_as_anndata(tmp_path):
    profiles = pd.DataFrame(
        {
            "Metadata_Plate": ["P1", "P1"],
            "Metadata_Well": ["A01", "A02"],
            "Metadata_Concentration": [np.nan, 0.5],
            "Metadata_Compound": ["DMSO", None],
            "Nuclei_AreaShape_Area": [1.0, np.nan],
            "Cells_Intensity_MeanIntensity_GFP": [3.0, 4.0],
            "dino": [5.0, 6.0],
        }
    )
    store.save_anndata(profiles, tmp_path / "p.h5ad")
    found = anndata.read_h5ad(tmp_path / "p.h5ad")
    assert found.obs_names.tolist() == ["P1_A01", "P1_A02"]
    assert found.var_names.tolist() == ["Nuclei_AreaShape_Area", "Cells_Intensity_MeanIntensity_GFP", "dino"]
    assert found.var.loc["Cells_Intensity_MeanIntensity_GFP"].tolist() == ["Cells", "Intensity", "MeanIntensity"]
    assert found.X.dtype == np.float32
    assert np.array_equal(found.X, profiles.iloc[:, 4:].to_numpy(np.float32), equal_nan=True)
    assert found.obs["Metadata_Concentration"].tolist()[1] == 0.5
    store.save_anndata(profiles.iloc[:0], tmp_path / "none.h5ad")
    assert anndata.read_h5ad(tmp_path / "none.h5ad").shape == (0, 3)


# --- plate


def test_the_plate_is_one_of_the_fields_standard(plate):
    hcs = ome_zarr_models.v05.HCS.from_zarr(zarr.open_group(str(plate), mode="r"))
    described = hcs.attributes.ome.plate
    assert (len(described.rows), len(described.columns)) == (8, 12)
    assert [well.path for well in described.wells] == ["A/01", "B/02", "H/12"]
    assert described.field_count == 2
    image = ome_zarr_models.v05.Image.from_zarr(zarr.open_group(str(plate / "A" / "01" / "2"), mode="r"))
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == list("tczyx")
    scales = [dataset.coordinateTransformations[0].scale for dataset in image.attributes.ome.multiscales[0].datasets]
    assert scales == [[1.0, 1.0, 1.0, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0]]
    omero = zarr.open_group(str(plate / "A" / "01" / "2"), mode="r").attrs["ome"]["omero"]
    assert [channel["label"] for channel in omero["channels"]] == ["DNA", "GFP"]
    assert "stage" not in omero
    label = zarr.open_group(str(plate / "A" / "01" / "2" / "labels" / "cells"), mode="r")
    assert ome_zarr_models.v05.ImageLabel.from_zarr(label)


def test_what_the_microscope_told_stands_in_the_metadata(tmp_path):
    omero = {"name": "P1", "shape": 96, "channels": ["DNA", "GFP"], "pixel_size_um": np.nan, "full_scale": 4095.0}
    told = [{"channel_name": "HOECHST 33342", "emission_nm": 461.0, "excitation_nm": 375.0, "exposure_ms": 100.0}, {}]
    positions = {("A01", 2): (1.5, -2.0, np.nan)}
    path = tmp_path / "P1.zarr"
    omero |= {"told": told, "positions": positions}
    store.lay_out(path, wells=WELLS, times=1, sizes=[(8, 8)], dtype="uint16", omero=omero)
    group = zarr.open_group(str(path / "A" / "01" / "2"), mode="r")
    assert ome_zarr_models.v05.Image.from_zarr(group)
    held = group.attrs["ome"]["omero"]
    assert held["stage"] == {"x": 1.5, "y": -2.0, "unit": "micrometer"}
    words = {"name": "HOECHST 33342", "emissionWave": 461.0, "excitationWave": 375.0, "exposureTime": 100.0}
    first, second = held["channels"]
    assert {word: first[word] for word in words} == words
    assert (first["label"], first["exposureTimeUnit"], first["window"]["max"]) == ("DNA", "ms", 4095.0)
    assert set(second) == {"label", "color", "window", "active"}
    other = zarr.open_group(str(path / "A" / "01" / "1"), mode="r").attrs["ome"]["omero"]
    assert other == {"channels": held["channels"]}


def test_all_planes_are_kept_beside_the_image(tmp_path):
    omero = {"name": "P1", "shape": 96, "channels": ["DNA", "GFP"], "pixel_size_um": 0.5, "full_scale": 4095.0}
    path = tmp_path / "P1.zarr"
    store.lay_out(path, wells=WELLS, times=2, sizes=level_sizes(*SIZE), dtype="uint16", omero=omero | {"planes": 3})
    stack = np.stack([noise(seed) for seed in range(3)])
    stack[1] = 0
    assert store.keeps_planes(path, "A01", 2)
    write(path, "A01", 2, 1, stack.max(axis=0), "k")
    store.write_planes(path, "A01", 2, 1, list(stack), ("k", "sum"))
    group = zarr.open_group(str(path / "A" / "01" / "2" / "stack"), mode="r")
    image = ome_zarr_models.v05.Image.from_zarr(group)
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == list("tczyx")
    assert group["0"].shape == (2, 2, 3, *SIZE)
    np.testing.assert_array_equal(group["0"][1].swapaxes(0, 1), stack)
    assert not group["0"][0].any()
    np.testing.assert_array_equal(store.read_field(path, "A01", 2, 1, "k"), stack.max(axis=0))
    store.reset_field(path, "A01", 2, 1)
    assert not group["0"][1].any()
    assert "1" not in group["0"].attrs.get("plateline", {})


def test_a_plate_of_single_planes_has_no_stack(plate):
    assert not store.keeps_planes(plate, "A01", 1)


def test_the_plate_opens_in_ome_zarr(plate):
    write(plate, "B02", 1, 0, noise(1), "k")
    nodes = list(Reader(parse_url(plate))())
    assert nodes
    field = list(Reader(parse_url(plate / "B" / "02" / "1"))())
    pyramid_of_field = field[0].data
    assert [level.shape for level in pyramid_of_field] == [(2, 2, 1, 600, 520), (2, 2, 1, 300, 260)]
    assert np.array_equal(np.asarray(pyramid_of_field[0][0, :, 0]), noise(1))


def test_a_plate_of_unknown_pixel_size_has_no_unit(tmp_path):
    path = laid_out(tmp_path / "P.zarr", size=(8, 9), pixel_size=float("nan"), wells={"A01": [1]}, times=1)
    image = ome_zarr_models.v05.Image.from_zarr(zarr.open_group(str(path / "A" / "01" / "1"), mode="r"))
    scales = image.attributes.ome.multiscales[0]
    assert [axis.unit for axis in scales.axes if axis.name in "yx"] == [None, None]
    assert scales.datasets[0].coordinateTransformations[0].scale[-2:] == [1.0, 1.0]


def test_a_shard_holds_all_channels_of_one_time_point(plate):
    array = zarr.open_array(str(plate / "A" / "01" / "1" / "0"), mode="r")
    assert array.shards == (1, 2, 1, 600, 520)
    assert array.metadata.dimension_names == tuple("tczyx")
    assert not list(plate.glob("**/c/**/*"))  # the skeleton holds no pixels
    write(plate, "A01", 1, 1, noise(0), "k")
    assert len([file for file in (plate / "A/01/1/0/c").rglob("*") if file.is_file()]) == 1


def test_laying_out_again_replaces_the_plate(plate):
    write(plate, "A01", 1, 0, noise(0), "k")
    laid_out(plate, wells={"C03": [1]})
    assert not (plate / "A").exists()
    assert (plate / "C" / "03" / "1" / "zarr.json").is_file()
    assert [child.name for child in plate.parent.iterdir()] == ["P1.zarr"]


def test_pixels_come_back(plate):
    for time in (0, 1):
        write(plate, "A01", 2, time, noise(time), f"key{time}")
    for time in (1, 0):
        assert np.array_equal(store.read_field(plate, "A01", 2, time, f"key{time}"), noise(time))
    assert np.array_equal(store.read_field(plate, "A01", 2, 0, "key0", channels=slice(1, 2)), noise(0)[[1]])
    coarse = zarr.open_array(str(plate / "A/01/2/1"), mode="r")[1, :, 0]
    assert np.array_equal(coarse, pyramid(noise(1))[1])


def test_labels_come_back_at_every_level(plate):
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, 99, SIZE, dtype=np.int32) for name in ("nuclei", "cells", "cytoplasm")}
    store.write_labels(plate, "H12", 1, 1, labels, ("key", store.checksum(*labels.values())))
    found = store.read_labels(plate, "H12", 1, 1, "key")
    assert list(found) == ["nuclei", "cells", "cytoplasm"]
    for name, label in labels.items():
        assert np.array_equal(found[name], label)
        assert np.array_equal(zarr.open_array(str(plate / f"H/12/1/labels/{name}/1"), mode="r")[1, 0], label[::2, ::2])


def test_a_stale_key_is_refused_naming_the_rule(plate):
    write(plate, "A01", 1, 0, noise(0), "new")
    with pytest.raises(
        StaleError, match=r"0 at time 0 have key new; expected old; rerun rule ingest_part \(-R ingest_"
    ):
        store.read_field(plate, "A01", 1, 0, "old")
    with pytest.raises(StaleError, match="at time 1 have key none; expected new; rerun rule ingest_part"):
        store.read_field(plate, "A01", 1, 1, "new")
    with pytest.raises(StaleError, match="have key none; expected new; rerun rule segment_part"):
        store.read_labels(plate, "A01", 1, 0, "new")
    with pytest.raises(StaleError, match="is gone, but a table still speaks of it; rerun rule ingest_plate"):
        store.read_field(plate, "C03", 1, 0, "new")


def test_a_crash_between_pixels_and_key_leaves_pixels_that_are_refused(plate, monkeypatch):
    write(plate, "A01", 1, 0, noise(0), "key")
    vouch = store.plate._vouch

    def crash(array, time, said):
        if said is not None:
            msg = "killed"
            raise KeyboardInterrupt(msg)
        vouch(array, time, said)

    monkeypatch.setattr(store.plate, "_vouch", crash)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        write(plate, "A01", 1, 0, noise(1), "key")
    labels = dict.fromkeys(("nuclei", "cells", "cytoplasm"), np.ones(SIZE, np.int32))
    with pytest.raises(KeyboardInterrupt, match="killed"):
        store.write_labels(plate, "A01", 1, 0, labels, ("key", "sum"))
    with pytest.raises(StaleError, match="have key none"):
        store.read_field(plate, "A01", 1, 0, "key")
    with pytest.raises(StaleError, match="have key none"):
        store.read_labels(plate, "A01", 1, 0, "key")


def test_pixels_deleted_by_hand_do_not_read_as_dark_ones(plate):
    write(plate, "A01", 1, 0, noise(0), "key")
    labels = {name: np.full(SIZE, number, np.int32) for number, name in enumerate(("nuclei", "cells", "cytoplasm"))}
    store.write_labels(plate, "A01", 1, 0, labels, ("key", store.checksum(*labels.values())))
    # All zero, so that no shard is written.
    assert not store.read_labels(plate, "A01", 1, 0, "key")["nuclei"].any()
    for lost in ("0", "labels/cells/0"):
        shutil.rmtree(plate / "A/01/1" / lost / "c")
    message = r"01/1/0 at time 0 have checksum \w+; expected \w+: deleted or damaged .*; rerun rule ingest_part"
    with pytest.raises(StaleError, match=message):
        store.read_field(plate, "A01", 1, 0, "key")
    with pytest.raises(StaleError, match=r"01/1/labels at time 0 have checksum .*; rerun rule segment_part \(-R segm"):
        store.read_labels(plate, "A01", 1, 0, "key")
    shutil.rmtree(plate / "A/01/1")
    with pytest.raises(StaleError, match="is gone, but a table still speaks of it; rerun rule ingest_plate"):
        write(plate, "A01", 1, 0, noise(0), "key")


def test_what_is_taken_back_reads_as_fill_value_and_nothing_vouches_for_it(plate):
    for time in (0, 1):
        write(plate, "A01", 1, time, noise(time), "key")
    labels = dict.fromkeys(("nuclei", "cells", "cytoplasm"), np.ones(SIZE, np.int32))
    store.write_labels(plate, "A01", 1, 0, labels, ("key", "sum"))
    store.reset_field(plate, "A01", 1, 0)
    store.reset_labels(plate, "A01", 1, 0)
    for level in ("0", "1", "labels/nuclei/0", "labels/cells/1", "labels/cytoplasm/0"):
        assert not zarr.open_array(str(plate / "A/01/1" / level), mode="r")[0].any()
    with pytest.raises(StaleError, match="have key none"):
        store.read_field(plate, "A01", 1, 0, "key")
    with pytest.raises(StaleError, match="have key none"):
        store.read_labels(plate, "A01", 1, 0, "key")
    assert np.array_equal(store.read_field(plate, "A01", 1, 1, "key"), noise(1))


def test_a_table_vouches_with_key_and_checksum_in_the_attributes(plate):
    write(plate, "A01", 1, 1, noise(0), "key")
    document = json.loads((plate / "A/01/1/0/zarr.json").read_text())
    assert document["attributes"]["plateline"] == {"1": {"key": "key", "checksum": store.checksum(noise(0))}}
    assert zarr.open_array(str(plate / "A/01/1/0"), mode="r").shape == (2, 2, 1, 600, 520)


def fill_wells(path, wells):
    for well in wells:
        for time in range(4):
            pixels = np.full((2, 40, 30), 10 * int(well[1:]) + time, np.uint16)
            store.write_field(path, well, 1, time, [pixels], (f"{well}-{time}", store.checksum(pixels)))
            labels = dict.fromkeys(("nuclei", "cells", "cytoplasm"), np.full((40, 30), time + 1, np.int32))
            store.write_labels(path, well, 1, time, labels, (f"{well}-{time}", store.checksum(*labels.values())))


def test_two_jobs_that_write_different_wells_at_once_lose_nothing(tmp_path):
    wells = [f"A{column:02d}" for column in range(1, 13)]
    path = laid_out(tmp_path / "P.zarr", size=(40, 30), wells={well: [1] for well in wells}, times=4)
    body = inspect.getsource(fill_wells) + f"print(flush=True)\ninput()\nfill_wells(Path({str(path)!r}), {wells[1::2]})"
    code = f"from pathlib import Path\nimport numpy as np\nfrom plateline import store\n{body}"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    other.stdout.readline()  # it has imported everything and waits
    other.stdin.write("go\n")
    other.stdin.flush()
    fill_wells(path, wells[0::2])
    other.communicate()
    assert other.returncode == 0
    for well in wells:
        for time in range(4):
            assert (store.read_field(path, well, 1, time, f"{well}-{time}") == 10 * int(well[1:]) + time).all()
            assert (store.read_labels(path, well, 1, time, f"{well}-{time}")["cells"] == time + 1).all()
    assert not list(path.rglob("*.tmp"))
    assert ome_zarr_models.v05.HCS.from_zarr(zarr.open_group(str(path), mode="r"))


def test_a_stack_of_fields(plate):
    places = [("A01", 1, 0), ("A01", 2, 1), ("H12", 1, 0)]
    for number, place in enumerate(places):
        write(plate, *place, noise(number), f"key{number}")
    rows = [(*place, f"key{n}", *SIZE) for n, place in enumerate(places)]
    columns = ["Metadata_Well", "Metadata_Site", "Metadata_Timepoint", "Metadata_Key", "height", "width"]
    fields = pd.DataFrame(rows, columns=columns)
    stack = store.read_stack(plate, fields, 1)
    assert np.array_equal(stack, np.stack([noise(n)[1] for n in range(3)]))
    assert store.read_stack(plate, fields.iloc[:0], 1).shape == (0, 0, 0)
    with pytest.raises(StaleError, match="rerun rule ingest_part"):
        store.read_stack(plate, fields.assign(Metadata_Key="old"), 1)


def test_images_of_a_plate_stand_under_results():
    assert store.images_of("P1") == Path("results/images/P1.zarr")


@given(
    shape=st.tuples(*(st.integers(1, top) for top in (3, 1, 40, 40))),
    chunk=st.tuples(st.integers(7, 40), st.integers(7, 40)),
    dtype=st.sampled_from(["uint8", "uint16", "int32", "float32"]),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_shards_are_those_of_zarr_in_both_directions(tmp_path_factory, shape, chunk, dtype, seed):
    pixels = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    chunk = (1, 1, *chunk)
    whole = tuple(-(-size // step) * step for size, step in zip(shape, chunk, strict=True))
    folder = tmp_path_factory.mktemp("shards")
    codec = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
    arrays = {
        name: zarr.create_array(
            str(folder / name),
            shape=(2, *shape),
            chunks=(1, *chunk),
            shards=(1, *whole),
            dtype=dtype,
            compressors=codec,
        )
        for name in ("theirs", "ours")
    }
    arrays["theirs"][1] = pixels
    shards.write_shard(folder / "ours", 1, pixels)
    np.testing.assert_array_equal(arrays["ours"][1], pixels)
    np.testing.assert_array_equal(arrays["ours"][0], np.zeros(shape))
    np.testing.assert_array_equal(shards.read_shard(folder / "theirs", 1), pixels)
    np.testing.assert_array_equal(shards.read_shard(folder / "ours", 1, slice(0, 1)), pixels[:1])
    shards.write_shard(folder / "ours", 1, pixels * 0)
    np.testing.assert_array_equal(shards.read_shard(folder / "ours", 1), pixels * 0)


@pytest.mark.parametrize(
    "damage", [lambda shard: shard[:-1], lambda shard: b"", lambda shard: shard[:-9] + b"123456789"]
)
def test_a_damaged_shard_is_refused(damage):
    pixels = np.arange(60, dtype=np.uint16).reshape(1, 6, 10)
    shard = shards.encode(pixels, (1, 6, 10))
    with pytest.raises(ValueError, match=r"the index of a shard of \d+ bytes is damaged"):
        shards.decode(damage(shard), [1, 6, 10], (1, 6, 10), np.dtype("uint16"))


def test_a_damaged_field_names_the_rule(tmp_path):
    plate = tmp_path / "P1.zarr"
    omero = {"name": "P1", "channels": ["DNA"], "pixel_size_um": np.nan, "full_scale": 255.0, "shape": 96}
    store.lay_out(plate, wells={"A01": [1]}, times=1, sizes=[(8, 8)], dtype="uint8", omero=omero)
    store.write_field(plate, "A01", 1, 0, [np.ones((1, 8, 8), np.uint8)], ("key", "sum"))
    shard = shards.shard_path(plate / "A" / "01" / "1" / "0", 0, 5)
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(StaleError, match=r"A/01/1/0 at time 0 are damaged .*; rerun rule ingest_part"):
        store.read_field(plate, "A01", 1, 0, "key")


# --- tables of other programs


def test_names_of_columns_from_a_file(tmp_path):
    (tmp_path / "names.csv").write_text("theirs,ours\nSpot, Well \narea px,Cells_AreaShape_Area\n")
    assert store.read_mapping([tmp_path / "names.csv"]) == {"Spot": "Well", "area px": "Cells_AreaShape_Area"}
    assert store.read_mapping([]) == {}
    (tmp_path / "names.csv").write_text("from,to\na,b\n")
    with pytest.raises(ConfigError, match=r"has \['from', 'to'\]; expected the columns theirs and ours"):
        store.read_mapping([tmp_path / "names.csv"])


def test_chosen_rows_of_several_tables(tmp_path):
    made = {"key": "k"}
    for name, values in (("a", [1, 2]), ("b", [3.5, 4])):
        store.save_table(pd.DataFrame({"x": values, "y": values}), tmp_path / f"{name}.parquet", made)
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert store.read_rows(paths, ["x"], np.array([False, True, True, False]))["x"].tolist() == [2, 3.5]
    assert store.columns_of(paths[0]) == ["x", "y"]


def test_a_csv_runs_nothing_in_a_spreadsheet(tmp_path):
    frame = pd.DataFrame({"name": ["=1+1", "@x", "drug"], "value": [-1.5, 2, 3]})
    store.save_csv(frame, tmp_path / "t.csv")
    back = pd.read_csv(tmp_path / "t.csv")
    assert back["name"].tolist() == ["'=1+1", "'@x", "drug"]
    assert back["value"].tolist() == [-1.5, 2, 3]


def test_tables_without_their_features(tmp_path):
    one = pd.DataFrame({"Metadata_Plate": ["P1"], "Metadata_Readout_a": [1.0], "Cells_AreaShape_Area": [5.0]})
    other = pd.DataFrame({"Metadata_Plate": ["P2"], "Metadata_Readout_b": [2.0], "Nuclei_AreaShape_Area": [5.0]})
    for name, frame in {"1": one, "2": other}.items():
        store.save_table(frame, tmp_path / name, {})
    found = store.read_metadata([tmp_path / "1", tmp_path / "2"])
    assert list(found) == ["Metadata_Plate", "Metadata_Readout_a", "Metadata_Readout_b"]
    whole = store.read_tables([tmp_path / "1", tmp_path / "2"])
    pd.testing.assert_frame_equal(found, whole[list(found)])
