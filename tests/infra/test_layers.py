"""The layer of dependencies: pinned by the lock, built for the platform of the functions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from infra.paths import ROOT

UNZIPPED_LIMIT_BYTES = 250 * 1024 * 1024  # of a function and its layers (AWS Lambda quotas)


def test_the_requirements_are_those_of_the_lock() -> None:
    """To renew: make layer."""
    from infra.layers import REQUIREMENTS

    exported = subprocess.run(
        [
            find_uv_bin(),
            "export",
            "--offline",
            "--frozen",
            "--quiet",
            "--no-dev",
            "--no-emit-project",
            "--no-annotate",
            "--no-header",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert exported == REQUIREMENTS.read_text()


def test_the_sdk_is_left_to_lambda() -> None:
    from infra.layers import REQUIREMENTS

    names = {line.partition("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line}
    assert {"fhir-resources", "joserfc"} <= names
    assert not {"boto3", "botocore", "s3transfer", "aws-cdk-lib"} & names


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from infra.layers import install

    folder = tmp_path_factory.mktemp("layer")
    install(folder)
    return folder / "python"


def test_the_layer_is_built_for_the_functions_platform(layer: Path) -> None:
    extensions = {path.name for path in layer.rglob("*.so")}
    assert extensions
    assert any(name.endswith(".cpython-314-aarch64-linux-gnu.so") for name in extensions)
    assert all("aarch64" in name or ".abi3." in name for name in extensions)


def test_extensions_are_for_arm(layer: Path) -> None:
    for path in layer.rglob("*.so"):
        header = path.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert int.from_bytes(header[18:20], "little") == 0xB7, path.name  # EM_AARCH64


def test_the_layer_fits(layer: Path) -> None:
    assert sum(path.stat().st_size for path in layer.rglob("*") if path.is_file()) < UNZIPPED_LIMIT_BYTES
