"""Experiments and studies: reading their files and checking them in full, before any job starts."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from invp.plumbing.config import data_root, plugin_options, structured
from invp.plumbing.encoder_options import check_encoder, encoder_section
from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json, sha256_of
from invp.plumbing.folders import EXPERIMENTS
from invp.plumbing.needs import check_evaluations
from invp.plumbing.plugins import load_plugin, nearest, plugin_names
from invp.plumbing.sections import COMMON_TO_VIEWS, SECTIONS, Study, View, Weights, check_views

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NAMES = "holds letters (a-z, A-Z), digits, '-' and '_', and begins with a letter or a digit"
RESERVED = ("benchmarks", "datasets", "logs", "studies")  # folders beside those of experiments
PLUGIN_SECTIONS = ("dataset", "objective")
PLUGIN_TABLES = {"evaluations": "evals", "figures": "figures"}
PLAIN = ("title", "description", "stages", "weights", "evaluate_stages")


def read_yaml(path: Path) -> dict:
    """The keys and values of a file; UserError names the file, and the line of what is not YAML."""
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


def _refuse_alike(names: Iterable[str], where: str) -> None:
    """UserError for two names that differ by case alone: to some file systems the folders of their results are one."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise UserError(
                f"{where}: '{other}' and '{name}' differ by capital letters alone, and some disks take them for one; rename one"
            )


def _dataset(options: Any, where: str) -> tuple[str, dict]:
    """The identifier, which names a folder of results, and the checked options of a data set; `id` defaults to `name`, with '-' for '_'."""
    options = dict(options) if isinstance(options, dict) else options
    identifier = options.pop("id", None) if isinstance(options, dict) else None
    checked = plugin_options("datasets", options, where)
    identifier = checked["name"].replace("_", "-") if identifier is None else str(identifier)
    if not NAME.fullmatch(identifier):
        raise UserError(f"{where}: an id {NAMES}, unlike '{identifier}'")
    return identifier, checked


def _merged(parent: dict, child: dict, names: bool = False) -> dict:
    """The child over its parent. A section that changes its `name` drops the parent's options; with `names`, a key stands for a name
    that is not given, as in `evaluations`."""
    result = dict(parent)
    for key, value in child.items():
        old = parent.get(key)
        if key in PLUGIN_TABLES and not names:
            # `figures: {}` and `figures: null` take all back that the parent has.
            result[key] = (
                _merged(old, value, names=True) if value and isinstance(value, dict) and isinstance(old, dict) else value or {}
            )
        elif isinstance(value, dict) and isinstance(old, dict):
            implied = key.replace("-", "_") if names else None
            same = value.get("name", old.get("name", implied)) == old.get("name", implied)
            result[key] = _merged(old, value) if same else value
        else:
            result[key] = value
    return result


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    if path in seen:
        raise UserError(f"{path}: 'extends' comes back to itself ({' -> '.join(p.name for p in seen)})")
    own = read_yaml(path)
    parent = own.pop("extends", None)
    if parent is None:
        return own
    parent_path = _file_of(parent, path.parent)
    if parent_path == path and (EXPERIMENTS / path.name).exists():
        parent_path = EXPERIMENTS / path.name  # one's own version of an experiment extends ours of the same name
    if not parent_path.exists():
        names = [*experiment_names(path.parent), *experiment_names(EXPERIMENTS)]
        raise UserError(f"{path}: extends '{parent}'{nearest(parent, names)}")
    return _merged(_extended(parent_path, (*seen, path)), own)


def _file_of(name: str, folder: Path) -> Path:
    """The file of an experiment: in the folder or, where it has none of this name, among the package's own."""
    own, packaged = folder / f"{name}.yaml", EXPERIMENTS / f"{name}.yaml"
    return packaged if packaged.exists() and not own.exists() else own


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


def _views(kinds: Any, augmentation: dict, where: str) -> list[dict]:
    """The checked kinds of view, each with all options of `augmentation` that it does not give; none if all views are alike."""
    if kinds is None:
        return []
    if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, dict) for kind in kinds):
        raise UserError(
            f"{where} must be a list of what differs from 'augmentation', e.g. [{{}}, {{size: 16, count: 4}}], not {kinds!r}"
        )
    for kind in kinds:
        if common := [key for key in COMMON_TO_VIEWS if key in kind]:
            raise UserError(f"{where}: {common[0]} is that of all views: give it in 'augmentation'")
    return [structured(View, {**augmentation, **kind}, f"{where}, kind {number}") for number, kind in enumerate(kinds, 1)]


def _with_nothing_to_train(raw: dict) -> dict:
    """With `stages: [0]` nothing is trained, so an experiment need not say how: the objective without a memory, 0 epochs. Of given weights
    the embedding is the features themselves, where no head is asked for: a random one would only blur them."""
    if raw.get("stages") != [0]:
        return raw
    result = {**raw, "objective": raw.get("objective") or {"name": "simclr"}}
    training = {} if raw.get("training") is None else raw["training"]
    if isinstance(training, dict):
        result["training"] = {"epochs": 0, **training}
    if raw.get("weights") is not None and raw.get("head") is None:
        result["head"] = {"kind": "none"}
    return result


def load(path: Path, tables: dict[str, dict] | None = None) -> dict:
    """An experiment as plain data in a fixed order, every key, type, name and value checked; UserError names file and key.

    `tables` are the `evaluations` and `figures` that a study adds to those of the file.
    """
    path = Path(path)
    raw = _with_nothing_to_train(_merged(_extended(path), tables or {}))
    valid = ["extends", *PLAIN, "views", *PLUGIN_SECTIONS, *SECTIONS, *PLUGIN_TABLES]
    for key in raw:
        if key not in valid:
            raise UserError(f"{path}: unknown key '{key}'{nearest(key, valid)}")
    result: dict[str, Any] = {"name": path.stem, "title": raw.get("title", ""), "description": raw.get("description", "")}
    result["dataset_id"], result["dataset"] = _dataset(raw.get("dataset"), f"{path}, section 'dataset'")
    result["objective"] = plugin_options("objectives", raw.get("objective"), f"{path}, section 'objective'")
    for key, config_class in SECTIONS.items():
        result[key] = structured(config_class, {} if raw.get(key) is None else raw[key], f"{path}, section '{key}'")
    result["encoder"] = encoder_section(result["encoder"])
    result["views"] = _views(raw.get("views"), result["augmentation"], f"{path}, section 'views'")
    result["datasets"] = {result["dataset_id"]: result["dataset"]}
    result["evaluation_datasets"] = {}
    for key in PLUGIN_TABLES:
        result[key] = _plugin_table(key, raw.get(key) or {}, result, path)
    result["weights"] = None if raw.get("weights") is None else _weights(raw["weights"], f"{path}, section 'weights'")
    result["stages"] = _checked_stages(path, raw.get("stages"), result["training"]["epochs"])
    result["evaluate_stages"] = raw.get("evaluate_stages", "last")
    if result["evaluate_stages"] not in ("last", "all"):
        raise UserError(f"{path}: evaluate_stages is {result['evaluate_stages']!r}; valid: last, all")
    steps = [load_plugin("steps", name) for name in plugin_names("steps")]
    for check in (check_encoder, check_views, check_evaluations, *(step.check for step in steps if hasattr(step, "check"))):
        try:
            check(result)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return result


def _plugin_table(key: str, table: Any, experiment: dict, path: Path) -> dict[str, dict]:
    """The checked evaluations or figures by name; those that are null or false are left out. Data sets of evaluations are noted in the
    experiment."""
    if not isinstance(table, dict):
        raise UserError(f"{path}, section '{key}' must map names to options, not be {table!r}")
    result = {}
    for name, options in table.items():
        if options is False or options is None:
            continue
        where = f"{path}, section '{key}.{name}'"
        if not NAME.fullmatch(str(name)):
            raise UserError(f"{where}: a name {NAMES}, unlike '{name}'")
        if not isinstance(options, dict):
            raise UserError(f"{where} must map options to values, not be {options!r}; {{}} for the defaults")
        options = {"name": name.replace("-", "_"), **options}
        if key == "evaluations":
            own = options.pop("dataset", None)
            mine = experiment["dataset_id"], experiment["dataset"]
            dataset_id, dataset = _dataset(own, f"{where}.dataset") if own else mine
            if experiment["datasets"].setdefault(dataset_id, dataset) != dataset:
                raise UserError(f"{where}: data set '{dataset_id}' has other options elsewhere; give one of them an 'id'")
            experiment["evaluation_datasets"][name] = dataset_id
        result[name] = plugin_options(PLUGIN_TABLES[key], options, where)
    _refuse_alike(result, f"{path}, section '{key}'")
    return result


def load_study(config: dict, where: str, experiments: Path) -> dict:
    """The study that Snakemake's merged configuration describes, with its experiments loaded under `loaded`.

    `experiments` is the folder whose files come before the package's own of the same name.
    """
    tables = {key: config.get(key) or {} for key in PLUGIN_TABLES}
    study = structured(Study, {key: value for key, value in config.items() if key not in PLUGIN_TABLES}, where)
    if not NAME.fullmatch(study["study"]):
        raise UserError(f"{where}: study is {study['study']!r}; valid: a name, which is that of a folder of results; it {NAMES}")
    names = sorted({*experiment_names(experiments), *experiment_names(EXPERIMENTS)})
    for name in study["experiments"]:
        if name not in names:
            raise UserError(f"{where}: there is no experiment '{name}' in {experiments}{nearest(name, names)}")
        if not NAME.fullmatch(name):
            raise UserError(f"{where}: an experiment's name {NAMES}, unlike '{name}'")
        if name.lower() in RESERVED:
            raise UserError(
                f"{where}: experiment '{name}' needs another name: results/{name.lower()} is a folder of the workflow's own"
            )
    _refuse_alike(study["experiments"], where)
    if study["reference"] and study["reference"] not in study["experiments"]:
        others = nearest(study["reference"], study["experiments"])
        raise UserError(f"{where}: reference '{study['reference']}' is no experiment of the study{others}")
    if len(set(study["experiments"])) < len(study["experiments"]):
        raise UserError(f"{where}: an experiment is named twice")
    chosen = {name: _tables_for(name, tables, study["experiments"], where) for name in study["experiments"]}
    loaded = {name: load(_file_of(name, experiments), chosen[name]) for name in study["experiments"]}
    study["datasets"] = {}
    for name, experiment in loaded.items():
        for dataset_id, dataset in experiment["datasets"].items():
            if study["datasets"].setdefault(dataset_id, dataset) != dataset:
                raise UserError(
                    f"{experiments / name}.yaml: data set '{dataset_id}' has other options in another experiment of this study; "
                    "give one of them an 'id'"
                )
    _refuse_alike(study["datasets"], f"{where}, ids of data sets")
    _refuse_equal_trainings(loaded, where)
    study["loaded"] = loaded
    return study


def _tables_for(name: str, tables: dict[str, Any], experiments: list[str], where: str) -> dict[str, dict]:
    """The evaluations and figures that a study gives to one of its experiments: those for all, and those whose `experiments` name it."""
    result: dict[str, dict] = {}
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{where}: {key} must map names to options, not be {table!r}")
        for entry, options in table.items():
            some = options.get("experiments", experiments) if isinstance(options, dict) else experiments
            if not isinstance(some, list) or (unknown := [each for each in some if each not in experiments]):
                wrong = some if not isinstance(some, list) else unknown[0]
                raise UserError(f"{where}: {key}.{entry}: experiments is {wrong!r}; valid: a list of {', '.join(experiments)}")
            if name in some:
                own = {k: v for k, v in options.items() if k != "experiments"} if isinstance(options, dict) else options
                result.setdefault(key, {})[entry] = own
    return result


def _refuse_equal_trainings(loaded: dict[str, dict], where: str) -> None:
    """UserError if two experiments would train the same network twice."""
    keys = ("dataset", "objective", "encoder", "head", "augmentation", "views", "training", "weights")
    trained: dict[str, str] = {}
    for name, experiment in loaded.items():
        if experiment["stages"][-1] == 0:
            continue
        other = trained.setdefault(canonical_json({key: experiment[key] for key in keys}), name)
        if other != name:
            raise UserError(
                f"{where}: '{other}' and '{name}' train the same network twice: name one of them, and give it what the other has under "
                "the study's own 'evaluations' and 'figures' (with 'experiments: [...]' for some)"
            )
