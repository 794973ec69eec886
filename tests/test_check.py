"""What cannot be meant is refused before the graph is built: which key, what it got, what it expected."""

import copy
from pathlib import Path

import pytest
import yaml

from plateline import check, readouts
from plateline.config import fill_defaults, read_sheet, training_files
from plateline.errors import ConfigError, StorageError

ROOT = Path(__file__).parents[1]
SCHEMA, LINES = (
    yaml.safe_load((ROOT / "workflow" / "schemas" / f"{name}.schema.yaml").read_text()) for name in ("config", "plates")
)
OWN = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def changed(path, value):
    """The demo's config with one key changed; None removes it."""
    config = copy.deepcopy(OWN)
    *blocks, last = path.split("/")
    block = config
    for name in blocks:
        block = block.setdefault(name, {})
    if value is None:
        del block[last]
    else:
        block[last] = value
    return config


@pytest.fixture
def line(tmp_path, monkeypatch):
    """A line of a sheet whose files are there, defaults filled in."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Path("map.csv").write_text("Well\n")
    return fill_defaults({"plate": "P1", "source": "images", "platemap": "map.csv"}, LINES)


def check_lines(*lines):
    check.check_sheet(list(lines), LINES, fill_defaults(OWN, SCHEMA), SCHEMA)


def test_the_demo_is_meant(monkeypatch):
    monkeypatch.chdir(ROOT)
    check.check_config(OWN, SCHEMA)
    check_lines(*(fill_defaults(line, LINES) for line in read_sheet(OWN["sheet"])))


def test_the_shortest_config_is_enough():
    check.check_config({"ingest": {"plate": {}}, "segment": {"nuclei_channel": "1"}, "profile": {}}, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("segmnt", {}, r"^config: unknown key 'segmnt'; known are sheet, ingest, platemap"),
        ("segment/otsu/grow", 3, r"^config: segment.otsu: unknown key 'grow'; known are smooth_px, min_area_px"),
        ("segment/nuclei_channel", None, r"^config: segment: missing key 'nuclei_channel'$"),
        ("segment", None, r"^config: missing key 'segment'$"),
        ("segment/cells/grow_px", -1, r"segment.cells.grow_px: got -1; expected at least 0 \(Farthest a cell reaches"),
        ("segment/otsu/min_area_px", 4.5, r"min_area_px: got 4.5; expected integer \(Smallest nucleus, pixels\)"),
        ("segment/otsu/min_area_px", "40", r"min_area_px: got '40'; expected integer"),
        ("segment/nuclei_channel", 1, r"segment.nuclei_channel: got 1; expected string"),
        ("qc/part/background_percentile", 101, "background_percentile: got 101; expected at most 100"),
        ("assay/confidence", 1, "assay.confidence: got 1; expected less than 1"),
        ("assay/confidence", 0, "assay.confidence: got 0; expected more than 0"),
        ("measure/full_scale", {"DNA": 0}, "measure.full_scale.DNA: got 0; expected more than 0"),
        ("ingest/part/projection", "sum", "ingest.part.projection: got 'sum'; expected one of max, mean, middle"),
        ("ingest/plate/channels", {"1": "a b"}, r"channels.1: got 'a b'; expected text like \^\[A-Z"),
        (
            "profile/exclude_list",
            "nowhere.csv",
            "profile.exclude_list: no file 'nowhere.csv'; expected a table of wells",
        ),
        ("profile/exclude_flags", ["blank", "blank"], "exclude_flags: got .* has non-unique elements"),
        ("profile/exclude_flags", ["dark"], "exclude_flags.0: got 'dark'; expected one of blank, blurred, saturated"),
        (
            "profile/readouts",
            {f"r{n}": "count()" for n in range(21)},
            "profile.readouts: .* expected at most 20 entries",
        ),
        ("profile/readouts", {"a b": "count()"}, "profile.readouts: got 'a b'; expected text like"),
        ("profile/readouts", {"a": 3}, "profile.readouts.a: got 3; expected 3 is not valid under any"),
        ("classify/hold_out", "well", "classify.hold_out: got 'well'; expected one of"),
        ("assay", "", "assay: got ''; expected object"),
    ],
)
def test_a_config_that_does_not_fit_its_schema(path, value, message):
    with pytest.raises(ConfigError, match=message):
        check.check_config(changed(path, value), SCHEMA)


def test_every_key_that_does_not_fit_is_named_once():
    config = changed("segment/cells/grow_px", -1) | {"asay": {}, "mesure": {}}
    del config["ingest"], config["profile"]
    with pytest.raises(ConfigError) as caught:
        check.check_config(config, SCHEMA)
    assert len(str(caught.value).splitlines()) == 3
    for text in ("unknown key 'asay', 'mesure'", "missing key 'ingest', 'profile'", "grow_px: got -1"):
        assert str(caught.value).count(text) == 1


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="segment: unknown method 'otzu'; known are flow, distance, "):
        check.check_config(changed("segment/method", "otzu"), SCHEMA)
    with pytest.raises(ConfigError, match="flatfield: unknown method 'bassic'; known are none, median"):
        check.check_config(changed("flatfield/method", "bassic"), SCHEMA)


def test_readouts_outside_the_grammar_are_refused():
    with pytest.raises(ConfigError, match=r"profile.gates.translocated: 'log2_ratio >' is no comparison"):
        check.check_config(changed("profile/gates/translocated", "log2_ratio >"), SCHEMA)
    with pytest.raises(
        ConfigError, match=r"config: report.main_readout: got 'ratio'; expected one of log2_ratio, perc"
    ):
        check.check_config(changed("report/main_readout", "ratio"), SCHEMA)
    check.check_config(changed("report/main_readout", ""), SCHEMA)


def test_two_channels_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"ingest.plate.channels: \['DNA'\] is the name of more than one channel"):
        check.check_config(changed("ingest/plate/channels", {"1": "DNA", "2": "DNA"}), SCHEMA)


def test_a_sheet_without_plates_is_refused(line):
    with pytest.raises(ConfigError, match=r"sheet config/plates.tsv names no plate; expected a line per plate"):
        check_lines()
    with pytest.raises(
        ConfigError, match=r"sheet config/plates.tsv: no plate is in use; expected at least one line with"
    ):
        check_lines(line | {"use": "no: empty"})


def test_plates_that_override_the_same_are_checked_once(line, monkeypatch):
    checked = []
    monkeypatch.setattr(check, "check_config", lambda config, schema, where: checked.append(where))
    other = line | {"segment.cells.grow_px": "3"}
    names = [f"P{number}" for number in range(6)]
    check_lines(*((other if number % 2 else line) | {"plate": name} for number, name in enumerate(names)))
    assert [where.rpartition(" ")[2] for where in checked] == ["P0", "P1"]


def test_lines_that_are_meant(line):
    check_lines(line, line | {"plate": "P2", "segment.cells.grow_px": "3"})
    check_lines(line, line | {"plate": "P2", "use": "no: dropped on the floor", "source": "gone", "platemap": "gone"})


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("plate", "P 1", "plate sheet config/plates.tsv, plate P 1: plate: got 'P 1'; expected text like"),
        ("plate", "../P1", "plate: got '../P1'; expected text like"),
        ("parts", "0", r"plate P1: parts: got '0'; expected text like .* \(Shares its wells are cut into\)"),
        ("shape", "95", "plate P1: shape: got '95'; expected one of 6, 12, 24, 48, 96, 384, 1536"),
        ("use", "no", r"plate P1: use: got 'no'; expected text like \^\(yes"),
        ("bach", "1", "plate P1: unknown key 'bach'; known are plate, batch, barcode, source"),
        ("layout", "patern", "ingest: unknown method 'patern'; known are pattern, load_data, "),
        ("source", "gone", "plate P1: source: no folder 'gone'; expected the folder of the plate's images"),
        ("platemap", "gone.csv", "plate P1: platemap: no file 'gone.csv'; expected the plate map of this plate"),
        ("segment.otsu.grow", "3", "plate sheet, plate P1: column 'segment.otsu.grow' is no key of the config"),
        ("segment.cells.grow_px", "-3", "plate P1: segment.cells.grow_px: got -3; expected at least 0"),
        ("hits.seed", "1", "plate P1: column 'hits.seed': that works on all plates together; expected a key of one p"),
        ("report.screen.top_treatments", "1", "plate P1: column 'report.screen.top_treatments': that works on all"),
    ],
)
def test_a_line_that_cannot_be_meant(line, column, text, message):
    with pytest.raises(ConfigError, match=message):
        check_lines(line | {column: text})


def test_a_line_without_its_files_names_what_is_missing(line):
    del line["source"], line["platemap"]
    with pytest.raises(ConfigError, match=r"plate P1: missing key 'source'$"):
        check_lines(line)
    with pytest.raises(ConfigError, match=r"plate P1: missing key 'platemap'$"):
        check_lines(line | {"source": "images", "platemap": ""})


def test_a_plate_from_a_table_needs_its_table_and_no_plate_map(line, tmp_path):
    own = line | {"layout": "profiles", "source": "wells.csv", "platemap": ""}
    with pytest.raises(
        ConfigError, match=r"plate P1: source: no table 'wells.csv'; expected a file of profiles or a fol"
    ):
        check_lines(own)
    with pytest.raises(ConfigError, match="plate P1: source: no table 'images'"):
        check_lines(own | {"source": "images"})
    Path("wells.csv").write_text("Well,f\n")
    check_lines(own)
    check_lines(own | {"source": "."})
    with pytest.raises(ConfigError, match=r"plate P1: platemap: no file 'gone.csv'"):
        check_lines(own | {"platemap": "gone.csv"})
    with pytest.raises(ConfigError, match=r"profile.imported.columns_file: no file 'names.csv'; expected a table"):
        check_lines(own | {"profile.imported.columns_file": "names.csv"})


def test_an_unknown_column_beside_an_override_is_the_only_one_named(line):
    with pytest.raises(ConfigError, match="unknown key 'bach'; known are"):
        check_lines(line | {"bach": "1", "segment.cells.grow_px": "3"})


def test_a_plate_stands_in_one_line(line):
    with pytest.raises(ConfigError, match="plate P1: stands in 2 lines; expected one"):
        check_lines(line, dict(line))


def test_a_raw_source_may_be_gone_once_it_is_ingested(line):
    line |= {"source": "gone", "parts": "2"}
    folder = Path("results/ingest/P1")
    folder.mkdir(parents=True)
    (folder / "part-1.parquet").write_text("")
    with pytest.raises(ConfigError, match="source: no folder 'gone'"):
        check_lines(line)
    (folder / "part-2.parquet").write_text("")
    check_lines(line)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "qc/plate",
            {"roles": {"DNA": "Hoechst"}},
            r"qc.plate.roles.DNA: got 'Hoechst'; expected a name in .*FKHR, DNA",
        ),
        ("segment/nuclei_channel", "dna", r"config: segment.nuclei_channel: got 'dna'; expected a name in .*FKHR, DNA"),
        ("segment/cell_channels", ["FKHR", "ER"], r"config: segment.cell_channels: got 'ER'"),
        ("measure/full_scale", {"GFP": 4095}, r"config: measure.full_scale: got 'GFP'"),
        ("ingest/part/projection", {"GFP": "max"}, r"config: ingest.part.projection: got 'GFP'"),
        (
            "profile/quantities/log2_ratio",
            "log2(Nuclei_Intensity_MeanIntensity_FKHR / Cytoplasm_Intensity_MeanIntensty_FKHR)",
            r"feature 'Cytoplasm_Intensity_MeanIntensty_FKHR', .*nearest: Cytoplasm_Intensity_MeanIntensity_FKHR",
        ),
        ("measure/families", ["AreaShape"], r"feature '\w+_Intensity_\w+', which measure does not make"),
    ],
)
def test_a_name_that_nothing_makes_is_refused(path, value, message):
    with pytest.raises(ConfigError, match=message):
        check.check_config(changed(path, value), SCHEMA)


def test_names_are_only_checked_where_the_config_names_the_channels():
    check.check_config(changed("ingest/plate/channels", {}) | {"segment": {"nuclei_channel": "any"}}, SCHEMA)


def test_a_model_that_is_no_file_is_refused(tmp_path):
    segment = {"nuclei_channel": "DNA", "method": "lab:net", "custom": {"model": str(tmp_path / "net.safetensors")}}
    with pytest.raises(ConfigError, match=r"segment: model: no file .*net.safetensors'; expected the weights of"):
        check.check_config(OWN | {"segment": segment}, SCHEMA)
    (tmp_path / "net.safetensors").touch()
    check.check_config(OWN | {"segment": segment}, SCHEMA)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"ensemble": ["otzu"]}, r"segment: unknown method 'otzu'; known are flow"),
        ({"ensemble": ["flow", "flow"]}, r"segment\.ensemble: got \['flow', 'flow'\]"),
        ({"ensemble": "flow"}, r"segment\.ensemble: got 'flow'; expected array"),
        (
            {"ensemble": ["adaptive", "otsu"], "method": "otsu"},
            r"config: segment\.ensemble: got 'otsu', which is segment\.method or stands twice; expected other methods",
        ),
        (
            {"ensemble": ["adaptive", "plateline.segment.classical:adaptive"]},
            r"got 'adaptive', which is .* stands twice",
        ),
        (
            {"ensemble": ["lab:a", "otsu", "lab:b"], "method": "flow", "custom": {"x": 1}},
            r"segment\.ensemble: lab:a and lab:b would share segment\.custom, got \{'x': 1\}; expected one import path",
        ),
        (
            {"ensemble": ["flow"], "flow": {"model": "absent.safetensors"}},
            r"segment: model: no file 'absent\.safetensors'; expected the weights of method flow",
        ),
        (
            {"ensemble": ["flow"], "flow": {"model": "fit"}},
            r"segment\.flow\.model is 'fit': got segment\.fit with method",
        ),
    ],
)
def test_an_ensemble_that_cannot_be_meant_is_refused(segment, message):
    with pytest.raises(ConfigError, match=message):
        check.check_config(OWN | {"segment": OWN["segment"] | segment}, SCHEMA)


def test_an_ensemble_of_networks_plugins_and_one_import_path_is_meant():
    ensemble = {"ensemble": ["adaptive", "distance", "cellpose", "lab:a"], "custom": {"x": 1}}
    config = OWN | {"segment": OWN["segment"] | ensemble, "profile": OWN["profile"] | {"max_disagreement": 0.5}}
    check.check_config(config, SCHEMA)
    two_paths = OWN["segment"] | {"ensemble": ["lab:a", "lab:b"]}
    check.check_config(OWN | {"segment": two_paths}, SCHEMA)


def test_a_limit_of_disagreement_needs_an_ensemble(line):
    config = changed("profile/max_disagreement", 0.3)
    with pytest.raises(
        ConfigError,
        match=r"config: profile\.max_disagreement: got 0\.3, but nothing is compared; expected 1, or methods in "
        r"segment\.ensemble beside ",
    ):
        check.check_config(config, SCHEMA)
    filled = fill_defaults(config, SCHEMA)
    check.check_sheet([line | {"segment.ensemble": '["adaptive"]'}], LINES, filled, SCHEMA)
    with pytest.raises(ConfigError, match=r"plate P1: profile\.max_disagreement: got 0\.3, but nothing is compared"):
        check.check_sheet([line], LINES, filled, SCHEMA)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"method": "boundary"}, r"plate P1: segment\.method: the model of boundary was trained on fluorescence, but "),
        (
            {"method": "otsu", "ensemble": ["adaptive", "distance"]},
            r"segment\.ensemble: the model of distance was trained on fluorescence, but segment\.modality is phase",
        ),
        (
            {"method": "otsu", "ensemble": ["flow"], "flow": {"model": "fit"}},
            r"segment\.ensemble: the model of flow was trained on fluorescence",
        ),
    ],
)
def test_a_network_that_was_not_trained_on_such_images_is_refused_before_a_run(line, segment, message):
    config = fill_defaults(OWN | {"segment": {"nuclei_channel": "DNA", "modality": "phase"} | segment}, SCHEMA)
    with pytest.raises(ConfigError, match=message):
        check.check_modality([line], config)
    check.check_modality([line | {"use": "no: broken"}], config)
    check.check_modality([line | {"segment.modality": "fluorescence"}], config)


def test_an_ensemble_needs_no_new_approval(line):
    digests = [
        check.segment_digest(fill_defaults(changed(f"segment/{key}", value), SCHEMA), line)
        for key, value in (("method", "otsu"), ("ensemble", ["adaptive"]), ("otsu", {"smooth_px": 3}))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_model_without_its_card_beside_it_is_left_to_the_job(line):
    Path("own.safetensors").touch()
    segment = {"nuclei_channel": "DNA", "modality": "phase", "method": "flow", "flow": {"model": "own.safetensors"}}
    check.check_modality([line], fill_defaults(OWN | {"segment": segment}, SCHEMA))


def test_features_are_found_in_quantities_gates_and_readouts():
    trees = readouts.parse(
        {"ratio": "Nuclei_A / (Cells_B + 1)"}, {"big": "Nuclei_C > 3 and ratio > negative:q9"}, {"x": "mean(Cells_D)"}
    )
    assert readouts.features_in(trees) == ["Cells_B", "Cells_D", "Nuclei_A", "Nuclei_C"]


# --- before the graph is built


def test_results_without_records_of_what_made_them_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check.check_records()
    (tmp_path / "results/ingest/P1").mkdir(parents=True)
    check.check_records()
    (tmp_path / "results/ingest/P1/images.parquet").touch()
    message = r"\.snakemake/ has no record of what made them.*Bring \.snakemake/ here too; .*--touch --forceall"
    with pytest.raises(ConfigError, match=message):
        check.check_records()
    (tmp_path / ".snakemake/metadata").mkdir(parents=True)
    with pytest.raises(ConfigError, match=message):
        check.check_records()
    (tmp_path / ".snakemake/metadata/cmVzdWx0cy9pbmdlc3QvUDEvaW1hZ2VzLnBhcnF1ZXQ=").touch()
    check.check_records()


def test_results_of_jobs_that_outlived_their_run_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("results/ingest/P1", ".snakemake/metadata", ".snakemake/locks"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".snakemake/metadata/cmVzdWx0cy94").touch()
    (tmp_path / "results/run.json").write_text("{}")
    for name in ("images.parquet", "images.ledger.parquet"):
        (tmp_path / "results/ingest/P1" / name).touch()
    message = r"results/ingest/P1/images\.ledger\.parquet and 1 more was made by a job that outlived its run.*unlock"
    with pytest.raises(ConfigError, match=message):
        check.check_records()
    # A run that is on takes note of them in a moment.
    (tmp_path / ".snakemake/locks/0.input.lock").touch()
    check.check_records()


@pytest.mark.parametrize("fit", [{}, {"images": "absent", "masks": "absent", "method": "flow"}, {"method": "distance"}])
def test_a_model_cannot_be_trained_without_images_and_masks_for_its_method(fit):
    segment = {"nuclei_channel": "DNA", "method": "flow", "flow": {"model": "fit"}, "fit": fit}
    message = (
        r"segment\.flow\.model is 'fit': got segment\.fit with method \w+, .*; expected method flow and two folders"
    )
    with pytest.raises(ConfigError, match=message):
        check.check_config(OWN | {"segment": segment}, SCHEMA)


def painted(folder, images, masks):
    """The demo's config with a training on a plate, of which the files that are looked for are there."""
    files = ("zarr.json", "A/01/1/0/c", "A/01/1/labels/nuclei/0/c", "A/02/1/0/c", "A/02/1/labels/nuclei/0/zarr.json")
    for name in files:
        (folder / "plate.zarr" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "plate.zarr" / name).touch()
    fit = {"images": images, "masks": masks, "method": "flow"}
    return OWN | {"segment": {"nuclei_channel": "DNA", "method": "flow", "flow": {"model": "fit"}, "fit": fit}}


def test_a_model_is_trained_on_a_plate_with_painted_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check.check_config(painted(tmp_path, "plate.zarr", "nuclei"), SCHEMA)
    files = training_files({"images": "plate.zarr", "masks": "nuclei"})
    assert files == ["plate.zarr/A/01/1/0/c", "plate.zarr/A/01/1/labels/nuclei/0/c"]


@pytest.mark.parametrize("masks", ["cells", "", "nucle*"])
def test_a_plate_without_the_label_is_refused(tmp_path, monkeypatch, masks):
    monkeypatch.chdir(tmp_path)
    message = r"segment\.fit\.masks: no field of plate\.zarr has a label '.*' with anything painted; expected the name"
    with pytest.raises(ConfigError, match=message):
        check.check_config(painted(tmp_path, "plate.zarr", masks), SCHEMA)


def test_a_plate_that_the_campaign_writes_is_no_training_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "images").mkdir(parents=True)
    config = painted(tmp_path / "results" / "images", "results/images/plate.zarr", "nuclei")
    with pytest.raises(ConfigError, match=r"segment\.fit\.images: got .*plate\.zarr', which this campaign writes anew"):
        check.check_config(config, SCHEMA)


@pytest.mark.parametrize("closed", ["results", "results/images"])
@pytest.mark.parametrize(
    "words", [["--cores", "2"], ["-c1"], ["-j", "4", "--forcerun", "qc_plate"], ["--profile", "slurm"]]
)
def test_a_run_is_refused_where_results_cannot_be_written(tmp_path, monkeypatch, closed, words):
    monkeypatch.chdir(tmp_path)
    check.check_writable(words)
    Path("results/images").mkdir(parents=True)
    check.check_writable(words)
    monkeypatch.setattr(check.os, "access", lambda folder, mode: str(folder) != closed)
    with pytest.raises(
        StorageError, match=rf"^{closed} cannot be written: Permission denied; make it writable \(mount"
    ):
        check.check_writable(words)


@pytest.mark.parametrize(
    "words", [["-n"], ["-np"], ["--dry-run", "--cores", "2"], ["--unlock"], ["--summary"], ["-c1", "-n"]]
)
def test_a_look_at_results_that_cannot_be_written_is_none_of_its_business(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    monkeypatch.setattr(check.os, "access", lambda folder, mode: False)
    check.check_writable(words)
