"""A model's files: where they come from and what they say.

`find` locates a model: a folder, a package, or a repository on the `hub`, of which `needed` knows
what to fetch. `recipe` holds what is expected of known models. `settings` reads a model's settings
and its head (`modules`, `transformer`, `head`), each key checked against the tables in `keys`;
`config` reads the encoder's config, `checkpoint` its weights and `card` its license. `other_models`
names what is no dense embedding model. No other room opens a file of a model.
"""

from embedrt_export.source.find import Source as Source
from embedrt_export.source.find import find_source as find_source
from embedrt_export.source.needed import needed_files as needed_files
