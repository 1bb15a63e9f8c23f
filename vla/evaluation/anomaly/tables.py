"""Results by class as tables: CSV, Markdown, and rows for pages and consoles."""

import csv
import io
from collections.abc import Sequence

from vla.evaluation.anomaly.results import METRICS, AnomalyMetrics

TITLES = {
    "image_auroc_mean": "image AUROC (mean)", "image_auroc_max": "image AUROC (max)",
    "image_auroc_std": "image AUROC (std)", "image_ap": "image AP", "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AP", "pixel_f1_max": "pixel F1-max",
    "pixel_aupro": "AUPRO (30 %)",
}  # fmt: skip
assert tuple(TITLES) == METRICS


def rows(metrics: AnomalyMetrics) -> list[dict[str, str | int | float | None]]:
    """One for each class and a last one, `mean`, with numbers of pictures and metrics by name."""
    found: list[dict[str, str | int | float | None]] = [
        {"class": row.name, "good": row.num_good, "defective": row.num_bad, **row.values} for row in metrics.classes
    ]
    counts = {
        "good": sum(row.num_good for row in metrics.classes), "defective": sum(row.num_bad for row in metrics.classes),
    }  # fmt: skip
    return [*found, {"class": "mean", **counts, **dict.fromkeys(METRICS), **metrics.means}]


def to_csv(table: Sequence[dict[str, str | int | float | None]]) -> str:
    """With a head, metrics in full precision as shares of 1; empty where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["class", "good", "defective", *METRICS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_markdown(table: Sequence[dict[str, str | int | float | None]]) -> str:
    """In percent with one decimal."""
    head = ["class", "good", "defective", *TITLES.values()]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in table:
        cells = [str(row["class"]), str(row["good"]), str(row["defective"]), *(percent(row[name]) for name in METRICS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def percent(value: str | int | float | None) -> str:
    """A share of 1 in percent; a dash where there is none."""
    return f"{100 * value:.1f}" if isinstance(value, int | float) else "–"
