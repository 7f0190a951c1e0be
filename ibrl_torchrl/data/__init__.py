"""What policies learn from: demonstrations and replay."""
