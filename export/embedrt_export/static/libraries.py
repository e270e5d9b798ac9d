"""The two libraries that run static models, under the interface of sentence-transformers.

Both compute in float64 here. In float32 they add up the tokens one after the other, which rounds
each sum: over 20,000 tokens, their own error is five times the tolerance of the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentence_transformers

from embedrt.errors import UnsupportedModelError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray
from embedrt_export.memory import drop_weights
from embedrt_export.proof.calls import Call
from embedrt_export.proof.seen import SeenError, ids_of_run
from embedrt_export.source.loading import load_original
from embedrt_export.source.prompts import lacks_document_prompt


class SentenceTransformers:
    """A StaticEmbedding and the modules after it."""

    name = f"sentence-transformers {sentence_transformers.__version__}"

    def __init__(self, folder: Path) -> None:
        self.model: Any = load_original(folder).double()
        if lacks_document_prompt(folder):
            # encode_document then uses "passage" or "corpus", as documented: see `Prompts`.
            self.model.prompts.pop("document", None)

    def release(self) -> None:
        """Drop the weights."""
        drop_weights(self.model)

    def input_ids(self, text: str, call: Call) -> TokenIds:
        """Return the token ids whose vectors are averaged in this call. Shape: (tokens,)."""
        return ids_of_run(self.model[0], lambda: call.of(self.model, text))


class Model2Vec:
    """A StaticModel, with prompts, which model2vec does not have, prepended to the texts."""

    def __init__(self, folder: Path) -> None:
        try:
            import model2vec  # noqa: PLC0415  # an extra of its own
            from model2vec.version import __version__ as version  # noqa: PLC0415
        except ImportError as error:
            raise UnsupportedModelError(
                f"{folder} is a model of model2vec. The export compares the bundle with model2vec, "
                f"which cannot be imported ({error}): pip install 'embedrt[model2vec]'"
            ) from error
        self.name = f"model2vec {version}"
        self.model = self
        self._static: Any = model2vec.StaticModel.from_pretrained(
            folder, quantize_to="float64", force_download=False
        )

    def encode(
        self,
        texts: str | Sequence[str],
        prompt: str | None = None,
        prompt_name: str | None = None,  # noqa: ARG002  # none has a name
    ) -> FloatArray:
        """Embed one or more texts. Shape: (dimension,) or (texts, dimension)."""
        given = [texts] if isinstance(texts, str) else texts
        vectors: FloatArray = self._static.encode(
            [(prompt or "") + text for text in given], use_multiprocessing=False
        )
        return vectors[0] if isinstance(texts, str) else vectors

    encode_query = encode_document = encode

    def release(self) -> None:
        """Drop the weights."""
        self._static.embedding = self._static.embedding[:0]

    def input_ids(self, text: str, call: Call) -> TokenIds:
        """Return the token ids of a text in this call, with unknown ones. Shape: (tokens,)."""

        def stop(sentences: Sequence[str]) -> None:
            encode = self._static.tokenizer.encode_batch_fast
            raise SeenError(encode(sentences, add_special_tokens=False)[0].ids)

        self._static.tokenize = stop
        try:
            call.of(self, text)
        except SeenError as seen:
            return seen.ids
        finally:
            del self._static.tokenize
        raise AssertionError("model2vec embeds a text without its tokenizer")
