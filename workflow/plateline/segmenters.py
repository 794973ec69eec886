"""The segmenters of a section of the config, with their options and the weights of their networks.

What the rule and the preview do alike. Lengths stay in micrometres, since the size of a pixel is that of a field.
"""

from collections.abc import Callable, Iterable

from plateline import methods, segment, store


def load_segmenter(section: dict, model_file: str) -> tuple[Callable, dict]:
    """The method of a section and its options.

    Parameters
    ----------
    section : dict
        Of `segment_part`: `method`, `options`, `tile_px`, `modality`.
    model_file : str
        Weights of its network; empty for none. A method given by its import path reads its own.

    Raises
    ------
    ConfigError
        If nothing importable goes by that name, or there are tiles and the method knows none.
    ModelError
        If the model cannot be read, or its card does not list the modality.
    """
    function, known = methods.load("segment", section["method"]), section["method"] in methods.SEGMENTERS
    model = store.read_model(model_file) if model_file and known else None
    return function, segment.options_of(function, section, model)


def load_ensemble(section: dict, model_files: Iterable[str]) -> tuple[dict[str, tuple[Callable, dict]], list[str]]:
    """The method of a section and those of its ensemble by name, and the checksums of their models.

    Parameters
    ----------
    section : dict
        Of `segment_part`.
    model_files : iterable of str
        As `config.models_of` names them: of the methods that have the option `model`, in their order.

    Raises
    ------
    ConfigError, ModelError
        As `load_segmenter`.
    """
    files, found = iter(model_files), {}
    for chosen in (section, *section["ensemble"]):
        file = next(files) if chosen["options"].get("model") is not None else ""
        found[chosen["method"]] = load_segmenter(section | chosen, file)
    models = [options.get("model") for _, options in found.values()]
    return found, [model["checksum"] if isinstance(model, dict) else "" for model in models]


def names_of(section: dict) -> list[str]:
    """Names of the method and of those of its ensemble."""
    return [chosen["method"] for chosen in (section, *section["ensemble"])]
