"""The reference for bundles: the original model in sentence-transformers, in float32."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from embedrt.bundle.manifest import Side
from embedrt.errors import UnsupportedModelError
from embedrt.text.inputs import start_of
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import LONG, TokenTypes
from embedrt_export.memory import drop_weights
from embedrt_export.proof.calls import PLAIN, Call
from embedrt_export.quiet import gist, quiet
from embedrt_export.source.files import marked_files
from embedrt_export.source.loading import MODEL_OPTIONS, load_original, upgrade_advice
from embedrt_export.source.modules import read_modules
from embedrt_export.source.prompts import lacks_document_prompt

TYPED_TEXTS = ("", "a", "a river and a bridge " * 3)  # for determining token types


class _SeenError(Exception):
    """Ends a call of the model as soon as its token ids are known."""

    def __init__(self, ids: TokenIds) -> None:
        super().__init__()
        self.ids = ids


class Oracle:
    """The original model. It embeds one text at a time, so that padding has no effect.

    Embeddings are remembered, so that the weights can be released before a bundle is compared.
    """

    name = f"sentence-transformers {sentence_transformers.__version__}"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[Call, str], NDArray[np.float32]] = {}
        self._has_weights = True
        try:
            with quiet():
                self._model = load_original(folder, **MODEL_OPTIONS)
                self._model.encode("a", prompt="")
        except Exception as error:  # malformed files raise any kind
            remedy = "".join(
                f"; {file} starts with a byte order mark, which it does not read: save it without"
                for file in marked_files(folder)
            )
            raise UnsupportedModelError(
                f"sentence-transformers does not run {folder}: "
                f"{_fault(folder, error)}{remedy}{upgrade_advice(folder)}"
            ) from error
        if lacks_document_prompt(folder):
            # encode_document then uses "passage" or "corpus", as documented: see `Prompts`.
            self._model.prompts.pop("document", None)
        self._tokenizer = self._model.tokenizer
        if not getattr(self._tokenizer, "is_fast", False):
            raise UnsupportedModelError(
                f"{folder} has a {type(self._tokenizer).__name__}, which transformers cannot "
                "convert to a tokenizer.json"
            )
        if getattr(self._tokenizer.backend_tokenizer.model, "dropout", None):
            raise UnsupportedModelError(
                f"{folder} has a tokenizer with dropout, which gives a text other tokens each "
                "time; set dropout to null in its tokenizer.json"
            )
        known = set(self._tokenizer.get_vocab()) - set(self._tokenizer.all_special_tokens)
        if not known and not any(folder.rglob("tokenizer.json")):
            # What transformers 5 makes of a folder without a vocabulary.
            raise UnsupportedModelError(
                f"{folder} has neither a tokenizer.json nor another vocabulary that transformers "
                "reads. Download the model again"
            )

    @property
    def special_tokens_added(self) -> int:
        """Number of special tokens added to each text."""
        if not self._call().get("add_special_tokens", True):
            return 0
        return int(self._tokenizer.num_special_tokens_to_add(pair=False))

    @property
    def max_tokens(self) -> int:
        """Number of tokens to which texts are truncated; a huge number if there is no limit."""
        most = self._call().get("max_length", self._model.max_seq_length)
        return sys.maxsize if most is None else int(most)

    def last_token(self) -> tuple[str, int]:
        """Return the token with the largest id, added and special tokens included, and the id."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        added = [(f"token {number}", int(number)) for number in self.token_ids("")]
        return max([*vocabulary.items(), *added], key=itemgetter(1))

    def token_types(self) -> TokenTypes:
        """Return the token types that the encoder receives.

        Raises UnsupportedModelError if they depend on more than a token's position.
        """
        encoder: Any = self._model.transformers_model
        if "token_type_ids" not in inspect.signature(encoder.forward).parameters:
            return TokenTypes()
        features = [self._features(text) for text in TYPED_TEXTS]
        rows = [row["token_type_ids"][0].tolist() for row in features if "token_type_ids" in row]
        types = types_of(rows)
        if types is None:
            raise UnsupportedModelError(
                f"{self._folder} has a tokenizer whose token types depend on a text's length; "
                "embedrt supports only those that depend on a token's position from the start"
            )
        return types

    def limit(self, max_tokens: int) -> None:
        """Truncate texts to `max_tokens` from now on."""
        self._model.max_seq_length = max_tokens
        if max_tokens > LONG:
            encoder: Any = self._model.transformers_model
            with suppress(ValueError), quiet():  # not all architectures have it
                encoder.set_attn_implementation("sdpa")
        for keywords in self._processing().values():
            if "max_length" in keywords:
                keywords["max_length"] = max_tokens

    @property
    def truncation_side(self) -> Side:
        """The side on which long texts are truncated."""
        side: Side = self._tokenizer.truncation_side
        return side

    def tokenizer_json(self) -> str:
        """Return the tokenizer of the model as JSON, without padding and truncation."""
        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.no_padding()
        copy.no_truncation()
        content = str(copy.to_str(pretty=False))
        if self._call().get("add_special_tokens", True):
            return content
        return json.dumps({**json.loads(content), "post_processor": None}, ensure_ascii=False)

    def token_ids(self, text: str) -> TokenIds:
        """Return the token ids of a text after truncation. Shape: (tokens,)."""
        return np.array(self._features(text)["input_ids"][0].tolist(), np.int64)

    def takes(self, text: str) -> bool:
        """Whether a text has tokens; sentence-transformers fails on one without."""
        return bool(self.token_ids(text).size)

    def edge_texts(self) -> list[str]:
        """Return no texts: the limits of a transformer are its tokens."""
        return []

    def special_tokens(self) -> list[str]:
        """Return the special tokens as text."""
        return list(self._tokenizer.all_special_tokens)

    @property
    def prompt_names(self) -> list[str]:
        """The names that sentence-transformers accepts as ``prompt_name``."""
        return list(self._model.prompts)

    def embed(self, texts: Sequence[str], call: Call = PLAIN) -> NDArray[np.float32]:
        """Embed each text with `call`, by default without a prompt. Shape: (n, dimension)."""
        for text in texts:
            if (call, text) not in self._known:
                if not self._has_weights:
                    raise RuntimeError(
                        f"{call} on {start_of(text)} after the weights were released"
                    )
                with quiet():
                    self._known[call, text] = call.of(self._model, text)
        return np.stack([self._known[call, text] for text in texts])

    def release(self) -> None:
        """Drop the weights. Only texts that were embedded before can be embedded from now on."""
        self._has_weights = False
        drop_weights(self._model)

    def input_ids(self, text: str, call: Call) -> TokenIds:
        """Return the token ids that the encoder receives in this call. Shape: (tokens,)."""

        def stop(_: object, inputs: tuple[dict[str, torch.Tensor]]) -> None:
            raise _SeenError(inputs[0]["input_ids"][0].numpy())

        hook = self._model[0].register_forward_pre_hook(stop)
        try:
            with quiet():
                call.of(self._model, text)
        except _SeenError as seen:
            return seen.ids
        finally:
            hook.remove()
        raise AssertionError("the model embeds a text without its encoder")

    def token(self, token_id: int) -> str | None:
        """Return the token with this id; None if there is none."""
        token: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        return token

    def _call(self) -> dict[str, Any]:
        """Return the extra keyword arguments of sentence-transformers for tokenizer calls."""
        settings = self._processing()
        return {**settings.get("text", {}), **settings.get("common", {})}

    def _processing(self) -> dict[str, dict[str, Any]]:
        """Return the model's keyword arguments for its tokenizer, by modality."""
        transformer: Any = self._model[0]
        settings: dict[str, dict[str, Any]] = transformer.processing_kwargs
        return settings

    def _features(self, text: str) -> dict[str, Any]:
        """Return the encoder's inputs for one text, as a batch of one."""
        with self._naming(text):
            features: dict[str, Any] = self._model.preprocess([text])
        return features

    @contextmanager
    def _naming(self, text: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever the model's files make it raise
            raise UnsupportedModelError(
                f"sentence-transformers runs {self._folder}, and breaks on the text "
                f"{start_of(text)}: {gist(error)}"
            ) from error


def _fault(folder: Path, error: Exception) -> str:
    """Return why the model does not run: the tokenizer's error if transformers hides it."""
    if "processing class" in str(error):
        try:
            with quiet():
                AutoTokenizer.from_pretrained(
                    read_modules(folder)[0].path, local_files_only=True, trust_remote_code=False
                )
        except Exception as hidden:  # noqa: BLE001  # malformed files raise any kind
            if "custom code" in str(hidden):
                return "its tokenizer is code of the model's author, which embedrt does not run"
            return f"its tokenizer cannot be loaded: {gist(hidden)}"
    if isinstance(error, IndexError):
        return f"an id, a type or a position is beyond the encoder's tables ({gist(error)})"
    return gist(error)


def types_of(rows: Sequence[Sequence[int]]) -> TokenTypes | None:
    """Return the token types by position that fit all rows; None if no such rule exists."""
    longest = max(rows, key=len, default=())
    if not longest:
        return TokenTypes()
    rest = longest[-1]
    first = next((end for end in range(len(longest), 0, -1) if longest[end - 1] != rest), 0)
    types = TokenTypes(first=tuple(longest[:first]), rest=rest)
    fits = all(types.of(len(row)).tolist() == list(row) for row in rows)
    return types if fits else None
