"""Graph nodes from token vectors to the embedding: pooling and the modules after it."""
