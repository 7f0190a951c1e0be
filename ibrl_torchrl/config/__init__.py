"""Settings: types, defaults, limits and help."""
