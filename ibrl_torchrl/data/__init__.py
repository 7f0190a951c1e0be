"""Training data: demonstrations and replay buffers."""
