"""Videos of episodes of a policy and of demonstrations."""
