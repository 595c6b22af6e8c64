"""The checker that tests put on annotated functions: beartype, with an int allowed where a float is (PEP 484)."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
