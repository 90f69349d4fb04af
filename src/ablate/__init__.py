"""Ablation studies of attention modules in YOLO26.

Importing this package is cheap: torch, Ultralytics and MLflow are imported by the functions that need them.
"""

__version__ = "0.1.0"
