from __future__ import annotations

import sys
from pathlib import Path

import pytest

import edgeprune
from tests.cli.fakes import FakePipeline


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePipeline:
    """Replace the pipeline, and work in an empty folder."""
    fake = FakePipeline()
    module = fake.module()
    monkeypatch.setitem(sys.modules, "edgeprune.pipeline", module)
    monkeypatch.setattr(edgeprune, "pipeline", module, raising=False)
    monkeypatch.chdir(tmp_path)
    return fake
