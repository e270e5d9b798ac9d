"""``embedrt export``: export a sentence-transformers model to a bundle. Needs embedrt[export]."""

from __future__ import annotations

import argparse
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from embedrt.bundle.manifest import Precision
from embedrt.cli.log import shown_log
from embedrt.errors import MissingExtraError


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("export", help="make a bundle from a model", description=__doc__)
    parser.add_argument(
        "model", metavar="MODEL", help="a recipe's name, a hub id, or a folder in the hub's layout"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the bundle's folder (models/<name>-<precision>)"
    )
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit on the hub")
    parser.add_argument(
        "--files", type=Path, metavar="DIR", help="a folder with the files of a recipe's model"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="fp32",
        help="of the large matrix products (fp32)",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="texts to calibrate int8, one per line"
    )
    parser.add_argument(
        "--ignore-remote-code",
        action="store_true",
        help="ignore code that comes with the model; export transformers' own architecture",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Export the model; print each stage on stderr and the bundle's path on stdout."""
    exporter = load_exporter()
    with shown_log(exporter.__name__):
        path = exporter.export_model(
            options.model,
            output=options.output,
            revision=options.revision,
            files=options.files,
            precision=options.precision,
            calibration=options.calibration,
            ignore_remote_code=options.ignore_remote_code,
        )
    print(path)


def load_exporter() -> ModuleType:
    """Import `embedrt_export`; raise MissingExtraError naming the packages that are missing."""
    if missing := [name for name in _extra_packages("export") if not _installed(name)]:
        raise MissingExtraError(
            f"this command needs {', '.join(missing)}: pip install 'embedrt[export]' (for torch "
            "without CUDA, first: pip install torch --index-url https://download.pytorch.org/whl/cpu)"
        )
    return import_module("embedrt_export")


def _extra_packages(extra: str) -> list[str]:
    """Return the distributions that an extra of embedrt requires, from its package metadata."""
    marker = f'extra == "{extra}"'
    return [
        requirement.partition(";")[0].strip().partition(" ")[0].partition(">")[0].partition("<")[0]
        for requirement in metadata.requires("embedrt") or []
        if marker in requirement.replace("'", '"')
    ]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
