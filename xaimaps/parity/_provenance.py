"""What a report must say of itself to prove anything: models, versions, pictures, settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from xaimaps.methods import Method
from xaimaps.parity._subjects import Subject


def provenance(
    subjects: Sequence[Subject],
    targets: Sequence[str],
    layer: str | None,
    methods: Sequence[Method],
) -> dict[str, Any]:
    """Return the date, versions, models, pictures and settings of a comparison as JSON values.

    Args:
        subjects: the backends, the reference first.
        targets: the target of each image as text.
        layer: the layer of the CAM methods, by its name in the reference.
        methods: the compared methods.
    """
    batch = subjects[0].batch
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "xaimaps": version("xaimaps"),
        "models": [_model(subject) for subject in subjects],
        "pictures": [{"source": one.source, "sha256": one.sha256} for one in batch.pictures],
        "images": list(batch.images.shape),
        "targets": list(targets),
        "layer": layer,
        "methods": [method.name for method in methods],
    }


def _model(subject: Subject) -> dict[str, Any]:
    info = subject.backend.info
    return {
        "name": subject.name,
        "model": info.name,
        "source": info.source,
        "sha256": info.sha256,
        "backend": subject.backend.name,
        "versions": subject.backend.versions(),
        "preprocess": info.preprocess.name if info.preprocess else None,
    }
