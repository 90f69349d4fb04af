"""The end of a training: evaluate the best and last checkpoints, write the results, reduce both to weights.

Nothing of Ultralytics is patched: everything here is an override of a documented method.
"""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOCAL_RANK, RANK
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from ablate.checkpoints.stored_network import ANY, read_checkpoint
from ablate.storage.plain_values import Plain
from ablate.training import checkpoint
from ablate.training.grafted_model import saved_form
from ablate.training.history import Journal, best_epoch

FIRST = RANK in {-1, 0}  # the process that writes


class ConcludingTrainer(DetectionTrainer):
    """Ultralytics' detection trainer, resumable until its results are written.

    Attributes:
        journal: The epochs so far.
        concluding: Whether all epochs are done.
        resumed: How often this training was resumed from a checkpoint.
    """

    save_dir: Path
    wdir: Path
    last: Path
    best: Path
    journal: Journal
    concluding = False
    resumed: int
    args: Any
    _half: nn.Module | None = None  # see `network_of`

    def final_eval(self) -> None:
        """Evaluate the best checkpoint and the last, write the results, and reduce both to their weights.

        Ultralytics reduces them first, in place. Here copies are reduced, so that the training can be resumed until
        the results are written.
        """
        self.concluding = True
        drafts = self.wdir / "drafts"
        best, last = drafts / self.best.name, drafts / self.last.name
        try:
            with torch_distributed_zero_first(LOCAL_RANK):
                if FIRST:
                    shutil.rmtree(drafts, ignore_errors=True)
                    drafts.mkdir()
                    self._reduce(drafts)
            if best.exists():
                self.validator.args.plots = self.args.plots
                self.validator.args.compile = False  # too slow for one validation
                self.metrics = self._evaluate(best)
                self.metrics.pop("fitness", None)
                self.epoch += 1  # as Ultralytics counts in this event
                self.run_callbacks("on_fit_epoch_end")
                self.epoch -= 1
            self.keep_evaluation("best", self.metrics)
            self._evaluate_last(last)
            if FIRST:
                self._conclude(drafts)
        finally:
            if FIRST:
                shutil.rmtree(drafts, ignore_errors=True)

    def _reduce(self, drafts: Path) -> None:
        """Write copies of both checkpoints without what only a training needs."""
        over = checkpoint.Progress(epoch=self.epoch + 1, epochs=self.epochs, resumed=self.resumed, stage="over")
        for path, further in ((self.best, {}), (self.last, {checkpoint.KEY: over.to_plain()})):
            if path.exists():
                stored = read_checkpoint(path, parts=ANY)
                network = self.network_of(stored.network.state)
                checkpoint.write(drafts / path.name, {**checkpoint.reduced(stored.entries, network), **further})

    def _evaluate(self, path: Path) -> Plain:
        """Evaluate a checkpoint in the network that was trained; only tensors are taken from the file."""
        network = deepcopy(self.network_of(read_checkpoint(path, parts=ANY).network.state))
        figures: Plain = self.validator(model=network.float().eval())
        return figures

    def network_of(self, state: dict[str, Tensor]) -> nn.Module:
        """Return a network like the trained one, with these tensors in half precision, on the CPU.

        It is the same object each time.
        """
        if self._half is None:
            half: Any = deepcopy(self.ema.ema).half().cpu().to(memory_format=torch.contiguous_format)
            half.criterion = None
            half.args = dict(vars(self.args))  # plain, as Ultralytics' checkpoints hold them in the end
            self._half = saved_form(half.requires_grad_(False))
        self._half.load_state_dict(state)
        return self._half

    def _evaluate_last(self, draft: Path) -> None:
        """Evaluate the last epoch's weights in the same way: the best epoch was selected on the evaluated images."""
        again = [draft.exists() and best_epoch(self.journal.rows) != self.epoch + 1]
        if RANK > -1:
            dist.broadcast_object_list(again, 0)  # the other processes keep no journal
        if again[0]:
            self.validator.args.plots = False  # those of the best one stay
            self.keep_evaluation("last", self._evaluate(draft))
        else:
            self.keep_evaluation("last", self.metrics)

    def keep_evaluation(self, which: str, figures: dict[str, float]) -> None:
        """Store the validator's result for a checkpoint, "best" or "last"."""

    def _conclude(self, drafts: Path) -> None:
        """Put results and reduced checkpoints in place; last.pt at the end: all can be repeated from it."""
        best, last = drafts / self.best.name, drafts / self.last.name
        self.journal.settle(self.journal.rows)
        if best.exists():
            checkpoint.put_in_place(best, self.best)
        self.write_results()
        if last.exists():
            checkpoint.put_in_place(last, self.last)

    def write_results(self) -> None:
        """Write the results of this training; called once, at its end."""
