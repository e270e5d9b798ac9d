"""Tests of `Embedder` with a real model and with a tiny one."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import pickle
import re
import shutil
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from embedrt import Embedder, quantize_embeddings
from embedrt.engine.runner import TextIds
from embedrt.engine.session import Session
from embedrt.errors import BundleNotFoundError, ClosedError, OverlongTextError
from embedrt.fixed import ADVICE
from embedrt.postprocess import EmbeddingPrecision
from embedrt.request import STREAM_BLOCK, EncodeOptions, Requests
from embedrt.similarity import normalize
from embedrt.spellings import Spellings
from tiny_bundle import WORDS, make_tiny

TEXTS = [
    "How many people live in London?",
    "Around 9 million.",
    "",
    "Быстрая лиса",
    "  \n\t ",
    "😀",
]
LONG = "dog " * 300
PRECISIONS = get_args(EmbeddingPrecision)


class device(str):  # noqa: N801  # the class of torch
    """Has the name of its device as its str, as torch.device has, but is not equal to it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(scope="session")
def prompted(minilm_with: Callable[..., Path]) -> Iterator[Embedder]:
    """MiniLM with prompts, one of them the default."""
    prompts = {"query": "query: ", "passage": "passage: ", "title": "title: "}
    with Embedder.load(minilm_with(prompts=prompts, default_prompt_name="title")) as embedder:
        yield embedder


class TestShapes:
    def test_many_texts(self, embedder: Embedder) -> None:
        vectors = embedder.encode(TEXTS)
        assert vectors.shape == (len(TEXTS), 384)
        assert vectors.dtype == np.float32
        assert vectors.flags.c_contiguous
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)

    def test_one_text(self, embedder: Embedder) -> None:
        vector = embedder.encode(TEXTS[0])
        assert vector.shape == (384,)
        assert vector.tobytes() == embedder.encode(TEXTS[:1])[0].tobytes()
        assert vector.tobytes() == embedder.encode(np.str_(TEXTS[0])).tobytes()

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("truncate_dim", [None, 20])
    def test_no_texts(
        self, embedder: Embedder, precision: EmbeddingPrecision, truncate_dim: int | None
    ) -> None:
        empty = embedder.encode([], precision=precision, truncate_dim=truncate_dim)
        full = embedder.encode(["text"] * 100, precision=precision, truncate_dim=truncate_dim)
        assert empty.shape == (0, full.shape[1])
        assert empty.dtype == full.dtype

    def test_known_meaning(self, embedder: Embedder) -> None:
        query, good, bad = embedder.encode(
            [TEXTS[0], "Around 9 Million people live in London", "Cats sleep most of the day."]
        )
        assert query @ good > 0.8
        assert query @ bad < 0.2

    def test_facts(self, embedder: Embedder) -> None:
        assert (embedder.dimension, embedder.max_tokens) == (384, 256)
        assert embedder.manifest.name.startswith("all-MiniLM-L6-v2")

    @pytest.mark.parametrize(
        "text", ["\x00", "a\x00b", "\ud83d", "\ud83d\ude00", "\u0301", "\ufeff"]
    )
    def test_odd_texts_have_vectors(self, embedder: Embedder, text: str) -> None:
        assert np.isfinite(embedder.encode(text)).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("character", ["a", " ", "!", "中", "é", "\u0301", "\x00"])
    def test_ten_megabytes_of_one_character(self, embedder: Embedder, character: str) -> None:
        text = character * (10_000_000 // len(character.encode()))
        assert np.isfinite(embedder.encode(text)).all()

    def test_surrogate_pairs_are_joined(self, embedder: Embedder) -> None:
        found = embedder.encode(["\ud83d\ude00", "a\ud83d"])
        assert found.tobytes() == embedder.encode(["😀", "a\ufffd"]).tobytes()

    def test_whitespace_is_an_empty_text(self, embedder: Embedder) -> None:
        assert embedder.encode("").tobytes() == embedder.encode(" \n\t ").tobytes()

    def test_a_text_without_tokens_has_a_zero_vector(self, tiny_embedder: Embedder) -> None:
        assert not tiny_embedder.encode("").any()
        assert tiny_embedder.encode(["w1", "", "w2 w2"]).sum(axis=1).tolist() == [1, 0, 2]


class TestOrder:
    def test_every_vector_is_at_its_texts_index(self, tiny_embedder: Embedder) -> None:
        generator = np.random.default_rng(11)
        counts = generator.integers(0, 2, (3 * STREAM_BLOCK + 7, WORDS))
        counts[:, 8:] = 0  # with at most eight words, no text is truncated
        texts = [" ".join(f"w{word}" for word in np.flatnonzero(row)) for row in counts]
        assert (tiny_embedder.encode(texts) == counts).all()
        assert (np.concatenate(list(tiny_embedder.embed_stream(texts))) == counts).all()

    @pytest.mark.parametrize("kind", [tuple, iter, np.array])
    def test_kinds_of_iterables(self, embedder: Embedder, kind: Any) -> None:
        assert embedder.encode(kind(TEXTS)).tobytes() == embedder.encode(TEXTS).tobytes()


class TestPrompts:
    def test_named(self, prompted: Embedder) -> None:
        named = prompted.encode(TEXTS, prompt_name="query")
        assert named.tobytes() == prompted.encode(TEXTS, prompt="query: ").tobytes()
        plain = [f"query: {text}" for text in TEXTS]
        assert named.tobytes() == prompted.encode(plain, prompt="").tobytes()
        assert named[0].tobytes() == prompted.encode(TEXTS[0], prompt_name="query").tobytes()

    def test_default(self, prompted: Embedder, embedder: Embedder) -> None:
        plain = [f"title: {text}" for text in TEXTS]
        assert prompted.encode(TEXTS).tobytes() == embedder.encode(plain).tobytes()

    def test_queries_and_documents(self, prompted: Embedder) -> None:
        for encode, name in (
            (prompted.encode_query, "query"),
            (prompted.encode_document, "passage"),
        ):
            assert encode(TEXTS).tobytes() == prompted.encode(TEXTS, prompt_name=name).tobytes()
            chosen = encode(TEXTS, prompt_name="title")
            assert chosen.tobytes() == prompted.encode(TEXTS, prompt_name="title").tobytes()
            chosen = encode(TEXTS, prompt="")
            assert chosen.tobytes() == prompted.encode(TEXTS, prompt="").tobytes()

    def test_document_precedes_passage_and_corpus(self, tmp_path: Path) -> None:
        for index, names in enumerate((["corpus"], ["corpus", "passage"], ["passage", "document"])):
            prompts = {name: f"w{number} " for number, name in enumerate(names, start=1)}
            bundle = make_tiny(tmp_path / str(index), prompts=prompts)
            with Embedder.load(bundle) as embedder:
                assert embedder.encode_document("").argmax() == len(names)

    def test_a_model_without_prompts_takes_none(self, embedder: Embedder) -> None:
        plain = embedder.encode(TEXTS)
        assert embedder.encode_query(TEXTS).tobytes() == plain.tobytes()
        assert embedder.encode_document(TEXTS).tobytes() == plain.tobytes()
        assert embedder.encode_query(TEXTS[0]).shape == (384,)

    @pytest.mark.parametrize("name", ["query", "document"])
    def test_names_that_every_model_has(self, embedder: Embedder, name: str) -> None:
        named = embedder.encode(TEXTS, prompt_name=name)
        assert named.tobytes() == embedder.encode(TEXTS, prompt="").tobytes()

    @pytest.mark.parametrize("default", ["cluster", "query", "passage", "none"])
    @pytest.mark.parametrize(
        ("prompts", "query", "document"),
        [
            ({}, 0, 0),
            ({"query": "w1 "}, 1, 0),
            ({"document": "w2 "}, 0, 2),
            ({"passage": "w3 "}, 0, 3),
            ({"passage": "w3 ", "document": ""}, 0, 0),
            ({"corpus": "w4 ", "passage": ""}, 0, 0),
            ({"query": "", "corpus": "w4 "}, 0, 4),
        ],
    )
    def test_the_default_is_neither_for_queries_nor_for_documents(
        self, tmp_path: Path, prompts: dict[str, str], query: int, document: int, default: str
    ) -> None:
        prompts = {"cluster": "w9 ", "none": ""} | prompts
        chosen = default if default in prompts else None
        bundle = make_tiny(tmp_path / "tiny", prompts=prompts, default_prompt_name=chosen)
        with Embedder.load(bundle) as embedder:
            # The only word comes from the prompt; without one, the vector is zero.
            assert embedder.encode_query("").argmax() == query
            assert embedder.encode_document("").argmax() == document
            expected = int(prompts.get(default, "").strip("w ") or 0)
            assert embedder.encode("").argmax() == expected
            assert next(embedder.embed_stream([""])).argmax() == expected
            for name, text in prompts.items():
                named = embedder.encode("w5", prompt_name=name)
                assert named.tobytes() == embedder.encode(f"{text}w5", prompt="").tobytes()

    def test_unknown_name_lists_the_good_ones(self, prompted: Embedder, embedder: Embedder) -> None:
        pattern = r"^prompt_name='q'; this model has \['passage', 'query', 'title'\]$"
        with pytest.raises(ValueError, match=pattern):
            prompted.encode(TEXTS, prompt_name="q")
        with pytest.raises(ValueError, match=r"^prompt_name='q'; this model has none$"):
            embedder.encode(TEXTS, prompt_name="q")

    def test_not_both(self, prompted: Embedder) -> None:
        with pytest.raises(ValueError, match="prompt or prompt_name, not both"):
            prompted.encode(TEXTS, prompt="a", prompt_name="query")

    def test_a_prompt_is_a_text(self, embedder: Embedder) -> None:
        bad: Any = b"query: "
        with pytest.raises(TypeError, match=r"^prompt=b.query: .; expected a str, or None$"):
            embedder.encode(TEXTS, prompt=bad)
        lone = embedder.encode(TEXTS, prompt="\ud83d")
        assert lone.tobytes() == embedder.encode(TEXTS, prompt="\ufffd").tobytes()


class TestFinish:
    def test_truncate_and_normalize(self, embedder: Embedder) -> None:
        full = embedder.encode(TEXTS)
        short = embedder.encode(TEXTS, truncate_dim=64)
        assert short.tobytes() == full[:, :64].tobytes()
        unit = embedder.encode(TEXTS, truncate_dim=64, normalize_embeddings=True)
        assert unit.tobytes() == normalize(short).tobytes()
        assert embedder.encode(TEXTS[0], truncate_dim=64).tobytes() == short[0].tobytes()

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_precision(self, embedder: Embedder, precision: EmbeddingPrecision) -> None:
        texts = [f"text number {number}" for number in range(100)]
        found = embedder.encode(texts, precision=precision)
        expected = quantize_embeddings(embedder.encode(texts), precision)
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()

    def test_a_warning_about_ranges_of_few_texts_names_the_caller(self, embedder: Embedder) -> None:
        with pytest.warns(UserWarning, match="^int8 ranges are taken from only") as caught:
            embedder.encode(TEXTS, precision="int8")
        assert caught[0].filename == __file__

    @pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[0]], ids=["a list of one", "one"])
    def test_one_text_has_no_ranges(self, embedder: Embedder, texts: Any) -> None:
        with pytest.raises(ValueError, match=r"^one embedding has no ranges for int8; pass"):
            embedder.encode(texts, precision="int8")


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"precision": "int4"}, "precision='int4'; expected one of"),
            ({"truncate_dim": 0}, "truncate_dim=0; expected 1 to 384, or None"),
            ({"truncate_dim": 385}, "truncate_dim=385; expected 1 to 384, or None"),
            ({"batch_size": 0}, "batch_size=0; expected at least 1, or None"),
            ({"prompt_name": "nobody"}, "prompt_name='nobody'; this model has none"),
            ({"prompt_name": ["query"]}, r"prompt_name=\['query'\]; this model has none"),
        ],
    )
    def test_bad_values_are_reported_before_any_text_is_read(
        self, embedder: Embedder, options: dict[str, Any], message: str
    ) -> None:
        texts = iter(["text"])
        for name in ("encode", "encode_query", "encode_document", "embed_stream"):
            with pytest.raises(ValueError, match=f"^{message}"):
                getattr(embedder, name)(texts, **options)
        assert next(texts) == "text"

    @pytest.mark.parametrize("name", ["to_tensor", "devices", "batchsize"])
    def test_unknown_keywords(self, embedder: Embedder, name: str) -> None:
        for method in ("encode", "encode_query", "encode_document", "embed_stream"):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
                getattr(embedder, method)(TEXTS, **{name: 1})

    @pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
    def test_a_bad_text_is_named_before_any_work(self, tiny: Path, method: str) -> None:
        """The bad text is reported before the first text, which is too long, is embedded."""
        texts: list[Any] = ["w1 " * 20] * (2 * STREAM_BLOCK)
        pattern = rf"^texts\[{2 * STREAM_BLOCK}\] is None; every text must be a str$"
        with Embedder.load(tiny, overlong="error") as embedder:
            with pytest.raises(TypeError, match=pattern):
                getattr(embedder, method)([*texts, None])
            with pytest.raises(OverlongTextError):
                getattr(embedder, method)(texts)

    def test_a_bad_text_is_not_counted(self, embedder: Embedder) -> None:
        bad: Any = ["text", None]
        with pytest.raises(TypeError, match=r"^texts\[1\] is None"):
            embedder.count_tokens(bad)

    @pytest.mark.parametrize("bad", [None, 3, b"text", {"a"}, {"a": "b"}, object()])
    def test_invalid_batches(self, embedder: Embedder, bad: Any) -> None:
        with pytest.raises(TypeError, match=r"^texts is .*; pass a str or an ordered iterable"):
            embedder.encode(bad)

    @pytest.mark.parametrize("threads", [0, -1])
    def test_threads(self, tiny: Path, threads: int) -> None:
        with pytest.raises(ValueError, match=rf"^threads={threads}; expected at least 1, or None"):
            Embedder.load(tiny, threads=threads)

    def test_overlong(self, tiny: Path) -> None:
        bad: Any = "raise"
        pattern = r"^overlong='raise'; expected one of \['truncate', 'warn', 'error'\]$"
        with pytest.raises(ValueError, match=pattern):
            Embedder.load(tiny, overlong=bad)

    def test_options_are_the_keywords_of_encode(self) -> None:
        """Options that have an effect are named; those without are keywords of `Spellings`."""
        parameters = inspect.signature(Embedder.encode).parameters.keys()
        named = parameters - {"self", "texts", "spellings"}
        assert EncodeOptions.__annotations__.keys() == named | Spellings.__annotations__.keys()
        of_one_call = inspect.signature(Embedder.aembed).parameters.keys() - {"options"}
        requested = inspect.signature(Requests.for_encode).parameters.keys()
        assert requested == parameters | of_one_call


class TestSpellings:
    """Calls that are written for a SentenceTransformer work unchanged."""

    @pytest.mark.parametrize(
        "options",
        [
            {"convert_to_numpy": True},
            {"convert_to_tensor": False},
            {"device": None},
            {"device": "cpu"},
            {"device": device("cpu")},
            {"output_value": "sentence_embedding"},
            {"pool": None},
            {"chunk_size": None},
            {"chunk_size": 100},
            {"show_progress_bar": None},
            {"prompt_name": None, "prompt": None, "batch_size": 10},
        ],
    )
    def test_options_without_effect(self, tiny_embedder: Embedder, options: dict[str, Any]) -> None:
        texts = ["w1", "w2 w2"]
        expected = tiny_embedder.encode(texts).tobytes()
        for name in ("encode", "encode_query", "encode_document"):
            assert getattr(tiny_embedder, name)(texts, **options).tobytes() == expected
        assert asyncio.run(tiny_embedder.aencode(texts, **options)).tobytes() == expected

    @pytest.mark.parametrize("name", ["sentences", "inputs"])
    @pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
    def test_names_of_the_texts(self, tiny_embedder: Embedder, name: str, method: str) -> None:
        encode = getattr(tiny_embedder, method)
        assert encode(**{name: ["w1"]}).tobytes() == encode(["w1"]).tobytes()
        assert encode(**{name: "w1"}).shape == (WORDS,)
        with pytest.raises(TypeError, match=r"^the texts are passed twice"):
            encode(["w1"], **{name: ["w1"]})
        with pytest.raises(TypeError, match=r"^the texts are missing"):
            encode()
        with pytest.raises(TypeError, match=r"^texts is None; pass a str or an ordered iterable"):
            encode(**{name: None})

    def test_attributes(self, prompted: Embedder) -> None:
        assert prompted.get_sentence_embedding_dimension() == 384
        assert prompted.get_embedding_dimension() == 384
        assert prompted.get_max_seq_length() == prompted.max_seq_length == 256
        assert prompted.similarity_fn_name == "cosine"
        assert prompted.prompts["title"] == "title: "
        assert prompted.default_prompt_name == "title"

    def test_tokenize(self, embedder: Embedder) -> None:
        """The ids are truncated, with special tokens, without padding and without a prompt."""
        ids = embedder.tokenize(["a", LONG, ""])
        assert [row.dtype for row in ids] == [np.int64] * 3
        assert [len(row) for row in ids] == [3, 256, 2]
        assert ids[0].tolist() == embedder.tokenize("a")[0].tolist() == [101, 1037, 102]

    def test_positions(self, prompted: Embedder) -> None:
        expected = prompted.encode(TEXTS, prompt_name="query").tobytes()
        assert prompted.encode(TEXTS, "query").tobytes() == expected
        assert prompted.encode(TEXTS, None, "query: ", 2, False).tobytes() == expected

    @pytest.mark.parametrize(
        ("options", "instead"),
        [
            ({"convert_to_tensor": True}, r"the result is a numpy array; torch.from_numpy"),
            ({"convert_to_numpy": False}, r"the result is a numpy array; wrap it in list\(\)"),
            ({"device": device("cuda")}, r"it runs on the CPU"),
            ({"device": "cuda"}, r"it runs on the CPU; choose its cores with .*threads="),
            ({"device": ["cpu", "cpu"]}, r"it runs on the CPU"),
            ({"output_value": "token_embeddings"}, r"a bundle gives one vector per text"),
            ({"output_value": None}, r"a bundle gives one vector per text"),
            ({"pool": {"input": 1}}, r"all cores are used already"),
        ],
    )
    def test_unsupported_options(
        self, tiny_embedder: Embedder, options: dict[str, Any], instead: str
    ) -> None:
        ((name, _),) = options.items()
        with pytest.raises(ValueError, match=rf"^{name}=.* cannot be honored: {instead}"):
            tiny_embedder.encode(["w1"], **options)


class TestOverlong:
    FITS = "w1 " * 8
    OVER = "w2 " * 9

    def test_truncate_is_the_default_and_silent(self, tiny_embedder: Embedder) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert tiny_embedder.encode([self.FITS, self.OVER]).sum(axis=1).tolist() == [8, 8]

    def test_left_truncation_keeps_the_end(self, tmp_path: Path) -> None:
        bundle = make_tiny(tmp_path / "left", truncation_side="left")
        with Embedder.load(bundle) as embedder:
            assert embedder.encode("w1 " + "w2 " * 7 + "w3")[[1, 2, 3]].tolist() == [0, 7, 1]

    @pytest.mark.parametrize("many", [True, False])
    def test_warn(self, tiny: Path, many: bool) -> None:
        texts: Any = [self.FITS, self.OVER, "w4", "w3 " * 20] if many else self.OVER
        count = "2 of 4" if many else "1 of 1"
        pattern = (
            rf"^{count} texts .* the 8 tokens .*first has 9 tokens and starts 'w2 w2 .* ignored$"
        )
        with Embedder.load(tiny, overlong="warn") as embedder:
            with pytest.warns(UserWarning, match=pattern) as caught:
                vectors = embedder.encode(texts)
            assert caught[0].filename == __file__
            assert vectors.shape[-1] == WORDS

    def test_warn_is_silent_if_texts_fit(self, tiny: Path) -> None:
        with Embedder.load(tiny, overlong="warn") as embedder, warnings.catch_warnings():
            warnings.simplefilter("error")
            embedder.encode([self.FITS, "", "w1"])

    def test_error(self, tiny: Path) -> None:
        with Embedder.load(tiny, overlong="error") as embedder:
            assert embedder.encode(self.FITS).sum() == 8
            for texts, place in (([self.FITS, self.OVER], r"texts\[1\]"), (self.OVER, "text")):
                pattern = rf"^{place} is too long: it has 9 tokens, .*Split it, or load with"
                with pytest.raises(OverlongTextError, match=pattern):
                    embedder.encode(texts)

    def test_a_long_text_is_quoted_in_part(self, tiny: Path) -> None:
        with (
            Embedder.load(tiny, overlong="error") as embedder,
            pytest.raises(OverlongTextError, match=r"starts 'x x.*…'") as caught,
        ):
            embedder.encode("x " * 10_000)
        assert len(str(caught.value)) < 250

    def test_real_model(self, embedder: Embedder) -> None:
        cut = embedder.encode(LONG)
        assert cut.tobytes() == embedder.encode("dog " * 254).tobytes()
        assert cut.tobytes() != embedder.encode("dog " * 253).tobytes()


class TestCountTokens:
    def test_before_truncation_and_with_special_tokens(self, embedder: Embedder) -> None:
        assert embedder.count_tokens("") == 2
        assert embedder.count_tokens(LONG) == 302
        counts = embedder.count_tokens(["", LONG, "dog"])
        assert counts.tolist() == [2, 302, 3]
        assert counts.dtype == np.int64
        assert type(embedder.count_tokens("dog")) is int

    def test_no_texts(self, embedder: Embedder) -> None:
        assert embedder.count_tokens([]).shape == (0,)


class TestSimilarity:
    @pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
    def test_the_models_own_score(self, tmp_path: Path, name: str) -> None:
        expected = {"cosine": 1.0, "dot": 8.0, "euclidean": -2.0, "manhattan": -2.0}[name]
        with Embedder.load(make_tiny(tmp_path / name, similarity=name)) as embedder:
            a, b = embedder.encode(["w1 w1", "w1 w1 w1 w1"])
            assert embedder.similarity(a, b).item() == pytest.approx(expected)
            assert embedder.similarity_pairwise(a, b).item() == pytest.approx(expected)
            ((hit,),) = embedder.semantic_search(a, b, top_k=5)
            assert hit.index == 0
            assert hit.score == pytest.approx(expected)


class TestStream:
    def test_equals_encode(self, embedder: Embedder) -> None:
        options: dict[str, Any] = {"truncate_dim": 32, "normalize_embeddings": True}
        texts = [f"{text} {number}" for number, text in zip(range(50), itertools.cycle(TEXTS))]
        for precision in ("float32", "float16", "binary", "ubinary"):
            options["precision"] = precision
            (block,) = embedder.embed_stream(iter(texts), **options)
            assert block.tobytes() == embedder.encode(texts, **options).tobytes()

    def test_nothing_is_read_before_the_first_block_is_asked_for(
        self, tiny_embedder: Embedder
    ) -> None:
        read = 0

        def texts() -> Iterator[str]:
            nonlocal read
            while True:
                read += 1
                yield "w1"

        blocks = tiny_embedder.embed_stream(texts())
        assert read == 0
        for number in range(1, 6):
            assert next(blocks).shape == (STREAM_BLOCK, WORDS)
            assert read == (number + 1) * STREAM_BLOCK

    def test_memory_is_bounded(self, tiny_embedder: Embedder) -> None:
        class Text(str):
            __slots__ = ("__weakref__",)

        alive: weakref.WeakSet[Text] = weakref.WeakSet()

        def texts() -> Iterator[str]:
            for number in range(12 * STREAM_BLOCK):
                text = Text(f"w{number % WORDS}")
                alive.add(text)
                yield text

        most = 0
        for _block in tiny_embedder.embed_stream(texts()):
            gc.collect()
            most = max(most, len(alive))
        assert most <= 3 * STREAM_BLOCK

    def test_no_texts_no_blocks(self, tiny_embedder: Embedder) -> None:
        assert list(tiny_embedder.embed_stream([])) == []

    def test_a_bad_text_is_named_after_the_blocks_before_it(self, tiny_embedder: Embedder) -> None:
        texts: list[Any] = ["w1"] * (3 * STREAM_BLOCK)
        texts[2 * STREAM_BLOCK + 1] = None
        blocks = tiny_embedder.embed_stream(texts)
        assert len(next(blocks)) == STREAM_BLOCK
        with pytest.raises(TypeError, match=rf"^texts\[{2 * STREAM_BLOCK + 1}\] is None"):
            next(blocks)

    @pytest.mark.parametrize("precision", ["int8", "uint8"])
    def test_ranges_need_all_texts(self, embedder: Embedder, precision: Any) -> None:
        with pytest.raises(ValueError, match=r"needs the ranges of all texts; stream float32"):
            embedder.embed_stream([], precision=precision)

    def test_one_str_is_no_stream(self, embedder: Embedder) -> None:
        with pytest.raises(TypeError, match=r"pass \[text\]"):
            next(embedder.embed_stream("text"))

    def test_stopping_early_leaves_the_embedder_usable(self, tiny_embedder: Embedder) -> None:
        for _ in tiny_embedder.embed_stream(
            f"w{number % WORDS}" for number in range(9 * STREAM_BLOCK)
        ):
            break
        assert tiny_embedder.encode(["w3", "w4 w4"]).sum() == 3


class TestBatchSize:
    @pytest.mark.parametrize(("batch_size", "runs"), [(1, 6), (2, 3), (5, 2), (None, 1)])
    def test_limits_the_texts_per_run(
        self, tiny_embedder: Embedder, ran_rows: list[int], batch_size: int | None, runs: int
    ) -> None:
        texts = ["w1", "w2", "w3", "w4", "w5", "w6"]
        vectors = tiny_embedder.encode(texts, batch_size=batch_size)
        assert vectors.argmax(axis=1).tolist() == [1, 2, 3, 4, 5, 6]
        assert len(ran_rows) == runs
        assert sum(ran_rows) == 6
        assert max(ran_rows) <= (batch_size or 6)


@pytest.fixture
def ran_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts in each run."""
    rows: list[int] = []
    run = Session.run

    def counting(session: Session, texts: TextIds) -> NDArray[np.float32]:
        rows.append(len(texts))
        return run(session, texts)

    monkeypatch.setattr(Session, "run", counting)
    return rows


class TestDuplicates:
    def test_run_once_in_one_call(self, tiny_embedder: Embedder, ran_rows: list[int]) -> None:
        words = [f"w{number}" for number in range(WORDS)]
        distinct = [" ".join(four) for four in itertools.product(words, repeat=4)][
            : STREAM_BLOCK + 50
        ]
        order = np.random.default_rng(2).permutation(np.repeat(np.arange(len(distinct)), 3))
        vectors = tiny_embedder.encode([distinct[number] for number in order])
        assert sum(ran_rows) == len(distinct)
        counts = [[text.split().count(word) for word in words] for text in distinct]
        assert (vectors == np.array(counts)[order]).all()
        assert vectors.flags.c_contiguous
        assert tiny_embedder.stats().coalesced == 2 * len(distinct)

    def test_run_once_in_one_stream(self, tiny_embedder: Embedder, ran_rows: list[int]) -> None:
        texts = [f"w{number % WORDS}" for number in range(5 * STREAM_BLOCK + 3)]
        blocks = list(tiny_embedder.embed_stream(texts))
        assert sum(ran_rows) == WORDS
        assert np.concatenate(blocks).argmax(axis=1).tolist() == [
            n % WORDS for n in range(len(texts))
        ]

    def test_run_once_for_different_texts_with_the_same_ids(
        self, tiny_embedder: Embedder, ran_rows: list[int]
    ) -> None:
        assert tiny_embedder.encode(["w1 w2", " w1  w2", "w1 w2 "]).tolist()[0][:4] == [0, 1, 1, 0]
        assert sum(ran_rows) == 1

    def test_the_same_bytes(self, embedder: Embedder) -> None:
        places = [0, 1, 0, 2, 2, 5, 0, 3, 4, 1]
        vectors = embedder.encode([TEXTS[place] for place in places])
        assert vectors.tobytes() == embedder.encode(TEXTS)[places].tobytes()

    @pytest.mark.parametrize("before", [0, 3, STREAM_BLOCK - 1, STREAM_BLOCK, STREAM_BLOCK + 7])
    def test_errors_name_the_first(self, tmp_path: Path, before: int) -> None:
        """The error names the index of the first failing text, regardless of removed duplicates."""
        bundle = make_tiny(tmp_path / "tiny", max_tokens=5)
        words = [f"w{number}" for number in range(WORDS)]
        good = [" ".join(four) for four in itertools.product(words, repeat=4)][:before]
        over = "w1 " * 6
        texts = [*good, *good[:500], over, *good, over, "w2 " * 6]
        with Embedder.load(bundle, overlong="error") as embedder:
            for encode in (embedder.encode, lambda texts: list(embedder.embed_stream(texts))):
                with pytest.raises(OverlongTextError) as caught:
                    encode(texts)
                assert caught.value.index == before + min(before, 500)
                assert str(caught.value).startswith(f"texts[{caught.value.index}] is too long")
                assert caught.value.__cause__ is None


class TestWorkers:
    def test_threads_are_as_requested(self, tiny: Path) -> None:
        # Threads of earlier tests may still be ending.
        before = set(threading.enumerate())

        def workers() -> int:
            new = set(threading.enumerate()) - before
            return sum("embedrt" in thread.name for thread in new)

        with Embedder.load(tiny, threads=3) as embedder:
            assert workers() == 0
            embedder.encode("w1")
            assert workers() == 0
            words = [f"w{number}" for number in range(WORDS)]
            embedder.encode([" ".join(some) for some in itertools.product(words, repeat=3)])
            assert 0 < workers() <= 3


class TestClose:
    def test_its_threads_end(self, tiny: Path) -> None:
        before = set(threading.enumerate())
        embedder = Embedder.load(tiny, threads=2)
        embedder.encode(["w1", "w1 w2", "w1 w2 w3"])
        mine = set(threading.enumerate()) - before
        assert mine
        embedder.close()
        for thread in mine:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in mine)

    def test_closing_twice_is_harmless(self, tiny: Path) -> None:
        with Embedder.load(tiny) as embedder:
            embedder.close()

    @pytest.mark.parametrize("texts", ["w1", ["w1"], ["w1", "w1 w2"]])
    def test_nothing_is_encoded_afterwards(self, tiny: Path, texts: str | list[str]) -> None:
        with Embedder.load(tiny) as embedder:
            embedder.encode(texts)
        message = "^this Embedder has been closed; load the bundle again$"
        with pytest.raises(ClosedError, match=message):
            embedder.encode(texts)
        with pytest.raises(ClosedError, match=message):
            next(embedder.embed_stream([*texts]))


class TestCopies:
    """An embedder is pickled as its path and options."""

    @pytest.mark.parametrize("copy", [lambda e: pickle.loads(pickle.dumps(e)), deepcopy])
    def test_same_options_and_same_bytes(
        self, minilm: Path, copy: Callable[[Embedder], Embedder]
    ) -> None:
        with Embedder.load(minilm, threads=3, overlong="error") as embedder:
            assert len(pickle.dumps(embedder)) < 1000
            with copy(embedder) as other:
                assert type(other) is Embedder
                assert other.manifest == embedder.manifest
                assert other._engine.threads == 3
                assert other.encode(TEXTS).tobytes() == embedder.encode(TEXTS).tobytes()
                with pytest.raises(OverlongTextError):
                    other.encode(LONG)

    def test_threads_are_determined_when_unpickled(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Embedder.load(tiny) as embedder:
            pickled = pickle.dumps(embedder)
        monkeypatch.setattr("embedrt.loaded.available_threads", lambda: 7)
        with pickle.loads(pickled) as other:
            assert other._engine.threads == 7

    def test_a_copy_of_a_closed_one_is_open(self, tiny: Path) -> None:
        embedder = Embedder.load(tiny)
        embedder.close()
        with pickle.loads(pickle.dumps(embedder)) as other:
            assert other.encode("w1").sum() == 1

    def test_from_a_relative_path_to_another_folder(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tiny.parent)
        with Embedder.load(tiny.name) as embedder:
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            with pickle.loads(pickle.dumps(embedder)) as other:
                assert other.encode("w1").sum() == 1

    def test_the_bundle_is_missing(self, tiny: Path) -> None:
        with Embedder.load(tiny) as embedder:
            pickled = pickle.dumps(embedder)
        shutil.rmtree(tiny)
        with pytest.raises(BundleNotFoundError, match=re.escape(str(tiny))):
            pickle.loads(pickled)

    def test_of_a_subclass(self, tiny: Path) -> None:
        with Mine.load(tiny) as embedder, pickle.loads(pickle.dumps(embedder)) as other:
            assert type(other) is Mine


class Mine(Embedder):
    """A user's subclass."""


class TestAsync:
    def test_equals_encode(self, embedder: Embedder) -> None:
        options: EncodeOptions = {"truncate_dim": 32, "normalize_embeddings": True}

        async def main() -> tuple[NDArray[Any], NDArray[Any]]:
            return await asyncio.gather(
                embedder.aencode(TEXTS, **options), embedder.aencode(TEXTS[0], **options)
            )

        many, one = asyncio.run(main())
        assert many.tobytes() == embedder.encode(TEXTS, **options).tobytes()
        assert one.tobytes() == many[0].tobytes()

    @pytest.mark.alone
    @pytest.mark.parametrize(
        "texts",
        [[f"word {'word ' * 60}{number}" for number in range(200)], " " * 999_000 + "word"],
        ids=["many", "one of a million characters"],
    )
    def test_the_loop_is_not_blocked(self, embedder: Embedder, texts: str | list[str]) -> None:
        """Where it is, it is in each attempt; a machine that stops the loop does not in all."""

        async def main() -> tuple[float, float]:
            start = last = time.monotonic()
            longest = 0.0
            encoding = asyncio.create_task(embedder.aencode(texts))
            while not encoding.done():
                await asyncio.sleep(0.001)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            await encoding
            return time.monotonic() - start, longest

        shares = []
        for _ in range(5):
            took, longest = asyncio.run(main())
            shares.append(longest / took)
            if shares[-1] < 1 / 2:
                return
        pytest.fail(f"blocked for these shares of the call: {shares}")

    def test_many_tasks(self, embedder: Embedder) -> None:
        texts = [f"text {number}" for number in range(200)]

        async def main() -> list[NDArray[Any]]:
            return await asyncio.gather(*map(embedder.aencode, texts))

        assert np.stack(asyncio.run(main())).tobytes() == embedder.encode(texts).tobytes()

    def test_errors_are_raised(self, tiny: Path) -> None:
        with Embedder.load(tiny, overlong="error") as embedder:
            with pytest.raises(OverlongTextError):
                asyncio.run(embedder.aencode("w1 " * 9))
            with pytest.raises(TypeError, match="unexpected keyword argument 'devices'"):
                asyncio.run(embedder.aencode("w1", devices="cpu"))  # type: ignore[call-arg]

    def test_a_cancelled_one_leaves_the_embedder_usable(
        self, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No batch ends before the call is cancelled, however long that takes."""
        texts = [f"word {'word ' * 60}{number}" for number in range(200)]
        sessions, cancelled = embedder._engine._sessions, threading.Event()
        works = sessions.run

        def waits(*arguments: Any, **options: Any) -> Any:
            assert cancelled.wait(60)
            return works(*arguments, **options)

        monkeypatch.setattr(sessions, "run", waits)

        async def main() -> NDArray[Any]:
            for wait in (0, 0.01, 0.1):
                cancelled.clear()
                encoding = asyncio.create_task(embedder.aencode(texts))
                await asyncio.sleep(wait)
                encoding.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await encoding
                cancelled.set()
            cancelled.clear()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(embedder.aencode(texts), 0.01)
            cancelled.set()
            return await embedder.aencode(TEXTS)

        assert asyncio.run(main()).tobytes() == embedder.encode(TEXTS).tobytes()


class TestProgress:
    def test_goes_only_to_stderr(
        self, embedder: Embedder, capfd: pytest.CaptureFixture[str]
    ) -> None:
        vectors = embedder.encode(TEXTS, show_progress_bar=True)
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "6.00/6.00" in captured.err
        assert vectors.tobytes() == embedder.encode(TEXTS).tobytes()
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ADVICE)
def test_settings_cannot_be_assigned(embedder: Embedder, name: str) -> None:
    """In sentence-transformers an assignment changes the vectors that follow."""
    with pytest.raises(AttributeError, match=f"{name} is fixed when a bundle is loaded; .+"):
        setattr(embedder, name, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda prompts: prompts.update(query="find: "),
        lambda prompts: prompts.setdefault("text", "find: "),
        lambda prompts: prompts.__setitem__("query", "find: "),
        lambda prompts: prompts.__ior__({"query": "find: "}),
        lambda prompts: prompts.__delitem__("query"),
        lambda prompts: prompts.pop("query"),
        lambda prompts: prompts.popitem(),
        lambda prompts: prompts.clear(),
    ],
)
def test_prompts_cannot_be_changed(
    prompted: Embedder, change: Callable[[dict[str, str]], object]
) -> None:
    prompts = prompted.prompts
    with pytest.raises(TypeError, match="fixed when a bundle is loaded; pass prompt="):
        change(prompts)
    assert prompts == dict(prompted.manifest.prompts)
    copies = [prompts.copy(), deepcopy(prompts), pickle.loads(pickle.dumps(prompts)), prompts | {}]
    for copied in copies:
        assert copied == prompts
        change(copied)
