"""The same script under Hydra's own sweeper and launcher: `python bare_hydra.py arguments=FILE seed=range(0,12) -m`."""

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> None:
    """Train once."""
    from ultralytics import YOLO

    arguments = json.loads(Path(config.arguments).read_text(encoding="utf-8"))
    YOLO("yolo26n.yaml").train(**arguments, seed=int(config.seed), name=f"s{config.seed}")


if __name__ == "__main__":
    main()
