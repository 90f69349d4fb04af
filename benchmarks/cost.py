"""What each module adds to YOLO26n in parameters and arithmetic, beside Ultralytics' own number (docs/cost.md).

    python benchmarks/cost.py [--imgsz 640]

Nothing is timed. Results go to results/cost.jsonl, one line a module and place.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from common import keep

from ablate.settings.environment import prepare
from ablate.settings.graft import SIZE_MATCHED, GraftSpec, InsertionSpec, ModuleSpec, write_grafts
from ablate.settings.schema import CONTROL_MODULES, option_file, options


def main() -> None:
    """Count, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imgsz", type=int, default=640)
    asked = parser.parse_args()
    prepare()
    stock = measured(None, "none", asked.imgsz)
    print(f"YOLO26n at {asked.imgsz} px: {stock}")
    rows: list[dict[str, Any]] = []
    for name in options("module"):
        if name == "none" or name in CONTROL_MODULES:
            continue
        module = ModuleSpec.from_plain(option_file("module", name))
        block = ModuleSpec(SIZE_MATCHED, like=module)
        for place in dict.fromkeys([module.default_insertion, "head", "neck_p5"]):
            found, matched = measured(module, place, asked.imgsz), measured(block, place, asked.imgsz)
            rows.append({
                "module": name,
                "insertion": place,
                "params_added": found["params_added"],
                "gflops_added": round(found["gflops"] - stock["gflops"], 4),
                "gflops_uncounted": round(found["gflops_uncounted"], 4),
                "gflops_ultralytics_added": round(found["gflops_ultralytics"] - stock["gflops_ultralytics"], 4),
                "block_params_added": matched["params_added"],
                "block_gflops_added": round(matched["gflops"] - stock["gflops"], 4),
                "block_worst_error": max(abs(place["params_error"]) for place in matched["places"]),
            })  # fmt: skip
            print(rows[-1], flush=True)
    alone = {row["module"]: by_operation(row["module"]) for row in rows}
    keep("cost", {"model": "yolo26n", "imgsz": asked.imgsz, "stock": stock, "modules": rows, "operations": alone})


def measured(module: ModuleSpec | None, place: str, imgsz: int) -> dict[str, Any]:
    """Return the complexity of YOLO26n with a module at a place, and what was grafted."""
    from ultralytics.nn.tasks import yaml_model_load

    from ablate.measuring.complexity import complexity
    from ablate.records.json_struct import to_json
    from ablate.training.network import build_network

    content = yaml_model_load("yolo26n.yaml")
    if module is not None:
        content["ablate"] = write_grafts([GraftSpec(module, InsertionSpec(place))])
    network, report, _ = build_network(content, classes=80)
    return {**asdict(complexity(network, imgsz)), "places": to_json(report)["places"]}


def by_operation(name: str) -> dict[str, int]:
    """Return a module's arithmetic on a map of 64 channels and 40 x 40, operation by operation."""
    from ablate.grafting.construction import load_class
    from ablate.measuring.arithmetic import arithmetic

    module = ModuleSpec.from_plain(option_file("module", name))
    return asdict(arithmetic(load_class(module.target)(64, **module.arguments), 64, 40, 40))


if __name__ == "__main__":
    main()
