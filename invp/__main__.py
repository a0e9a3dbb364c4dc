"""The command line: each sub-command is a step of the workflow, or a way to look at its results."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

STEPS = {
    "prepare": "data set -> Arrow shards with a manifest",
    "pretrain": "train one stage from the checkpoint of the stage before",
    "graph": "exact k-nearest-neighbour graph of a stage, its positives and measures",
    "features": "features of one split of a data set",
    "evaluate": "one downstream evaluation",
    "figure": "one figure and the data behind it",
    "explorer": "the page to look at neighbour graphs with",
    "summary": "every metric in one CSV, and a table over seeds",
    "report": "one self-contained HTML page",
}
STEP_HELP = """A step sees its section (JSON), its inputs and its outputs, and nothing else. Snakemake calls it; `snakemake -n -p` shows
the whole command, and every record.json keeps it."""


def _pair(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m invp",
        description="Invariance Propagation: the steps of the workflow, and ways to look at its results.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in STEPS.items():
        step = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {STEP_HELP}")
        step.add_argument("--section", required=True, help="the options of this step, as JSON")
        step.add_argument("--code", help="the code digest that was planned; another one is an error")
        step.add_argument("--input", type=_pair, nargs="*", default=[], metavar="NAME=PATH", help="inputs, by name")
        step.add_argument("--output", type=_pair, nargs="+", required=True, metavar="NAME=PATH", help="outputs, by name")
        if name in ("prepare", "pretrain", "features", "evaluate"):
            step.add_argument("--workers", type=int, default=1, help="processes that decode images (default: 1)")
        if name in ("prepare", "evaluate"):
            step.add_argument("--root", type=Path, help="folder of the raw data sets (default: $INVP_DATA)")
        if name == "pretrain":
            step.add_argument("--scratch", type=Path, required=True, help="folder for the lock and the partial checkpoint")
            step.add_argument("--processes", type=int, default=1, help="processes on each node, one a GPU (default: 1)")
            step.add_argument("--nodes", type=int, default=1, help="nodes of the SLURM job (default: 1)")
            step.add_argument("--save-minutes", type=float, default=10, help="minutes between saves (default: 10)")
            step.add_argument(
                "--max-minutes", type=float, default=0, help="save and leave with code 75 after this (0: before the SLURM job ends)"
            )
    inspect = commands.add_parser("inspect", help="look at data, a graph or a checkpoint", description="Look at a result.")
    inspect.add_argument("what", choices=["data", "graph", "checkpoint"])
    inspect.add_argument("arguments", nargs=argparse.REMAINDER, help="see: python -m invp inspect data --help")
    why = commands.add_parser("why", help="what a result depends on, and what would change it")
    why.add_argument("path", type=Path, help="a file or folder under results/")
    verify = commands.add_parser("verify", help="check every artifact against its record and its inputs")
    verify.add_argument("path", type=Path, nargs="?", default=Path("results"))
    outdated = commands.add_parser("outdated", help="name what was made with other versions of the libraries")
    outdated.add_argument("path", type=Path, nargs="?", default=Path("results"))
    plan = commands.add_parser("plan", help="jobs, GPU-hours, critical path and disk of a study, before anything is submitted")
    plan.add_argument("study", type=Path, help="a file under config/studies, or config/config.yaml")
    plan.add_argument("--data-root", help="where the raw data lies (default: $INVP_DATA or data)")
    plan.add_argument("--profile", type=Path, default=Path("profiles/local"), help="whose GPUs count (default: profiles/local)")
    download = commands.add_parser("download", help="fetch a data set into the data root, by torchvision")
    download.add_argument("name", help="cifar10, cifar100, svhn, stl10, voc2007, voc2012, caltech101, oxford_pets or flowers102")
    download.add_argument("--root", type=Path, help="folder of the raw data sets (default: $INVP_DATA or data)")
    export = commands.add_parser("export", help="write an encoder for another library")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("--to", required=True, choices=["torchvision", "timm", "detectron2", "safetensors", "onnx"])
    export.add_argument("--out", type=Path, required=True)
    return parser


def _single(pairs: list[tuple[str, Path]]) -> dict[str, Path]:
    return dict(pairs)


def _many(pairs: list[tuple[str, Path]], name: str) -> list[Path]:
    return [path for key, path in pairs if key == name]


def _step(arguments: argparse.Namespace) -> int:
    from invp.errors import UserError
    from invp.provenance import check_inputs, code_digest, step_modules

    name = arguments.command
    try:
        section = json.loads(arguments.section)
    except json.JSONDecodeError as error:
        raise UserError(f"--section is not valid JSON: {error}") from None
    code = code_digest(step_modules(name, section))
    if arguments.code and arguments.code != code:
        raise UserError(f"the code of {name} changed since the workflow was planned: run snakemake again")
    if "INVP_WORKER" not in os.environ:
        check_inputs(arguments.input)
    with _own_devices(arguments):
        return _run_step(arguments, section, code)


def _own_devices(arguments: argparse.Namespace):
    """Keeps GPUs for this step where nobody else hands them out: SLURM does, and a worker has its launcher's."""
    from contextlib import nullcontext

    if arguments.command not in ("pretrain", "graph", "features", "evaluate") or {"SLURM_JOB_ID", "INVP_WORKER"} & set(os.environ):
        return nullcontext()
    from invp.devices import reserved

    return reserved(getattr(arguments, "processes", 1))


def _run_step(arguments: argparse.Namespace, section: dict, code: str) -> int:
    from invp.provenance import embedded, write_record

    name, started = arguments.command, time.time()
    if name == "pretrain" and arguments.processes * arguments.nodes > 1 and "INVP_WORKER" not in os.environ:
        from invp.launch import run_processes

        status = run_processes(arguments.processes, arguments.nodes, sys.argv[1:], arguments.scratch / "stopped")
    else:
        status = RUNNERS[name](arguments, section, code, embedded(name, section, code)) or 0
    if status == 0 and "INVP_WORKER" not in os.environ:
        outputs = _single(arguments.output)
        record = outputs.pop("record")
        inputs = {
            f"{key}.{i}" if len(_many(arguments.input, key)) > 1 else key: path for i, (key, path) in enumerate(arguments.input)
        }
        write_record(record, name, section, code, inputs, outputs, started)
    return status


def _prepare(arguments, section, code, record):
    from invp.prepare import run

    root = arguments.root or (Path(os.environ["INVP_DATA"]) if os.environ.get("INVP_DATA") else None)
    out = _single(arguments.output)["manifest"].parent
    run(section["dataset"]["name"], section["dataset"], section["split"], root, out, arguments.workers)


def _pretrain(arguments, section, code, record):
    from invp.launch import leave_after
    from invp.pretrain import run
    from invp.staging import staged

    inputs, outputs = _single(arguments.input), _single(arguments.output)
    return run(
        section,
        code=code,
        dataset=staged(inputs["dataset"].parent),
        parent=inputs.get("parent"),
        checkpoint=outputs["checkpoint"],
        metrics=outputs["metrics"],
        scratch=arguments.scratch,
        save_minutes=arguments.save_minutes,
        max_minutes=arguments.max_minutes or leave_after(),
    )


def _graph(arguments, section, code, record):
    from invp.graph import run

    inputs = _single(arguments.input)
    run(
        section,
        section["seed"],
        section["stage"],
        inputs["checkpoint"],
        inputs["dataset"].parent,
        previous=inputs.get("previous"),
        features=inputs.get("features"),
        out=_single(arguments.output)["knn"].parent,
        record=record,
    )


def _features(arguments, section, code, record):
    from invp.features import run

    inputs = _single(arguments.input)
    run(
        section,
        section["seed"],
        section["stage"],
        inputs["checkpoint"],
        inputs["dataset"].parent,
        _single(arguments.output)["features"],
        record,
    )


def _evaluate(arguments, section, code, record):
    from invp.evaluate import run

    run(section, _single(arguments.input), _single(arguments.output)["metrics"], record, arguments.workers)


def _figure(arguments, section, code, record):
    from invp.figure import run

    run(section, arguments.input, _single(arguments.output)["figure"], record)


def _explorer(arguments, section, code, record):
    from invp.explorer import run

    graphs = [path.parent for path in _many(arguments.input, "graph")]
    dataset = _single(arguments.input)["dataset"].parent
    run(section, section["seed"], section["stages"], graphs, dataset, _single(arguments.output)["page"], record)


def _summary(arguments, section, code, record):
    from invp.summary import run

    run(section, arguments.input, _single(arguments.output))


def _report(arguments, section, code, record):
    from invp.report import run

    outputs = _single(arguments.output)
    run(section, arguments.input, outputs["page"], outputs["comparison"])


RUNNERS = {
    "prepare": _prepare,
    "pretrain": _pretrain,
    "graph": _graph,
    "features": _features,
    "evaluate": _evaluate,
    "figure": _figure,
    "explorer": _explorer,
    "summary": _summary,
    "report": _report,
}


def _inspect(arguments) -> int:
    if arguments.what == "data":
        from invp.inspect_data import main
    elif arguments.what == "graph":
        from invp.inspect_graph import main
    else:
        from invp.inspect_checkpoint import main
    return main(arguments.arguments) or 0


def _dispatch(arguments) -> int:
    if arguments.command in STEPS:
        return _step(arguments)
    if arguments.command == "inspect":
        return _inspect(arguments)
    if arguments.command == "why":
        from invp.verify import why

        return why(arguments.path)
    if arguments.command == "verify":
        from invp.verify import verify

        return verify(arguments.path)
    if arguments.command == "outdated":
        from invp.verify import outdated

        return outdated(arguments.path)
    if arguments.command == "plan":
        from invp.plan import run as plan

        plan(arguments.study, arguments.data_root, arguments.profile)
        return 0
    if arguments.command == "download":
        from invp.download import run as download

        return download(arguments.name, arguments.root or Path(os.environ.get("INVP_DATA") or "data"))
    from invp.export import run

    return run(arguments.checkpoint, arguments.to, arguments.out) or 0


def main() -> int:
    arguments = _parser().parse_args()
    from invp.errors import UserError

    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in (28, 30, 13, 122):  # ENOSPC, EROFS, EACCES, EDQUOT
            print(f"error: {error}: make room or make it writable, then start again", file=sys.stderr)
            return 2
        raise


if __name__ == "__main__":
    sys.exit(main())
