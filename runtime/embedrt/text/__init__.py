"""Input texts, prompts and tokenization.

`inputs` validates the texts that callers pass, `prompts` selects the prompt to prepend, `tokenizer`
converts texts to token ids, and `truncation` reports texts that exceed the model's maximum. `utf8`
reads text files. This package is independent of the graph.
"""
