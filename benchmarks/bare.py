"""The plain Ultralytics script that a trial is compared with: `python bare.py arguments.json seed name`."""

import json
import sys
from pathlib import Path

from ultralytics import YOLO

if __name__ == "__main__":
    arguments = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    YOLO("yolo26n.yaml").train(**arguments, seed=int(sys.argv[2]), name=sys.argv[3])
