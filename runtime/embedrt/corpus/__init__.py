"""Corpora: files of texts to files of vectors, on one machine or on Ray.

A corpus is divided into parts, each a run of rows of one file. The file of a part is written
atomically, and a repeated run computes only the missing parts. `embed` runs the job, `embed_table`
embeds one table, and `verify_output` verifies that no row is lost, duplicated or changed. Requires
the extra ``corpus`` (pyarrow), and ``ray`` for clusters.
"""

from importlib.util import find_spec

from embedrt.errors import MissingExtraError

if find_spec("pyarrow") is None:
    raise MissingExtraError("corpora need pyarrow: pip install 'embedrt[corpus]'")

from embedrt.corpus.local import LocalEngine as LocalEngine
from embedrt.corpus.plan import Plan as Plan
from embedrt.corpus.plan import plan as plan
from embedrt.corpus.report import Report as Report
from embedrt.corpus.run import Engine as Engine
from embedrt.corpus.run import embed as embed
from embedrt.corpus.table import EmbedTable as EmbedTable
from embedrt.corpus.table import embed_table as embed_table
from embedrt.corpus.table import read_column as read_column
from embedrt.corpus.verify import Verification as Verification
from embedrt.corpus.verify import verify_output as verify_output

__all__ = [
    "EmbedTable",
    "Engine",
    "LocalEngine",
    "Plan",
    "Report",
    "Verification",
    "embed",
    "embed_table",
    "plan",
    "read_column",
    "verify_output",
]
