"""Planes that are missing are found, and only those."""

from plateline.layouts.gaps import missing_planes


def planes(text):
    """Rows from words such as `A01.1/w1:123`: well, site, channel, z planes."""
    rows = []
    for word in text.split():
        field, _, rest = word.partition("/")
        channel, _, steps = rest.partition(":")
        well, _, site = field.partition(".")
        identity = {"Metadata_Well": well, "Metadata_Site": int(site), "Metadata_Timepoint": 0, "channel": channel}
        rows += [{**identity, "z": int(z)} for z in steps]
    return rows


def missing(text, planned=()):
    found = missing_planes(planes(text), planned, "the plan")
    assert all(row["status"] == "unreadable" and row["path"] == "" for row in found)
    return [(row["Metadata_Well"], row["Metadata_Site"], row["channel"], row["z"]) for row in found]


def test_whole_stacks_lack_nothing():
    assert missing("") == []
    assert missing("A01.1/w1:123 A01.1/w2:1 A02.1/w1:123 A02.1/w2:1") == []


def test_a_hole_in_a_stack_is_missing():
    assert missing("A01.1/w1:123 A02.1/w1:13 A03.1/w1:123") == [("A02", 1, "w1", 2)]


def test_one_longer_stack_makes_no_other_incomplete():
    assert missing("A01.1/w1:1234 A02.1/w1:123 A03.1/w1:123") == []


def test_a_projection_beside_stacks_is_complete():
    assert missing("A01.1/w1:0 A02.1/w1:123 A03.1/w1:123") == []
    assert missing("A01.1/w1:0 A02.1/w1:0 A03.1/w1:123") == []


def test_a_channel_that_a_field_lacks_is_missing_in_all_its_planes():
    assert missing("A01.1/w1:12 A01.1/w2:12 A02.1/w1:12") == [("A02", 1, "w2", 1), ("A02", 1, "w2", 2)]


def test_planned_fields_without_any_image_are_missing():
    assert missing("A01.1/w1:1", [("A01", 1, 0), ("A01", 2, 0), ("B01", 1, 0)]) == [
        ("A01", 2, "w1", 1),
        ("B01", 1, "w1", 1),
    ]


def test_reasons_name_the_plane():
    found = missing_planes(planes("A01.1/w1:12 A01.2/w1:1 A01.3/w1:12"), [("B01", 1, 0)], "P1.HTD")
    assert [row["reason"] for row in found] == [
        "no image of well A01, site 2, time point 0, z 2, channel w1: a plane of its stack is missing",
        "no image of well B01, site 1, time point 0, z 1, channel w1: P1.HTD plans it, no image is there",
        "no image of well B01, site 1, time point 0, z 2, channel w1: P1.HTD plans it, no image is there",
    ]


def test_stacks_without_a_common_z_are_left_alone():
    assert missing("A01.1/w1:1 A02.1/w1:2 A03.1/w1:3") == []
