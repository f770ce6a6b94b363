"""Whether a published confidence can be trusted. p: (N,) confidences in 0 to 1; right: (N,) bool."""

from __future__ import annotations

import numpy as np

BINS = 10


def reliability(p, right, bins: int = BINS) -> list[dict]:
    """For each bin of equal width that holds any: n, mean confidence and share that was right."""
    p, right = checked(p, right)
    index = np.minimum((p * bins).astype(int), bins - 1)
    members = [index == i for i in range(bins)]
    return [{"n": int(inside.sum()), "confidence": float(p[inside].mean()), "rate": float(right[inside].mean())}
            for inside in members if inside.any()]


def calibration_error(p, right, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between confidence and rate over the bins, weighted by their n."""
    table = reliability(p, right, bins)
    total = sum(row["n"] for row in table)
    return sum(row["n"] * abs(row["confidence"] - row["rate"]) for row in table) / total


def risk_coverage(p, right) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk, (K,) each: answering only from a confidence on, for each that occurs, the highest first.

    coverage: the share answered; risk: the share of those that was wrong. Equal confidences cannot be told apart.
    """
    p, right = checked(p, right)
    order = np.argsort(-p, kind="stable")
    last = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    answered = last + 1
    return answered / len(p), np.cumsum(~right[order])[last] / answered


def risk_area(p, right) -> float:
    """Area under the risk-coverage curve, 0 to 1: the mean risk over the coverages; lower is better."""
    coverage, risk = risk_coverage(p, right)
    return float(np.sum(np.diff(coverage, prepend=0.0) * risk))


def calibration(p, right) -> dict:
    """All of it, for JSON."""
    coverage, risk = risk_coverage(p, right)
    return {"n": len(p), "ece": calibration_error(p, right), "bins": reliability(p, right),
            "risk_coverage": {"coverage": coverage.tolist(), "risk": risk.tolist(), "area": risk_area(p, right)}}


def checked(p, right) -> tuple[np.ndarray, np.ndarray]:
    p, right = np.asarray(p, float), np.asarray(right, bool)
    if p.shape != right.shape or p.ndim != 1 or not p.size or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("needs as many confidences from 0 to 1 as outcomes, and at least one")
    return p, right
