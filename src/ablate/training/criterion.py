"""Other losses in Ultralytics' criterion.

The network's own criterion is made as always; then its loss of boxes, its loss of classes or its assigner is replaced
in it, for each branch of the head: YOLO26 and YOLOv10 have two, one-to-many and one-to-one. All else stays as it is:
the distribution of the sides (DFL) or their L1 distance, the weights of the branches, the gains, the class weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import BboxLoss, v8DetectionLoss
from ultralytics.utils.tal import TaskAlignedAssigner

from ablate.errors import ConfigError
from ablate.grafting.construction import load_class
from ablate.grafting.insertion import GraftError
from ablate.grafting.module_calls import ModuleError, calling
from ablate.losses.boxes import Scale
from ablate.records.loss_report import LossReport
from ablate.settings.losses import LossSettings, LossSpec
from ablate.sources.working_folder import allow

BRANCHES = {"one2many": "one_to_many", "one2one": "one_to_one"}


class ReplacedLosses:
    """The losses of a training that are not stock. Each branch of the head has its own, with a state of its own.

    Args:
        settings: Which losses.
    """

    def __init__(self, settings: LossSettings) -> None:
        self._settings = settings
        self._losses: dict[str, nn.Module] = {}  # by branch and part, such as one_to_many.box

    def install(self, network: DetectionModel) -> None:
        """Replace the losses in a network's criterion, which is made where there is none.

        The network and the average of its weights are validated and trained with the same objects.

        Raises:
            ConfigError: The network's head is trained in another way, or there is no such class.
            GraftError: The loss cannot be made.
        """
        if not self._settings.parts:
            return
        criterion = getattr(network, "criterion", None) or network.init_criterion()
        for branch, stock in _branches(criterion, network).items():
            for part, spec in self._settings.parts.items():
                name = f"{branch}.{part}"
                if name not in self._losses:
                    self._losses[name] = make_loss(spec, f"loss.{part}={spec.text}").to(stock.device)
                _PUT[part](stock, self._losses[name], f"loss.{part}={spec.text}")
        network.criterion = criterion

    def state(self) -> dict[str, Tensor]:
        """Return the state of all losses by branch, part and name; empty for losses without any."""
        return {
            f"{name}.{key}": tensor.detach().cpu().clone()
            for name, loss in self._losses.items()
            for key, tensor in loss.state_dict().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, loss in self._losses.items():
            own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
            loss.load_state_dict(own)

    def report(self) -> tuple[LossReport, ...]:
        """Return which loss ran in which branches, in the order of the parts."""
        return tuple(
            LossReport(
                part=part,
                loss=spec.text,
                heads=tuple(name.partition(".")[0] for name in self._losses if name.endswith(f".{part}")),
                classes=tuple(
                    dict.fromkeys(
                        f"{type(loss).__module__}.{type(loss).__qualname__}"
                        for name, whole in self._losses.items()
                        if name.endswith(f".{part}")
                        for loss in whole.modules()
                    )
                ),
            )
            for part, spec in self._settings.parts.items()
        )


def make_loss(spec: LossSpec, where: str) -> nn.Module:
    """Build a loss, and try it; `where` leads the message of an error.

    Raises:
        ConfigError: Its class cannot be imported.
        GraftError: It raises, makes no module, or has parameters, which nothing would train.
    """
    allow(spec.targets)
    inner = {} if spec.of is None else {"of": make_loss(spec.of, where)}
    try:
        function = load_class(spec.target)
    except GraftError as error:
        raise ConfigError(f"{where}: {str(error).removeprefix('module.')}") from error
    try:
        with torch.random.fork_rng(devices=[]), calling(spec.target, f"{where}: constructor"):
            loss: object = function(**inner, **spec.arguments)
    except ModuleError as error:
        raise GraftError(error.problem) from error
    if not isinstance(loss, nn.Module):
        raise GraftError(f"{where}: {spec.title} returned {type(loss).__name__}; a torch.nn.Module is needed")
    if any(True for _ in loss.parameters()):
        raise GraftError(f"{where}: {spec.title} has parameters, which no optimizer would train; use buffers")
    return loss


def check_losses(network: DetectionModel, settings: LossSettings) -> None:
    """Check that a network can be trained with some losses, without training.

    Raises:
        ConfigError: Its head cannot, or there is no such class.
        GraftError: A loss cannot be made, or does not return a finite loss for each box or score.
    """
    losses = ReplacedLosses(settings)
    network.args, network.criterion = get_cfg(), None
    try:
        losses.install(network)
    finally:
        network.criterion = None
        del network.args
    boxes = torch.tensor([[1.0, 2.0, 5.0, 8.0], [2.0, 1.0, 3.0, 9.0]])
    scale = Scale(torch.full((2, 1), 8.0), torch.tensor([64.0, 64.0]))
    for part, spec in settings.parts.items():
        where = f"loss.{part}={spec.text}"
        loss: Any = make_loss(spec, where)
        wanted: tuple[int, ...] = (1, 2, 3) if part == "cls" else (2,)
        try:
            with calling(spec.target, f"{where}: forward"):
                if part == "cls":
                    result = loss(torch.zeros(wanted, requires_grad=True), torch.full(wanted, 0.5))
                elif part == "assigner":
                    result = loss.similarity(boxes, boxes.flip(0), scale)
                else:
                    result = loss(boxes.clone().requires_grad_(), boxes.flip(0), scale)
        except ModuleError as error:
            raise GraftError(error.problem) from error
        if not isinstance(result, Tensor) or tuple(result.shape) != wanted or not torch.isfinite(result).all():
            given = f"a tensor {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise GraftError(f"{where}: forward returned {given}; finite numbers {wanted} are needed")
        if part != "assigner" and not result.requires_grad:
            raise GraftError(f"{where}: forward returned numbers without a gradient: nothing could be learned from it")


def _branches(criterion: Any, network: DetectionModel) -> dict[str, v8DetectionLoss]:
    """Return the criterion of each branch of the head, by its name in records.

    Raises:
        ConfigError: The head is trained in another way.
    """
    found = {branch: getattr(criterion, name, None) for name, branch in BRANCHES.items()}
    branches = {branch: loss for branch, loss in found.items() if loss is not None} or {"detect": criterion}
    for loss in branches.values():
        if not isinstance(loss, v8DetectionLoss):
            head = type(network.model[-1]).__name__
            raise ConfigError(
                f"loss: the head {head} is trained with {type(loss).__name__}, whose losses cannot be replaced; "
                "needed: a head of YOLOv8, v10, 11, 12 or 26 for detection"
            )
    return branches


class _Boxes(BboxLoss):
    """Ultralytics' loss of boxes with another one in the place of CIoU.

    Args:
        reg_max: Of the head.
        loss: Maps boxes (N, 4), true boxes (N, 4) and their scale to N losses.
    """

    def __init__(self, reg_max: int, loss: nn.Module) -> None:
        super().__init__(reg_max)
        self.loss = loss

    def forward(
        self,
        pred_dist: Tensor,
        pred_bboxes: Tensor,
        anchor_points: Tensor,
        target_bboxes: Tensor,
        target_scores: Tensor,
        target_scores_sum: Tensor,
        fg_mask: Tensor,
        imgsz: Tensor,
        stride: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of the boxes, and Ultralytics' of the distances of their sides."""
        stock = super().forward(
            pred_dist,
            pred_bboxes,
            anchor_points,
            target_bboxes,
            target_scores,
            target_scores_sum,
            fg_mask,
            imgsz,
            stride,
        )
        chosen = fg_mask.nonzero(as_tuple=True)
        weights = target_scores[chosen].sum(-1)
        loss = self.loss(pred_bboxes[chosen], target_bboxes[chosen], Scale(stride[chosen[1]], imgsz))
        return (loss * weights).sum() / target_scores_sum, stock[1]


class _Assigner(TaskAlignedAssigner):
    """Ultralytics' assigner with another overlap in the place of CIoU; as there, negative ones count as 0.

    Args:
        stock: The assigner whose options it has.
        loss: A loss of boxes that has a similarity.
    """

    def __init__(self, stock: TaskAlignedAssigner, loss: nn.Module) -> None:
        super().__init__(
            topk=stock.topk,
            num_classes=stock.num_classes,
            alpha=stock.alpha,
            beta=stock.beta,
            stride=stock.stride,
            eps=stock.eps,
            topk2=stock.topk2,
        )
        self.loss: Any = loss
        self._image = torch.zeros(2)

    def forward(self, pd_scores: Tensor, pd_bboxes: Tensor, anc_points: Tensor, *args: Any, **extra: Any) -> Any:
        """Assign; the last cell of the finest map ends where the image does."""
        self._image = anc_points.amax(0).flip(0) + self.stride[0] / 2
        return super().forward(pd_scores, pd_bboxes, anc_points, *args, **extra)

    def iou_calculation(self, gt_bboxes: Tensor, pd_bboxes: Tensor) -> Tensor:
        """Return the overlaps (N,) of true boxes (N, 4) with predicted boxes (N, 4), in pixels."""
        scale = Scale(torch.ones_like(gt_bboxes[:, :1]), self._image)
        swapped = getattr(self.loss, "symmetric", False)  # Ultralytics' order, for equal digits
        pair = (gt_bboxes, pd_bboxes) if swapped else (pd_bboxes, gt_bboxes)
        overlaps: Tensor = self.loss.similarity(*pair, scale)
        return overlaps.clamp(0).to(pd_bboxes.dtype)


def _put_box(stock: v8DetectionLoss, loss: nn.Module, where: str) -> None:
    _check_stock(stock.bbox_loss, BboxLoss, where)
    stock.bbox_loss = _Boxes(stock.reg_max, loss).to(stock.device)


def _put_cls(stock: v8DetectionLoss, loss: nn.Module, where: str) -> None:
    _check_stock(stock.bce, nn.BCEWithLogitsLoss, where)
    stock.bce = loss


def _put_assigner(stock: v8DetectionLoss, loss: nn.Module, where: str) -> None:
    _check_stock(stock.assigner, TaskAlignedAssigner, where)
    if not hasattr(loss, "similarity"):
        raise ConfigError(f"{where}: {type(loss).__name__} has no similarity, which the assigner needs")
    stock.assigner = _Assigner(stock.assigner, loss)


_PUT = {"box": _put_box, "cls": _put_cls, "assigner": _put_assigner}


def _check_stock(part: object, kind: type, where: str) -> None:
    """Check that what is replaced is what we know; a subclass may compute something else.

    Raises:
        ConfigError: It is not.
    """
    if type(part) is not kind:
        raise ConfigError(
            f"{where}: this head is trained with {type(part).__name__}; only {kind.__name__} can be replaced"
        )
