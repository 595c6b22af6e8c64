"""Functions that build and load models, with weights by name."""

from __future__ import annotations

from pathlib import Path

from segmnv2.errors import ConfigError
from segmnv2.hub.hugging_face import intact_weights
from segmnv2.hub.resolve import resolve_weights, takes_names
from segmnv2.models import classifier, model_file, zoo
from segmnv2.models.classifier import Classifier
from segmnv2.models.segmenter import Segmenter

create_model = takes_names("weights", "backbone_weights")(zoo.create_model)
create_classifier = takes_names("weights", "backbone_weights")(classifier.create_classifier)
load_model = takes_names("path")(model_file.load_model)
load_weights = takes_names("path")(model_file.load_weights)
load_classifier = takes_names("path")(classifier.load_classifier)


def from_pretrained(
    source: str | Path, *, revision: str | None = None, output_stride: int | None = None
) -> Segmenter | Classifier:
    """Build a model with published weights.

    Args:
        source: ``owner/name`` on the Hub, a folder of :func:`segmnv2.hub.publish.save_pretrained`, a short name such as
            ``voc_mobilenet_v2``, or a file.
        revision: branch, tag or commit on the Hub.
        output_stride: 8, 16 or 32, for segmentation models; by default that of the file.

    Returns:
        A segmentation model or a classifier, in evaluation mode, on the CPU.

    Raises:
        WeightsError: the weights do not exist or are damaged, or are those of a backbone or a detector.
        ConfigError: the output stride is not possible, or a revision is given for a folder.
    """
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(
                f"revision {revision!r}: {folder} is a local folder, which has no revisions; leave it out, or give "
                f"'hf:{source}' for the repository"
            )
        path = intact_weights(folder)
    else:
        path = resolve_weights(f"{source}@{revision}" if revision else source)
    if model_file.read_kind(path) == Classifier.kind and output_stride is None:
        return classifier.load_classifier(path)
    return model_file.load_model(path, output_stride=output_stride)
