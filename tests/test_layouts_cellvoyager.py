"""The layout `cellvoyager`: every record and every image file is accounted for; what the setting tells is read."""

import logging
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest
import tifffile
from campaign import make_campaign, run
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import ingest, store
from plateline.errors import ImageError, SourceError
from plateline.layouts.cellvoyager import index, read_plane
from plateline.layouts.planes import COLUMNS, EXTRA, PLANE

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5)
SCHEMA = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
MRF = f"""<?xml version="1.0" encoding="utf-8"?>
<bts:MeasurementDetail bts:Version="1.0" bts:MeasurementSettingFileName="s.mes" bts:ColumnCount="12"
bts:RowCount="8" {SCHEMA}>
<bts:MeasurementChannel bts:Ch="1" bts:HorizontalPixelDimension="0.325"
bts:VerticalPixelDimension="0.325" bts:InputBitDepth="16"/>
<bts:MeasurementChannel bts:Ch="2" bts:HorizontalPixelDimension="0.325"
bts:VerticalPixelDimension="0.650" bts:InputBitDepth="14"/>
</bts:MeasurementDetail>"""
MES = f"""<?xml version="1.0" encoding="utf-8"?>
<bts:MeasurementSetting bts:Version="1.0" {SCHEMA}>
<bts:Timelapse><bts:Timeline>
<bts:WellSequence bts:IsSelected="true">
<bts:TargetWell bts:Column="1" bts:Row="1">true</bts:TargetWell><bts:TargetWell bts:Column="2"
bts:Row="1">true</bts:TargetWell>
<bts:TargetWell bts:Column="3" bts:Row="1">false</bts:TargetWell><bts:TargetWell bts:Column="x"
bts:Row="99">true</bts:TargetWell>
</bts:WellSequence>
<bts:PointSequence bts:Method="FixedPosition"><bts:FixedPosition><bts:Point/><bts:Point/></bts:FixedPosition>
</bts:PointSequence>
</bts:Timeline></bts:Timelapse>
<bts:LightSourceList><bts:LightSource bts:Name="405nm" bts:WaveLength="405"/><bts:LightSource
bts:Name="Lamp" bts:WaveLength="0"/></bts:LightSourceList>
<bts:ChannelList>
<bts:Channel bts:Ch="1" bts:Target="405" bts:Acquisition="BP445/45" bts:ExposureTime="100" bts:Fluorophore="Hoechst">
<bts:LightSourceName>405nm</bts:LightSourceName></bts:Channel>
<bts:Channel bts:Ch="2" bts:Target="BF" bts:Acquisition="LP500" bts:ExposureTime="soon">
<bts:LightSourceName>Lamp</bts:LightSourceName></bts:Channel>
</bts:ChannelList></bts:MeasurementSetting>"""


def record(name, *, text=None, **attributes):
    told = {"Type": "IMG", "Row": 1, "Column": 1, "TimePoint": 1, "FieldIndex": 1, "ZIndex": 1, "Ch": 1} | attributes
    pairs = " ".join(f"bts:{key}={quoteattr(str(value))}" for key, value in told.items() if value is not None)
    return f"<bts:MeasurementRecord {pairs}>{escape(name if text is None else text)}</bts:MeasurementRecord>"


def write(folder, name, pixels=PIXELS):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, pixels, photometric="minisblack", metadata=None)
    return file


def write_mlf(folder, records, name="MeasurementData.mlf", version="1.0", root="MeasurementData"):
    folder.mkdir(parents=True, exist_ok=True)
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<bts:{root} bts:Version="{version}" {SCHEMA}>'
    text = "\n".join([head, *records, f"</bts:{root}>"])
    (folder / name).write_text(text, encoding="utf-8")


def small(folder, *, mrf=MRF, mes=MES):
    """Wells A01, A02; two fields; two channels, with mrf and mes."""
    records = []
    for column in (1, 2):
        for field in (1, 2):
            for ch in (1, 2):
                name = f"P_A{column:02d}_F{field}C{ch}.tif"
                write(folder, name)
                records.append(
                    record(
                        name,
                        Column=column,
                        FieldIndex=field,
                        Ch=ch,
                        X="-1.5",
                        Y="2",
                        Z="x",
                        Time="2023-09-18T13:58:44.438+02:00",
                    )
                )
    write_mlf(folder, records)
    (folder / "MeasurementDetail.mrf").write_text(mrf, encoding="utf-8-sig")
    (folder / "s.mes").write_text(mes, encoding="utf-8-sig")
    return records


def indexed(folder, *, plate="P1", shape=96, measurement=""):
    return index(folder, plate=plate, shape=shape, measurement=measurement)


# --- the real export


def test_real_export_has_every_record_once(data):
    source = data / "vendor" / "cellvoyager_cv8000"
    planes, left_out = indexed(source)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert len(planes) == 96
    assert set(planes["status"]) == {"ok"}
    assert planes[PLANE].equals(planes[PLANE].sort_values(PLANE, ignore_index=True))
    assert planes.groupby(["Metadata_Well", "Metadata_Site", "channel"])["z"].apply(list).map(
        tuple
    ).unique().tolist() == [(1, 2, 3, 4)]
    assert sorted(set(planes["Metadata_Well"])) == ["D08", "E03", "F08"]
    assert sorted(set(planes["channel"])) == ["C01", "C02"]
    files = {file.relative_to(source).as_posix() for file in source.rglob("*.tif")}
    assert set(planes["path"]) | set(left_out["path"]) == files
    assert len(left_out) == 6, "shading and dark references"
    assert left_out["reason"].str.endswith("MeasurementData.mlf does not name it").all()


def test_real_setting_is_read(data):
    planes, _ = indexed(data / "vendor" / "cellvoyager_cv8000")
    assert set(planes["pixel_size_um"]) == {0.325}
    assert set(planes["full_scale"]) == {65535.0}
    facts = planes[["channel", "channel_name", "exposure_ms", "excitation_nm", "emission_nm"]].drop_duplicates()
    assert facts.to_numpy().tolist() == [["C01", "405", 100.0, 405.0, 445.0], ["C02", "488", 100.0, 488.0, 525.0]]
    first = planes.iloc[0]
    assert first[["position_x_um", "position_y_um", "position_z_um"]].tolist() == [-567.1, 402.9, 0.0]
    assert first["acquired"] == "2023-09-18T13:58:44.438+02:00"


def test_real_export_becomes_fields(data):
    source = data / "vendor" / "cellvoyager_cv8000"
    table, left_out = ingest.index_table(*indexed(source), plate="P1", channels={})
    shared = ingest.geometry(table)
    assert (shared.channels, shared.times, shared.pixel_size_um) == (["C01", "C02"], 1, 0.325)
    field = table[(table["Metadata_Well"] == "E03") & (table["Metadata_Site"] == 3)]
    pixels = ingest.build_field(field, shared, partial(read_plane, source), projection="max")
    assert pixels.shape == (2, 2000, 2000)
    assert not pixels.any(), "its pixels are all zero"
    assert len(left_out) == 6


@pytest.mark.slow
def test_real_export_through_the_workflow(data, tmp_path):
    campaign = make_campaign(
        tmp_path / "c",
        {"P1": {"layout": "cellvoyager", "source": str(data / "vendor" / "cellvoyager_cv8000")}},
        config={
            "ingest": {"plate": {"channels": {"C01": "DNA", "C02": "GFP"}}},
            "segment": {"nuclei_channel": "DNA"},
            "profile": {"readouts": {"cells": "per_field()"}},
        },
    )
    table = "results/ingest/P1/part-1.parquet"
    run(campaign, table)
    fields = store.read_table(campaign / table)
    assert fields["status"].tolist() == ["ok"] * 12
    assert set(fields["pixel_size_um"]) == {0.325}
    counts = store.read_table(campaign / "results/ingest/P1/images.ledger.parquet")
    assert counts[counts["kind"] == "count"][["count_in", "count_out"]].to_numpy().tolist() == [[102, 96]]


# --- records


def test_facts_of_channels(tmp_path):
    small(tmp_path)
    planes, left_out = indexed(tmp_path)
    assert left_out.empty
    one, two = (planes[planes["channel"] == name].iloc[0] for name in ("C01", "C02"))
    names = ["channel_name", "pixel_size_um", "full_scale", "exposure_ms", "excitation_nm", "emission_nm"]
    assert one[names].tolist() == ["Hoechst", 0.325, 65535.0, 100.0, 405.0, 445.0]
    np.testing.assert_equal(two[names[1:]].tolist(), [np.nan, 16383.0, np.nan, np.nan, np.nan])
    assert two["channel_name"] == "BF"
    np.testing.assert_equal(one[["position_x_um", "position_y_um", "position_z_um"]].tolist(), [-1.5, 2.0, np.nan])


def test_without_setting_the_rest_is_read(tmp_path, caplog):
    write(tmp_path, "a.tif")
    write_mlf(tmp_path, [record("a.tif")])
    with caplog.at_level(logging.WARNING):
        planes, _ = indexed(tmp_path)
    assert planes[["channel", "channel_name", "status"]].to_numpy().tolist() == [["C01", "", "ok"]]
    assert planes["pixel_size_um"].isna().all()
    assert re.search("0 files of a MeasurementDetail.*unknown", caplog.text)
    assert "0 files of a MeasurementSetting" in caplog.text


def test_missing_and_broken_files_are_rows(tmp_path):
    small(tmp_path)
    (tmp_path / "P_A01_F1C1.tif").unlink()
    (tmp_path / "P_A01_F2C1.tif").write_bytes(b"")
    write(tmp_path, "P_A02_F1C1.tif", np.stack([PIXELS] * 3))
    planes, left_out = indexed(tmp_path)
    assert len(planes) == 8
    reasons = planes.set_index("path").loc[lambda rows: rows["status"] != "ok", "reason"].to_dict()
    assert set(reasons) == {"P_A01_F1C1.tif", "P_A01_F2C1.tif", "P_A02_F1C1.tif"}
    assert re.search("is named by MeasurementData.mlf and is not there", reasons["P_A01_F1C1.tif"])
    assert re.search("3 pages", reasons["P_A02_F1C1.tif"])
    assert left_out.empty


def test_planned_fields_without_records_are_rows(tmp_path):
    records = small(tmp_path)
    write_mlf(tmp_path, [text for text in records if "A02_F2" not in text and "A01_F1C2" not in text])
    planes, left_out = indexed(tmp_path)
    missing = planes[planes["status"] != "ok"]
    assert missing[["Metadata_Well", "Metadata_Site", "channel"]].to_numpy().tolist() == [
        ["A01", 1, "C02"], ["A02", 2, "C01"], ["A02", 2, "C02"]
    ]  # fmt: skip
    assert re.search("the measurement setting plans it", missing["reason"].iloc[1])
    assert sorted(left_out["path"]) == ["P_A01_F1C2.tif", "P_A02_F2C1.tif", "P_A02_F2C2.tif"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("</bts:Timelapse>", "<bts:Timeline/></bts:Timelapse>"), ('IsSelected="true"', 'IsSelected="false"'),
     ("FixedPosition>", "Other>"), ("<bts:Point/><bts:Point/>", "<bts:Point/>")],
)  # fmt: skip
def test_a_plan_that_is_not_plain_plans_nothing(tmp_path, old, new):
    records = small(tmp_path, mes=MES.replace(old, new))
    write_mlf(tmp_path, [text for text in records if "A02_F2" not in text])
    assert set(indexed(tmp_path)[0]["status"]) == {"ok"}


def test_a_hole_in_a_stack_excludes_its_field(tmp_path):
    records = []
    for column in (1, 2, 3):
        for z in (1, 2, 3):
            write(tmp_path, f"A{column}Z{z}.tif")
            records.append(record(f"A{column}Z{z}.tif", Column=column, ZIndex=z))
    write_mlf(tmp_path, records[:-2] + records[-1:])
    planes, left_out = indexed(tmp_path)
    assert planes.loc[planes["status"] != "ok", ["Metadata_Well", "z"]].to_numpy().tolist() == [["A03", 2]]
    assert left_out["path"].tolist() == ["A3Z2.tif"]
    table, _ = ingest.index_table(planes, left_out, plate="P1", channels={})
    with pytest.raises(ImageError, match="no image of well A03, site 1, time point 1, z 2, channel C01"):
        ingest.build_field(
            table[table["Metadata_Well"] == "A03"],
            ingest.geometry(table),
            partial(read_plane, tmp_path),
            projection="max",
        )


def test_records_of_errors_are_left_out(tmp_path):
    write(tmp_path, "a.tif")
    broken = [
        record("", Type="ERR", Ch=None, text="Failed to autofocus. é"),
        record("", text=""),
        record("b.tif", Row="one"),
        record("c.tif", Ch=None),
    ]
    write_mlf(tmp_path, [record("a.tif"), *broken])
    planes, left_out = indexed(tmp_path)
    assert planes["path"].tolist() == ["a.tif"]
    assert left_out["path"].tolist() == [f"MeasurementData.mlf, record {n}" for n in (2, 3, 4, 5)]
    assert (
        left_out["reason"][0]
        == "no image but type ERR at Row 1, Column 1, FieldIndex 1, TimePoint 1: Failed to autofocus. é"
    )


def test_a_repeated_record_is_left_out(tmp_path):
    write(tmp_path, "a.tif")
    write_mlf(tmp_path, [record("a.tif"), record("a.tif")])
    planes, left_out = indexed(tmp_path)
    assert planes["status"].tolist() == ["ok"]
    assert left_out.to_numpy().tolist() == [["MeasurementData.mlf, record 2", "it repeats the record 1, a.tif"]]


def test_one_file_cannot_be_two_planes(tmp_path):
    write(tmp_path, "a.tif")
    write_mlf(tmp_path, [record("a.tif"), record("a.tif", Column=2)])
    planes, _ = indexed(tmp_path)
    assert planes["status"].tolist() == ["unreadable"] * 2
    assert planes["reason"].str.contains("names the file for 2 planes").all()


def test_actions_tell_a_channel_apart_that_a_field_has_twice(tmp_path):
    records = []
    for column in (1, 2):
        for action in (1, 3):
            write(tmp_path, f"A{column}A{action}.tif")
            records.append(record(f"A{column}A{action}.tif", Column=column, TimelineIndex=1, ActionIndex=action))
        write(tmp_path, f"A{column}C2.tif")
        records.append(record(f"A{column}C2.tif", Column=column, Ch=2, ActionIndex=4))
    write_mlf(tmp_path, records)
    assert indexed(tmp_path)[0]["channel"].value_counts().to_dict() == {"C01L01A01": 2, "C01L01A03": 2, "C02": 2}


def test_one_plane_twice_is_refused(tmp_path):
    write_mlf(tmp_path, [record("a.tif"), record("b.tif")])
    with pytest.raises(SourceError, match=r"a.tif and b.tif .* are both Well A01"):
        indexed(tmp_path)


@pytest.mark.parametrize(
    "name", ["../a.tif", "x/../../a.tif", "/etc/passwd", "C:\\data\\a.tif", "\\\\server\\a.tif", "file:///a.tif"]
)
def test_a_record_that_leads_outside_is_refused(tmp_path, name):
    write_mlf(tmp_path / "m", [record(name)])
    with pytest.raises(SourceError, match=r"MeasurementData.mlf .* outside its own folder"):
        indexed(tmp_path)


def test_links_do_not_lead_out(tmp_path):
    secret = write(tmp_path / "outside", "a.tif")
    write_mlf(tmp_path / "source", [record("a.tif"), record("b.tif", Column=2)])
    write(tmp_path / "source", "b.tif")
    (tmp_path / "source" / "a.tif").symlink_to(secret)
    planes, left_out = indexed(tmp_path / "source")
    assert planes["status"].tolist() == ["unreadable", "ok"]
    assert left_out.empty


# --- the folder and its versions


def test_several_measurements_are_refused_or_picked(tmp_path):
    for name in ("m 1", "m é"):
        write(tmp_path, f"{name}/a.tif")
        write_mlf(tmp_path / name, [record("a.tif")])
    with pytest.raises(SourceError, match=r"holds 2 .mlf files: 'm 1', 'm é'; ingest.cellvoyager.measurement is ''"):
        indexed(tmp_path)
    planes, left_out = indexed(tmp_path, measurement="m é")
    assert planes["path"].tolist() == ["m é/a.tif"]
    assert left_out.to_numpy().tolist() == [["m 1/a.tif", "of m 1/MeasurementData.mlf, not picked"]]


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds no MeasurementData.mlf among its 0 files"):
        indexed(tmp_path)
    with pytest.raises(SourceError, match="is no folder"):
        indexed(tmp_path / "gone")
    write_mlf(tmp_path, [])
    with pytest.raises(SourceError, match="has no record of an image"):
        indexed(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"version": "2.0"}, "is a MeasurementData of version 2.0; expected a MeasurementData of version 1.0"),
     ({"root": "Other"}, "is a Other of version 1.0")],
)  # fmt: skip
def test_another_version_is_refused(tmp_path, options, message):
    write_mlf(tmp_path, [record("a.tif")], **options)
    with pytest.raises(SourceError, match=message):
        indexed(tmp_path)


def test_a_minor_version_is_warned_of(tmp_path, caplog):
    write(tmp_path, "a.tif")
    write_mlf(tmp_path, [record("a.tif")], version="1.2")
    with caplog.at_level(logging.WARNING):
        indexed(tmp_path)
    assert re.search(r"MeasurementData.mlf is of version 1.2; only 1.0 is known", caplog.text)


def test_another_shape_is_refused(tmp_path):
    small(tmp_path)
    with pytest.raises(SourceError, match="8 x 12 = 96 wells; the plate sheet says 384"):
        indexed(tmp_path, shape=384)
    shutil.rmtree(tmp_path)
    write_mlf(tmp_path, [record("a.tif", Row=16)])
    with pytest.raises(SourceError, match=r"record 1: .* is not on a plate of 96 wells.*correct `shape`"):
        indexed(tmp_path)


@pytest.mark.parametrize("name", ["MeasurementData.mlf", "MeasurementDetail.mrf", "s.mes"])
def test_entities_are_refused(tmp_path, name):
    small(tmp_path)
    (tmp_path / name).write_text('<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>')
    with pytest.raises(SourceError, match=f"{name} has a document type"):
        indexed(tmp_path)


# --- nothing is lost, nothing is unhandled

NAMES = st.sampled_from(["a.tif", "b.tif", "sub/c é.tif", "gone.tif", "broken.tif", "x.png", "", "A.TIF"])
NUMBERS = st.one_of(st.integers(1, 3).map(str), st.sampled_from(["0", "-1", "99", "x", "", "²", None]))
RECORDS = st.builds(
    lambda name, row, column, field, z, ch, kind: record(
        name, Row=row, Column=column, FieldIndex=field, ZIndex=z, Ch=ch, Type=kind
    ),
    NAMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["IMG", "IMG", "IMG", "ERR", None]),
)  # fmt: skip
PLAIN = st.builds(
    lambda name, column, field, ch: record(name, Column=column, FieldIndex=field, Ch=ch),
    NAMES, st.integers(1, 12), st.integers(1, 3), st.integers(1, 2),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(PLAIN, PLAIN, RECORDS), max_size=8))
def test_every_record_and_file_is_accounted_for(records):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for name in ("a.tif", "b.tif", "sub/c é.tif", "x.png"):
            write(source, name)
        (source / "broken.tif").write_bytes(b"II*\0")
        write_mlf(source, records)
        try:
            planes, left_out = indexed(source)
        except SourceError as error:
            assert str(error)
            return
        named = planes[planes["path"] != ""]
        of_records = left_out["path"].str.startswith("MeasurementData.mlf, record")
        assert len(named) + of_records.sum() == len(records)
        files = {"a.tif", "b.tif", "sub/c é.tif", "x.png", "broken.tif"}
        assert set(named.loc[named["path"].isin(files), "path"]) | set(left_out.loc[~of_records, "path"]) == files
        assert not set(named["path"]) & set(left_out["path"])
        assert (planes.loc[planes["status"] != "ok", "reason"] != "").all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["MeasurementData.mlf", "MeasurementDetail.mrf", "s.mes"]), st.data())
def test_damaged_files_are_read_or_refused_by_name(name, draw):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        small(source)
        text = (source / name).read_bytes()
        start = draw.draw(st.integers(0, len(text)))
        stop = draw.draw(st.integers(start, min(len(text), start + 40)))
        (source / name).write_bytes(text[:start] + draw.draw(st.binary(max_size=5)) + text[stop:])
        try:
            planes, _ = indexed(source)
        except SourceError as error:
            assert str(error)
        else:
            assert len(planes)
