"""Policies that run elsewhere, and what passes over the wire to and from them. No pickle."""
