"""The files that a trial is made from, by their content: what its signature promises, and what is on disk now."""

from __future__ import annotations

from ablate.errors import AblateError
from ablate.records.trial_record import InputHashes
from ablate.settings.signature import architecture_hash, file_hash
from ablate.settings.trial_settings import TrialSettings
from ablate.sources.module_source import module_source

SHOWN = 8  # hex digits of a hash in a message


class InputsChanged(AblateError):
    """A file that a trial is made from is not what its signature says any more; the message is one line.

    Args:
        message: What changed.
        intact: Whether the training so far was still on the right files, so that it can be continued.
    """

    kind = "changed"

    def __init__(self, message: str, *, intact: bool = False) -> None:
        super().__init__(message)
        self.intact = intact


class TrialInputs(InputHashes, frozen=True, kw_only=True):
    """Hashes of what a trial is made from."""

    @classmethod
    def of(cls, settings: TrialSettings, data_fingerprint: str) -> TrialInputs:
        """Read what is on disk now of what some settings name.

        Raises:
            ConfigError: The class of a module cannot be found.
        """
        return cls(
            data=data_fingerprint,
            weights=weights_hash(settings),
            architecture=architecture_hash(settings.model.architecture),
            sources={target: module_source(target).sha256 for target in settings.targets},
        )

    def changes(self, now: TrialInputs, settings: TrialSettings) -> list[str]:
        """Return in words what differs between these and those of now."""
        model = settings.model
        pairs = [
            (f"data set {settings.data.name}", "fingerprint", self.data, now.data),
            (f"model.weights={model.weights}", "SHA-256", self.weights, now.weights),
            (f"model.architecture={model.architecture}", "SHA-256", self.architecture, now.architecture),
        ]
        pairs += [
            (_files_of(target), f"source of {target}", self.sources.get(target), source)
            for target, source in now.sources.items()
        ]
        return [
            f"{what} ({kind} {_shown(before)} -> {_shown(after)})"
            for what, kind, before, after in pairs
            if before != after
        ]


def weights_hash(settings: TrialSettings) -> str | None:
    """Return the SHA-256 of the starting weights as they are now; None without any."""
    weights = settings.model.weights
    return None if weights is None else file_hash(weights)


def _files_of(target: str) -> str:
    files = module_source(target).files
    return files[0].name + (" or a file that it uses" if len(files) > 1 else "")


def _shown(content_hash: str | None) -> str:
    return "none" if content_hash is None else content_hash.removeprefix("name:")[:SHOWN]
