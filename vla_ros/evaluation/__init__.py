"""Closed-loop scores: episodes, rates with their intervals, videos."""
