"""sentence-transformers itself, in torch: what every bundle must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentence_transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from embedrt.bundle.manifest import Side
from embedrt.errors import UnsupportedModelError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.quiet import quiet
from embedrt_export.source.files import marked_files

# Explicit, for a model's own files may name kernels that transformers would fetch and run.
NO_KERNELS = {"attn_implementation": "eager", "use_kernels": False}


class Oracle:
    """The original model, one text at a time, so that no padding is in its numbers."""

    name = f"sentence-transformers {sentence_transformers.__version__}"

    def __init__(self, folder: Path) -> None:
        try:
            with quiet():
                self._model = SentenceTransformer(
                    str(folder),
                    device="cpu",
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs=NO_KERNELS,
                )
                self._model.encode("a", prompt="")
        except Exception as error:  # whatever the model's files make it raise
            remedy = "".join(
                f"; {file} starts with a byte order mark, which it does not read: save it without"
                for file in marked_files(folder)
            )
            raise UnsupportedModelError(
                f"sentence-transformers does not run {folder}: {error}{remedy}"
            ) from error
        self._tokenizer = self._model.tokenizer
        if not getattr(self._tokenizer, "is_fast", False):
            raise UnsupportedModelError(
                f"{folder} has a {type(self._tokenizer).__name__}, of which transformers makes no "
                "tokenizer.json"
            )

    @property
    def max_tokens(self) -> int:
        """Tokens that sentence-transformers truncates to."""
        return int(self._model.max_seq_length)

    @property
    def vocabulary(self) -> int:
        """Tokens that the tokenizer can give, added ones included."""
        return len(self._tokenizer)

    def limit(self, max_tokens: int) -> None:
        """Truncate to so many tokens from now on."""
        self._model.max_seq_length = max_tokens

    @property
    def truncation_side(self) -> Side:
        """The end of a long text that is dropped."""
        side: Side = self._tokenizer.truncation_side
        return side

    def tokenizer_json(self) -> str:
        """Return the tokenizer as sentence-transformers uses it, without padding or truncation."""
        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.no_padding()
        copy.no_truncation()
        return str(copy.to_str(pretty=False))

    def token_ids(self, text: str) -> TokenIds:
        """Token ids of a text, truncated. Shape: (tokens,)."""
        ids = self._tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        return np.array(ids, np.int64)

    def special_tokens(self) -> list[str]:
        """The tokens that mean something to the model, as they are written."""
        return list(self._tokenizer.all_special_tokens)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed the texts without any prompt. Shape: (n, dimension)."""
        with quiet():
            return np.stack([self._model.encode(text, prompt="") for text in texts])
