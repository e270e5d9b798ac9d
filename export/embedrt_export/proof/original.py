"""The original model in torch, in float32, with its tokenizer: the base for all tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from embedrt.bundle.manifest import Side
from embedrt.errors import UnsupportedModelError
from embedrt.pair import Text
from embedrt.text.inputs import start_of
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import LONG, FloatArray
from embedrt_export.memory import drop_weights
from embedrt_export.proof.remembered import Remembered
from embedrt_export.proof.seen import ids_of_run
from embedrt_export.quiet import gist, quiet
from embedrt_export.source.files import marked_files
from embedrt_export.source.loading import MODEL_OPTIONS, mismatch, upgrade_advice
from embedrt_export.source.modules import MODULES, read_modules


class Original:
    """The original model. It runs one text at a time, so that padding has no effect.

    Results are cached, so that the weights can be released before a bundle is compared.
    """

    name = f"sentence-transformers {sentence_transformers.__version__}"
    _empty: Text = ""
    """The shortest input: a text, or a pair for a model of pairs."""

    def __init__(
        self, folder: Path, load: Callable[..., Any], try_out: Callable[[Any], object]
    ) -> None:
        """Load the model in `folder` with `load`, and run it once with `try_out`."""
        self._folder = folder
        self.results = Remembered(self.name, self._run)
        try:
            with quiet():
                self._model = load(folder, **MODEL_OPTIONS)
                try_out(self._model)
        except Exception as error:  # malformed files raise any kind
            remedy = "".join(
                f"; {file} starts with a byte order mark, which is not supported: save it without"
                for file in marked_files(folder)
            )
            raise UnsupportedModelError(
                f"sentence-transformers does not run {folder}: "
                f"{_fault(folder, error)}{remedy}{upgrade_advice(folder)}"
            ) from error
        self._tokenizer = self._model.tokenizer
        if not getattr(self._tokenizer, "is_fast", False):
            raise UnsupportedModelError(
                f"{folder} has a {type(self._tokenizer).__name__}, which transformers cannot "
                "convert to a tokenizer.json"
            )
        if getattr(self._tokenizer.backend_tokenizer.model, "dropout", None):
            raise UnsupportedModelError(
                f"{folder} has a tokenizer with dropout, which gives different tokens for the same "
                "text; set dropout to null in its tokenizer.json"
            )
        known = set(self._tokenizer.get_vocab()) - set(self._tokenizer.all_special_tokens)
        if not known and not any(folder.rglob("tokenizer.json")):
            # transformers 5 returns an empty tokenizer for a folder without a vocabulary.
            raise UnsupportedModelError(
                f"{folder} has neither a tokenizer.json nor another vocabulary that transformers "
                "reads. Download the model again"
            )

    @property
    def special_tokens_added(self) -> int:
        """Number of special tokens added to each text or pair."""
        if not self._call().get("add_special_tokens", True):
            return 0
        return int(self._tokenizer.num_special_tokens_to_add(pair=isinstance(self._empty, tuple)))

    @property
    def max_tokens(self) -> int:
        """Number of tokens to which texts are truncated; a huge number if there is no limit."""
        most = self._call().get("max_length", self._transformer().max_seq_length)
        return sys.maxsize if most is None else int(most)

    def last_token(self) -> tuple[str, int]:
        """Return the token with the largest id, added and special tokens included, and the id."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        added = [(f"token {number}", int(number)) for number in self.token_ids(self._empty)]
        return max([*vocabulary.items(), *added], key=itemgetter(1))

    def limit(self, max_tokens: int) -> None:
        """Truncate texts to `max_tokens` from now on."""
        self._model.max_seq_length = max_tokens
        self._bound_memory(max_tokens)
        for keywords in self._processing().values():
            if "max_length" in keywords:
                keywords["max_length"] = max_tokens

    def runs(self, tokens: int) -> bool:
        """Whether the encoder takes a text of this many tokens, as one without a table does."""
        self._bound_memory(tokens)
        ids = torch.from_numpy(np.resize(self._tokenizer("a river")["input_ids"], (1, tokens)))
        try:
            with quiet(), torch.no_grad():
                self._model.transformers_model(input_ids=ids, attention_mask=torch.ones_like(ids))
        except Exception:  # noqa: BLE001  # whatever the architecture makes torch raise
            return False
        return True

    def _bound_memory(self, tokens: int) -> None:
        """Attend in memory that grows linearly if texts of this many tokens are to be run."""
        if tokens > LONG:
            encoder: Any = self._model.transformers_model
            with suppress(ValueError), quiet():  # not all architectures have it
                encoder.set_attn_implementation("sdpa")

    @property
    def truncation_side(self) -> Side:
        """The side on which long texts are truncated."""
        side: Side = self._tokenizer.truncation_side
        return side

    def tokenizer_json(self) -> str:
        """Return the tokenizer of the model as JSON, without padding and truncation."""
        content = plain_json(self._tokenizer)
        if self._call().get("add_special_tokens", True):
            return content
        return json.dumps({**json.loads(content), "post_processor": None}, ensure_ascii=False)

    def token_ids(self, text: Text) -> TokenIds:
        """Return the token ids of a text or pair after truncation. Shape: (tokens,)."""
        return np.array(self._features(text)["input_ids"][0].tolist(), np.int64)

    def special_tokens(self) -> list[str]:
        """Return the special tokens as text."""
        return list(self._tokenizer.all_special_tokens)

    @property
    def prompt_names(self) -> list[str]:
        """The names that sentence-transformers accepts as ``prompt_name``."""
        return list(self._model.prompts)

    def release(self) -> None:
        """Drop the weights. From now on, only cached results are available."""
        self.results.release()
        drop_weights(self._model)

    def _run(self, text: Any, call: Any) -> FloatArray:
        """Return the result of a text or pair in a call."""
        raise NotImplementedError

    def _ids_of_run(self, run: Callable[[], object]) -> TokenIds:
        """Return the token ids that the encoder receives in a run. Shape: (tokens,)."""
        with quiet():
            return ids_of_run(self._model[0], run)

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
        settings: dict[str, dict[str, Any]] = self._transformer().processing_kwargs
        return settings

    def _transformer(self) -> Any:
        """Return the module that holds the encoder and the tokenizer."""
        return self._model[0]

    def _features(self, text: Text) -> dict[str, Any]:
        """Return the encoder's inputs for one text or pair, as a batch of one."""
        with self._naming(text):
            features: dict[str, Any] = self._model.preprocess(
                [text if isinstance(text, str) else list(text)]
            )
        return features

    @contextmanager
    def _naming(self, text: Text) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # malformed files raise any kind
            raise UnsupportedModelError(
                f"sentence-transformers runs {self._folder}, but fails on the text "
                f"{start_of(text)}: {gist(error)}"
            ) from error


def plain_json(tokenizer: Any) -> str:
    """Return a tokenizer of transformers as JSON, without padding and truncation."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return str(copy.to_str(pretty=False))


def _fault(folder: Path, error: Exception) -> str:
    """Return why the model does not run: the tokenizer's error if transformers hides it."""
    modular = (folder / MODULES).is_file()
    encoder = read_modules(folder)[0].path if modular else folder
    if (wrong := mismatch(encoder, error)) is not None:
        return wrong
    if "processing class" in str(error):
        try:
            with quiet():
                AutoTokenizer.from_pretrained(
                    encoder, local_files_only=True, trust_remote_code=False
                )
        except Exception as hidden:  # noqa: BLE001  # malformed files raise any kind
            if "custom code" in str(hidden):
                return "its tokenizer is code of the model's author, which embedrt does not run"
            return f"its tokenizer cannot be loaded: {gist(hidden)}"
    if isinstance(error, IndexError):
        return f"an id, a type or a position is beyond the encoder's tables ({gist(error)})"
    return gist(error)
