"""Policies, one file each; the registry opens them by name."""
