"""From what callers pass to token ids.

`inputs` accepts or refuses what callers pass as texts, `tokenizer` turns texts into token ids, and
`truncation` reports texts that are longer than the model takes. Nothing here knows the graph.
"""
