"""The catalogue's blocks against plain formulas; the authors' code is in the golden values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn.modules.block import RepNCSPELAN4

from ablate.modules.blocks.fasternet import FasterNet, FasterNetBlock
from ablate.modules.blocks.repncspelan4 import rep_ncsp_elan4
from ablate.modules.blocks.repvit import RepViT, RepViTBlock
from ablate.modules.blocks.starnet import StarBlock, StarNet
from ablate.modules.convolutions.gsconv import VoVGSCSP

BLOCKS: list[Callable[..., nn.Module]] = [FasterNet, StarNet, RepViT, VoVGSCSP, rep_ncsp_elan4]


def _image(channels: int, height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_keep_the_size_and_change_the_channels(block: Callable[..., nn.Module]) -> None:
    for module, channels in ((block(8, 16), 16), (block(8, 8, repeats=2), 8)):
        for height, width in ((1, 1), (2, 5), (7, 8)):
            assert module(_image(8, height, width)).shape == (2, channels, height, width)


@pytest.mark.parametrize("block", BLOCKS)
def test_repeats_make_a_block_deeper(block: Callable[..., nn.Module]) -> None:
    sizes = [sum(p.numel() for p in block(8, 8, repeats=repeats).parameters()) for repeats in (1, 2, 3)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("block", BLOCKS)
def test_sizes_below_one_are_refused(block: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        block(8, 8, repeats=0)


@pytest.mark.parametrize("block", [FasterNetBlock(8).eval(), StarBlock(8).eval()])
def test_a_shortcut_adds_the_input(block: FasterNetBlock | StarBlock) -> None:
    x = _image(8, 5, 6)
    with_shortcut = block(x)
    block.shortcut = False
    torch.testing.assert_close(with_shortcut - x, block(x))


def test_a_star_multiplies_two_projections() -> None:
    block = StarBlock(6, mlp_ratio=2).eval()
    x = _image(6, 5, 4)
    mixed = block.before(x)
    star = block.f1(mixed).clamp(0, 6) * block.f2(mixed)
    torch.testing.assert_close(block(x), x + block.after(block.project(star)))


def test_a_repvit_block_starts_as_its_first_half() -> None:
    block = RepViTBlock(8).eval()
    x = _image(8, 5, 6)
    first = block.squeeze(block.norm(block.depthwise(x) + block.pointwise(x) + x))
    torch.testing.assert_close(block(x), first)


def test_every_other_repvit_block_squeezes() -> None:
    blocks = RepViT(8, 8, repeats=3).blocks
    assert [isinstance(block.squeeze, nn.Identity) for block in blocks] == [False, True, False]
    assert isinstance(RepViT(8, 8, squeeze=False).blocks[0].squeeze, nn.Identity)


def test_repncspelan4_is_the_class_of_ultralytics_with_widths_by_the_output() -> None:
    block = rep_ncsp_elan4(64, 128, repeats=2, width=0.5)
    assert isinstance(block, RepNCSPELAN4)
    assert block.cv1.conv.out_channels == 64  # c3
    assert block.cv2[1].conv.out_channels == 32  # c4
    assert len(block.cv2[0].m) == 2
