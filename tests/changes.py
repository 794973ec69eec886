"""What reruns after which change: for every key of the config the rules that take it, and which rules read which."""

import copy

# Rule -> rules that read what it makes.
READ_BY = {
    "ingest_plate": ["ingest_part", "platemap_plate", "flatfield_plate"],
    "ingest_part": ["flatfield_plate", "qc_part", "segment_part", "measure_part", "profile_plate", "report_plate"],
    "platemap_plate": ["profile_plate"],
    "flatfield_plate": ["segment_part", "measure_part"],
    "qc_part": ["qc_plate"],
    "qc_plate": ["profile_plate", "report_plate"],
    "segment_fit_screen": ["segment_part", "report_screen"],
    "segment_part": ["measure_part", "profile_plate", "report_plate"],
    "measure_part": ["profile_plate"],
    "profile_plate": ["assay_plate", "correct_screen", "hits_screen", "report_plate", "report_screen"],
    "assay_plate": ["report_plate", "report_screen", "ledger_screen"],
    "correct_screen": ["hits_screen", "classify_screen"],
    "hits_screen": ["report_screen", "ledger_screen"],
    "classify_screen": ["report_screen", "ledger_screen"],
    "ledger_screen": ["report_screen", "verdict_screen"],
    "report_plate": ["report_screen", "verdict_screen"],
    "report_screen": ["verdict_screen"],
    "verdict_screen": [],
}
# Key of the config -> another value, and the rules that take it. What reads them must rerun, nothing else.
CHANGES = {
    "ingest.plate.channels": ({"1": "DNA", "2": "GFP", "3": "ER"}, ["ingest_plate"]),
    "ingest.plate.pixel_size_um": (0.65, ["ingest_plate"]),
    "ingest.plate.keep_planes": (True, ["ingest_plate"]),
    "ingest.part.projection": ("mean", ["ingest_part"]),
    "ingest.pattern.regex": (r"(?P<well>[A-Z]\d+)_z(?P<z>\d)_c(?P<channel>[12])\.tif", ["ingest_plate"]),
    # The toy's layout is `pattern`: what other layouts are told reruns nothing.
    "ingest.imagexpress.projections": ("both", []),
    **{
        f"ingest.{layout}.measurement": ("second", [])
        for layout in ("imagexpress", "cellvoyager", "phenix", "incell", "ome-zarr", "ome-tiff")
    },
    **{f"ingest.{layout}.acquisition": ("2", []) for layout in ("phenix", "ome-zarr", "ome-tiff")},
    "ingest.ome-tiff.plate_id": ("Plate:1", []),
    "ingest.ome-zarr.versions": (["0.5"], []),
    "ingest.phenix.versions": (["V6"], []),
    "ingest.load_data.file": ("other.csv", []),
    **{f"ingest.{layout}.regex": ("(?P<well>.*)", []) for layout in ("nd2", "czi", "lif")},
    "ingest.load_data.moved_from": ("/old", []),
    "platemap.columns": ({"Compound": "Compound"}, ["platemap_plate"]),
    "platemap.controls": ({"vehicle": "negative"}, ["platemap_plate"]),
    "platemap.unit": ("nM", ["platemap_plate"]),
    "flatfield.method": ("none", ["flatfield_plate"]),
    "flatfield.seed": (1, ["flatfield_plate"]),
    "flatfield.max_fields": (5, ["flatfield_plate"]),
    "flatfield.residual_px": (16, ["flatfield_plate"]),
    "flatfield.median.bin_px": (32, []),
    "flatfield.median.smooth_px": (40, []),
    "flatfield.basic.order": (3, ["flatfield_plate"]),
    "flatfield.basic.dark": (False, ["flatfield_plate"]),
    "flatfield.provided.folder": ("illum", []),
    "flatfield.provided.pattern": ("{channel}.npy", []),
    "qc.part.background_percentile": (10, ["qc_part"]),
    "qc.plate.blurred_z": (6, ["qc_plate"]),
    "qc.plate.saturated_fraction": (0.5, ["qc_plate"]),
    "qc.plate.blank_contrast": (3, ["qc_plate"]),
    "qc.plate.debris_z": (6, ["qc_plate"]),
    "qc.plate.uneven_z": (6, ["qc_plate"]),
    "qc.plate.drift_correlation": (0.9, ["qc_plate"]),
    "qc.plate.roles.DNA": ("GFP", ["qc_plate"]),
    "segment.method": ("plateline.segment.classical:otsu", ["segment_part"]),
    "segment.ensemble": (["adaptive"], ["segment_part"]),
    # The toy's method has no network, and nothing is trained for it.
    "segment.modality": ("phase", ["segment_part"]),
    **{
        f"segment.{method}.{key}": (value, [])
        for method in ("flow", "distance", "stardist", "boundary")
        for key, value in {
            "model": "fit",
            "diameter_um": 9,
            "mirrors": 3,
            "min_share": 0.3,
            "threshold": 0.7,
        }.items()
    },
    "segment.flow.steps": (30, []),
    "segment.distance.prominence": (0.3, []),
    "segment.stardist.overlap": (0.2, []),
    "segment.boundary.prominence": (0.3, []),
    **{
        f"segment.fit.{key}": (value, [])
        for key, value in {
            "images": "training/images",
            "masks": "training/masks",
            "channel": "DNA",
            "method": "distance",
            "begin": "model.safetensors",
            "data": "drawn",
            "stains": ["DAPI"],
            "modalities": ["phase"],
            "seed": 1,
            "folds": 3,
            "fold": 1,
            "steps": 9,
            "batch": 2,
            "crop_px": 64,
            "diameter_px": 12,
            "learning_rate": 0.1,
            "check_steps": 3,
            "patience": 2,
            "focal": 1,
            "overlap": 2,
            "missed": 0.7,
            "doubt": 0.1,
        }.items()
    },
    "segment.approve": (True, []),
    "segment.nuclei_channel": ("GFP", ["segment_part"]),
    "segment.cell_channels": ([], ["segment_part"]),
    "segment.tile_px": (48, ["segment_part"]),
    **{f"segment.adaptive.{key}": (9, []) for key in ("smooth_px", "window_px", "min_area_px", "min_distance_px")},
    "segment.cellpose.pretrained": ("nuclei", []),
    "segment.cellpose.diameter_um": (12, []),
    "segment.cellpose.flow_threshold": (0.5, []),
    "segment.cellpose.cellprob_threshold": (1.0, []),
    "segment.stardist_plugin.pretrained": ("2D_paper_dsb2018", []),
    **{f"segment.stardist_plugin.{key}": (0.5, []) for key in ("scale", "probability", "overlap")},
    "segment.instanseg.pretrained": ("single_channel_nuclei", []),
    "segment.instanseg.own_pixel_um": (0.25, []),
    "segment.otsu.smooth_px": (1.5, ["segment_part"]),
    "segment.otsu.min_area_px": (20, ["segment_part"]),
    "segment.otsu.min_distance_px": (4, ["segment_part"]),
    "segment.cells.method": ("propagation", ["segment_part"]),
    "segment.cells.smooth_px": (2, ["segment_part"]),
    "segment.cells.foreground_share": (0.3, ["segment_part"]),
    "segment.cells.regularisation": (0.1, ["segment_part"]),
    "segment.cells.grow_px": (6, ["segment_part"]),
    "measure.families": (["AreaShape", "Intensity"], ["measure_part"]),
    "measure.skip_channels": (["DNA"], ["measure_part"]),
    "measure.full_scale": ({"DNA": 200}, ["measure_part"]),
    "measure.texture_scales": ([2], ["measure_part"]),
    "measure.texture_levels": (16, ["measure_part"]),
    "measure.texture_directions": ([0], ["measure_part"]),
    "measure.granularity_sampling": (0.5, ["measure_part"]),
    "measure.granularity_background_sampling": (0.5, ["measure_part"]),
    "measure.granularity_radius_px": (5, ["measure_part"]),
    "measure.granularity_steps": (4, ["measure_part"]),
    "measure.radial_bins": (3, ["measure_part"]),
    "measure.correlation_threshold": (20, ["measure_part"]),
    "measure.costes": (False, ["measure_part"]),
    "measure.neighbors_px": ([3], ["measure_part"]),
    "profile.method": ("mean", ["profile_plate"]),
    "profile.exclude_border": (False, ["profile_plate"]),
    "profile.exclude_flags": (["blank"], ["profile_plate"]),
    "profile.exclude_list": ("excluded.csv", ["profile_plate"]),
    "profile.max_bad_fields": (0.9, ["profile_plate"]),
    "profile.max_disagreement": (0.5, ["profile_plate"]),
    "profile.min_cells": (4, ["profile_plate"]),
    "profile.min_fields": (2, ["profile_plate"]),
    # No plate of the toy starts from a table.
    "profile.imported.file": ("{plate}_cells.parquet", []),
    "profile.imported.columns": ({"Spot": "Well"}, []),
    "profile.imported.columns_file": ("names.csv", []),
    "profile.imported.rows": ("cells", []),
    "profile.imported.controls": ({"DMSO": "negative"}, []),
    "profile.quantiles.levels": ([50], []),
    "profile.quantities": ({"ratio": "Nuclei_AreaShape_Area / Cells_AreaShape_Area"}, ["profile_plate"]),
    "profile.gates": ({"moved": "ratio > negative:q95"}, ["profile_plate"]),
    "profile.readouts": ({"ratio": "median(ratio)"}, ["profile_plate"]),
    "assay.seed": (1, ["assay_plate"]),
    "assay.n_bootstrap": (200, ["assay_plate"]),
    "assay.confidence": (0.9, ["assay_plate"]),
    "correct.method": ("mad_robustize", ["correct_screen"]),
    "correct.min_controls": (2, ["correct_screen"]),
    "correct.max_correlation": (0.8, ["correct_screen"]),
    "correct.drop": (["_Location_"], ["correct_screen"]),
    "correct.scale": ("mad_robustize", ["correct_screen"]),
    "correct.min_variance": (1e-3, ["correct_screen"]),
    "correct.max_outlier": (500, ["correct_screen"]),
    "correct.n_relevant": (5, ["correct_screen"]),
    "correct.blocklist": (["Cells_AreaShape_Area"], ["correct_screen"]),
    "correct.standardize.own_scale_from": (8, ["correct_screen"]),
    # The toy is corrected by `standardize`: what other methods are told reruns nothing.
    **{f"correct.{method}.own_scale_from": (8, []) for method in ("mad_robustize", "minmax-controls")},
    **{f"correct.{method}.ridge": (2.0, []) for method in ("sphering", "tvn", "harmony")},
    "correct.sphering.variant": ("PCA", []),
    "correct.tvn.coral_ridge": (2.0, []),
    "correct.harmony.theta": (1.0, []),
    "correct.harmony.n_clusters": (3, []),
    "correct.harmony.max_iterations": (3, []),
    "correct.harmony.seed": (1, []),
    "correct.mnn.n_neighbours": (5, []),
    "correct.mnn.bandwidth": (1.0, []),
    "hits.seed": (1, ["hits_screen"]),
    "hits.n_permutations": (199, ["hits_screen"]),
    "hits.max_fdr": (0.1, ["hits_screen"]),
    "hits.ridge": (0.5, ["hits_screen"]),
    "hits.toxic_cells": (0.4, ["hits_screen"]),
    "hits.flag_z": (4, ["hits_screen"]),
    "hits.unlabelled_channels": (["ER"], ["hits_screen"]),
    "hits.confidence": (0.9, ["hits_screen"]),
    "classify.method": ("plateline.classify:logistic", ["classify_screen"]),
    "classify.seed": (1, ["classify_screen"]),
    "classify.hold_out": ("plate", ["classify_screen"]),
    "classify.coverage": (0.8, ["classify_screen"]),
    "classify.logistic.C": (0.5, ["classify_screen"]),
    "classify.level": ("treatment", ["classify_screen"]),
    "classify.negative_class": (False, ["classify_screen"]),
    "classify.resample": ("over", ["classify_screen"]),
    "classify.clean": (True, ["classify_screen"]),
    "classify.ensemble": (2, ["classify_screen"]),
    "classify.temperature": (True, ["classify_screen"]),
    # The toy is classified by `logistic`: what other methods are told reruns nothing.
    **{f"classify.{method}.sharpness": (5.0, []) for method in ("nearest", "neighbours")},
    "classify.neighbours.n_neighbours": (5, []),
    "classify.svm.C": (2.0, []),
    "classify.forest.n_trees": (10, []),
    "classify.boosting.n_rounds": (10, []),
    "classify.boosting.learning_rate": (0.2, []),
    "classify.mlp.hidden": (8, []),
    "classify.mlp.dropout": (0.5, []),
    "classify.mlp.epochs": (3, []),
    "classify.mlp.loss": ("focal", []),
    "classify.mlp.mc_samples": (5, []),
    "report.main_readout": ("cells", ["report_plate", "report_screen"]),
    "report.plate.gallery_px": (64, ["report_plate"]),
    "report.screen.top_treatments": (5, ["report_screen"]),
}

# Keys that are refused where another key is as in the toy: test_workflow_ensemble.py changes them.
REFUSED_ALONE = {"profile.max_disagreement"}


def leaves(schema, path=""):
    """Keys of the config that hold a value: all but blocks of keys, and but the open blocks of custom methods."""
    for key, rule in schema["properties"].items():
        name = f"{path}{key}"
        if key == "custom":
            continue
        if rule.get("properties"):
            yield from leaves(rule, f"{name}.")
        elif rule.get("additionalProperties") is not False:
            yield name


def closure(rules):
    """The rules and all that read what they make."""
    found, waiting = set(), list(rules)
    while waiting:
        rule = waiting.pop()
        if rule not in found:
            found.add(rule)
            waiting += READ_BY[rule]
    return found


def jobs_of(rules, plates=("P1", "P2"), parts=2):
    """Jobs of the rules, and of what reads them: plate and part rules of the plates, screen rules once."""
    jobs = set()
    for rule in closure(rules):
        if rule.endswith("_part"):
            jobs |= {f"{rule} {plate} {part + 1}" for plate in plates for part in range(parts)}
        else:
            jobs |= {rule} if rule.endswith("_screen") else {f"{rule} {plate}" for plate in plates}
    return jobs


def with_value(config, key, value):
    """A copy of the config in which one key has another value."""
    changed = copy.deepcopy(config)
    *path, last = key.split(".")
    block = changed
    for name in path:
        block = block.setdefault(name, {})
    block[last] = value
    return changed
