"""The three layers: pinned wheels for the target platform, installed without Docker; our library, a folder; the
knowledge base on medicines, compiled when it is missing.

The runtime and the architecture are named here and nowhere else. The AWS SDK is in no layer: Lambda brings
it.
"""

from __future__ import annotations

import compileall
import hashlib
import py_compile
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk import aws_lambda as lambda_
from constructs import Construct
from uv import find_uv_bin

from infra.paths import ROOT
from knowledge.compiler import ensured
from knowledge.places import ARTEFACT, LAYER

RUNTIME: Final = lambda_.Runtime.PYTHON_3_14
ARCHITECTURE: Final = lambda_.Architecture.ARM_64
PYTHON_VERSION: Final = "3.14"
# glibc 2.28 or newer: the runtime is Amazon Linux 2023, which has 2.34.
PLATFORM: Final = "aarch64-manylinux_2_28"

REQUIREMENTS: Final = ROOT / "layers" / "dependencies" / "requirements.txt"
NOT_CODE: Final = ["**/__pycache__", "**/*.egg-info", "**/.*"]


class Layers(Construct):
    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.all = [self._dependencies(), self._library(), self._knowledge()]

    def _dependencies(self) -> lambda_.LayerVersion:
        recipe = f"{PYTHON_VERSION} {PLATFORM} {compiles_bytecode()}\n".encode()
        return self._layer(
            "Dependencies",
            "what the functions need from PyPI",
            lambda_.Code.from_asset(
                str(REQUIREMENTS.parent),
                asset_hash=hashlib.sha256(recipe + REQUIREMENTS.read_bytes()).hexdigest(),
                asset_hash_type=AssetHashType.CUSTOM,
                bundling=BundlingOptions(
                    image=DockerImage.from_registry("unused"),  # required, though `local` always succeeds or raises
                    local=Wheels(),
                ),
            ),
        )

    def _library(self) -> lambda_.LayerVersion:
        folder = str(ROOT / "layers" / "passerelle")
        return self._layer("Library", "passerelle", lambda_.Code.from_asset(folder, exclude=NOT_CODE))

    def _knowledge(self) -> lambda_.LayerVersion:
        """Raises SourceError when it is neither there nor can be compiled."""
        ensured(ARTEFACT)
        return self._layer(
            "Knowledge", "what is known of medicines", lambda_.Code.from_asset(str(LAYER), exclude=NOT_CODE)
        )

    def _layer(self, name: str, description: str, code: lambda_.Code) -> lambda_.LayerVersion:
        return lambda_.LayerVersion(
            self,
            name,
            description=description,
            code=code,
            compatible_runtimes=[RUNTIME],
            compatible_architectures=[ARCHITECTURE],
        )


@jsii.implements(ILocalBundling)
class Wheels:
    """CDK's hook for bundling outside Docker."""

    def try_bundle(self, output_dir: str, *, image: DockerImage, **_: Any) -> bool:
        install(Path(output_dir))
        return True


def install(folder: Path) -> None:
    """Unpack the pinned wheels of the target platform into `folder`.

    Raises CalledProcessError; uv has said why on standard error.
    """
    target = folder / "python"
    subprocess.run(  # noqa: S603 - every argument is a constant of this module or a path of ours
        [
            find_uv_bin(),
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--only-binary=:all:",
            f"--python-platform={PLATFORM}",
            f"--python-version={PYTHON_VERSION}",
            f"--target={target}",
            f"--requirements={REQUIREMENTS}",
        ],
        check=True,
    )
    if compiles_bytecode():
        # Halves the cold start. Unchecked: a layer's time stamps are not those of the build.
        compileall.compile_dir(target, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def compiles_bytecode() -> bool:
    """Whether this Python writes bytecode that the runtime can read: that of the same minor version."""
    return f"{sys.version_info.major}.{sys.version_info.minor}" == PYTHON_VERSION
