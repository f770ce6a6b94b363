"""Robots as bodies in PyBullet: an arm, and a wheeled base."""
