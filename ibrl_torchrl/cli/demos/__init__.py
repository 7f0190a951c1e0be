"""``ibrl demos``: record, download, describe, check, render and convert demonstrations."""
