"""Real documents, where they are at hand: test input that is no part of the project."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def corpus_bundle() -> Path:
    bundle = SHARED / "corpus" / "annoris.bundle"
    if not bundle.is_file():
        pytest.skip("the corpus of real documents is not here (../shared/corpus/annoris.bundle)")
    return bundle
