"""Why Ultralytics' own number of FLOPs is another one than ours, in words."""

from __future__ import annotations

from ablate.analysis.comparison import Comparison
from ablate.records.trial_record import TrialRecord

SAME = 0.005  # of ours: from here on the two differ at the digits that a table shows


def flops_differences(comparison: Comparison) -> list[tuple[str, str]]:
    """Label and `ultralytics_difference` of each row of a comparison whose trials have Ultralytics' number."""
    rows = [row for row in comparison.rows if row.cost.gflops_ultralytics is not None and row.variant.measured]
    texts = [(row.label, ultralytics_difference(row.variant.measured[0])) for row in rows]
    return [(label, text) for label, text in texts if text]


def ultralytics_difference(record: TrialRecord) -> str:
    """What Ultralytics' counter gives for a trial's network, and where the difference comes from; empty where unknown.

    Args:
        record: A trial's record, whose `cost` and `graft` are looked at.
    """
    deployed_gflops, ultralytics = record.cost.gflops, record.cost.gflops_ultralytics
    if deployed_gflops is None:
        return ""
    if ultralytics is None:
        return f"{deployed_gflops:.2f} GFLOPs as deployed; Ultralytics' own counter gave no number for this network."
    lead = f"{deployed_gflops:.2f} GFLOPs as deployed, {ultralytics:.2f} by Ultralytics' own counter"
    if abs(ultralytics - deployed_gflops) <= SAME * deployed_gflops:
        return f"{lead}."
    return f"{lead}: {'; '.join(_reasons(record))}."


def _reasons(record: TrialRecord) -> list[str]:
    reasons = []
    trained, deployed = record.cost.params_train, record.cost.params
    if trained is not None and deployed is not None and trained > deployed:
        left = f"{(trained - deployed) / 1e6:.2f} M parameters"
        reasons.append(f"it counts the network as it is trained, with {left} of norms and heads that are not deployed")
    declared = record.cost.gflops_uncounted
    if declared:
        share = f"{declared:.3f}" if declared >= 0.001 else "less than 0.001"
        reasons.append(f"it does not see {share} GFLOPs of products that are no layer, which the module declares")
    if record.graft.places:
        reasons.append(
            "it extrapolates from a small image, which is wrong for operations that do not grow with the image's area"
        )
    return reasons or ["it extrapolates from a small image"]
