"""Latency of several networks on one device, so that two measurements of the same table agree.

``rounds`` times, ``intervals`` tells how sure a median is, ``backends`` makes a network ready to run, ``pipeline`` puts
pictures in front of it and post-processing behind, ``surroundings`` tells of the machine, ``checkpoints`` is the job of
a worker process and ``settings`` what it can be asked for. See docs/latency.md.
"""

from ablate.measuring.latency.surroundings import device_name

__all__ = ["device_name"]
