"""Functions that build and load networks, whose weights may be given by name."""

from __future__ import annotations

from segmnv2.hub.resolve import takes_names
from segmnv2.models import classifier, model_file, zoo

create_model = takes_names("weights", "backbone_weights")(zoo.create_model)
create_classifier = takes_names("weights", "backbone_weights")(classifier.create_classifier)
load_model = takes_names("path")(model_file.load_model)
load_weights = takes_names("path")(model_file.load_weights)
load_classifier = takes_names("path")(classifier.load_classifier)
