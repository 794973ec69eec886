"""Refuse segmenters that cannot be meant together, or on such images, before the graph is built."""

import json
from collections import Counter
from pathlib import Path

from plateline import config as settings
from plateline import methods
from plateline import sheet as sheets
from plateline.errors import ConfigError


def check_ensemble(config: dict, where: str) -> None:
    """Refuse an ensemble whose methods are not different ones, each with its own options, and a limit without one.

    Parameters
    ----------
    config : dict
        With defaults.
    where : str
        Start of each message.

    Raises
    ------
    ConfigError
        Naming the key, what it got and what it expected.
    """
    method, members, custom = (config["segment"][key] for key in ("method", "ensemble", "custom"))
    counts = Counter(methods.target("segment", name) for name in (method, *members))
    if twice := [name for name in members if counts[methods.target("segment", name)] > 1]:
        msg = (
            f"{where}: segment.ensemble: got {twice[0]!r}, which is segment.method or stands twice; expected other "
            f"methods than {method}, each once"
        )
        raise ConfigError(msg)
    own = [name for name in (method, *members) if name not in methods.SEGMENTERS]
    if len(own) > 1 and custom:
        msg = (
            f"{where}: segment.ensemble: {' and '.join(own)} would share segment.custom, got {custom}; expected one "
            "import path, or none of these options"
        )
        raise ConfigError(msg)
    most = config["profile"]["max_disagreement"]
    if most < 1 and not members:
        msg = (
            f"{where}: profile.max_disagreement: got {most:g}, but nothing is compared; expected 1, or methods in "
            f"segment.ensemble beside {method}"
        )
        raise ConfigError(msg)


def check_modality(sheet: list[dict[str, str]], config: dict) -> None:
    """Refuse a run with a network whose card does not list how the images were taken.

    Parameters
    ----------
    sheet : list of dict
        Lines with defaults filled in.
    config : dict
        With defaults; `segment.modality` says how.

    Raises
    ------
    ConfigError
        Naming the plate, the method and its key, and what it was trained on.

    Notes
    -----
    A preview is not refused: it shows the other methods. Of a model without its card beside it the job tells.
    """
    for line in sheet:
        chosen = settings.override(config, line)["segment"]
        names = [chosen["method"], *settings.members_of(config, "segment", line)] if line["use"] == "yes" else []
        for key, name in zip(("method", *["ensemble"] * len(names)), names, strict=False):
            trained = _modalities(config, line, name)
            if trained and chosen["modality"] not in trained:
                msg = (
                    f"plate {line['plate']}: segment.{key}: the model of {name} was trained on {', '.join(trained)}, "
                    f"but segment.modality is {chosen['modality']}; expected another method, or a model trained on "
                    "such images (segment.fit); plateline preview shows which methods run"
                )
                raise ConfigError(msg)


def _modalities(config: dict, line: dict[str, str], method: str) -> list[str]:
    """What the network of a known method was, or will be, trained on; nothing where that is not to be seen here."""
    model = settings.model_of(config, "segment", line, method)
    if not model or method not in methods.SEGMENTERS or sheets.is_imported(line):
        return []
    if model == settings.FITTED:
        return config["segment"]["fit"]["modalities"]
    card = Path(model).with_suffix(".json")
    return json.loads(card.read_text())["modalities"] if card.is_file() else []
