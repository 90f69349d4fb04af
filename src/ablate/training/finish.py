"""The end of a training: evaluate the best and last checkpoints, write the results, reduce both to weights.

Nothing of Ultralytics is patched: everything here is an override of a documented method.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch.distributed as dist
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOCAL_RANK, RANK
from ultralytics.utils.torch_utils import strip_optimizer, torch_distributed_zero_first

from ablate.training import checkpoint
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

    def final_eval(self) -> None:
        """Evaluate the best checkpoint and the last, write the results, and reduce both to their weights.

        Ultralytics reduces them first, in place. Here it gets copies, so that the training can be resumed until the
        results are written.
        """
        self.concluding = True
        last, best, drafts = self.last, self.best, self.wdir / "drafts"
        try:
            with torch_distributed_zero_first(LOCAL_RANK):
                if FIRST:
                    shutil.rmtree(drafts, ignore_errors=True)
                    drafts.mkdir()
                    if best.exists():
                        shutil.copyfile(best, drafts / best.name)
            self.last, self.best = drafts / last.name, drafts / best.name
            super().final_eval()
            self.last, self.best = last, best
            self.keep_evaluation("best", self.metrics)
            self._evaluate_last(drafts / last.name)
            if FIRST:
                self._conclude(drafts)
        finally:
            if FIRST:
                shutil.rmtree(drafts, ignore_errors=True)

    def _evaluate_last(self, draft: Path) -> None:
        """Evaluate the last epoch's weights in the same way: the best epoch was selected on the evaluated images."""
        with torch_distributed_zero_first(LOCAL_RANK):
            if FIRST and self.last.exists():
                over = checkpoint.Progress(epoch=self.epoch + 1, epochs=self.epochs, resumed=self.resumed, stage="over")
                strip_optimizer(self.last, draft, updates={checkpoint.KEY: over.to_plain()})
        again = [draft.exists() and best_epoch(self.journal.rows) != self.epoch + 1]
        if RANK > -1:
            dist.broadcast_object_list(again, 0)  # the other processes keep no journal
        if again[0]:
            self.validator.args.plots = False  # those of the best one stay
            self.keep_evaluation("last", self.validator(model=draft))
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
