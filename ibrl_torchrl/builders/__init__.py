"""From configuration to parts."""
