"""The layouts `ome-zarr` and `ome-tiff`: plates written here, our own among them; no image of them is lost."""

import contextlib
import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import ingest, store
from plateline.errors import ImageError, SourceError
from plateline.layouts import ome_tiff, ome_zarr
from plateline.layouts.planes import COLUMNS, EXTRA

VERSIONS = ["0.4", "0.5"]
SPACE = {"x": "micrometer", "y": "micrometer", "z": "micrometer"}


def zarr_index(source, measurement="", acquisition="", shape=96):
    options = {"measurement": measurement, "acquisition": acquisition, "versions": VERSIONS}
    return ome_zarr.index(source, plate="P1", shape=shape, **options)


def write_group(folder, ome, version):
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(ome))
    else:
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": version, **ome}}}
        (folder / "zarr.json").write_text(json.dumps(group))


def change(folder, version, edit):
    """Rewrite the OME metadata of a group."""
    file = folder / (".zattrs" if version == "0.4" else "zarr.json")
    document = json.loads(file.read_text())
    edit(document if version == "0.4" else document["attributes"]["ome"])
    file.write_text(json.dumps(document))


def write_image(folder, pixels, axes, version, *, labels=("DNA", "ER"), dtype=None, chunks=None):
    scale = {"y": 0.5, "x": 0.5, "z": 2.0}
    described = [{"name": axis, "type": "space"} | ({"unit": SPACE[axis]} if axis in SPACE else {}) for axis in axes]
    steps = [{"type": "scale", "scale": [scale.get(axis, 1.0) for axis in axes]}]
    ome = {
        "multiscales": [{"axes": described, "datasets": [{"path": "0", "coordinateTransformations": steps}]}],
        "omero": {"channels": [{"label": name, "window": {"min": 0, "max": 4095}} for name in labels]},
    }
    write_group(folder, ome, version)
    zarr.create_array(
        folder / "0",
        data=np.ascontiguousarray(pixels if dtype is None else pixels.astype(dtype)),
        chunks=chunks or tuple(1 if axis in "tcz" else 3 for axis in axes),
        zarr_format=2 if version == "0.4" else 3,
        **({"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == "0.4" else {}),
    )


def pixels_of(well, site, sizes, axes):
    """Different positive numbers in the axes' order."""
    shape = [sizes[axis] for axis in axes]
    start = 1 + sum(map(ord, well)) + 100 * site
    return (start + np.arange(math.prod(shape)) % 3000).reshape(shape).astype(np.uint16)


def write_plate(home, version, *, axes="tczyx", wells=("A/1", "B/12"), sites=(0, 1), acquisitions=(0,), sizes=None):
    """A plate, and the pixels of each image by its path."""
    sizes = {"t": 2, "c": 2, "z": 3, "y": 4, "x": 5} | (sizes or {})
    images = [
        {"path": str(len(sites) * n + site), **({"acquisition": a} if a is not None else {})}
        for n, a in enumerate(acquisitions)
        for site in sites
    ]
    described = {
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "12"}],
        "wells": [{"path": path, "rowIndex": "AB".index(path[0]), "columnIndex": 0} for path in wells],
        "acquisitions": [{"id": a, "name": f"run {a}"} for a in acquisitions if a is not None],
        **({"version": "0.4"} if version == "0.4" else {}),
    }
    write_group(home, {"plate": described}, version)
    written = {}
    for path in wells:
        write_group(home / path, {"well": {"images": images}}, version)
        for image in images:
            written[f"{path}/{image['path']}"] = pixels_of(path, int(image["path"]), sizes, axes)
            write_image(home / path / image["path"], written[f"{path}/{image['path']}"], axes, version)
    return written


def naive_plane(pixels, axes, t, c, z):
    """(Y, X) of one plane, by moving axes to tczyx."""
    order = [axes.index(axis) for axis in "tczyx" if axis in axes]
    full = pixels.transpose(order).reshape([pixels.shape[axes.index(a)] if a in axes else 1 for a in "tczyx"])
    return full[t, c, z]


# --- ome-zarr: what is read


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["tczyx", "yx", "cyx", "zyx", "tzcyx", "xyczt", "cxzy"])
def test_every_plane_of_a_plate_has_its_pixels(tmp_path, version, axes):
    written = write_plate(tmp_path / "p.zarr", version, axes=axes)
    planes, left_out = zarr_index(tmp_path)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert left_out.empty
    assert len(planes) == 4 * math.prod({"t": 2, "c": 2, "z": 3}[axis] for axis in axes if axis in "tcz")
    assert set(planes["status"]) == {"ok"}
    assert set(planes["Metadata_Well"]) == {"A01", "B12"}
    assert set(planes["Metadata_Site"]) == {0, 1}
    assert set(planes["pixel_size_um"]) == {0.5}
    assert set(planes["full_scale"]) == {4095.0}
    assert (planes[["height", "width"]] == (4, 5)).all(axis=None)
    assert set(planes["channel"]) == ({"DNA", "ER"} if "c" in axes else {"DNA"})
    for row in planes.itertuples():
        pixels = written[row.path.removeprefix("p.zarr/").removesuffix("/0")]
        expected = naive_plane(pixels, axes, row.Metadata_Timepoint, ["DNA", "ER"].index(row.channel), row.z)
        np.testing.assert_array_equal(ome_zarr.read_plane(tmp_path, row.path, row.page), expected)


def own_plate(path, shape=96, times=2, full_scale=4095.0):
    """A plate as ingest writes it, one field of it excluded; the pixels by field."""
    omero = {"name": "P1", "shape": shape, "channels": ["DNA", "ER"], "pixel_size_um": 0.65, "full_scale": full_scale}
    omero["told"] = [{"emission_nm": 461.0, "exposure_ms": 12.5}, {"excitation_nm": 488.0, "channel_name": "FITC"}]
    omero["positions"] = {("A01", 2): (10.5, -3.0, np.nan)}
    wells = {"A01": [1, 2], "H12": [1, 2]}
    sizes = ingest.level_sizes(600, 700)
    store.lay_out(path, wells=wells, times=times, sizes=sizes, dtype="uint16", omero=omero)
    rng = np.random.default_rng(0)
    fields = [(well, site, t) for well, sites in wells.items() for site in sites for t in range(times)]
    written = {field: rng.integers(0, 4096, (2, 600, 700), dtype=np.uint16) for field in fields}
    written["H12", 1, 0][1] = 0  # a channel without light is an image all the same
    for (well, site, t), pixels in written.items():
        if (well, site, t) != ("H12", 2, 1):
            store.write_field(path, well, site, t, ingest.pyramid(pixels), (f"{well}{site}{t}", "sum"))
    store.reset_field(path, "H12", 2, 1)
    return written


def test_our_own_plate_comes_back_with_equal_pixels(tmp_path):
    written = own_plate(tmp_path / "P1.zarr")
    planes, left_out = zarr_index(tmp_path / "P1.zarr")
    assert left_out.empty
    assert len(planes) == 16
    index, _ = ingest.index_table(planes, left_out, plate="P1", channels={})
    shared = ingest.geometry(index)
    assert shared == ingest.Geometry(["DNA", "ER"], 600, 700, "uint16", 2, 0.65, 4095.0)
    dna, er = planes[planes["channel"] == "DNA"], planes[planes["channel"] == "ER"]
    assert (dna["emission_nm"] == 461).all()
    assert (dna["exposure_ms"] == 12.5).all()
    assert (er["excitation_nm"] == 488).all()
    assert er[["emission_nm", "exposure_ms"]].isna().all(axis=None)
    moved = (planes["Metadata_Well"] == "A01") & (planes["Metadata_Site"] == 2)
    assert (planes.loc[moved, ["position_x_um", "position_y_um"]] == (10.5, -3)).all(axis=None)
    assert planes.loc[~moved, "position_x_um"].isna().all()
    bad = planes[planes["status"] != "ok"]
    assert bad[["Metadata_Well", "Metadata_Site", "Metadata_Timepoint"]].drop_duplicates().values.tolist() == [
        ["H12", 2, 1]
    ]
    assert bad["reason"].str.contains("Plateline excluded time point 1").all()
    for field, rows in index[index["status"] == "ok"].groupby(["Metadata_Well", "Metadata_Site", "Metadata_Timepoint"]):
        read = lambda path, page: ome_zarr.read_plane(tmp_path / "P1.zarr", path, page)  # noqa: E731
        np.testing.assert_array_equal(ingest.build_field(rows, shared, read, projection="max"), written[field])


def test_other_byte_orders_and_floats_are_read(tmp_path):
    write_plate(tmp_path, "0.4", wells=("A/1",), sites=(0,), axes="yx")
    for dtype in (">u2", "<f4", "uint8"):
        shutil.rmtree(tmp_path / "A/1/0")
        write_image(tmp_path / "A/1/0", np.arange(1, 21).reshape(4, 5), "yx", "0.4", dtype=dtype)
        planes, _ = zarr_index(tmp_path)
        pixels = ome_zarr.read_plane(tmp_path, planes["path"][0], 0)
        assert str(pixels.dtype) == planes["dtype"][0] == np.dtype(dtype).newbyteorder("=").name
        np.testing.assert_array_equal(pixels, np.arange(1, 21).reshape(4, 5))


# --- ome-zarr: which plate, which acquisition


def test_several_plates_are_refused_unless_one_is_picked(tmp_path):
    for name in ("a.zarr", "sub dir/ü.zarr"):
        write_plate(tmp_path / name, "0.5", axes="yx")
    with pytest.raises(SourceError, match=r"2 OME-Zarr plates: 'a\.zarr', 'sub dir/ü\.zarr'; ingest\.ome-zarr\.meas"):
        zarr_index(tmp_path)
    planes, left_out = zarr_index(tmp_path, "ü.zarr")
    assert planes["path"].str.startswith("sub dir/ü.zarr/").all()
    assert left_out.to_numpy().tolist() == [["a.zarr", "another plate, not picked"]]


def test_several_acquisitions_are_refused_unless_one_is_picked(tmp_path):
    write_plate(tmp_path, "0.4", axes="cyx", acquisitions=(0, 3))
    with pytest.raises(SourceError, match=r"2 acquisitions: '0', '3'; ingest\.ome-zarr\.acquisition is ''"):
        zarr_index(tmp_path)
    for wanted in ("3", "run 3"):
        planes, left_out = zarr_index(tmp_path, acquisition=wanted)
        assert set(planes["Metadata_Site"]) == {2, 3}
        assert left_out["path"].tolist() == ["A/1/0", "A/1/1", "B/12/0", "B/12/1"]
    with pytest.raises(SourceError, match="'7' and must name one of them"):
        zarr_index(tmp_path, acquisition="7")


def test_what_the_metadata_do_not_name_is_left_out(tmp_path):
    write_plate(tmp_path / "p", "0.5", axes="yx")
    shutil.copytree(tmp_path / "p/A/1", tmp_path / "p/A/2")
    shutil.copytree(tmp_path / "p/A/1/0", tmp_path / "p/A/1/9")
    write_image(tmp_path / "alone", np.ones((4, 5), np.uint8), "yx", "0.5")
    zarr.create_array(tmp_path / "array", shape=(2, 2), dtype="uint8", zarr_format=2)
    (tmp_path / "x.tif").write_bytes(b"")
    planes, left_out = zarr_index(tmp_path)
    assert len(planes) == 4
    assert dict(left_out.to_numpy().tolist()) == {
        "alone": "is an image in no OME-Zarr plate",
        "array": "is an array in no OME-Zarr plate",
        "p/A/1/9": "the metadata above do not name it",
        "p/A/2": "the metadata above do not name it",
        "x.tif": "is in no OME-Zarr plate",
    }


def test_names_of_images_that_are_no_numbers_become_places(tmp_path):
    write_plate(tmp_path, "0.5", axes="yx", wells=("A/1",))
    (tmp_path / "A/1/1").rename(tmp_path / "A/1/f b")
    change(tmp_path / "A/1", "0.5", lambda ome: ome["well"]["images"][1].update(path="f b"))
    assert zarr_index(tmp_path)[0]["Metadata_Site"].tolist() == [1, 2]


# --- ome-zarr: bad input


def test_no_folder_and_no_plate_are_refused(tmp_path):
    with pytest.raises(SourceError, match=r"is no folder; correct `source`"):
        zarr_index(tmp_path / "gone")
    with pytest.raises(SourceError, match="holds no OME-Zarr plate"):
        zarr_index(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda ome: ome["plate"].update(version="0.6"), r"is OME-Zarr 0\.6; expected 0\.4, 0\.5"),
        (lambda ome: ome["plate"].update(wells=[]), "no list of objects under 'wells'"),
        (lambda ome: ome.update(plate=7), "no list of objects under 'wells'"),
        (lambda ome: ome["plate"]["wells"][0].update(path="Z/99"), "not on a plate of 96|is not a well"),
        (lambda ome: ome["plate"]["wells"][0].update(path="../A/1"), "outside its own folder"),
        (lambda ome: ome["plate"]["wells"][0].update(path="B/12"), "names well B12 twice"),
    ],
)
def test_a_plate_that_cannot_be_meant_is_refused(tmp_path, edit, message):
    write_plate(tmp_path, "0.4", axes="yx")
    change(tmp_path, "0.4", edit)
    with pytest.raises(SourceError, match=message):
        zarr_index(tmp_path)


@pytest.mark.parametrize("path", ["../../../0", "/etc", "s3://bucket/0"])
def test_images_and_arrays_outside_their_folder_are_refused(tmp_path, path):
    write_plate(tmp_path, "0.5", axes="yx")
    change(tmp_path / "A/1/0", "0.5", lambda ome: ome["multiscales"][0]["datasets"][0].update(path=path))
    with pytest.raises(SourceError, match="outside its own folder"):
        zarr_index(tmp_path)
    change(tmp_path / "A/1", "0.5", lambda ome: ome["well"]["images"][0].update(path=path))
    with pytest.raises(SourceError, match="outside its own folder"):
        zarr_index(tmp_path)


def test_links_out_of_the_source_are_not_followed(tmp_path):
    write_plate(tmp_path / "p", "0.5", axes="yx")
    for part in ("A/1/0/0", "A/1/1", "B/12"):
        (tmp_path / "p" / part).rename(tmp_path / part.replace("/", "-"))
        (tmp_path / "p" / part).symlink_to(tmp_path / part.replace("/", "-"))
    (tmp_path / "link").symlink_to(tmp_path / "p")
    with pytest.raises(SourceError, match=r"none of the 2 fields and 2 wells .* outside the source folder"):
        zarr_index(tmp_path / "p")
    with pytest.raises(ImageError, match="leads outside the source folder"):
        ome_zarr.read_plane(tmp_path / "p", "A/1/0/0", 0)
    assert ["link", "a link to a folder is not followed"] in zarr_index(tmp_path)[1].to_numpy().tolist()


def lose_array(home):
    shutil.rmtree(home / "A/1/0/0")


def lose_axes(home):
    change(home / "A/1/0", "0.5", lambda ome: ome["multiscales"][0].update(axes=[{"name": "y"}, {"name": "q"}]))


def replace_array(home, shape=(4, 5), dtype="uint16"):
    zarr.create_array(home / "A/1/0/0", shape=shape, dtype=dtype, overwrite=True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda home: shutil.rmtree(home / "A/1/0"), "the folder is missing"),
        (lambda home: (home / "A/1/0/zarr.json").unlink(), "no metadata"),
        (lambda home: (home / "A/1/0/zarr.json").write_text("{"), "zarr.json cannot be read"),
        (lambda home: (home / "A/1/0/zarr.json").write_text('{"attributes": {"ome": 1}}'), "`ome` is int"),
        (lose_array, "array 0 is missing"),
        (lambda home: (home / "A/1/0/0/zarr.json").write_text("[]"), "array cannot be opened"),
        (lose_axes, "its axes are y, q"),
        (lambda home: replace_array(home, (2, 4, 5)), r"has shape \(2, 4, 5\)"),
        (lambda home: replace_array(home, (0, 5)), "none of them empty"),
        (lambda home: replace_array(home, dtype="complex64"), "dtype is complex64"),
        (lambda home: change(home / "A/1/0", "0.5", lambda ome: ome.update(multiscales={})), "under 'multiscales'"),
        (
            lambda home: change(home / "A/1/0", "0.5", lambda o: o["multiscales"][0]["datasets"][0].update(path="")),
            "finest level has no path",
        ),
    ],
)
def test_a_field_that_cannot_be_read_is_named(tmp_path, damage, reason):
    write_plate(tmp_path, "0.5", axes="yx")
    damage(tmp_path)
    planes, _ = zarr_index(tmp_path)
    bad = planes[planes["status"] == "unreadable"]
    assert bad[["Metadata_Well", "Metadata_Site", "channel"]].to_numpy().tolist() == [["A01", 0, "DNA"]]
    assert bad["path"].tolist() == ["A/1/0"]
    assert bad["reason"].str.contains(reason).all(), bad["reason"].tolist()
    assert len(planes) == 4


def test_a_well_that_cannot_be_read_has_the_sites_of_the_others(tmp_path):
    write_plate(tmp_path, "0.4", axes="tcyx", wells=("A/1", "B/12", "A/12"))
    shutil.rmtree(tmp_path / "A/12")
    change(tmp_path / "B/12", "0.4", lambda ome: ome["well"]["images"][0].pop("path"))
    planes, _ = zarr_index(tmp_path)
    bad = planes[planes["status"] == "unreadable"]
    assert bad.groupby("Metadata_Well").size().to_dict() == {"A12": 8, "B12": 8}
    assert bad["reason"].str.contains("the well cannot be read: (?:the folder is missing|.*without a path)").all()


def test_a_field_that_lacks_a_channel_time_or_z_is_named(tmp_path):
    write_plate(tmp_path, "0.5", axes="tczyx")
    shutil.rmtree(tmp_path / "A/1/0")
    write_image(tmp_path / "A/1/0", np.ones((1, 1, 2, 4, 5), np.uint16), "tczyx", "0.5")
    planes, _ = zarr_index(tmp_path)
    assert len(planes) == 4 * 12
    assert (planes["status"] == "unreadable").sum() == 10


def test_damaged_and_absent_chunks_are_no_pixels(tmp_path):
    write_plate(tmp_path, "0.4", axes="cyx")
    shutil.rmtree(tmp_path / "A/1/0/0/1")
    np.testing.assert_array_equal(ome_zarr.read_plane(tmp_path, "A/1/0/0", 0).shape, (4, 5))
    with pytest.raises(ImageError, match="none of its chunks is on disk"):
        ome_zarr.read_plane(tmp_path, "A/1/0/0", 1)
    next(file for file in (tmp_path / "A/1/1/0/0").rglob("*") if file.is_file()).write_bytes(b"x")
    with pytest.raises(ImageError, match="cannot read plane 0 of A/1/1/0"):
        ome_zarr.read_plane(tmp_path, "A/1/1/0", 0)
    for path, page in (("A/1/1/0", 99), ("A/1/1", 0), ("gone", 0), ("A\0", 0), ("../x", 0)):
        with pytest.raises(ImageError):
            ome_zarr.read_plane(tmp_path, path, page)


@pytest.mark.parametrize("unit", [None, "pixel", "nanometer"])
def test_the_pixel_size_needs_a_unit_of_length(tmp_path, unit):
    write_plate(tmp_path, "0.5", axes="yx", wells=("A/1",), sites=(0,))

    def edit(ome):
        for axis in ome["multiscales"][0]["axes"]:
            axis["unit"] = unit
        ome["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [2, 2]}]

    change(tmp_path / "A/1/0", "0.5", edit)
    size = zarr_index(tmp_path)[0]["pixel_size_um"][0]
    assert size == pytest.approx(1e-3) if unit == "nanometer" else math.isnan(size)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["0", "A/1", ".."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def mutate(document, draw):
    """Replace one value somewhere in a JSON document."""
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    if not keys:
        return
    key = draw(st.sampled_from(keys))
    if isinstance(document[key], dict | list) and draw(st.integers(0, 5)):
        mutate(document[key], draw)
    else:
        document[key] = draw(JSON)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_metadata_break_the_index_and_no_field_is_lost(data):
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        version = data.draw(st.sampled_from(VERSIONS))
        write_plate(home, version, axes="cyx", wells=("A/1", "B/12"), sizes={"c": 1})
        group = data.draw(st.sampled_from(["", "A/1", "A/1/0", "A/1/0/0"]))
        array = ".zarray" if group.endswith("0/0") else ".zattrs"
        file = home / group / (array if version == "0.4" else "zarr.json")
        document = json.loads(file.read_text())
        mutate(document, data.draw)
        file.write_text(json.dumps(document))
        try:
            planes, left_out = zarr_index(home)
        except SourceError:
            return
        for row in planes[planes["status"] == "ok"].itertuples():
            with contextlib.suppress(ImageError):
                assert ome_zarr.read_plane(home, row.path, row.page).shape == (row.height, row.width)
        assert len(planes) + len(left_out) >= 4


# --- ome-tiff

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
PIXEL = 'PhysicalSizeX="650" PhysicalSizeXUnit="nm" PhysicalSizeY="0.65" SignificantBits="12"'


def tiff_index(source, measurement="", plate_id="", acquisition=""):
    options = {"measurement": measurement, "plate_id": plate_id, "acquisition": acquisition}
    return ome_tiff.index(source, plate="P1", shape=96, **options)


def image_xml(number, blocks, *, order="XYZCT", sizes=(3, 2, 2), size=(4, 5), facts=PIXEL):
    """An image of Z, C, T planes with its TiffData as text."""
    z, c, t = sizes
    return (
        f'<Image ID="Image:{number}" Name="i"><AcquisitionDate>2021-01-01T10:00:00</AcquisitionDate>'
        f'<Pixels ID="Pixels:{number}" DimensionOrder="{order}" Type="uint16" SizeX="{size[1]}" SizeY="{size[0]}" '
        f'SizeZ="{z}" SizeC="{c}" SizeT="{t}" {facts}>'
        '<Channel ID="Channel:0" Name="DNA" EmissionWavelength="450" ExcitationWavelength="0.405" '
        'ExcitationWavelengthUnit="µm"/><Channel ID="Channel:1" Name="ER"/>'
        f'{blocks}<Plane TheZ="0" TheC="0" TheT="0" ExposureTime="0.1" PositionX="1" PositionXUnit="mm" PositionY="3"/>'
        "</Pixels></Image>"
    )


def ome_xml(images, wells, runs="", prolog=""):
    """Wells: (row, column, image numbers)."""
    samples = iter(range(1000))
    text = "".join(
        f'<Well ID="Well:{i}" Row="{row}" Column="{column}">'
        + "".join(
            f'<WellSample ID="WellSample:{next(samples)}" Index="0" PositionY="2" PositionYUnit="µm">'
            f'<ImageRef ID="Image:{number}"/></WellSample>'
            for number in numbers
        )
        + "</Well>"
        for i, (row, column, numbers) in enumerate(wells)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{prolog}<OME xmlns="{NAMESPACE}" UUID="urn:uuid:x"><Plate ID="Plate:0" '
        f'Name="p one">{text}{runs}</Plate>{"".join(images)}</OME>'
    )


def block(name="", **facts):
    uuid = f'<UUID FileName="{name}">urn:uuid:y</UUID>' if name else ""
    return f"<TiffData {' '.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in facts.items())}>{uuid}</TiffData>"


def write_pages(file, pages, text=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"description": text.encode()} if text else {}
    tifffile.imwrite(file, pages, photometric="minisblack", metadata=None, **options)


def stack(start, n=12):
    return (start + np.arange(n * 20)).reshape(n, 4, 5).astype(np.uint16)


def write_set(home, order="XYZCT"):
    """Two wells, three samples; the files' planes in `order`."""
    pages = {f"s {n}.ome.tiff": stack(100 * n) for n in range(3)}
    for name, pixels in pages.items():
        write_pages(home / "pix" / name, pixels)
    images = [image_xml(n, block(f"pix/s {n}.ome.tiff", IFD=0, PlaneCount=12), order=order) for n in range(3)]
    (home / "p.companion.ome").write_text(ome_xml(images, [(0, 0, [0, 1]), (7, 11, [2])]), encoding="utf-8")
    return pages


@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"])
def test_a_set_with_a_companion_has_every_plane(tmp_path, order):
    pages = write_set(tmp_path, order)
    planes, left_out = tiff_index(tmp_path)
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert len(planes) == 36
    assert left_out.empty
    assert set(planes["status"]) == {"ok"}
    assert planes.groupby(["Metadata_Well", "Metadata_Site"]).size().to_dict() == {
        ("A01", 1): 12,
        ("A01", 2): 12,
        ("H12", 1): 12,
    }
    sizes = {"Z": 3, "C": 2, "T": 2}
    for row in planes.itertuples():
        at = {"Z": row.z, "C": ["DNA", "ER"].index(row.channel), "T": row.Metadata_Timepoint}
        page = at[order[2]] + sizes[order[2]] * (at[order[3]] + sizes[order[3]] * at[order[4]])
        assert row.page == page
        np.testing.assert_array_equal(ome_tiff.read_plane(tmp_path, row.path, row.page), pages[row.path[4:]][page])
    first = planes.iloc[0]
    assert (first["pixel_size_um"], first["full_scale"], first["exposure_ms"]) == (0.65, 4095.0, 100.0)
    assert (first["excitation_nm"], first["emission_nm"]) == (pytest.approx(405.0), 450.0)
    assert (first["position_x_um"], first["position_y_um"]) == (1000.0, 2.0)
    assert first["acquired"] == "2021-01-01T10:00:00"


def test_a_set_with_its_metadata_in_every_file(tmp_path):
    names = [f"c{c}.ome.tif" for c in range(2)]
    blocks = "".join(block(name, IFD=0, FirstC=c, PlaneCount=3) for c, name in enumerate(names))
    text = ome_xml([image_xml(0, blocks, sizes=(3, 2, 1))], [(1, 2, [0])])
    for c, name in enumerate(names):
        write_pages(tmp_path / name, stack(50 * c, 3), text.replace("urn:uuid:x", f"urn:uuid:{c}").replace("µ", "u"))
    planes, left_out = tiff_index(tmp_path)
    assert left_out.empty
    assert planes[["Metadata_Well", "path", "z", "page"]].to_numpy().tolist() == [
        ["B03", f"c{c}.ome.tif", z, z] for z in range(3) for c in range(2)
    ]


def test_one_file_for_each_field(tmp_path):
    for n in range(2):
        text = ome_xml([image_xml(0, "<TiffData/>", sizes=(1, 2, 1))], [(0, n, [0])]).replace("µ", "u")
        write_pages(tmp_path / f"{n}.ome.tif", stack(n, 2), text)
    planes, _ = tiff_index(tmp_path)
    assert planes[["Metadata_Well", "path", "channel"]].to_numpy().tolist() == [
        [f"A0{n + 1}", f"{n}.ome.tif", channel] for n in range(2) for channel in ("DNA", "ER")
    ]


def test_several_acquisitions_companions_and_plates_are_refused_unless_picked(tmp_path):
    write_set(tmp_path)
    file = tmp_path / "p.companion.ome"
    runs = "".join(
        f'<PlateAcquisition ID="PlateAcquisition:{i}">{refs}</PlateAcquisition>'
        for i, refs in enumerate(['<WellSampleRef ID="WellSample:0"/>', '<WellSampleRef ID="WellSample:1"/>'])
    )
    file.write_text(file.read_text().replace("</Plate>", runs + "</Plate>"))
    with pytest.raises(SourceError, match=r"2 acquisitions: 'PlateAcquisition:0', 'PlateAcquisition:1'; ingest\.ome-t"):
        tiff_index(tmp_path)
    planes, left_out = tiff_index(tmp_path, acquisition="PlateAcquisition:1", plate_id="p one")
    assert set(planes["path"]) == {"pix/s 1.ome.tiff"}
    assert len(left_out) == 4, "two samples and two files"
    shutil.copy(file, tmp_path / "q.companion.ome")
    with pytest.raises(SourceError, match="2 companion files"):
        tiff_index(tmp_path)
    file.write_text(file.read_text().replace("<Plate ID", '<Plate ID="Plate:7"/><Plate ID'))
    with pytest.raises(SourceError, match="2 plates: 'Plate:0', 'Plate:7'"):
        tiff_index(tmp_path, measurement="p.companion.ome")


def test_sets_without_plate_entity_bombs_and_paths_outside_are_refused(tmp_path):
    with pytest.raises(SourceError, match="is no folder"):
        tiff_index(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"no OME-XML of the 0 in .* has a Plate"):
        tiff_index(tmp_path)
    with pytest.raises(SourceError, match=r"holds no \.companion\.ome file"):
        tiff_index(tmp_path, measurement="x")
    file = tmp_path / "p.companion.ome"
    file.write_text(ome_xml([], [], prolog='<!DOCTYPE x [<!ENTITY a "aa">]>'))
    with pytest.raises(SourceError, match="document type"):
        tiff_index(tmp_path)
    file.write_text(ome_xml([image_xml(0, block("../../x.tif", IFD=0))], [(0, 0, [0])]))
    with pytest.raises(SourceError, match="outside its own folder"):
        tiff_index(tmp_path)
    file.write_text(ome_xml([image_xml(0, "")], [(40, 0, [0])]))
    with pytest.raises(SourceError, match="correct `shape`"):
        tiff_index(tmp_path)
    file.unlink()
    write_pages(tmp_path / "a.ome.tif", stack(0, 1), ome_xml([], [], prolog='<!DOCTYPE x [<!ENTITY a "aa">]>'))
    with pytest.raises(SourceError, match="document type"):
        tiff_index(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "reason", "count"),
    [
        ('s 0.ome.tiff">', 'no.tiff">', "pix/no.tiff: the file is not there", 12),
        ('PlaneCount="12"', 'PlaneCount="11"', "no TiffData names the plane", 1),
        ('IFD="0"', 'IFD="2"', "is declared, the file holds 12", 2),
        ('SizeX="5"', 'SizeX="6"', r"has shape \(4, 5\); the OME-XML declares", 12),
        ('SizeZ="3"', 'SizeZ="0"', "its sizes are", 12),
        ('SizeZ="3"', 'SizeZ="999999"', "its sizes are", 12),
        ('Order="XYZCT"', 'Order="XYZ"', "its DimensionOrder is", 12),
        ('IFD="0"', 'FirstZ="7"', "a TiffData begins at", 12),
        ('<ImageRef ID="Image:0"/>', "", "has no image with Pixels", 12),
        ("</TiffData>", '</TiffData><TiffData IFD="0" FirstZ="1"/>', "is both in", 12),
    ],
)
def test_planes_that_are_declared_and_not_there_are_named(tmp_path, old, new, reason, count):
    write_set(tmp_path)
    file = tmp_path / "p.companion.ome"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    planes, _ = tiff_index(tmp_path)
    bad = planes[planes["status"] == "unreadable"]
    assert set(bad["Metadata_Well"]) | set(bad["Metadata_Site"]) == {"A01", 1}
    assert bad["reason"].str.contains(reason).all(), bad["reason"].tolist()
    assert len(bad) == count


def test_broken_files_and_files_that_nobody_names(tmp_path):
    write_set(tmp_path)
    (tmp_path / "pix/s 2.ome.tiff").write_bytes(b"")
    (tmp_path / "more.tif").write_bytes(b"")
    planes, left_out = tiff_index(tmp_path)
    assert (planes["status"] == "unreadable").sum() == 12
    assert left_out.to_numpy().tolist() == [["more.tif", "no image of the plate names it"]]
    for name in ("s 0", "s 1"):
        (tmp_path / f"pix/{name}.ome.tiff").unlink()
    planes, _ = tiff_index(tmp_path)
    assert set(planes["status"]) == {"unreadable"}


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_ome_xml_breaks_the_index_and_no_plane_is_lost(data):
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_set(home)
        file = home / "p.companion.ome"
        text = file.read_text(encoding="utf-8")
        start = data.draw(st.integers(0, len(text)))
        values = st.text(max_size=4) | st.sampled_from(['"-1"', '"9"', "<a/>", "0", "Plate", '"', "</Well><Well>"])
        cut = start + data.draw(st.integers(0, 12))
        file.write_text(text[:start] + data.draw(values) + text[cut:], encoding="utf-8", errors="replace")
        try:
            planes, left_out = tiff_index(home)
        except SourceError:
            return
        named_files = {path for path in [*planes["path"], *left_out["path"]] if path.endswith(".tiff")}
        assert {f"pix/s {n}.ome.tiff" for n in range(3)} <= named_files
