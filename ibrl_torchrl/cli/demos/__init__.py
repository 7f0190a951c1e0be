"""``ibrl demos``: record, download, describe, check and render demonstrations."""
