"""Simulated worlds, their tasks and their experts. The only package that knows PyBullet."""
