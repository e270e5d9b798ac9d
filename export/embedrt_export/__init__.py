"""Exports a sentence-transformers model to a verified bundle. Requires the ``export`` extra.

Start reading with `pipeline`, which runs the stages. Models are data: the dataclasses of `encoder`,
`head`, `masked` and `table` hold weights; other modules read files and build graphs.
"""

from embedrt_export.pipeline import export_model as export_model
from embedrt_export.pipeline import prove_bundle as prove_bundle

__all__ = ["export_model", "prove_bundle"]
