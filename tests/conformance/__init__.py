"""Conformance kit: checks that any implementation of IBRL can be held against."""
