"""Episodes of policies: in this process or in workers."""
