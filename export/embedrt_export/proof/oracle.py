"""sentence-transformers itself, in torch: what every bundle must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from embedrt.bundle.manifest import Side
from embedrt.errors import UnsupportedModelError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.proof.calls import PLAIN, Call
from embedrt_export.quiet import quiet
from embedrt_export.source.files import marked_files
from embedrt_export.source.prompts import lacks_document_prompt

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
        if lacks_document_prompt(folder):
            # encode_document then uses "passage" or "corpus", as documented: see `Prompts`.
            self._model.prompts.pop("document", None)
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

    @property
    def prompt_names(self) -> list[str]:
        """The names that sentence-transformers accepts as ``prompt_name``."""
        return list(self._model.prompts)

    def embed(self, texts: Sequence[str], call: Call = PLAIN) -> NDArray[np.float32]:
        """Embed each text with this call, by default without a prompt. Shape: (n, dimension)."""
        with quiet():
            return np.stack([call.of(self._model, text) for text in texts])

    def input_ids(self, text: str, call: Call) -> TokenIds:
        """Token ids that the encoder runs in this call. Shape: (tokens,)."""
        seen: list[torch.Tensor] = []
        hook = self._model[0].register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0]["input_ids"])
        )
        try:
            self.embed([text], call)
        finally:
            hook.remove()
        return seen[0][0].numpy()

    def token(self, token_id: int) -> str | None:
        """The token of this id, or None."""
        token: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        return token
