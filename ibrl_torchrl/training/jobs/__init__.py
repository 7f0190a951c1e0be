"""The commands' work: one job a module, each a function of its checked configuration."""
