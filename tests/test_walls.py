"""Tests of which modules may import what, and that each violation is detected."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"embedrt": "runtime", "embedrt_export": "export", "benchmarks": "."}

BASE = {"numpy", "onnxruntime", "tokenizers"}
# From bottom to top: a subpackage may import those on lower floors and itself, but no others on its
# own floor.
FLOORS = {
    "embedrt": [
        ["errors", "progress", "files", "pair", "signals", "arguments", "fixed"], ["bundle"],
        ["text", "engine", "similarity", "sparse_rows", "max_sim"], ["kernels"],
        ["postprocess", "spellings", "loaded", "activations", "query_table"], ["request"],
        ["embedder", "reranker", "sparse", "multi_vector"], ["tasks"],
        ["verify", "bench", "integrations"], ["upgrade", "hub", "corpus", "serve"], ["cli"],
    ],
    "embedrt_export": [
        ["encoder", "quiet", "memory"], ["head", "masked", "table"], ["source"],
        ["settings", "graph"],
        ["families", "heads", "int8"], ["traced"],
        ["architectures", "assemble"], ["proof", "migration"], ["card"], ["stages"], ["bundling"],
        ["static"], ["pipeline"],
    ],
    "benchmarks": [
        ["checkout", "statistics", "timing", "markdown", "padding", "models"],
        ["contenders", "preparations", "machine"], ["harness"], ["report"],
        ["run", "roofline", "soak", "engine", "corpus", "planner", "serving", "mteb_scores",
         "rerank_sts", "scoring", "static", "kernels", "beside_openvino"],
    ],
}  # fmt: skip
# What is built on the core, and so may import more than the base dependencies.
BUILT_ON_THE_CORE = {"bench", "integrations", "hub", "corpus", "serve", "cli"}
CORE = {"", *(room for floor in FLOORS["embedrt"] for room in floor)} - BUILT_ON_THE_CORE
# The only modules to which a rule does not apply.
ONNX_RUNTIME = {"embedrt.engine.session"}
EXPORTER = {"embedrt.cli.compare", "embedrt.cli.export", "embedrt.cli.verify"}
OPTIONAL = {"embedrt.progress": "tqdm", "embedrt.sparse_rows": "scipy"}
HUB_CLIENT = "embedrt.hub."
SPELLED = ("embedrt.bundle.reader", "embedrt.hub.pull")  # imported for paths that begin with hub:
MODEL_FILES = "embedrt_export.source"
# Files of the project or the user, and graphs that are being made.
OWN_FILES = {"embedrt_export.int8.calibration", "embedrt_export.graph.weights"}
IMPORTING = {"import_module", "__import__"}
READING = {"open", "read_text", "read_bytes", "load_file", "safe_open", "from_file", "memmap"}
READING_MODULES = {"json", "np", "onnx", "pickle", "tomllib", "torch"}  # whose `load` reads a file


@dataclass(frozen=True)
class Import:
    """One name that a module imports, at any level."""

    importer: str
    module: str
    name: str = ""


def imports_of(importer: str, source: str) -> Iterator[Import]:
    """Yield all imports, including those in functions and `import_module` with a literal."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(importer, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Nothing else could say to which room a relative import belongs.
            assert node.module, f"{importer}:{node.lineno} has a relative import"
            assert not node.level, f"{importer}:{node.lineno} has a relative import"
            yield from (Import(importer, node.module, alias.name) for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in IMPORTING
            and isinstance(node.args[0], ast.Constant)
        ):
            yield Import(importer, str(node.args[0].value))


def modules() -> dict[str, str]:
    """Return the source of every module by name."""
    found = {}
    for package, folder in SOURCES.items():
        base = ROOT / folder
        for file in sorted((base / package).rglob("*.py")):
            if any(part.startswith(".") for part in file.relative_to(base).parts):
                continue  # virtual environments
            parts = file.relative_to(base).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = file.read_text(encoding="utf-8")
    return found


MODULES = modules()
DOORS = [name for name in MODULES if any(other.startswith(f"{name}.") for other in MODULES)]
IMPORTS = [found for name, source in MODULES.items() for found in imports_of(name, source)]


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def of_the_runtime(one: Import) -> bool:
    return one.importer.split(".")[0] == "embedrt"


def foreign_packages(one: Import) -> bool:
    """The core may import only the base dependencies and itself."""
    top, room = one.module.split(".")[0], room_of(one.importer)
    if not of_the_runtime(one) or room not in CORE:
        return False
    if OPTIONAL.get(one.importer) == top:
        return False
    return top not in {*BASE, "embedrt", *sys.stdlib_module_names}


def exporter_from_the_runtime(one: Import) -> bool:
    exporter = one.module.startswith("embedrt_export")
    return of_the_runtime(one) and exporter and one.importer not in EXPORTER


def onnx_runtime_elsewhere(one: Import) -> bool:
    engine = one.module.split(".")[0] == "onnxruntime"
    return of_the_runtime(one) and engine and one.importer not in ONNX_RUNTIME


def hub_client_elsewhere(one: Import) -> bool:
    """Only one subpackage of the runtime may use the hub's client."""
    return (
        of_the_runtime(one)
        and one.module.split(".")[0] == "huggingface_hub"
        and not one.importer.startswith(HUB_CLIENT)
    )


def private_names(one: Import) -> bool:
    """Names with an underscore may be used only in their own module."""
    ours = one.module.split(".")[0] in SOURCES
    return (
        ours
        and one.module != one.importer
        and one.name.startswith("_")
        and one.name != "__version__"
    )


def imports_that_point_up(one: Import) -> bool:
    package = one.importer.split(".")[0]
    if package != one.module.split(".")[0] or "." not in one.importer:
        return False
    if (one.importer, one.module) == SPELLED:
        return False
    module = f"{one.module}.{one.name}" if one.module == package else one.module
    importer, imported = room_of(one.importer), room_of(module)
    if imported not in {room for floor in FLOORS[package] for room in floor}:
        imported = {"embedrt": "embedder", "embedrt_export": "pipeline"}.get(package, "")
        if not imported:  # a constant of the package
            return False
    if importer in (imported, "__main__") or not imported:
        return False
    floors = {room: floor for floor, rooms in enumerate(FLOORS[package]) for room in rooms}
    return floors[importer] <= floors[imported]


def reads_files(name: str, source: str) -> bool:
    """Whether a module of the exporter opens files; only `source` may open a model's."""
    if not name.startswith("embedrt_export.") or name.startswith(MODEL_FILES) or name in OWN_FILES:
        return False
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = {ast.unparse(function) for function in calls} - {"Bundle.open"}
    loads = {f"{module}.load" for module in READING_MODULES}
    return any(name in loads or name.rpartition(".")[2] in READING for name in names)


WALLS = [
    foreign_packages, exporter_from_the_runtime, onnx_runtime_elsewhere, hub_client_elsewhere,
    private_names, imports_that_point_up,
]  # fmt: skip


@pytest.mark.parametrize("wall", WALLS, ids=lambda wall: wall.__name__)
def test_no_violation(wall: object) -> None:
    assert callable(wall)
    assert [one for one in IMPORTS if wall(one)] == []


def test_only_source_opens_a_models_files() -> None:
    assert [name for name, source in MODULES.items() if reads_files(name, source)] == []


@pytest.mark.parametrize(
    ("wall", "importer", "line"),
    [
        (foreign_packages, "embedrt.embedder", "import torch"),
        (foreign_packages, "embedrt.text.tokenizer", "def f():\n    from transformers import A"),
        (foreign_packages, "embedrt.engine.cpu", "import tqdm"),
        (foreign_packages, "embedrt", "import torch"),
        (foreign_packages, "embedrt.multi_vector", "import torch"),
        (foreign_packages, "embedrt.max_sim", "import importlib\nimportlib.import_module('torch')"),
        (foreign_packages, "embedrt.files", "__import__('torch')"),
        (exporter_from_the_runtime, "embedrt.embedder", "import embedrt_export"),
        (exporter_from_the_runtime, "embedrt.cli.info", "import_module('embedrt_export')"),
        (onnx_runtime_elsewhere, "embedrt.engine.scheduler", "import onnxruntime as ort"),
        (onnx_runtime_elsewhere, "embedrt", "import onnxruntime"),
        (onnx_runtime_elsewhere, "embedrt.verify", "from onnxruntime.capi import session"),
        (foreign_packages, "embedrt.request", "import starlette"),
        (imports_that_point_up, "embedrt.embedder", "from embedrt.serve import create_app"),
        (imports_that_point_up, "embedrt.serve.app", "from embedrt.cli import main"),
        (hub_client_elsewhere, "embedrt.cli.pull", "def f():\n    import huggingface_hub"),
        (hub_client_elsewhere, "embedrt.bundle.reader", "from huggingface_hub import HfApi"),
        (foreign_packages, "embedrt.bundle.reader", "import huggingface_hub"),
        (private_names, "embedrt.verify", "from embedrt.bundle.reader import _check_file"),
        (private_names, "embedrt_export.pipeline", "from embedrt.verify import _read_probes"),
        (imports_that_point_up, "embedrt.bundle.reader", "from embedrt.text.inputs import as_text"),
        (imports_that_point_up, "embedrt.text.inputs", "from embedrt.engine.call import Call"),
        (imports_that_point_up, "embedrt.embedder", "from embedrt.cli import main"),
        (imports_that_point_up, "embedrt.embedder", "import_module('embedrt.hub.pull')"),
        (imports_that_point_up, "embedrt.bundle.reader", "from embedrt.hub import push"),
        (imports_that_point_up, "embedrt.embedder", "from embedrt.integrations import encoder"),
        (imports_that_point_up, "embedrt.engine.call", "from embedrt import embedder"),
        (imports_that_point_up, "embedrt_export.graph.nodes", "import embedrt_export.pipeline"),
        (imports_that_point_up, "benchmarks.harness.rows", "from benchmarks.report import tables"),
        (imports_that_point_up, "benchmarks.machine.limits", "import benchmarks.contenders"),
        (imports_that_point_up, "benchmarks.statistics", "from benchmarks import machine"),
        (imports_that_point_up, "benchmarks.report.tables", "import benchmarks.run"),
    ],
)  # fmt: skip
def test_a_violation_is_detected(wall: object, importer: str, line: str) -> None:
    assert callable(wall)
    assert any(wall(one) for one in imports_of(importer, line))


@pytest.mark.parametrize(
    "line",
    [
        "(folder / 'config.json').read_text()",
        "open('x')",
        "load_file(path)",
        "torch.load(path)",
        "np.load(path)",
        "np.memmap(path)",
        "Tokenizer.from_file(path)",
    ],
)
def test_opening_a_file_is_detected(line: str) -> None:
    assert reads_files("embedrt_export.heads.head", line)
    assert not reads_files("embedrt_export.source.settings", line)


@pytest.mark.parametrize("line", ["from . import cli", "from ..engine.session import Session"])
def test_relative_imports_are_refused(line: str) -> None:
    with pytest.raises(AssertionError, match=r"embedrt.bundle.reader:1 has a relative import"):
        list(imports_of("embedrt.bundle.reader", line))


def test_every_module_has_a_room() -> None:
    """A new folder must be added to the floors."""
    for name in MODULES:
        package, *rest = name.split(".")
        rooms = {room for floor in FLOORS[package] for room in floor}
        assert not rest or rest[0] in rooms | {"__main__"}


def test_no_module_is_too_long() -> None:
    assert [name for name, source in MODULES.items() if source.count("\n") > 400] == []


def sentences(docstring: str) -> int:
    """Count the periods that end a sentence, outside of code."""
    return len(re.findall(r"[.](?=\s|$)", re.sub(r"``?.*?``?", "x", docstring, flags=re.DOTALL)))


@pytest.mark.parametrize("name", DOORS)
def test_a_package_says_what_it_is_for(name: str) -> None:
    """In three sentences: what it is for, what its modules do, and what bounds it."""
    assert sentences(ast.get_docstring(ast.parse(MODULES[name])) or "") >= 3
