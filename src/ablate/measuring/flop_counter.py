"""Count floating-point operations as torch's dispatcher executes them, by torch's own formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):
    """Adds up the FLOPs of convolutions, matrix products and attention.

    The same as `FlopCounterMode`, which also keeps a tree of modules, and first imports torch's compiler.

    Args:
        decompose: Split composite operations that have no formula into their parts, and count these.

    Attributes:
        flops: FLOPs so far.
    """

    def __init__(self, *, decompose: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self._decompose = decompose

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports the compiler, only to be left alone by it

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        formula = flop_registry.get(function._overloadpacket)
        if formula is None and self._decompose:
            with self:
                decomposed = function.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        result = function(*args, **kwargs)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        elif isinstance(output := result[0] if isinstance(result, tuple) else result, Tensor):
            self.without_formula(function._overloadpacket, [arg for arg in args if isinstance(arg, Tensor)], output)
        return result

    def without_formula(self, operation: Any, inputs: Sequence[Tensor], output: Tensor) -> None:
        """See an operation that torch has no formula for; called after it ran."""
