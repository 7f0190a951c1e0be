"""From run folders to figures and tables: nothing here needs PyTorch or a simulator."""
