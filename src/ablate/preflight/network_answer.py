"""The result of building a network: frozen plain values that travel between processes and lie in the cache."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.grafting.contract_findings import Findings
from ablate.records.graft_report import KeptTensors


@dataclass(frozen=True)
class NetworkCost:
    """Size and arithmetic of a network (see `ablate.measuring.complexity.Complexity`).

    Attributes:
        params: Parameters of the deployed network.
        params_train: Parameters of the network as it is trained.
        gflops: 1e9 floating-point operations for one image, of the deployed network.
        gflops_ultralytics: Ultralytics' own figure; None where it fails.
    """

    params: int
    params_train: int
    gflops: float
    gflops_ultralytics: float | None


@dataclass(frozen=True)
class NetworkAnswer:
    """A network that can be built.

    Attributes:
        places: Paths in the stock network where a module was inserted.
        tensors: Tensors of the stock network.
        transferred: Those of them that the starting weights filled; None where the checkpoint is not downloaded yet.
        contract: What is odd about its modules.
        cost: None where it was not counted.
        kept: Tensors of replaced layers that keep their values, and all of them; None where no layer is replaced.
    """

    places: tuple[str, ...]
    tensors: int
    transferred: int | None
    contract: Findings
    cost: NetworkCost | None = None
    kept: KeptTensors | None = None


@dataclass(frozen=True)
class Rejection:
    """Why a network cannot be built.

    Attributes:
        reason: One line.
        skippable: Whether `skip_invalid` leaves the variant out: its module, place and model do not fit together.
            Otherwise the user has to correct something, and the command ends.
    """

    reason: str
    skippable: bool = False
