"""The command beside `snakemake`: a campaign folder that runs, and refusals that name the folder."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from plateline import cli
from plateline.errors import ConfigError

ROOT = Path(__file__).parents[1]
SHEET = "plate\tsource\tplatemap\nP1\timages one\tmap.csv\n"


@pytest.fixture
def clone(tmp_path):
    """As much of a clone as a campaign takes from it."""
    folder = tmp_path / "clone"
    for name in cli.COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    (folder / "config" / "plates.tsv").write_text(SHEET)
    (folder / "Snakefile").write_text("")
    return folder


def test_a_campaign_has_config_profiles_sheet_and_a_snakefile_that_includes_the_clone(clone, tmp_path):
    folder = tmp_path / "deep" / "campaign"
    cli.new(folder, clone)
    for name in cli.COPIED:
        assert (folder / name).read_text() == f"# {name}\n"
    assert (folder / "Snakefile").read_text().splitlines()[0] == f'include: "{clone}/Snakefile"'
    with (folder / "config" / "plates.tsv").open(newline="") as file:
        assert list(csv.DictReader(file, delimiter="\t")) == [
            {"plate": "P1", "source": f"{clone}/images one", "platemap": f"{clone}/map.csv"}
        ]


def test_a_folder_that_is_there_but_empty_will_do(clone, tmp_path):
    (tmp_path / "campaign").mkdir()
    cli.new(tmp_path / "campaign", clone)
    assert (tmp_path / "campaign" / "Snakefile").is_file()


def test_a_folder_with_something_in_it_is_refused_and_left_alone(clone, tmp_path):
    (tmp_path / "campaign").mkdir()
    (tmp_path / "campaign" / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="campaign is not empty; expected a new folder for the campaign"):
        cli.new(tmp_path / "campaign", clone)
    assert [file.name for file in (tmp_path / "campaign").iterdir()] == ["notes"]


def test_a_file_of_that_name_is_refused(clone, tmp_path):
    (tmp_path / "campaign").write_text("mine")
    with pytest.raises(ConfigError, match="campaign is not empty; expected a new folder"):
        cli.new(tmp_path / "campaign", clone)


def test_an_installation_without_its_clone_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no Snakefile in .*: a campaign runs the clone of Plateline; install it with"
    ):
        cli.new(tmp_path / "campaign", tmp_path / "site-packages")
    assert not (tmp_path / "campaign").exists()


def test_the_command_says_what_to_do_next(tmp_path, capsys):
    folder = tmp_path / "campaign"
    assert cli.main(["new", str(folder)]) == 0
    shown = capsys.readouterr()
    assert f"{folder} is ready: edit config/plates.tsv" in shown.out
    assert shown.err == ""
    line = next(csv.DictReader((folder / "config/plates.tsv").open(newline=""), delimiter="\t"))
    assert Path(line["source"]).is_dir()
    assert Path(line["platemap"]).is_file()
    assert (folder / "config/config.yaml").read_bytes() == (ROOT / "config/config.yaml").read_bytes()


@pytest.mark.slow
def test_a_new_campaign_finds_the_profile_of_a_computer_with_gpus(tmp_path):
    cli.new(tmp_path / "campaign")
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local-gpu", "--cores", "2", "-n"]
    done = subprocess.run(command, cwd=tmp_path / "campaign", text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = re.findall(r"rule (\w+):\n(?:    .*\n)*?    resources: (.*)", done.stdout)
    assert {name for name, resources in jobs if "gpu=1" in resources} == {"segment_part"}
    assert len(jobs) > 10


def test_a_refusal_goes_to_standard_error(tmp_path, capsys):
    (tmp_path / "notes").write_text("mine")
    assert cli.main(["new", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"plateline: {tmp_path} is not empty")
    assert shown.out == ""


@pytest.mark.parametrize("arguments", [[], ["now"], ["new"]])
def test_what_is_no_command_is_refused_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: plateline" in capsys.readouterr().err
