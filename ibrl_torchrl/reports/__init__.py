"""Statistics, tables, figures and an HTML page of run folders, without PyTorch or a simulator."""
