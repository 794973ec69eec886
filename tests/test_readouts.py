"""The grammar of quantities, gates and readouts: what is meant becomes a tree, everything else is refused by name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateline.errors import ConfigError
from plateline.readouts import parse, parse_gate, parse_quantity, parse_readout

RATIO = "log2(Nuclei_Intensity_MeanIntensity_GFP / Cytoplasm_Intensity_MeanIntensity_GFP)"
AREA = "Nuclei_AreaShape_Area"
# Pieces of the grammar in any order come nearer to its edges than plain text does.
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "log2",
                "sqrt",
                "(",
                ")",
                "+",
                "-",
                "*",
                "/",
                "**",
                "//",
                "1",
                "1.5",
                ".",
                "1.2.3",
                "1e400",
                "1j",
                "True",
            ),
            *(AREA, "ratio", "Cells_x", "and", " and ", "<", "<=", ">", "negative:q", "negative:q99", "all:q101", ":q"),
            *(
                "median",
                "percent",
                "count",
                "passed",
                " ",
                "\0",
                "\n",
                "'",
                '"',
                ",",
                "=",
                "lambda:",
                "[",
                "]",
                "x" * 40,
            ),
        ]
    ),
    max_size=8,
).map("".join)
ANY_TEXT = st.one_of(st.text(max_size=30), PIECES)


def test_a_quantity_becomes_a_tree():
    nuclei, cytoplasm = "Nuclei_Intensity_MeanIntensity_GFP", "Cytoplasm_Intensity_MeanIntensity_GFP"
    assert parse_quantity("ratio", RATIO) == ("log2", ("/", ("name", nuclei), ("name", cytoplasm)))
    assert parse_quantity("a", f"2 * {AREA} + 0.5") == ("+", ("*", ("number", 2.0), ("name", AREA)), ("number", 0.5))
    assert parse_quantity("a", f"  {AREA} ") == ("name", AREA)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2 *",
        "exp(Nuclei_AreaShape_Area)",
        "log2(Nuclei_AreaShape_Area, 2)",
        "log2(x=Nuclei_AreaShape_Area)",
        "Nuclei_AreaShape_Area ** 2",
        "Nuclei_AreaShape_Area // 2",
        "True",
        "'text'",
        "1j",
        "[Nuclei_AreaShape_Area]",
        "Nuclei_AreaShape_Area.real",
        "__import__('os').system('true')",
        "lambda: 1",
        "\0",
        "(" * 300 + "1" + ")" * 300,
        "1" + "0" * 400,
    ],
)
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ConfigError, match=r"profile\.quantities\.bad: .* is no quantity; expected features, numbers"):
        parse_quantity("bad", text)


def test_a_quantity_is_made_of_features_only():
    with pytest.raises(ConfigError, match=r"profile.quantities.a: 'b \+ 1': 'b' is neither a quantity \(none\) nor"):
        parse_quantity("a", "b + 1")
    with pytest.raises(ConfigError, match="'nuclei_Area' is neither"):
        parse_quantity("a", "nuclei_Area")


def test_a_gate_is_a_list_of_comparisons():
    text = f"ratio > negative:q99 and {AREA}<=900 and ratio >= -1.5e-3 and ratio < all:q2.5"
    assert parse_gate("g", text, {"ratio"}) == [
        ("ratio", ">", ("negative", 99.0)),
        (AREA, "<=", ("number", 900.0)),
        ("ratio", ">=", ("number", -0.0015)),
        ("ratio", "<", ("all", 2.5)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ratio",
        "ratio >",
        "ratio = 1",
        "ratio > 1 or ratio < 0",
        "1 < ratio",
        "ratio > other",
        "ratio > 1.2.3",
        "ratio > .",
        "ratio > negative:q101",
        "ratio > sample:q99",
        "ratio > negative:q",
        "ratio > 1 and",
        "-1 < 2",
    ],
)
def test_what_is_no_comparison_is_refused(text):
    with pytest.raises(ConfigError, match=r"profile\.gates\.g: .* is no comparison; expected like 'area > 40'"):
        parse_gate("g", text, {"ratio"})


def test_a_gate_names_what_is_there():
    with pytest.raises(ConfigError, match=r"profile.gates.g: 'size > 1': 'size' is neither a quantity \(area, ratio\)"):
        parse_gate("g", "size > 1", {"ratio", "area"})


@pytest.mark.parametrize("function", ["median", "mean", "sd", "mad"])
def test_readouts_of_a_quantity(function):
    assert parse_readout("r", f"{function}(ratio)", {"ratio"}, set()) == ([(function, "ratio")], "raw")
    assert parse_readout("r", f" {function}( {AREA} ) ", set(), set()) == ([(function, AREA)], "raw")


def test_readouts_of_a_gate_a_count_and_a_ratio():
    gates = {"passed"}
    assert parse_readout("r", "fraction(passed)", set(), gates) == ([("fraction", "passed")], "raw")
    assert parse_readout("r", "count()", set(), gates) == ([("count", "")], "raw")
    assert parse_readout("r", "per_field(passed)", set(), gates) == ([("per_field", "passed")], "raw")
    ratio = {"value": "mean(ratio) / count(passed)", "unit": "npi"}
    assert parse_readout("r", ratio, {"ratio"}, gates) == ([("mean", "ratio"), ("count", "passed")], "npi")
    assert parse_readout("r", {"value": "count()"}, set(), set()) == ([("count", "")], "raw")


@pytest.mark.parametrize("text", ["", "median", "median(", "max(ratio)", "percent(ratio)", "percent()", "count(other)"])
def test_what_is_no_readout_is_refused(text):
    with pytest.raises(ConfigError, match=r"profile\.readouts\.r: .* is no readout; .*gates are passed"):
        parse_readout("r", text, {"ratio"}, {"passed"})


def test_a_readout_without_gates_says_so():
    with pytest.raises(ConfigError, match="gates are none"):
        parse_readout("r", "percent(passed)", set(), set())


def test_a_readout_of_an_unknown_quantity_is_refused():
    with pytest.raises(ConfigError, match=r"profile.readouts.r: 'median\(size\)': 'size' is neither a quantity"):
        parse_readout("r", "median(size)", {"ratio"}, set())
    with pytest.raises(ConfigError, match="'' is neither a quantity"):
        parse_readout("r", "median()", {"ratio"}, set())


@pytest.mark.parametrize("value", ["count() / count() / count()", {"value": "count()", "unit": "percent"}])
def test_a_readout_is_one_call_or_a_ratio_in_a_known_unit(value):
    with pytest.raises(ConfigError, match="is no readout; expected one call or a ratio of two, in raw, percent_of"):
        parse_readout("r", value, set(), set())


def test_all_three_blocks():
    trees, gates, called = parse({"ratio": RATIO}, {"high": "ratio > 1"}, {"share": "percent(high)", "n": "count()"})
    assert trees["ratio"][0] == "log2"
    assert gates == {"high": [("ratio", ">", ("number", 1.0))]}
    assert called == {"share": ([("percent", "high")], "raw"), "n": ([("count", "")], "raw")}
    assert parse({}, {}, {}) == ({}, {}, {})


def test_a_quantity_cannot_take_the_name_of_a_feature():
    with pytest.raises(ConfigError, match=f"profile.quantities.{AREA}: .* is the name of a feature"):
        parse({AREA: f"{AREA} * 2"}, {}, {})


@given(ANY_TEXT)
def test_any_quantity_is_a_tree_or_refused(text):
    try:
        tree = parse_quantity("q", text)
    except ConfigError as error:
        assert str(error).startswith("profile.quantities.q: ")
        return
    assert isinstance(tree, tuple)


@given(ANY_TEXT)
def test_any_gate_is_comparisons_or_refused(text):
    try:
        comparisons = parse_gate("g", text, {"ratio"})
    except ConfigError as error:
        assert str(error).startswith("profile.gates.g: ")
        return
    assert all(isinstance(limit[1], float) for _, _, limit in comparisons)
    assert len(comparisons) == len(re.findall(r"\sand\s", f" {text.strip()} ")) + 1


@given(ANY_TEXT, st.sampled_from(["raw", "npi", "robust", ""]))
def test_any_readout_is_calls_or_refused(text, unit):
    try:
        calls, found = parse_readout("r", {"value": text, "unit": unit}, {"ratio"}, {"passed"})
    except ConfigError as error:
        assert str(error).startswith("profile.readouts.r: ")
        return
    assert found == unit
    assert 1 <= len(calls) <= 2
