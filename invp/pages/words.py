"""How pages name experiments, columns and numbers for a reader who has not seen the study's file."""

from invp.pages.numbers import Numbers, last_stage

SOURCES = {"knn": "kNN", "svm": "SVM", "training": "", "graph": ""}
METRICS = {
    "top1": "top-1 accuracy", "top5": "top-5 accuracy", "map": "mean average precision", "miou": "mean intersection over union",
    "same_class_share": "same-class share of graph edges", "rankme": "RankMe",
}  # fmt: skip
NAMED = 3  # names that a sentence holds; of more it says how many


def titles(section: dict) -> dict[str, str]:
    """The experiments' titles by name, for people; the names themselves where a title is missing or two are alike."""
    found = {name: section["loaded"][name].get("title") or "" for name in section["experiments"]}
    return found if all(found.values()) and len(set(found.values())) == len(found) else {name: name for name in found}


def column_words(column: str) -> str:
    """A column as words: 'kNN top-1 accuracy' for knn.top1."""
    source, metric = column.split(".", 1)
    words = SOURCES.get(source, source.replace("_", " ")), METRICS.get(metric, metric.replace("_", " "))
    return " ".join(filter(None, words))


def sentence_case(words: str) -> str:
    """Words as a sentence begins; kNN stays what it is."""
    return words if words[1:2].isupper() else words[0].upper() + words[1:]


def score_words(section: dict, numbers: Numbers, name: str, column: str) -> str:
    """An experiment's number at its last stage: '98.9 % (356 of 360)' of one seed, '98.9 ± 0.6 %' of several; '' without one."""
    stage = last_stage(section, name)
    estimate = numbers.estimate(name, stage, column)
    if estimate is None:
        return ""
    unit = " %" if numbers.metric(column).unit == "%" else ""
    text = f"{estimate.text(numbers.decimals(column))}{unit}"
    images = numbers.shared_by(name, stage, column)
    return f"{text} ({round(estimate.mean * images / 100):,} of {images:,})" if images and estimate.seeds == 1 else text


def listed(names: list[str], kind: str = "others") -> str:
    """'a, b and c'; of more names than a sentence holds how many they are."""
    if len(names) > NAMED:
        return f"{len(names)} {kind}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
