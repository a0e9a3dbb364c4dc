"""VOC2007's average precision of detections, as detectron2's evaluator of VOC2007 takes it (Table 4).

n detections and m objects of an image, D detections and M objects of all images, T thresholds of the IoU, C classes.
"""

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.arange(50, 100, 5) / 100  # an object is found by an IoU above, not at, the threshold
# As the published tool writes them: .3, .6 and .7 come out a rounding error too large, so that a recall of exactly 3/10 is not counted at .3.
RECALLS = np.arange(0.0, 1.1, 0.1)
OFFSET = np.array([1, 1, 0, 0], np.float32)  # from our corners, which count from 0 and exclude the end, to VOC's


def overlaps(boxes: NDArray, objects: NDArray) -> NDArray:
    """IoU of boxes nx4 and objects mx4 whose corners are pixels that belong to them, as VOC's do: nxm."""
    low, high = np.maximum(boxes[:, None, :2], objects[None, :, :2]), np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    shared = np.maximum(high - low + 1, 0).prod(2)
    areas = [(corners[:, 2:] - corners[:, :2] + 1).prod(1) for corners in (boxes, objects)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def eleven_points(right: NDArray, wrong: NDArray, positives: int) -> float:
    """The mean over RECALLS of the best precision at that recall or a higher one; `right` and `wrong` (bool) by falling score."""
    hits = np.cumsum(right)
    precision = hits / np.maximum(hits + np.cumsum(wrong), np.finfo(np.float64).eps)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(hits / positives, RECALLS)
    return float(envelope[first[first < len(envelope)]].sum() / len(RECALLS))


class VOCPrecision:
    """Takes the detections of one image after another, then says the average precision of every threshold and class."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.detections: list[tuple[NDArray, ...]] = []  # score, class, IoU with its best object, that object's number
        self.objects: list[tuple[NDArray, ...]] = []  # class, difficult
        self.num_objects = 0

    def update(
        self, boxes: NDArray, labels: NDArray, scores: NDArray, objects: NDArray, classes: NDArray, difficult: NDArray
    ) -> None:
        """An image's detections (nx4, n, n) and its objects (mx4, m, m bool); boxes in pixels from 0, ends excluded, float32.

        Scores are rounded to three digits and boxes to one, which the published tool does as it writes them to a file. A detection's
        best object is that of its class with the highest IoU, whether or not another detection has it.
        """
        best, highest = np.full(len(boxes), -1), np.zeros(len(boxes))
        if len(boxes) and len(objects):
            found, true = np.round((boxes + OFFSET).astype(np.float64), 1), (objects + OFFSET).astype(np.float64)
            shares = np.where(labels[:, None] == classes, overlaps(found, true), 0.0)
            best, highest = self.num_objects + shares.argmax(1), shares.max(1)
        self.detections.append((np.round(scores.astype(np.float64), 3), labels, highest, best))
        self.objects.append((classes, difficult))
        self.num_objects += len(objects)

    def compute(self) -> NDArray:
        """AP in %, TxC; NaN for a class without an object that counts, which the published tool counts as 0.

        Detections of equal score count in the order in which they came.
        """
        scores, labels, highest, best = (np.concatenate(column) for column in zip(*self.detections, strict=True))
        classes, difficult = (np.concatenate(column) for column in zip(*self.objects, strict=True))
        result = np.full((len(THRESHOLDS), self.num_classes), np.nan)
        for number in range(self.num_classes):
            positives = int((~difficult[classes == number]).sum())
            if not positives:
                continue
            of_class = np.flatnonzero(labels == number)
            order = of_class[np.argsort(-scores[of_class], kind="stable")]
            for row, threshold in enumerate(THRESHOLDS):
                matched = highest[order] > threshold
                ignored = matched & difficult[best[order]]
                candidates = np.flatnonzero(matched & ~ignored)
                right = np.zeros(len(order), bool)
                right[candidates[np.unique(best[order[candidates]], return_index=True)[1]]] = True
                result[row, number] = 100 * eleven_points(right, ~right & ~ignored, positives)
        return result
