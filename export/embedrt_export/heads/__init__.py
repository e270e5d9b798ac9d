"""From token vectors to one embedding: pooling and the modules that follow it."""
