"""The experiment in MLflow's UI: its description, and views of the list of runs.

MLflow 3 stores a view (columns, grouping, filter, order) in a tag of the experiment and lists it under "Views"; older
versions ignore the tag. An existing view is left as it is: somebody may have changed it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ablate.tracking.mlflow_payload import NOTE

# MLflow 3 shows an experiment of unknown kind as one of language models; ours is a table of runs.
KIND = {"mlflow.experimentKind": "custom_model_development"}
VIEW = "mlflow.sharedViewState."
BY_VARIANT = "ablate-variants"
RUN_NAME = "attributes.`Run Name`"
FLAT = {"Trials": "metrics.`final/map50_95`", "Failed trials": "tags.`ablate.variant`"}  # view -> its order

DESCRIPTION = """\
**Views** (top right) has ready-made lists: *Variants* (mean over trials), *Trials*, *Sweeps*, *Failed trials*.

- Each **sweep** (one `python -m ablate ... -m`) is a parent run: its description holds the table of the comparison, \
its artifacts the report (`report/comparison.html`), the figures, and the table (`comparison.json`). Each **trial** \
(one variant, one seed, and of a cross-validation one fold) is a run below it.
- **Group by** a tag: `ablate.variant`, or a factor: `ablate.module`, `ablate.insertion`, `ablate.optimizer`, \
`ablate.model`, `ablate.data`, and where they are not the stock network's `ablate.box_loss`, `ablate.cls_loss`, \
`ablate.assigner`, `ablate.head`; `ablate.sweep` is the sweep that trained it.
- **Compare**: tick trials, press *Compare*, and switch on *Show diff only*: it shows what differs, also in the \
realised recipe (`realised.*`).
- **Search**: `tags."ablate.module" = "hmha" and metrics."final/map50_95" > 0.3`.
- Metrics: `final/` of the best epoch, `last/` of the last one, `per_class_map50_95/`, `cost/`; those of each epoch \
have no slash. The table is of the best epoch unless the sweep declared another `judge`, and its differences are \
in mAP50-95 unless it declared another `metric` (tag `ablate.metric`).

MLflow shows means over whatever trials a variant has, without intervals or tests; the report has both, and the \
findings.
"""

_LIST = {"orderByKey": "attributes.start_time", "orderByAsc": False, "startTime": "ALL", "lifecycleFilter": "Active"}


def experiment_tags(now: int, existing: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the tags to add to an experiment.

    Args:
        now: The time in milliseconds.
        existing: The tags that it has.
    """
    trials = "tags.`ablate.kind` = 'trial'"
    accuracy = ["final/map50_95", "final/map50", "last/map50_95"]
    cost = ["cost/params", "cost/gflops", "cost/train_minutes"]
    replicate = ["ablate.seed", "ablate.fold"]
    factors = ["ablate.module", "ablate.insertion", "ablate.optimizer", "ablate.model", "ablate.data"]
    states = {
        BY_VARIANT: ("Variants: mean over trials", trials, _columns([], [*accuracy, *cost]), "ablate.variant"),
        "ablate-trials": ("Trials", trials, _columns([*replicate, *factors], [*accuracy, *cost]), None),
        "ablate-sweeps": (
            "Sweeps",
            "tags.`ablate.kind` = 'sweep'",
            _columns(["ablate.command"], ["sweep/trials", "sweep/failed", "sweep/variants"], description=True),
            None,
        ),
        "ablate-failed": (
            "Failed trials",
            f"{trials} and attributes.status = 'FAILED'",
            _columns(["ablate.failure", "ablate.failure.message", "ablate.variant", *replicate], []),
            None,
        ),
    }
    tags = {**KIND, NOTE: DESCRIPTION}
    tags |= {f"{VIEW}{key}": _view(*state, now=now) for key, state in states.items()}
    return {name: value for name, value in tags.items() if name not in (existing or {})}


def _columns(tags: Sequence[str], metrics: Sequence[str], description: bool = False) -> list[str]:
    first = ["attributes.`Description`"] if description else []
    return [*first, *(f"tags.`{name}`" for name in tags), *(f"metrics.`{name}`" for name in metrics)]


def _view(name: str, search: str, columns: list[str], group: str | None, *, now: int) -> str:
    state: dict[str, object] = {
        **_LIST,
        **({"orderByKey": FLAT[name]} if name in FLAT else {}),  # by date, MLflow folds trials away under their sweep
        "searchFilter": search,
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, "runDateAndNestInfo", *columns],  # else by the alphabet: cost before accuracy
        "columnWidths": {RUN_NAME: 300, **dict.fromkeys(columns, 160)},
    }
    if group is not None:
        keys = [{"mode": "tag", "groupByData": group}]
        state |= {"groupBy": {"aggregateFunction": "average", "groupByKeys": keys}}
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)})
