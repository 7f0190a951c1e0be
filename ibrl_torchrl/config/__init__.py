"""Settings: types, defaults, limits, choices and help, once, and their composition."""
