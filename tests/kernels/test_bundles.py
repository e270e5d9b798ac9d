"""Tests of bundles that run in the kernels, against the same bundles in ONNX Runtime."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from embedrt import Embedder
from embedrt.bundle.manifest import Manifest
from embedrt.bundle.reader import GRAPH, MANIFEST, describe_file
from embedrt.cli import main as embedrt_command
from embedrt.engine import sessions
from embedrt.errors import BundleCorruptError, KernelsError
from embedrt.kernels import choose as choosing
from embedrt.kernels.library import Library
from embedrt_export import export_model
from model_folders import make_small

FAMILIES = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert")
TEXTS = [
    "",
    "London",
    "How many people live in London?",
    "é 😀",
    *(" fox" * n for n in range(1, 60)),
]

FloatArray = NDArray[np.float32]


def cosines(left: FloatArray, right: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    found: FloatArray = np.sum(left * right, axis=1) / lengths
    return found


@pytest.fixture(scope="module", autouse=True)
def _a_path(library: Library) -> None:
    """Skip these tests on a processor that the kernels have no path for."""
    if library.path() is None:
        pytest.skip("there are no kernels for this processor")


@pytest.fixture(scope="session", params=FAMILIES)
def bundles(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A small model of each family, in int8 and fp32: heads of 32 or 64, the mean or the first."""
    family = request.param
    folder = tmp_path_factory.mktemp("kernels")
    narrow = family in ("bert", "roberta")
    config: dict[str, object] = {"hidden_size": 128, "num_attention_heads": 4 if narrow else 2}
    config["hidden_dim" if family == "distilbert" else "intermediate_size"] = 320
    pooling = "cls" if family in ("roberta", "distilbert") else "mean"
    model = make_small(folder / family, family, config=config, pooling=pooling)
    return {
        "fp32": export_model(str(model), output=folder / "fp32"),
        "int8": export_model(str(model), output=folder / "int8", precision="int8"),
    }


def test_every_family(bundles: dict[str, Path]) -> None:
    with (
        Embedder.load(bundles["int8"], kernels="require") as kernels,
        Embedder.load(bundles["int8"], kernels="off") as runtime,
        Embedder.load(bundles["fp32"]) as exact,
    ):
        assert kernels.stats().engine.startswith("kernels ")
        assert runtime.stats().engine.startswith("ONNX Runtime")
        found, other, true = (one.encode(TEXTS) for one in (kernels, runtime, exact))
    assert cosines(found, other).min() > 0.9995
    # As close to fp32 as ONNX Runtime's int8 is.
    assert cosines(found, true).mean() > cosines(other, true).mean() - 1e-4
    assert cosines(found, true).min() > cosines(other, true).min() - 1e-3


def test_published_weights(minilm: Path, minilm_int8: Path, texts: list[str]) -> None:
    with (
        Embedder.load(minilm_int8, kernels="require") as kernels,
        Embedder.load(minilm_int8, kernels="off") as runtime,
        Embedder.load(minilm) as exact,
    ):
        found, other, true = (one.encode(texts) for one in (kernels, runtime, exact))
    assert cosines(found, true).mean() > cosines(other, true).mean() - 1e-4
    assert cosines(found, true).min() > cosines(other, true).min() - 2e-3


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Sentences of STSb."""
    file = Path(__file__).parents[1] / "data" / "stsb" / "stsb-en-test.csv"
    lines = file.read_text(encoding="utf-8").splitlines()[:400]
    return [line.split(",")[0].strip('"') for line in lines]


def test_same_bytes_alone_in_batches_and_in_threads(minilm_int8: Path, texts: list[str]) -> None:
    with Embedder.load(minilm_int8, kernels="require", threads=2) as embedder:
        together = embedder.encode(texts)
        assert all((embedder.encode(t) == v).all() for t, v in zip(texts, together, strict=True))
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(embedder.encode, [texts, texts[::-1]] * 4):
                assert (found == together).all() or (found[::-1] == together).all()
        with pickle.loads(pickle.dumps(embedder)) as again:
            assert again.options.kernels == "require"
            assert (again.encode(texts) == together).all()


def test_texts_of_all_lengths_share_a_batch(
    minilm_int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one core, and on all of them, which run small batches without pauses between them."""
    monkeypatch.setattr(sessions, "SHORT_PAUSE", 3600.0)
    texts = ["London", *(" fox" * n for n in range(1, 8))]
    ran: list[tuple[int, int]] = []
    run = Library.run

    def recording(*arguments: Any, threads: int, **options: Any) -> FloatArray:
        ran.append((len(arguments[3]), threads))
        return run(*arguments, threads=threads, **options)

    monkeypatch.setattr(Library, "run", recording)
    with Embedder.load(minilm_int8, kernels="require", threads=2) as embedder:
        alone = np.stack([embedder.encode(text) for text in texts])
        while not embedder._engine._sessions.all_cores:
            embedder.encode("London")
        ran.clear()
        for threads, one_core in ((2, False), (1, True)):
            with monkeypatch.context() as patch:
                patch.setattr(sessions, "LONG_RUN", 3600.0)
                patch.setattr(sessions, "SHORT_PAUSE", 0.0 if one_core else 3600.0)
                assert (embedder.encode(texts) == alone).all()
            assert ran.pop() == (len(texts), threads)
            assert not ran
        assert (embedder.encode(texts, batch_size=5) == alone).all()
        assert sorted(count for count, _ in ran) == [3, 5]


def test_in_a_forked_child(minilm_int8: Path) -> None:
    with Embedder.load(minilm_int8, kernels="require") as embedder:
        expected = embedder.encode("London").tobytes()
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.write(writing, embedder.encode("London").tobytes())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, len(expected)) == expected


def test_a_bundle_read_into_memory(minilm_int8: Path) -> None:
    with (
        Embedder.load(minilm_int8, kernels="require") as mapped,
        Embedder.load(minilm_int8, kernels="require", mapped=False) as read,
    ):
        assert (mapped.encode(TEXTS) == read.encode(TEXTS)).all()


def changed(bundle: Path, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Copy a bundle with another graph, whose weights stay in their file."""
    folder.mkdir()
    for file in bundle.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    model = onnx.load(folder / GRAPH, load_external_data=False)
    change(model)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
    manifest.files[GRAPH] = describe_file(folder / GRAPH)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def node_of(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in model.graph.node if n.op_type == operator)
    return found


def use_tanh(model: onnx.ModelProto) -> None:
    node_of(model, "Gelu").attribute[0].s = b"tanh"


def change_a_residual(model: onnx.ModelProto) -> None:
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    adds[2].input[1] = adds[0].output[0]


def change_the_pooling(model: onnx.ModelProto) -> None:
    one = next(tensor for tensor in model.graph.initializer if tensor.name == "scalar_1.0")
    one.raw_data = np.float32(2).tobytes()


def add_a_node(model: onnx.ModelProto) -> None:
    last = model.graph.node[-1]
    last.input[0], name = "twice", last.input[0]
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Add", [name, name], ["twice"])
    )


def change_the_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 24


def change_an_axis(model: onnx.ModelProto) -> None:
    split = node_of(model, "LayerNormalization")
    split.attribute[0].i = 1


def share_keys(model: onnx.ModelProto) -> None:
    for attribute in node_of(model, "Attention").attribute:
        if attribute.name == "kv_num_heads":
            attribute.i = 1


CHANGES = [
    use_tanh, change_a_residual, change_the_pooling, add_a_node, change_the_opset,
    change_an_axis, share_keys,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_graphs_run_in_onnx_runtime(
    minilm_int8: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    bundle = changed(minilm_int8, tmp_path / "changed", change)
    with pytest.raises(KernelsError, match="kernels do not cover its graph"):
        Embedder.load(bundle, kernels="require")
    try:
        embedder = Embedder.load(bundle)
    except BundleCorruptError:  # ONNX Runtime refuses some of them
        return
    with embedder:
        assert embedder.stats().engine.startswith("ONNX Runtime")
        assert "kernels do not cover its graph" in embedder.stats().engine_reason


def test_an_unchanged_copy_is_covered(minilm_int8: Path, tmp_path: Path) -> None:
    bundle = changed(minilm_int8, tmp_path / "same", lambda _: None)
    Embedder.load(bundle, kernels="require").close()


def test_a_mismatch_turns_the_kernels_off(
    minilm_int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "SLACK", 0)
    with pytest.warns(UserWarning, match="runs in ONNX Runtime, because the kernels "):
        embedder = Embedder.load(minilm_int8)
    with embedder:
        assert embedder.stats().engine.startswith("ONNX Runtime")
    with pytest.raises(KernelsError, match=r"cosine of 0\.\d+ to the original's vectors"):
        Embedder.load(minilm_int8, kernels="require")


def test_the_environment_names_a_path(minilm_int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choosing.PATH_VARIABLE, "avx512-vnni")
    with Embedder.load(minilm_int8, kernels="auto") as embedder:
        assert embedder.stats().engine == "kernels avx512-vnni"
    monkeypatch.setenv(choosing.PATH_VARIABLE, "amx-int9")
    with pytest.raises(KernelsError, match="this machine cannot run the path amx-int9"):
        Embedder.load(minilm_int8, kernels="require")


def test_fp32_is_not_covered(minilm: Path) -> None:
    with pytest.raises(KernelsError, match="scheme static, not fp32"):
        Embedder.load(minilm, kernels="require")


def test_the_environment_decides(minilm_int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = {"off": "ONNX Runtime", "auto": "kernels", "": "kernels", "require": "kernels"}
    for value, engine in engines.items():
        monkeypatch.setenv("EMBEDRT_KERNELS", value)
        with Embedder.load(minilm_int8) as embedder:
            assert embedder.stats().engine.startswith(engine)
    monkeypatch.setenv("EMBEDRT_KERNELS", "on")
    with pytest.raises(ValueError, match=r"EMBEDRT_KERNELS='on'; expected one of \['auto'"):
        Embedder.load(minilm_int8)


def test_info_says_which_engine_runs(minilm_int8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embedrt_command(["info", str(minilm_int8)]) == 0
    assert "engine      kernels " in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mapped", [True, False])
def test_packed_weights_are_not_held_twice(minilm_int8: Path, *, mapped: bool) -> None:
    code = (
        "import re, sys\n"
        "from embedrt import Embedder\n"
        "embedder = Embedder.load(sys.argv[1], kernels='require', mapped=bool(int(sys.argv[2])))\n"
        "print(embedder.encode('London').tobytes() == embedder.encode('London').tobytes())\n"
        "regions = open('/proc/self/smaps', encoding='utf-8').read()\n"
        "found = re.findall(r'weights.bin\\n(?:.*\\n)*?Rss: +([0-9]+) kB', regions)\n"
        "print(1024 * sum(map(int, found)))\n"
    )
    command = [sys.executable, "-c", code, str(minilm_int8), str(int(mapped))]
    process = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8")
    same, resident = process.stdout.split()
    assert same == "True"
    size = (minilm_int8 / "weights.bin").stat().st_size
    assert int(resident) < size / 10
    assert bool(int(resident)) == mapped


@pytest.mark.parametrize(("use", "status"), [("require", 0), ("off", 1)])
def test_the_kernels_do_without_onnx_runtime(minilm_int8: Path, use: str, status: int) -> None:
    """Its import takes time and memory, and a session would hold the weights a second time."""
    code = (
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "from embedrt import Embedder\n"
        "from embedrt.engine import sessions\n"
        "sessions.SHORT_PAUSE = 3600.0  # calls are consecutive on a busy machine, too\n"
        "embedder = Embedder.load(sys.argv[1], kernels=sys.argv[2], threads=2)\n"
        "for _ in range(8):\n"
        "    embedder.encode('London')\n"
        "assert embedder._engine._sessions.loading  # the session on all cores\n"
        "print(embedder.encode(['London', 'fox']).shape, embedder.stats().engine)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(minilm_int8), use],
        capture_output=True, check=False, text=True, encoding="utf-8",
    )  # fmt: skip
    assert process.returncode == status, process.stderr
    if status:
        assert "import of onnxruntime halted" in process.stderr
    else:
        assert process.stdout.startswith("(2, 384) kernels ")
