"""sentence-transformers behind FastAPI, as in a typical first version."""

from __future__ import annotations

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

torch.set_num_threads(int(os.environ["THREADS"]))
model = SentenceTransformer(os.environ["MODEL"], device="cpu")
app = FastAPI()


class Question(BaseModel):
    """The body of a request."""

    input: str | list[str]


@app.get("/ready")
def ready() -> dict[str, str]:
    """Return status 200. The model is loaded at import."""
    return {}


@app.post("/v1/embeddings")
def embeddings(question: Question) -> dict[str, list[dict[str, object]]]:
    """Embed the texts in FastAPI's thread pool."""
    texts = [question.input] if isinstance(question.input, str) else question.input
    vectors = model.encode(texts).tolist()
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}
