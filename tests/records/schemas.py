"""JSON schemas of the files that ablate writes, from the types that they are read as.

`python tests/records/schemas.py` writes them into `docs/schema/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ablate.data.groups import GroupsFile
from ablate.records.audit_record import AuditRecord
from ablate.records.json_struct import OpenObject
from ablate.records.latency_match import LatencyMatch
from ablate.records.latency_record import LatencyReport
from ablate.records.run_link import RunLink
from ablate.records.sweep_record import SweepManifest
from ablate.records.test_split import LedgerLine, TestEvaluation
from ablate.records.trial_record import TrialRecord, TryList

FOLDER = Path(__file__).parents[2] / "docs" / "schema"
FILES = {"result": TrialRecord, "sweep": SweepManifest, "latency": LatencyReport, "tries": TryList, "mlflow": RunLink}
FILES |= {"audit": AuditRecord, "groups": GroupsFile, "latency_match": LatencyMatch}
FILES |= {"test": TestEvaluation, "test_ledger": LedgerLine}


def schema_text(kind: type[msgspec.Struct]) -> str:
    """Return the JSON schema of a file's type, as it is written."""
    schema = msgspec.json.schema(kind, schema_hook=_schema_of_open_object)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def _schema_of_open_object(kind: type[Any]) -> dict[str, Any]:
    if issubclass(kind, OpenObject):
        return {"description": kind.__doc__, **kind.json_schema}
    raise NotImplementedError(f"no schema of {kind}")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, kind in FILES.items():
        (FOLDER / f"{name}.json").write_text(schema_text(kind), encoding="utf-8")
