"""Files of many images: `lif` on files drawn by construction, `nd2` and `czi` on stand-ins for their libraries."""

import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plateline import ingest, methods
from plateline.errors import ConfigError, ImageError, SourceError
from plateline.layouts import containers, czi, lif, nd2
from plateline.layouts.planes import COLUMNS, EXTRA

REGEX = r"(?:.*[/_\s-])?(?:Well)?(?P<well>[A-P]\d{1,2})(?:[/_\s.#-].*)?"
TREE = r".*/(?P<row>[A-H])/(?P<column>\d+)/.*"
PLACE = ["Metadata_Well", "Metadata_Site", "Metadata_Timepoint", "z", "channel", "page"]
OPTIONS = {"plate": "P1", "shape": 96, "regex": REGEX}


def read_all(layout, source, planes):
    return [layout.read_plane(source, row.path, row.page) for row in planes.itertuples()]


# --- lif: a file is a header of XML in UTF-16 and a block of memory per image


def lif_image(name, pixels, block):
    """XML of an image (T, C, Z, Y, X), contiguous, half a micrometre a pixel."""
    steps = [pixels.itemsize * int(np.prod(pixels.shape[place + 1 :])) for place in range(5)]
    axes = [(1, 4), (2, 3), (3, 2), (4, 0)]  # X, Y, Z, T: number of the axis, place in the array
    dimensions = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{pixels.shape[place]}" Origin="0" '
        f'Length="{(pixels.shape[place] - 1) * 5e-7}" Unit="m" BytesInc="{steps[place]}" BitInc="0"/>'
        for number, place in axes
    )
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="12" NameOfMeasuredQuantity="" Min="0" Max="4095" '
        f'Unit="" LUTName="{lut}" IsLUTInverted="0" BytesInc="{number * steps[1]}" BitInc="0"/>'
        for number, lut in enumerate(("Blue", "Green")[: pixels.shape[1]])
    )
    return (
        f'<Element Name="{name}" UniqueID="{block}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{pixels.nbytes}" MemoryBlockID="{block}"/></Element>'
    )


def write_lif(file, tree):
    """A LIF file of a tree: row -> column -> name -> pixels."""
    blocks, rows = [], ""
    for row, columns in tree.items():
        inner = ""
        for column, images in columns.items():
            found = ""
            for name, pixels in images.items():
                found += lif_image(name, pixels, f"MemBlock_{len(blocks)}")
                blocks.append(pixels.tobytes())
            inner += f'<Element Name="{column}"><Data/><Children>{found}</Children></Element>'
        rows += f'<Element Name="{row}"><Data/><Children>{inner}</Children></Element>'
    root = f'<Element Name="P"><Children>{rows}</Children></Element>'
    xml = f'<LMSDataContainerHeader Version="2">{root}</LMSDataContainerHeader>'
    text = xml.encode("utf-16-le")
    content = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text
    for number, data in enumerate(blocks):
        name = f"MemBlock_{number}"
        content += struct.pack("<IIBQBI", 0x70, 2 * len(name) + 14, 0x2A, len(data), 0x2A, len(name))
        content += name.encode("utf-16-le") + data
    file.write_bytes(content)


@pytest.fixture
def lif_folder(tmp_path):
    pytest.importorskip("liffile")
    rng = np.random.default_rng(0)
    draw = lambda: rng.integers(1, 4096, (2, 2, 3, 4, 5)).astype("<u2")  # noqa: E731
    tree = {"A": {"1": {"R1": draw(), "R2": draw()}}, "B": {"12": {"R1": draw()}}}
    write_lif(tmp_path / "plate.lif", tree)
    return tmp_path, [tree["A"]["1"]["R1"], tree["A"]["1"]["R2"], tree["B"]["12"]["R1"]]


def test_a_lif_file_gives_every_plane_and_its_pixels(lif_folder):
    folder, images = lif_folder
    (folder / "notes.png").write_bytes(b"x")
    (folder / "broken.lif").write_bytes(b"no")
    planes, left_out = lif.index(folder, **(OPTIONS | {"regex": TREE}))
    assert list(planes.columns) == [*COLUMNS, *EXTRA]
    assert len(planes) == 3 * 2 * 2 * 3
    assert planes[["Metadata_Well", "Metadata_Site"]].drop_duplicates().values.tolist() == [
        ["A01", 1],
        ["A01", 2],
        ["B12", 1],
    ]
    assert set(planes["channel"]) == {"Blue", "Green"}
    assert (planes["pixel_size_um"] - 0.5).abs().max() < 1e-9
    assert set(planes["full_scale"]) == {4095.0}
    assert left_out["path"].tolist() == ["broken.lif", "notes.png"]
    assert left_out["reason"].str.contains("cannot be opened: not a Leica image file|no .lif file").all()
    fields = {("A01", 1): images[0], ("A01", 2): images[1], ("B12", 1): images[2]}
    for row, pixels in zip(planes.itertuples(), read_all(lif, folder, planes), strict=True):
        channel = ["Blue", "Green"].index(row.channel)
        expected = fields[row.Metadata_Well, row.Metadata_Site][row.Metadata_Timepoint, channel, row.z]
        np.testing.assert_array_equal(pixels, expected)


def test_a_cut_lif_file_loses_no_field_silently(lif_folder):
    folder, _ = lif_folder
    file = folder / "plate.lif"
    file.write_bytes(file.read_bytes()[:-20])
    planes, left_out = lif.index(folder, **(OPTIONS | {"regex": TREE}))
    assert len(planes) == 36 and left_out.empty
    last = planes.loc[planes["page"].idxmax()]
    with pytest.raises(ImageError, match=r"cannot read plane 35 of plate.lif .*; export the image again"):
        lif.read_plane(folder, last["path"], last["page"])
    with pytest.raises(ImageError, match=r"cannot read plane 99 of plate.lif .*fewer planes, unlike its index"):
        lif.read_plane(folder, "plate.lif", 99)
    with pytest.raises(ImageError, match="leads outside the source folder"):
        lif.read_plane(folder, "../plate.lif", 0)


# --- nd2 and czi: stand-ins with what the layouts use of the libraries


class Opened:
    """A file of a stand-in, open."""

    def __init__(self, **facts):
        self.__dict__.update(facts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def nd2_file(pixels, names, *, rgb=False, loop="TPZ"):
    """What `nd2.ND2File` gives for pixels (T, P, Z, C, Y, X)."""
    frames = [dict(zip(loop, map(int, at), strict=True)) for at in np.ndindex(*pixels.shape[:3])]
    flat = pixels.reshape(-1, *pixels.shape[3:])
    points = [SimpleNamespace(name=name, stagePositionUm=(10.0 * n, -n, 5.0)) for n, name in enumerate(names)]
    told = [("DAPI", 461.0, 405.0), ("FITC", 520.0, None)][: pixels.shape[3]]
    channels = [SimpleNamespace(name=n, emissionLambdaNm=e, excitationLambdaNm=x) for n, e, x in told]
    sizes = {"T": pixels.shape[0], "P": pixels.shape[1], "Z": pixels.shape[2], "C": pixels.shape[3]}
    return Opened(
        loop_indices=tuple(frames),
        sizes={axis: n for axis, n in sizes.items() if n > 1} | {"Y": pixels.shape[4], "X": pixels.shape[5]},
        experiment=[SimpleNamespace(type="XYPosLoop", parameters=SimpleNamespace(points=points))] if names else [],
        metadata=SimpleNamespace(channels=[SimpleNamespace(channel=channel) for channel in channels]),
        attributes=SimpleNamespace(bitsPerComponentSignificant=12),
        voxel_size=lambda: SimpleNamespace(x=0.65, y=0.65, z=2.0),
        dtype=pixels.dtype,
        is_rgb=rgb,
        read_frame=lambda number: flat[number].squeeze(),
    )


def stand_in(monkeypatch, library, name, files):
    """A library whose class opens the files of a dictionary, and fails on others."""

    def open_file(path):
        found = files.get(str(path).rpartition("/")[2])
        if found is None:
            msg = "not a file of this kind"
            raise OSError(msg)
        return found

    monkeypatch.setitem(sys.modules, library, SimpleNamespace(**{name: open_file}))


def test_nd2_positions_become_wells_and_sites(monkeypatch, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (2, 3, 2, 2, 4, 5)).astype(np.uint16)
    single = pixels[:1, :1, :1, :1] + 1
    files = {"p.nd2": nd2_file(pixels, ["A01_0000", "A01_0001", "B2_0000"]), "WellC03_Seq2.nd2": nd2_file(single, [])}
    stand_in(monkeypatch, "nd2", "ND2File", files)
    for name in (*files, "broken.nd2", "D01.tif"):
        (tmp_path / name).write_bytes(b"")
    planes, left_out = nd2.index(tmp_path, **OPTIONS)
    assert left_out["path"].tolist() == ["D01.tif", "broken.nd2"]
    assert "it cannot be opened: not a file of this kind" in left_out["reason"][1]
    assert len(planes) == 24 + 1
    fields = [["A01", 1], ["A01", 2], ["B02", 1], ["C03", 1]]
    assert planes[["Metadata_Well", "Metadata_Site"]].drop_duplicates().values.tolist() == fields
    assert set(planes["channel"]) == {"DAPI", "FITC"}
    dapi = planes[planes["channel"] == "DAPI"]
    assert set(dapi["emission_nm"]) == {461.0} and set(dapi["excitation_nm"]) == {405.0}
    assert set(planes["pixel_size_um"]) == {0.65} and set(planes["full_scale"]) == {4095.0}
    assert set(planes.loc[planes["Metadata_Site"] == 2, "position_x_um"]) == {10.0}
    number = {("A01", 1): 0, ("A01", 2): 1, ("B02", 1): 2}
    for row, plane in zip(planes.itertuples(), read_all(nd2, tmp_path, planes), strict=True):
        channel = ["DAPI", "FITC"].index(row.channel)
        place = number.get((row.Metadata_Well, row.Metadata_Site))
        expected = single[0, 0, 0, 0] if place is None else pixels[row.Metadata_Timepoint, place, row.z, channel]
        np.testing.assert_array_equal(plane, expected)
    index, _ = ingest.index_table(planes, left_out, plate="P1", channels={"DAPI": "DNA"})
    assert ingest.geometry(index).channels == ["DNA"]


def test_nd2_files_that_are_no_planes_are_named(monkeypatch, tmp_path):
    pixels = np.zeros((1, 1, 1, 3, 4, 5), np.uint8)
    files = {"A01.nd2": nd2_file(pixels, [], rgb=True), "A02.nd2": nd2_file(pixels, [], loop="TPW")}
    stand_in(monkeypatch, "nd2", "ND2File", files)
    for name in files:
        (tmp_path / name).write_bytes(b"")
    planes, left_out = nd2.index(tmp_path, **OPTIONS)
    assert set(planes["status"]) == {"unreadable"}
    assert planes["reason"].str.contains("its pixels are colours").all()
    assert left_out["reason"].tolist() == ["it cannot be opened: it has a loop over W; expected time, position and z"]


CZI_XML = """<ImageDocument><Metadata><Scaling><Items>
<Distance Id="X"><Value>3.25E-07</Value></Distance><Distance Id="Y"><Value>3.25E-07</Value></Distance></Items></Scaling>
<Information><Image><Dimensions>
<S><Scenes><Scene Index="0" Name="P1"><ArrayName>A1</ArrayName></Scene>
<Scene Index="1" Name="P2"><ArrayName>A1</ArrayName></Scene><Scene Index="2" Name="B3"/></Scenes></S>
<Channels><Channel Id="0" Name="H3342"><EmissionWavelength>461</EmissionWavelength><ExposureTime>50000000</ExposureTime>
<ComponentBitCount>14</ComponentBitCount></Channel><Channel Id="1" Name="EGFP"/></Channels>
</Dimensions></Image></Information></Metadata></ImageDocument>"""


def czi_block(pixels, *, pyramid=0, shrunk=1, **at):
    """An entry of the directory of `czifile.CziFile`: a plane (Y, X), or (Y, X, 3), at its place."""
    sides = {"Y": pixels.shape[0], "X": pixels.shape[1]}
    axes = [SimpleNamespace(dimension=axis, start=start, size=1) for axis, start in at.items()]
    axes += [SimpleNamespace(dimension=axis, start=0, size=size) for axis, size in sides.items()]
    samples = pixels.shape[2:] or (1,)

    def data(resize=True):
        return pixels.reshape(*[1] * len(at), *pixels.shape[:2], *samples)

    shape = (*[1] * len(at), *pixels.shape[:2], *samples)
    return SimpleNamespace(
        dimension_entries=axes,
        pyramid_type=pyramid,
        dtype="3<u2" if samples == (3,) else "<u2",
        shape=shape,
        stored_shape=tuple(side // shrunk for side in shape) if shrunk > 1 else shape,
        data_segment=lambda: SimpleNamespace(data=data),
    )


def test_czi_scenes_become_wells_and_tiles_sites(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    places = [(s, c, z, m) for s in range(3) for c in range(2) for z in range(2) for m in range(2 if s == 0 else 1)]
    blocks = [czi_block(rng.integers(0, 999, (4, 5)).astype("<u2"), S=s, C=c, Z=z, M=m) for s, c, z, m in places]
    blocks.insert(3, czi_block(np.zeros((2, 3), "<u2"), pyramid=2, S=0, C=0))
    blocks.insert(5, czi_block(np.zeros((8, 10), "<u2"), shrunk=2, S=0, C=0))
    opened = Opened(metadata=lambda: CZI_XML, subblock_directory=blocks)
    stand_in(monkeypatch, "czifile", "CziFile", {"plate.czi": opened})
    (tmp_path / "plate.czi").write_bytes(b"")
    planes, left_out = czi.index(tmp_path, **OPTIONS)
    assert left_out.empty
    assert len(planes) == len(places)
    counts = planes.groupby(["Metadata_Well", "Metadata_Site"]).size()
    assert counts.to_dict() == {("A01", 1): 4, ("A01", 2): 4, ("A01", 3): 4, ("B03", 1): 4}
    assert set(planes["channel"]) == {"H3342", "EGFP"}
    dna = planes[planes["channel"] == "H3342"]
    assert (
        set(dna["exposure_ms"]) == {50.0} and set(dna["emission_nm"]) == {461.0} and set(dna["full_scale"]) == {16383.0}
    )
    assert set(planes.loc[planes["channel"] == "EGFP", "full_scale"]) == {65535.0}
    np.testing.assert_allclose(planes["pixel_size_um"], 0.325)
    for row, plane in zip(planes.itertuples(), read_all(czi, tmp_path, planes), strict=True):
        np.testing.assert_array_equal(plane, blocks[row.page].data_segment().data().reshape(4, 5))
    np.testing.assert_array_equal(
        czi.read_plane(tmp_path, "plate.czi", 0), blocks[0].data_segment().data()[0, 0, 0, 0, :, :, 0]
    )


def test_czi_colours_are_unreadable_and_entities_refused(monkeypatch, tmp_path):
    colours = [czi_block(np.zeros((4, 5, 3), "<u2"), S=0)]
    bomb = '<!DOCTYPE x [<!ENTITY a "b">]>' + CZI_XML
    files = {
        "a.czi": Opened(metadata=lambda: CZI_XML, subblock_directory=colours),
        "b.czi": Opened(metadata=lambda: bomb, subblock_directory=colours),
    }
    stand_in(monkeypatch, "czifile", "CziFile", files)
    for name in files:
        (tmp_path / name).write_bytes(b"")
    planes, left_out = czi.index(tmp_path, **OPTIONS)
    assert planes["reason"].tolist() == ["its pixels are colours (RGB); expected one channel a plane"]
    assert "has a document type" in left_out["reason"][0]
    with pytest.raises(ImageError, match=r"its block has shape \(1, 4, 5, 3\); expected one plane of \[4, 5\]"):
        czi.read_plane(tmp_path, "a.czi", 0)


# --- what all three refuse


@pytest.mark.parametrize(("layout", "library"), [("nd2", "nd2"), ("czi", "czifile"), ("lif", "liffile")])
def test_a_missing_library_is_named_with_how_to_install_it(monkeypatch, tmp_path, layout, library):
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"layout {layout} reads with the library {library}, .*: pip install {library}$"
    with pytest.raises(ConfigError, match=message):
        methods.load("ingest", layout).index(tmp_path, **OPTIONS)
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ConfigError, match=message):
        methods.load("ingest", layout).read_plane(tmp_path, "a", 0)


def plane(image, **facts):
    place = {"tile": 0, "Metadata_Timepoint": 0, "z": 0, "number": 0, "channel_name": "", "page": 0, "reason": ""}
    shared = {"height": 4, "width": 5, "dtype": "uint8", "pixel_size_um": np.nan, "full_scale": 255.0}
    return {"image": image, **place, **shared, **facts}


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("(", "is not a regular expression: .*; correct ingest.nd2.regex"),
        ("(?P<row>.)", r"names the groups \['row'\]; expected .*: correct ingest.nd2.regex"),
        (
            "(?P<well>Z9)",
            r"matches no image of plate P1 in the .nd2 files of .*'a.nd2/A01' \(the regex does not match\)",
        ),
        (".*(?P<well>A99)?.*", "the name of a.nd2/A01 cannot be read"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, regex, message):
    (tmp_path / "a.nd2").write_bytes(b"")
    with pytest.raises(SourceError, match=message):
        containers.index_files(tmp_path, ".nd2", lambda file: [plane("A01")], **(OPTIONS | {"regex": regex}))


def test_images_of_other_plates_and_names_are_left_out_once(tmp_path):
    (tmp_path / "a.nd2").write_bytes(b"")
    images = [plane("P1-A01"), plane("P2-A01"), plane("P2-A01", z=1, page=1), plane("lid")]
    regex = r".*/(?P<plate>P\d)-(?P<well>...)"
    planes, left_out = containers.index_files(tmp_path, ".nd2", lambda _: images, **(OPTIONS | {"regex": regex}))
    assert len(planes) == 1
    assert left_out.values.tolist() == [["a.nd2/P2-A01", "of plate 'P2'"], ["a.nd2/lid", "the regex does not match"]]


def test_sites_of_the_name_stand_and_repeats_are_refused(tmp_path):
    (tmp_path / "a.nd2").write_bytes(b"")
    regex = r".*/(?P<well>...)_(?P<site>\d+)"

    def index(*images):
        return containers.index_files(tmp_path, ".nd2", lambda _: list(images), **(OPTIONS | {"regex": regex}))

    planes, _ = index(plane("A01_7"), plane("A01_3", page=1))
    assert planes[["Metadata_Site", "page"]].values.tolist() == [[3, 1], [7, 0]]
    with pytest.raises(SourceError, match="expected one file per plane"):
        index(plane("A01_7"), plane("A01_07", page=1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.text(max_size=12), max_size=6),
    channels=st.lists(st.text(max_size=6), min_size=1, max_size=3),
    broken=st.booleans(),
)
def test_any_names_are_indexed_or_left_out_and_nothing_is_lost(tmp_path, names, channels, broken):
    (tmp_path / "B02.nd2").write_bytes(b"")
    planes = [
        plane(name, tile=tile, number=number, channel_name=channel, page=tile * len(channels) + number)
        for tile, name in enumerate(names)
        for number, channel in enumerate(channels)
    ]

    def describe(_):
        if broken:
            raise ValueError
        return planes

    try:
        found, left_out = containers.index_files(tmp_path, ".nd2", describe, **OPTIONS)
    except SourceError:
        return
    told = {*(f"B02.nd2/{name}" if name else "B02.nd2" for name in names)}
    assert set(left_out["path"]) <= told
    lost = sum(len(channels) for name in names if (f"B02.nd2/{name}" if name else "B02.nd2") in set(left_out["path"]))
    assert len(found) + lost == len(planes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=40),
    cut=st.integers(0, len(CZI_XML)),
    place=st.dictionaries(st.sampled_from("SCZTM"), st.integers(0, 3)),
)
def test_any_header_of_a_czi_file_is_read_or_left_out(monkeypatch, tmp_path, text, cut, place):
    blocks = [czi_block(np.ones((4, 5), "<u2"), **place)]
    opened = Opened(metadata=lambda: CZI_XML[:cut] + text + CZI_XML[cut:], subblock_directory=blocks)
    stand_in(monkeypatch, "czifile", "CziFile", {"A01.czi": opened})
    (tmp_path / "A01.czi").write_bytes(b"")
    try:
        planes, left_out = czi.index(tmp_path, **OPTIONS)
    except SourceError:
        return
    assert len(planes) + len(left_out) == 1
