"""Parameter groups: what is not a weight matrix gets neither weight decay nor an orthogonalised step.

Ultralytics sorts parameters by shape and name: MuSGD orthogonalises whatever has two or four dimensions, which catches
tables of relative position biases; weight decay reaches temperatures and mixing scalars; and anything with "bias" in
its name gets the bias warm-up. Modules declare such parameters with `no_weight_decay()`.
"""

from __future__ import annotations

from torch import nn, optim

from ablate.records.realised import ParameterGroup


def exempt_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that their modules declare as no weight matrices, by full name."""
    declared: set[str] = set()
    for path, module in network.named_modules():
        names = getattr(module, "no_weight_decay", None)
        if callable(names):
            declared |= {f"{path}.{name}" if path else name for name in names()}
    parameters = dict(network.named_parameters())
    unknown = declared - set(parameters)
    if unknown:
        raise ValueError(f"no_weight_decay() names parameters that do not exist: {', '.join(sorted(unknown))}")
    return {name: parameters[name] for name in sorted(declared)}


def exempt(optimizer: optim.Optimizer, parameters: dict[str, nn.Parameter]) -> None:
    """Move parameters into the optimizer's group without decay and without orthogonalisation, in place."""
    if not parameters:
        return
    plain = [group for group in optimizer.param_groups if group.get("param_group") == "bn"]
    home = plain[-1]  # MuSGD doubles each group; the last one has the base learning rate
    ids = {id(parameter) for parameter in parameters.values()}
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ids]
    home["params"] = [*home["params"], *parameters.values()]


def describe_groups(optimizer: optim.Optimizer, network: nn.Module) -> tuple[ParameterGroup, ...]:
    """Return for each parameter group its treatment and the names of its tensors."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return tuple(
        ParameterGroup(
            group=group.get("param_group", str(index)),
            lr=group["lr"],
            weight_decay=group.get("weight_decay", 0.0),
            orthogonalised=bool(group.get("use_muon", False)),
            tensors=tuple(names.get(id(parameter), "?") for parameter in group["params"]),
        )
        for index, group in enumerate(optimizer.param_groups)
    )
