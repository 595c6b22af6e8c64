"""``segmnv2 evaluate`` and ``segmnv2 compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from segmnv2.cli.inference_options import (
    ENGINES,
    SEGMENTERS,
    InferenceArguments,
    check_inputs,
    refuse_options,
    takes_inference,
)
from segmnv2.cli.output import (
    JsonOption,
    byte_progress,
    check_json,
    image_progress,
    show_result,
    text_stream,
    write_json,
)
from segmnv2.errors import ConfigError, SegmnError
from segmnv2.files.atomic import atomic_path, check_folder, check_writable
from segmnv2.files.ownership import check_replaceable, protect


@takes_inference(
    *SEGMENTERS,
    *ENGINES,
    size="Longest side of the model's input, in pixels, or 'native'; 513 by default, native for cityscapes. "
    "image-folder: side of the crop, by default the one in training.",
)
def evaluate(
    weights: Annotated[
        Path,
        typer.Argument(
            help="Safetensors file of `segmnv2 import` or `segmnv2 train`, a name of `segmnv2 weights`, or owner/name "
            "on the Hugging Face Hub."
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="voc (or your data in its layout), folder (your data), cityscapes, ade20k, coco-voc (all images of "
            "COCO, with VOC's classes) or shapes (generated); image-folder for a classifier, coco for a detector.",
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of the data set, such as VOCdevkit.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the data set; by default the one on which results are reported, such as VOC's val. "
            "--dataset folder uses all images by default."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate only this number of images, evenly distributed over the data set.")
    ] = None,
    masks_out: Annotated[Path | None, typer.Option(help="Folder for the predicted masks.")] = None,
    json_out: JsonOption = None,
    html_out: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write an HTML page: figures by class, borders, calibration, confusion, best and worst images.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="coco: JSON file of your own boxes; --root is then the folder of the images.")
    ] = None,
    detections_out: Annotated[Path | None, typer.Option(help="coco: file for the detected boxes.")] = None,
    *,
    inference: InferenceArguments,
) -> None:
    """Evaluate a model on a data set.

    The metric is mIOU with TensorFlow's protocol: whole images, one confusion matrix. For classifiers it is top-1 and
    top-5 accuracy; for detectors, COCO's average precision.
    """
    from segmnv2.datasets.dataset_kinds import BOXES, CLASSES, FileDataset, evaluation_source
    from segmnv2.evaluation.close_look import CloseLook
    from segmnv2.evaluation.html_report import html_report
    from segmnv2.evaluation.segmenters import check_mask_names
    from segmnv2.evaluation.segmenters import evaluate as run
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.inference.predictor import Predictor
    from segmnv2.models.model_file import load_model

    check_inputs({"--root": root, "--annotations": annotations, "--calibration": inference.calibration})
    _check_outputs(json_out, masks_out, html_out, detections_out)
    if root is None and dataset in (BOXES, CLASSES):
        raise ConfigError(f"--root is missing; --dataset {dataset} needs the folder of the data set")
    boxes = {"annotations": annotations, "detections_out": detections_out}
    if dataset == CLASSES:
        assert root is not None
        remedy = f"leave it out with --dataset {CLASSES}"
        inference.refuse("classifiers", remedy, but=["size"], split=split, masks_out=masks_out, html=html_out, **boxes)
        weights = resolve_weights(weights, track=byte_progress)
        evaluate_classifier(weights, root, inference.size, limit, json_out, inference.device)
        return
    if dataset == BOXES:
        assert root is not None
        inference.refuse("detectors", f"leave it out with --dataset {BOXES}", masks_out=masks_out, html=html_out)
        weights = resolve_weights(weights, track=byte_progress)
        evaluate_detector(weights, root, split, annotations, limit, json_out, detections_out, inference.device)
        return
    refuse_options("segmentation models", "leave it out, or give --dataset coco and a detector", **boxes)
    source = evaluation_source(dataset, root, split)
    options = inference.options(size=source.canvas)
    data: Any = source.open()
    if isinstance(data, FileDataset):
        protect(data.mask_folders)
    if masks_out is not None:
        check_mask_names(data.names)
        check_replaceable(masks_out / f"{name}.png" for name in data.names)
    weights = resolve_weights(weights, track=byte_progress)
    model = load_model(weights)
    if source.own_classes and sorted(data.labels.names) != sorted(model.labels.names):
        data = source.open(model.labels)  # evaluate() refuses VOC's classes in another order
        print(
            f"note: the masks' ids are read as the model's {model.num_classes} classes "
            f"({', '.join(model.labels.names[:3])}, ...), not as VOC's",
            file=sys.stderr,
        )
    _note_trained(weights, data)
    predictor = Predictor.of(model, options)
    print(f"running {predictor.backend}", file=sys.stderr)
    look = CloseLook(data.labels) if html_out is not None else None
    with image_progress(len(data) if limit is None else min(limit, len(data))) as advance:
        result = run(predictor, data, limit=limit, masks_out=masks_out, progress=advance, observe=look)
    values = source.model_dump(mode="json", include={"root", "split"})
    location = {"dataset": dataset, "root": None, "split": None, **values}
    show_result(result, weights, location, json_out)
    if look is not None and html_out is not None:
        with atomic_path(html_out) as partial:
            partial.write_text(html_report(result.of(weights, location), look), encoding="utf-8")
        print(f"{html_out} written", file=sys.stderr)


def _check_outputs(json_out: Path | None, masks_out: Path | None, *files: Path | None) -> None:
    check_json(json_out)
    if masks_out is not None:
        check_folder(masks_out)
    for file in files:
        if file is not None:
            check_writable(file)


def _note_trained(weights: Path, data: Any) -> None:
    """Print how many of the images are training images of the model, if its file and the split lists show it."""
    from segmnv2.config.reading import parse_experiment
    from segmnv2.datasets.dataset_kinds import FileSource, count_shared, open_dataset
    from segmnv2.models.model_file import read_description

    experiment = read_description(weights).get("provenance", {}).get("experiment")
    if not isinstance(experiment, dict):
        return  # imported, not trained here
    try:
        source = parse_experiment(experiment).data.train
        if not isinstance(source, FileSource):  # others may be slow to open
            return
        shared = count_shared(open_dataset(source), data)
    except (SegmnError, OSError):  # trained by an earlier version, or on another machine
        return
    if shared:
        trained = f"the model was trained on {shared} of the {len(data)} images"
        print(f"note: {trained}, so its mIOU is higher than on new images; use --split for others", file=sys.stderr)


def evaluate_classifier(
    weights: Path,
    root: Path,
    size: str | None,
    limit: int | None,
    json_out: Path | None,
    device: str,
) -> None:
    """Print top-1 and top-5 accuracy.

    Args:
        weights: a classifier's file.
        root: folder with one subfolder per class.
        size: side of the crop, or ``None`` for the one in training.
        limit: number of images, evenly distributed over the data set.
        json_out: file for the figures.
        device: name of the device, or ``"auto"``.

    Raises:
        ConfigError: an option is not possible.
        SegmnError: weights or data cannot be used.
    """
    from segmnv2.datasets.image_folder import ImageFolder
    from segmnv2.engines.selection import choose_device
    from segmnv2.evaluation import classifiers
    from segmnv2.models.classifier import load_classifier

    if size is not None and not size.isdecimal():
        raise ConfigError(f"--size: {size!r} is not possible for a classifier; give pixels, such as 224")
    model = load_classifier(weights).to(choose_device(device))
    trained, central = classifiers.trained_crop(weights)
    data = ImageFolder(root)
    with image_progress(len(data) if limit is None else min(limit, len(data))) as advance:
        result = classifiers.evaluate_classifier(
            model,
            data,
            crop_size=trained if size is None else int(size),
            central=central,
            limit=limit,
            progress=advance,
        )
    show_result(result, weights, {"dataset": "image-folder", "root": str(root)}, json_out)


def evaluate_detector(
    weights: Path,
    root: Path,
    split: str | None,
    annotations: Path | None,
    limit: int | None,
    json_out: Path | None,
    detections_out: Path | None,
    device: str,
) -> None:
    """Print COCO's average precision.

    Args:
        weights: a detector's file.
        root: folder of COCO, or of the images if ``annotations`` is given.
        split: split of COCO, ``val2017`` by default.
        annotations: JSON file of your own boxes.
        limit: number of images, evenly distributed over the data set.
        json_out: file for the figures.
        detections_out: file for the detected boxes, in COCO's result format.
        device: name of the device, or ``"auto"``.

    Raises:
        ConfigError: an option is not possible.
        SegmnError: weights or data cannot be used.
    """
    from segmnv2.coco.boxes import CocoBoxes
    from segmnv2.detection.detector import load_detector
    from segmnv2.engines.selection import choose_device
    from segmnv2.evaluation.detectors import evaluate_detector as run

    if annotations is not None and split is not None:
        raise ConfigError(f"--split {split} and --annotations {annotations}: both are given; give one of them")
    model = load_detector(weights).to(choose_device(device))
    split = split or "val2017"
    data = CocoBoxes.of_split(root, split) if annotations is None else CocoBoxes(root, annotations)
    with image_progress(len(data) if limit is None else min(limit, len(data))) as advance:
        result = run(model, data, limit=limit, progress=advance)
    if detections_out is not None:
        result.write_detections(detections_out)
    source = {"split": split} if annotations is None else {"annotations": str(annotations)}
    show_result(result, weights, {"dataset": "coco", "root": str(root), **source}, json_out)


def compare(
    before: Annotated[Path, typer.Argument(help="File of `segmnv2 evaluate --json`.")],
    after: Annotated[Path, typer.Argument(help="Another such file, from the same images.")],
    images: Annotated[
        int, typer.Option(metavar="N", help="Number of most improved and of most worsened images to list.")
    ] = 5,
    json_out: JsonOption = None,
) -> None:
    """Compare two evaluations: changes of IoU with 95 % intervals, and the images that changed most."""
    from segmnv2.evaluation.paired_comparison import compare_evaluations

    check_json(json_out)
    result = compare_evaluations(before, after, images)
    print(result.to_markdown(), file=text_stream(json_out))
    write_json(result.to_dict(), json_out)
