"""Compare the golden numbers with what the present code gives, or write them anew."""

import argparse
import sys
import tempfile
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.golden import differences, golden_numbers, write_golden_numbers
from invp.tools._golden import Golden, on_the_cpu


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the cases, and whether to write."""
    parser.add_argument("case", nargs="*", help="how names of cases begin, as pretrain/invp (default: all)")
    parser.add_argument("--write", action="store_true", help="write the numbers that are new or differ; say why in the commit")


def run(arguments: argparse.Namespace) -> int:
    """Prints every number that differs; 1 if there is one, else 0."""
    on_the_cpu()
    golden = golden_numbers()
    with tempfile.TemporaryDirectory() as folder:
        study = Golden(Path(folder) / "golden")
        cases = [case for case in study.cases if case.startswith(tuple(arguments.case) or "")]
        if not cases:
            raise UserError(f"no case begins with {' or '.join(arguments.case)}; cases: {', '.join(study.cases)}")
        now = {case: study.numbers(case) for case in cases}
    differ = {case: lines for case in cases if (lines := differences(case, now[case]))}
    if not arguments.write:
        print(*(f"{case}: {line}" for case, lines in differ.items() for line in lines), sep="\n", end="\n" if differ else "")
        print(f"{len(cases)} cases compared, {len(differ)} differ", file=sys.stderr)
        return 1 if differ else 0
    # A number that is as it was, but for a rounding, stays as it was: records keep a digest of it.
    kept = {case: numbers for case, numbers in golden.items() if case in study.cases and case not in differ}
    write_golden_numbers({case: kept.get(case) or now[case] for case in study.cases if case in kept or case in differ})
    print(f"{len(differ)} cases written: {', '.join(differ) or 'none'}", file=sys.stderr)
    return 0
