"""Demonstrations and the stages of training."""
