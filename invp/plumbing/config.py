"""Options as plain data: merged onto the dataclasses that declare them, checked, and made instances of these again."""

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from invp.plumbing.errors import UserError
from invp.plumbing.options import check_options, valid_values
from invp.plumbing.plugins import load_plugin, nearest, plugin_names


def _fits(config_class: type, key: str, options: dict) -> bool:
    """Whether an option has its field's type: OmegaConf does not always name the key of one that has not."""
    try:
        OmegaConf.merge(OmegaConf.structured(config_class), {key: options[key]})
    except (OmegaConfBaseException, TypeError, ValueError):
        return False
    return True


def structured(config_class: type, options: Any, where: str) -> dict:
    """The options merged onto a dataclass, as plain data in the dataclass's order; UserError names file, key, value and what is valid."""
    if not isinstance(options, dict):
        raise UserError(f"{where} must hold keys and values, not {options!r}")
    declared = {field.name: field for field in fields(config_class)}
    for key, value in options.items():
        if key not in declared:
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, list(declared))}")
        if declared[key].type is bool and not isinstance(value, bool):  # OmegaConf takes any number for true
            raise UserError(f"{where}: {key} is {value!r}; valid: {valid_values(declared[key])}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config_class), options)
        result = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{where}: key '{error.full_key}' is missing; valid: {valid_values(declared[error.full_key])}") from None
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        key = str(getattr(error, "full_key", None) or "").split("[")[0] or next(
            k for k in options if not _fits(config_class, k, options)
        )
        raise UserError(f"{where}: {key} is {options[key]!r}; valid: {valid_values(declared[key])}") from None
    check_options(config_class, result, where)
    try:
        config_class(**result)  # a dataclass may check values against each other
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return {
        key: value for key, value in result.items() if not (declared[key].metadata.get("later") and value == declared[key].default)
    }


def plugin_options(kind: str, options: Any, where: str) -> dict:
    """`{"name": ..., **options}` checked against the plug-in's `Config`; so is a data set's option `of`, which is another data set."""
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise UserError(f"{where} needs a 'name'; valid: {', '.join(plugin_names(kind))}")
    try:
        module = load_plugin(kind, options["name"])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    rest = {key: value for key, value in options.items() if key != "name"}
    checked = structured(module.Config, rest, where)
    if hasattr(module, "check"):
        try:
            module.check(module.Config(**checked))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if kind == "datasets" and "of" in checked:
        checked["of"] = plugin_options("datasets", checked["of"], f"{where}.of")
    return {"name": options["name"], **checked}


def data_root() -> Path:
    """The folder of raw data sets: INVP_DATA, or `data` in the working folder."""
    return Path(os.environ.get("INVP_DATA") or "data")


def instance(config_class: type, options: dict) -> Any:
    """The dataclass that checked options describe, without their `name`."""
    assert is_dataclass(config_class)
    return config_class(**{key: value for key, value in options.items() if key != "name"})
