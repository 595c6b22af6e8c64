"""Sections for training: loss, optimizer, averaging, checkpoints and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, create_model, model_validator

from segmnv2.losses import LOSSES
from segmnv2.section import Natural, NaturalFloat, PositiveFloat, PositiveInt, Section, Share

ClassWeights = dict[str, PositiveFloat]


class _LossSection(Section):
    """The loss: a sum of losses, each times its factor; 0 leaves one out.

    Attributes:
        cross_entropy: factor of the mean over the pixels, the paper's loss.
        focal, dice, lovasz: factor of the loss of that name in :data:`segmnv2.losses.LOSSES`, as of any other there.
        class_weights: weight of a class in the cross-entropy by name, 1 for those not named; as ``segmnv2
            check-data`` suggests for rare classes.
        hard_pixels: share of the pixels with the largest cross-entropy that it is the mean of; 1 takes all
            (online hard example mining).
        gamma: exponent of the focal loss: 0, or 1 and more.
    """

    cross_entropy: NaturalFloat = 1.0
    class_weights: ClassWeights = Field(default_factory=dict)
    hard_pixels: Annotated[float, Field(gt=0, le=1)] = 1.0
    gamma: NaturalFloat = 2.0

    @model_validator(mode="after")
    def _something(self) -> _LossSection:
        if not (self.cross_entropy or self.terms):
            raise ValueError("all factors are 0, so there is nothing to learn; set cross_entropy to 1")
        if not self.cross_entropy and (self.class_weights or self.hard_pixels < 1):
            raise ValueError("class_weights and hard_pixels belong to the cross-entropy; set cross_entropy above 0")
        if 0 < self.gamma < 1:
            raise ValueError(
                f"gamma {self.gamma} has no finite gradient where a pixel is certain; set gamma to 0, or to 1 or more"
            )
        return self

    @property
    def terms(self) -> dict[str, float]:
        """Factors of the losses beside the cross-entropy."""
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name)}


if TYPE_CHECKING:
    LossSection = _LossSection
else:
    factors = dict.fromkeys(LOSSES, (NaturalFloat, 0.0))
    LossSection = create_model("LossSection", __base__=_LossSection, __doc__=_LossSection.__doc__, **factors)


class OptimizerSection(Section):
    """Stochastic gradient descent with momentum and a rate that falls as ``lr * (1 - step / steps) ** power``.

    Attributes:
        lr: learning rate of the first step; the last layer's bias has twice that.
        momentum: momentum of the gradient.
        weight_decay: on the weights of convolutions that are not depthwise and of linear layers.
        power: power of the schedule; 0 keeps the rate constant.
        warmup_steps: first steps, over which a factor of the rate rises in a straight line to 1.
        accumulate: parts that a batch is computed in, one after another, to save memory.
        clip_norm: length that a longer gradient is shortened to; ``null`` leaves it.
    """

    lr: PositiveFloat = 0.007
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NaturalFloat = 4e-5
    power: NaturalFloat = 0.9
    warmup_steps: Natural = 0
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None


class AverageSection(Section):
    """A moving average of the weights, which is then what is validated and kept.

    Attributes:
        decay: share of the old average that a step keeps; at step n at most (1 + n) / (10 + n), so that the
            start is soon forgotten.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999


class CheckpointSection(Section):
    """Interval of the states to resume from, beside those after each validation and after the last step.

    Attributes:
        every: steps between two; ``null`` for the validations alone.
        keep: number of latest states that are kept.
    """

    every: PositiveInt | None = None
    keep: PositiveInt = 1


class LogSection(Section):
    """Logs of a run.

    Attributes:
        every: steps between two entries.
        wandb: project at Weights & Biases that measures are sent to as well; ``null`` for none.
    """

    every: PositiveInt = 50
    wandb: str | None = None


class PictureLogSection(LogSection):
    """Logs of a run in segmentation.

    Attributes:
        pictures: validation images, evenly over the set, whose prediction TensorBoard shows after each validation.
    """

    pictures: Natural = 4


class PhotometricSection(Section):
    """Changes of color in training images, which the paper has none of; drawn again for each crop.

    Attributes:
        brightness: greatest change of the brightness, as a share.
        contrast: greatest change of the contrast, as a share.
        saturation: greatest change of the saturation, as a share.
        hue: greatest turn of the hue, as a share of the circle.
        chance: probability that an image is changed.
    """

    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    chance: Share = 0.5


class EpochValidationSection(Section):
    """Interval of validation in epochs; the last step is always validated.

    Attributes:
        every: epochs between two validations, after each of which a checkpoint is written.
        limit: number of images, evenly over the set; ``null`` for all.
    """

    every: PositiveFloat = 1.0
    limit: PositiveInt | None = None
