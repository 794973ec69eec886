"""The small closed grammar of quantities, gates and readouts: text in, trees of tuples out.

Owns what may be written in `profile.quantities`, `profile.gates` and `profile.readouts`, and refuses the rest by name.
Standard library only, so that a typo is refused before the graph is built; `profile` computes the trees.

    quantity   log2(Nuclei_Intensity_MeanIntensity_GFP / Cytoplasm_Intensity_MeanIntensity_GFP)
    gate       log2_ratio > negative:q99 and Nuclei_AreaShape_Area < 900
    readout    percent(translocated), median(log2_ratio), per_field(), mean(a) / mean(b)
"""

import ast
import re

from plateline.errors import ConfigError

FUNCTIONS = ("log2", "log10", "sqrt", "abs")
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
OF_QUANTITY = ("median", "mean", "sd", "mad")
OF_GATE = ("fraction", "percent")
OF_COUNT = ("count", "per_field")
UNITS = ("raw", "percent_of_control", "npi", "robust_z")
REFERENCES = ("negative", "positive", "untreated", "all")

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_COMPARISON = re.compile(rf"(\w+)\s*(<=|>=|<|>)\s*(?:({_NUMBER})|(\w+):q(\d+(?:\.\d+)?))")
_RUN_ON = re.compile(r"(?<![\w.])\d[\d.]*(?!e[+-]?\d)[A-Za-z_]")
_CALL = re.compile(r"(\w+)\(\s*(\w*)\s*\)")
_FEATURE = re.compile(r"(Nuclei|Cells|Cytoplasm)_[A-Z]\w*")


def parse_quantity(name: str, text: str) -> tuple:
    """Tree of a quantity: `("name", n)`, `("number", x)`, `(operator, left, right)` or `(function, argument)`.

    Parameters
    ----------
    name, text : str
        Key and value in `profile.quantities`; made of features, not of other quantities.

    Raises
    ------
    ConfigError
        Naming the key, what it got and what it expected.
    """
    try:
        # Python would read 1if as a number and a word, with a warning.
        tree = None if _RUN_ON.search(text) else ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        tree = None
    return _arithmetic(tree, f"profile.quantities.{name}: {text!r}")


def _arithmetic(node: ast.AST | None, where: str) -> tuple:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and number < 1e300:
            return ("number", float(number))
        case ast.Name(id=name):
            return ("name", _known(name, where, set()))
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPERATORS:
            return (OPERATORS[type(operator)], _arithmetic(left, where), _arithmetic(right, where))
        case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]) if function in FUNCTIONS:
            return (function, _arithmetic(argument, where))
    msg = f"{where} is no quantity; expected features, numbers, + - * / and {', '.join(FUNCTIONS)}(...)"
    raise ConfigError(msg)


def parse_gate(name: str, text: str, known: set[str]) -> list[tuple]:
    """Comparisons of a gate, all of which must hold: (quantity, operator, limit).

    A limit is ("number", x), or (control type, percentile) over the cells of all such wells of the plate.
    """
    comparisons = []
    for part in re.split(r"\s+and\s+", text.strip()):
        match = _COMPARISON.fullmatch(part)
        if match is None or (match[4] and (match[4] not in REFERENCES or float(match[5]) > 100)):
            controls = "|".join(REFERENCES)
            msg = (
                f"profile.gates.{name}: {part!r} is no comparison; expected like 'area > 40' or 'area > {controls}:q99'"
            )
            raise ConfigError(msg)
        limit = ("number", float(match[3])) if match[3] else (match[4], float(match[5]))
        comparisons.append((_known(match[1], f"profile.gates.{name}: {part!r}", known), match[2], limit))
    return comparisons


def parse_readout(name: str, value: str | dict, quantities: set[str], gates: set[str]) -> tuple[list[tuple], str]:
    """Calls of a readout, one or the two of a ratio, as (function, argument), and its unit."""
    text, unit = (value, "raw") if isinstance(value, str) else (value["value"], value.get("unit", "raw"))
    where = f"profile.readouts.{name}: {text!r}"
    calls = [_call(part.strip(), where, quantities, gates) for part in text.split("/")]
    if len(calls) > 2 or unit not in UNITS:
        msg = f"{where} in unit {unit!r} is no readout; expected one call or a ratio of two, in {', '.join(UNITS)}"
        raise ConfigError(msg)
    return calls, unit


def _call(text: str, where: str, quantities: set[str], gates: set[str]) -> tuple[str, str]:
    match = _CALL.fullmatch(text)
    function, argument = match.groups() if match else ("", "")
    if function in OF_QUANTITY:
        return function, _known(argument, where, quantities)
    if (function in OF_GATE and argument in gates) or (function in OF_COUNT and argument in {"", *gates}):
        return function, argument
    msg = (
        f"{where} is no readout; expected {', '.join(OF_QUANTITY)} of a quantity, {', '.join(OF_GATE)} of a gate, "
        f"{', '.join(OF_COUNT)} of all cells or a gate; gates are {', '.join(sorted(gates)) or 'none'}"
    )
    raise ConfigError(msg)


def _known(name: str, where: str, known: set[str]) -> str:
    if name not in known and not _FEATURE.fullmatch(name):
        msg = f"{where}: {name!r} is neither a quantity ({', '.join(sorted(known)) or 'none'}) nor a feature's name"
        raise ConfigError(msg)
    return name


def features_in(trees: tuple[dict, dict, dict]) -> list[str]:
    """Names of the features that parsed quantities, gates and readouts use, sorted."""
    text = set()
    waiting: list = [trees]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            text.add(found)
        elif isinstance(found, dict | list | tuple):
            waiting += found.values() if isinstance(found, dict) else found
    return sorted(name for name in text if _FEATURE.fullmatch(name))


def parse(
    quantities: dict[str, str], gates: dict[str, str], readouts: dict[str, str | dict]
) -> tuple[dict, dict, dict]:
    """Trees of all three blocks of `profile`, by name; raises `ConfigError` for the first outside the grammar."""
    trees = {name: parse_quantity(name, text) for name, text in quantities.items()}
    if taken := [name for name in trees if _FEATURE.fullmatch(name)]:
        msg = f"profile.quantities.{taken[0]}: {taken[0]!r} is the name of a feature; expected a name of its own"
        raise ConfigError(msg)
    known = set(trees)
    passed = {name: parse_gate(name, text, known) for name, text in gates.items()}
    called = {name: parse_readout(name, value, known, set(passed)) for name, value in readouts.items()}
    return trees, passed, called
