"""The sections of an experiment, and `load`, which checks a file in full before any job starts."""

import difflib
import os
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from invp.plumbing.errors import UserError
from invp.plumbing.files import sha256_of
from invp.plumbing.options import check_options, valid_words
from invp.plumbing.plugins import load_plugin, plugin_names
from invp.plumbing.sections import SECTIONS, Study, Weights

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
PLUGIN_SECTIONS = ("dataset", "objective")
PLUGIN_TABLES = {"evaluations": "evals", "figures": "figures"}
PLAIN = ("title", "description", "stages", "weights", "evaluate_stages")


def _read(path: Path) -> dict:
    try:
        value = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # yaml's own errors: omegaconf does not wrap them
        if type(error).__module__.startswith("yaml"):
            raise UserError(f"{path} is not valid YAML: {error}") from None
        raise
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold keys and values")
    return value


def _suggest(key: str, valid: list[str]) -> str:
    match = difflib.get_close_matches(str(key), valid, 1, cutoff=0.4)
    return f"; did you mean '{match[0]}'?" if match else f"; valid: {', '.join(valid)}"


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
            raise UserError(f"{where}: unknown key '{key}'{_suggest(key, list(declared))}")
        if declared[key].type is bool and not isinstance(value, bool):  # OmegaConf takes any number for true
            raise UserError(f"{where}: {key} is {value!r}; valid: {valid_words(declared[key])}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config_class), options)
        result = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{where}: key '{error.full_key}' is missing; valid: {valid_words(declared[error.full_key])}") from None
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        key = str(getattr(error, "full_key", None) or "").split("[")[0] or next(
            k for k in options if not _fits(config_class, k, options)
        )
        raise UserError(f"{where}: {key} is {options[key]!r}; valid: {valid_words(declared[key])}") from None
    check_options(config_class, result, where)
    try:
        config_class(**result)  # a dataclass may check values against each other
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return result


def plugin_options(kind: str, options: Any, where: str) -> dict:
    """`{"name": ..., **options}` checked against the plug-in's `Config`."""
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
    return {"name": options["name"], **checked}


def _dataset(options: Any, where: str) -> tuple[str, dict]:
    """The identifier, which names a folder of results, and the checked options of a data set; `id` defaults to `name`."""
    options = dict(options) if isinstance(options, dict) else options
    identifier = options.pop("id", options.get("name")) if isinstance(options, dict) else None
    checked = plugin_options("datasets", options, where)
    identifier = str(identifier).replace("_", "-")
    if not NAME.fullmatch(identifier):
        raise UserError(f"{where}: an id holds a-z, 0-9 and '-', unlike '{identifier}'")
    return identifier, checked


def _merged(parent: dict, child: dict) -> dict:
    """The child over its parent; a section that changes its `name` drops the parent's options."""
    result = dict(parent)
    for key, value in child.items():
        old = parent.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("name", old.get("name")) == old.get("name"):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    if path in seen:
        raise UserError(f"{path}: 'extends' comes back to itself ({' -> '.join(p.name for p in seen)})")
    own = _read(path)
    parent = own.pop("extends", None)
    if parent is None:
        return own
    parent_path = path.parent / f"{parent}.yaml"
    if not parent_path.exists():
        raise UserError(f"{path}: extends '{parent}'{_suggest(parent, experiment_names(path.parent))}")
    return _merged(_extended(parent_path, (*seen, path)), own)


def experiment_names(folder: Path) -> list[str]:
    """The names of the experiments in a folder, sorted; names that begin with '_' are only extended."""
    return sorted(p.stem for p in Path(folder).glob("*.yaml") if not p.stem.startswith("_"))


def _checked_stages(path: Path, stages: Any, epochs: int) -> list[int]:
    if not isinstance(stages, list) or not stages or not all(type(s) is int and s >= 0 for s in stages):
        raise UserError(f"{path}: stages must be a list of end epochs, e.g. [10, 20], not {stages!r}")
    if stages != sorted(set(stages)):
        raise UserError(f"{path}: stages must rise: {stages}")
    if stages[-1] > epochs:
        raise UserError(f"{path}: stages end at epoch {stages[-1]}, after training.epochs ({epochs})")
    return stages


def _weights(options: Any, where: str) -> dict:
    """The checked section `weights`: UserError without the file's digest, which it names if the file is there."""
    result = structured(Weights, options, where)
    if not re.fullmatch("[0-9a-f]{64}", result["sha256"]):
        file = data_root() / result["file"]
        known = f"that of {file} is {sha256_of(file)}" if file.is_file() else f"{file} is not there to say it"
        raise UserError(f"{where}: sha256 is {result['sha256']!r}; valid: the file's SHA-256 in 64 hexadecimal digits; {known}")
    return result


def load(path: Path) -> dict:
    """An experiment as plain data in a fixed order, every key, type and name checked; UserError names file and key."""
    path = Path(path)
    raw = _extended(path)
    valid = ["extends", *PLAIN, *PLUGIN_SECTIONS, *SECTIONS, *PLUGIN_TABLES]
    for key in raw:
        if key not in valid:
            raise UserError(f"{path}: unknown key '{key}'{_suggest(key, valid)}")
    result: dict[str, Any] = {"name": path.stem, "title": raw.get("title", ""), "description": raw.get("description", "")}
    result["dataset_id"], result["dataset"] = _dataset(raw.get("dataset"), f"{path}, section 'dataset'")
    result["objective"] = plugin_options("objectives", raw.get("objective"), f"{path}, section 'objective'")
    for key, config_class in SECTIONS.items():
        result[key] = structured(config_class, raw.get(key) or {}, f"{path}, section '{key}'")
    result["datasets"] = {result["dataset_id"]: result["dataset"]}
    result["evaluation_datasets"] = {}
    for key, kind in PLUGIN_TABLES.items():
        table = dict(raw.get(key) or {}) if isinstance(raw.get(key) or {}, dict) else raw[key]
        if not isinstance(table, dict):
            raise UserError(f"{path}, section '{key}' must map names to options")
        result[key] = {}
        for name, options in table.items():
            if options is False:
                continue
            where = f"{path}, section '{key}.{name}'"
            if not NAME.fullmatch(str(name)):
                raise UserError(f"{where}: a name holds a-z, 0-9 and '-'")
            if not isinstance(options or {}, dict):
                raise UserError(f"{where} must map options to values, not be {options!r}; {{}} for the defaults")
            options = {"name": name.replace("-", "_"), **(options or {})}
            if key == "evaluations":
                own = options.pop("dataset", None)
                dataset_id, dataset = _dataset(own, f"{where}.dataset") if own else (result["dataset_id"], result["dataset"])
                if result["datasets"].setdefault(dataset_id, dataset) != dataset:
                    raise UserError(f"{where}: data set '{dataset_id}' has other options elsewhere; give one of them an 'id'")
                result["evaluation_datasets"][name] = dataset_id
            result[key][name] = plugin_options(kind, options, where)
    result["weights"] = _weights(raw["weights"], f"{path}, section 'weights'") if raw.get("weights") is not None else None
    result["stages"] = _checked_stages(path, raw.get("stages"), result["training"]["epochs"])
    wanted = raw.get("evaluate_stages", "last")
    if wanted not in ("last", "all"):
        raise UserError(f"{path}: evaluate_stages is {wanted!r}; valid: last, all")
    result["evaluate_stages"] = wanted
    return result


def load_study(config: dict, where: str, experiments: Path) -> dict:
    """The study that Snakemake's merged configuration describes, with its experiments loaded under `loaded`."""
    study = structured(Study, dict(config), where)
    if not study["experiments"]:
        raise UserError(f"{where}: 'experiments' is empty")
    names = experiment_names(experiments)
    for name in study["experiments"]:
        if name not in names:
            raise UserError(f"{where}: there is no experiment '{name}' in {experiments}{_suggest(name, names)}")
        if not NAME.fullmatch(name):
            raise UserError(f"{where}: an experiment's name holds a-z, 0-9 and '-', unlike '{name}'")
    if study["reference"] and study["reference"] not in study["experiments"]:
        raise UserError(
            f"{where}: reference '{study['reference']}' is no experiment of the study{_suggest(study['reference'], study['experiments'])}"
        )
    if len(set(study["experiments"])) < len(study["experiments"]):
        raise UserError(f"{where}: an experiment is named twice")
    loaded = {name: load(experiments / f"{name}.yaml") for name in study["experiments"]}
    study["datasets"] = {}
    for name, experiment in loaded.items():
        for dataset_id, dataset in experiment["datasets"].items():
            if study["datasets"].setdefault(dataset_id, dataset) != dataset:
                raise UserError(
                    f"{experiments / name}.yaml: data set '{dataset_id}' has other options in another experiment of this study; "
                    "give one of them an 'id'"
                )
    study["loaded"] = loaded
    return study


def data_root() -> Path:
    """The folder of raw data sets: INVP_DATA, or `data` in the working folder."""
    return Path(os.environ.get("INVP_DATA") or "data")


def instance(config_class: type, options: dict) -> Any:
    """The dataclass that checked options describe, without their `name`."""
    assert is_dataclass(config_class)
    return config_class(**{key: value for key, value in options.items() if key != "name"})
