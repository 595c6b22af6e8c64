"""Any convolutional pyramid of timm as a feature extractor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from segmnv2.backbones.backbone import Backbone, check_options
from segmnv2.backbones.timm_fitting import SIDE_MULTIPLE, build, build_empty, check_name, fit, fit_native
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.nn.stride import check_output_stride

Triple = tuple[float, float, float]


FORCE, FORBID = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def never_unpickling() -> Iterator[None]:
    """Let ``torch.load`` read tensors and nothing else meanwhile, whoever calls it and however.

    timm takes safetensors where a model has them; with other files, some of its versions ask torch to unpickle whatever
    is in them.
    """
    before = {key: os.environ.pop(key, None) for key in (FORCE, FORBID)}
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[FORCE]
        os.environ.update({key: value for key, value in before.items() if value is not None})


class TimmBackbone(Backbone):
    """A model of timm that ends at its last feature map (``features_only``).

    Its maps are those of timm, with the channels and strides of timm's ``feature_info``: mostly five at strides 2 to
    32, four from 4 on in ConvNeXt and Swin, several at 16 in plain vision transformers. Every size of image is taken.
    A model whose layers need sides of multiples of 32, or round sizes down, as ConvNeXt, VGG, HRNet or Swin, gets its
    image padded with zeros, the mean color, at the right and at the bottom; its maps are cropped to
    ceil(side / stride).

    A change of the output stride builds timm's network again, around the same parameters and buffers: optimizers,
    frozen weights, training modes, batch norms with what was set in them, and the keys of ``state_dict`` survive.
    Forward hooks on other inner modules do not.

    Finer features contain the coarser ones exactly (see :meth:`Backbone.set_output_stride`) in plain convolutional
    networks, as resnet, resnext, mobilenetv2, mobilenetv4_conv, regnetx, repvgg and xception. Elsewhere timm's strides
    and dilations do not compute the same features, and weights need training at the stride they are used with:

    - squeeze-excitation (mobilenetv3, efficientnet, regnety, the se- families) looks at the whole map, so the law
      holds approximately, the better the larger the image;
    - an average pool of 2 x 2 in the shortcut (resnet*d, resnet*t and others of ``avg_down``) becomes one of stride 1
      that is not dilated, and is another function;
    - attention (mobilevit) sees other pixels; convnext and res2net keep the law at 16 but not at 8.
    """

    def __init__(self, *, model: str, pretrained: bool | str | None = False, output_stride: int = 32) -> None:
        """Build the network.

        Args:
            model: name in ``timm.list_models()``, as ``"resnet18"``; a name of weights may follow, as
                ``"resnet18.a1_in1k"``.
            pretrained: whether to load timm's weights for it, downloading them when the cache has none; no text.
            output_stride: 8, 16 or 32, of which many models have 32 alone.

        Raises:
            ConfigError: an unknown model, or one that cannot have the output stride; the message says what it can.
            WeightsError: the weights do not exist, could not be had, or are a file that runs code when it is read.
        """
        super().__init__()
        check_output_stride(output_stride)
        check_options(model=model, pretrained=pretrained)
        if pretrained not in (True, False, None):  # timm takes any text for true
            raise ConfigError(
                f"backbone.pretrained {pretrained!r} is not possible for timm's {model!r}; give true or false"
            )
        check_name(model)
        self.model = model
        self._nominal = fit_native(model).features
        self._fit = fit(model, output_stride)
        try:
            with never_unpickling():
                self.network = build(model, self._fit, pretrained=bool(pretrained))
        except Exception as error:  # of the download: whatever the client of the day raises
            if not pretrained:
                raise
            raise WeightsError(
                f"weights of timm's {model!r} could not be had ({error}); "
                f"give pretrained: false, another model, or download them once with network access"
            ) from error
        self.output_stride = output_stride

    def _apply_output_stride(self, output_stride: int) -> None:
        if output_stride == self.output_stride:
            return
        found = fit(self.model, output_stride)
        network = build_empty(self.model, found)
        _move_tensors(self.network, network, self.model)
        self.network, self._fit = network, found

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w), by :func:`timm_normalization`, to the feature maps, finest first."""
        height, width = x.shape[-2:]
        if self._fit.padded:
            x = F.pad(x, (0, -width % SIDE_MULTIPLE, 0, -height % SIDE_MULTIPLE))
        features = list(self.network(x))
        if self._fit.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        if self._fit.padded:
            features = [
                feature[..., : -(-height // info.stride), : -(-width // info.stride)]
                for feature, info in zip(features, self._fit.features, strict=True)
            ]
        return tuple(features)


def timm_normalization(model: str) -> tuple[Triple, Triple]:
    """Return the mean and the standard deviation, each red, green, blue in 0..255, that a timm model was trained with.

    Raises:
        ConfigError: timm does not have the model.
    """
    import timm

    check_name(model)
    config = timm.get_pretrained_cfg(model)
    mean, std = (config.mean, config.std) if config is not None else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return _times_255(mean), _times_255(std)


def _times_255(values: tuple[float, ...]) -> Triple:
    red, green, blue = (255.0 * value for value in values)
    return red, green, blue


def _move_tensors(source: nn.Module, target: nn.Module, model: str) -> None:
    """Put the parameters, buffers, batch norms and modes of one network into another of equal ``state_dict`` keys."""
    if source.state_dict().keys() != target.state_dict().keys():
        raise ConfigError(
            f"timm's {model!r} has other weights at the new output_stride, or its layers were changed; "
            f"build the backbone with that output_stride instead"
        )
    modules = dict(target.named_modules())
    for name, old in source.named_modules():
        if (new := modules.get(name)) is None:
            continue
        new.training = old.training
        for key, parameter in old.named_parameters(recurse=False, remove_duplicate=False):
            setattr(new, key, parameter)
        for key, buffer in old.named_buffers(recurse=False, remove_duplicate=False):
            setattr(new, key, buffer)
        if isinstance(old, _NormBase) and name:
            target.set_submodule(name, old)
