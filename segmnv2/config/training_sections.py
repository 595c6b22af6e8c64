"""Sections for training: loss, optimizer, averaging, checkpoints and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, create_model, model_validator

from segmnv2.losses import LOSSES
from segmnv2.section import Natural, NaturalFloat, PositiveFloat, PositiveInt, Section, Share

ClassWeights = dict[str, PositiveFloat]


class _LossSection(Section):
    """The loss: a weighted sum of losses. A factor of 0 excludes a loss.

    Attributes:
        cross_entropy: factor of the cross-entropy, the paper's loss: the mean over the pixels.
        focal, dice, lovasz: factors of the losses in :data:`segmnv2.losses.LOSSES`, by name.
        class_weights: class name -> weight in the cross-entropy, by default 1. ``segmnv2 check-data`` suggests weights
            for rare classes.
        hard_pixels: share of the pixels that the cross-entropy includes, those with the largest loss; 1 includes all
            pixels (online hard example mining).
        gamma: exponent of the focal loss: 0, or at least 1.
    """

    cross_entropy: NaturalFloat = 1.0
    class_weights: ClassWeights = Field(default_factory=dict)
    hard_pixels: Annotated[float, Field(gt=0, le=1)] = 1.0
    gamma: NaturalFloat = 2.0

    @model_validator(mode="after")
    def _factors_fit(self) -> _LossSection:
        if not (self.cross_entropy or self.terms):
            raise ValueError("all factors are 0; set one above 0, such as cross_entropy to 1")
        if not self.cross_entropy and (self.class_weights or self.hard_pixels < 1):
            raise ValueError("class_weights and hard_pixels belong to the cross-entropy; set cross_entropy above 0")
        if 0 < self.gamma < 1:
            raise ValueError(
                f"gamma {self.gamma} gives infinite gradients where a pixel is certain; set gamma to 0, or to 1 or more"
            )
        return self

    @property
    def terms(self) -> dict[str, float]:
        """Factors of the losses that are added to the cross-entropy."""
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name)}


if TYPE_CHECKING:
    LossSection = _LossSection
else:
    factors = dict.fromkeys(LOSSES, (NaturalFloat, 0.0))
    LossSection = create_model("LossSection", __base__=_LossSection, __doc__=_LossSection.__doc__, **factors)


class OptimizerSection(Section):
    """Stochastic gradient descent with momentum and the learning rate ``lr * (1 - step / steps) ** power``.

    Attributes:
        lr: learning rate of the first step; that of the last layer's bias is twice as large.
        momentum: momentum of the gradient.
        weight_decay: weight decay of linear layers and of all convolutions that are not depthwise.
        power: power of the schedule; 0 keeps the learning rate constant.
        warmup_steps: steps at the start, in which the learning rate is multiplied by a factor that rises linearly to 1.
        accumulate: parts in which a batch is computed, one after another, to save memory.
        clip_norm: largest norm of the gradient; a larger gradient is scaled down to it. ``null`` for no limit.
    """

    lr: PositiveFloat = 0.007
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NaturalFloat = 4e-5
    power: NaturalFloat = 0.9
    warmup_steps: Natural = 0
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None


class AverageSection(Section):
    """A moving average of the weights. If there is one, it is validated and saved instead of the weights.

    Attributes:
        decay: share of the old average that a step keeps. At step n it is at most (1 + n) / (10 + n), so that the
            initial weights soon have no influence.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999


class CheckpointSection(Section):
    """States to resume from. They are always written after each validation and after the last step.

    Attributes:
        every: steps between two more states; ``null`` for none.
        keep: number of latest states that are kept.
    """

    every: PositiveInt | None = None
    keep: PositiveInt = 1


class LogSection(Section):
    """Logs of a run.

    Attributes:
        every: steps between two entries.
        wandb: project at Weights & Biases that also receives the metrics; ``null`` for none.
    """

    every: PositiveInt = 50
    wandb: str | None = None


class PictureLogSection(LogSection):
    """Logs of a run in segmentation.

    Attributes:
        pictures: number of validation images, evenly distributed over the set, whose predictions TensorBoard shows.
    """

    pictures: Natural = 4


class PhotometricSection(Section):
    """Random color augmentation of each training crop, which the paper does not use.

    Attributes:
        brightness: largest change of the brightness, as a share.
        contrast: largest change of the contrast, as a share.
        saturation: largest change of the saturation, as a share.
        hue: largest rotation of the hue, as a share of the circle.
        chance: probability that an image is changed.
    """

    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    chance: Share = 0.5


class EpochValidationSection(Section):
    """Interval of validation in epochs. Validation always includes the last step.

    Attributes:
        every: epochs between two validations; a checkpoint is written after each validation.
        limit: number of images, evenly distributed over the validation set; ``null`` for all.
    """

    every: PositiveFloat = 1.0
    limit: PositiveInt | None = None
