"""The common words that benchmarks make their texts of."""

from __future__ import annotations

WORDS = (
    *("river", "stone", "house", "light", "water", "garden", "window", "music", "winter"),
    *("summer", "forest", "paper", "street", "bread", "horse", "cloud", "table", "mountain"),
    *("ocean", "silver", "morning", "evening", "letter", "teacher", "doctor", "village"),
    *("island", "bridge", "castle", "train", "market", "kitchen", "flower", "bird", "camera"),
    *("engine", "planet", "shadow", "mirror", "circle", "number", "story", "dream", "voice"),
)
