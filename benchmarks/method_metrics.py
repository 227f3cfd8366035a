"""Judge methods on the embedded network and its photographs, for the guide "Which method?".

    uv run python benchmarks/method_metrics.py

writes `benchmarks/results/method-metrics.md`.
"""

from __future__ import annotations

from pathlib import Path

import xaimaps

METHODS = (
    *("grad_cam", "layer_cam", "eigen_cam", "random_cam"),
    *("saliency", "input_x_gradient", "guided_backprop", "deep_lift", "lrp"),
)
METRICS = (
    *("deletion", "insertion", "road", "average_drop"),
    *("random_logit", "mprt", "efficient_mprt", "sparseness"),
)
HEAD = """# Methods by metrics, measured

The embedded EfficientNet-Lite0 on its {count} photographs: the mean, with its 95 % interval by
bootstrap. Each head says whether a higher or a lower value is better. Intervals of {count} pictures
are wide; evaluate your own. Made by `benchmarks/method_metrics.py`.

"""


def main() -> None:
    """Evaluate, and write the table."""
    found = xaimaps.metrics.evaluate(
        "default", list(xaimaps.zoo.PICTURES.values()), METHODS, METRICS, progress=True
    )
    rows = [found.columns, ["---"] * len(found.columns), *found.rows()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    notes = "".join(f"\n- {note}" for note in found.notes)
    path = Path(__file__).parent / "results" / "method-metrics.md"
    path.write_text(HEAD.format(count=len(found.pictures)) + table + notes + "\n")


if __name__ == "__main__":
    main()
