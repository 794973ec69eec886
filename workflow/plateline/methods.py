"""The known methods of each stage as text, and how any of them is loaded.

A table maps a name to ``package.module:function`` (or ``package.module``), so that the Snakefile can read it without
importing what it names. A lab adds a method by naming its own import path in the config.
"""

import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from plateline.errors import ConfigError

# module with index(source, *, plate, shape, **options) -> (planes, left_out) and read_plane(source, path, page)
LAYOUTS = {
    "pattern": "plateline.layouts.pattern",
    "load_data": "plateline.layouts.load_data",
    "imagexpress": "plateline.layouts.imagexpress",
    "cellvoyager": "plateline.layouts.cellvoyager",
    "phenix": "plateline.layouts.phenix",
    "incell": "plateline.layouts.incell",
    "ome-zarr": "plateline.layouts.ome_zarr",
    "ome-tiff": "plateline.layouts.ome_tiff",
    "nd2": "plateline.layouts.nd2",
    "czi": "plateline.layouts.czi",
    "lif": "plateline.layouts.lif",
}
# (N, Y, X), **options -> illum (Y, X), dark (Y, X)
FLATFIELDS = {
    "none": "plateline.flatfield:none",
    "median": "plateline.flatfield:median",
    "basic": "plateline.flatfield:basic",
    "provided": "plateline.flatfield:provided",
}
# (C, Y, X) float32, **options -> {compartment: (Y, X) int32}, nuclei at least
SEGMENTERS = {
    "flow": "plateline.models.flow:flow",
    "distance": "plateline.models.distance:distance",
    "stardist": "plateline.models.stardist:stardist",
    "boundary": "plateline.models.boundary:boundary",
    "otsu": "plateline.segment.classical:otsu",
    "adaptive": "plateline.segment.classical:adaptive",
    "cellpose": "plateline.segment.plugins:cellpose",
    "stardist_plugin": "plateline.segment.plugins:stardist_plugin",
    "instanseg": "plateline.segment.plugins:instanseg",
}
# features of cells and their wells, **options -> features of wells
AGGREGATORS = {
    "mean": "plateline.profile:mean",
    "median": "plateline.profile:median",
    "mad": "plateline.profile:mad",
    "quantiles": "plateline.profile:quantiles",
    "count-only": "plateline.profile:count_only",
}
# **options -> unfitted estimator: inductive with fit(controls, context) and transform(X, context), or transductive with
# fit_transform(X, context)
CORRECTORS = {
    "none": "plateline.correct:Identity",
    "standardize": "plateline.correct:Standardize",
    "mad_robustize": "plateline.correct:MadRobustize",
    "minmax-controls": "plateline.correct:MinMaxControls",
    "zscore": "plateline.correct:ZScore",
    "sphering": "plateline.correct:Sphering",
    "tvn": "plateline.correct:TypicalVariation",
    "combat": "plateline.correct:Combat",
    "harmony": "plateline.correct:Harmony",
    "mnn": "plateline.correct:MutualNeighbours",
}
# **options, seed -> unfitted estimator with predict_proba
CLASSIFIERS = {
    "logistic": "plateline.classify:logistic",
    "nearest": "plateline.classify:nearest",
    "neighbours": "plateline.classify:neighbours",
    "lda": "plateline.classify:lda",
    "svm": "plateline.classify:svm",
    "forest": "plateline.classify:forest",
    "boosting": "plateline.classify:boosting",
    "mlp": "plateline.models.mlp:mlp",
}

TABLES = {
    "ingest": LAYOUTS,
    "flatfield": FLATFIELDS,
    "segment": SEGMENTERS,
    "profile": AGGREGATORS,
    "correct": CORRECTORS,
    "classify": CLASSIFIERS,
}

# Segmenters that have no use for a GPU.
WITHOUT_NETWORK = ("otsu", "adaptive")

# At least one dot or colon, which tells an import path from a misspelt name.
_PATH = re.compile(r"(?=.*[.:])[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?")


def target(stage: str, name: str) -> str:
    """Import path of a stage's method: a known name, or the path itself."""
    known = TABLES.get(stage, {})
    if name not in known and not _PATH.fullmatch(name):
        msg = f"{stage}: unknown method {name!r}; known are {', '.join(known)}, or an import path like lab.module:name"
        raise ConfigError(msg)
    return known.get(name, name)


def gpus(segmenters: Iterable[str], resources) -> int:
    """GPUs that a job takes of those its rule asks for: none where its segmenters are known to have no network.

    Parameters
    ----------
    segmenters : iterable of str
        Known names or import paths of all that it runs.
    resources : mapping of str to int
        Of the job; the resource `gpu` is 0 where it is not set.
    """
    without = [SEGMENTERS[name] for name in WITHOUT_NETWORK]
    idle = all(target("segment", name) in without for name in segmenters)
    return 0 if idle else int(resources.get("gpu", 0))


def load(stage: str, name: str):
    """The object a method name stands for, imported now.

    Parameters
    ----------
    stage : str
        Stage word, a key of `TABLES`.
    name : str
        Known name or import path ``package.module[:attribute]``; modules beside the campaign's config are found.

    Returns
    -------
    callable or module

    Raises
    ------
    ConfigError
        If nothing importable goes by that name; the message lists the known names.
    """
    module, _, attribute = target(stage, name).partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError) as error:
        known = ", ".join(TABLES[stage])
        msg = f"{stage}: method {name!r} cannot be loaded ({error}); known are {known}"
        raise ConfigError(msg) from error
