"""Corruptions of CIFAR-10-C and ImageNet-C: 14 of their 19 kinds, which need neither pictures nor fractals. H, W: pixels; C: 1 or 3 channels.

Formulas and constants are those of Hendrycks and Dietterich (Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019), as their repository hendrycks/robustness has them: for CIFAR-10-C in ImageNet-C/create_c/make_cifar_c.py, for
ImageNet-C in ImageNet-C/imagenet_c/imagenet_c/corruptions.py. Where these call scikit-image, scipy does the same here; where they call
ImageMagick, its kernel of motion blur is written out. An image of one channel stays one of one channel.
"""

import io

import numpy as np
from PIL import Image

LARGEST_SMALL = (
    96  # px of the short side up to which CIFAR-10-C's constants hold (images of 32 px), and above ImageNet-C's (of 224 px)
)
# Kind -> the constants of severities 1 to 5 for small images, and for large ones.
CONSTANTS: dict[str, tuple[tuple, tuple]] = {
    # Standard deviation, of pixels in [0, 1].
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    # Photons of a white pixel.
    "shot_noise": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    # Share of the values that become black or white.
    "impulse_noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    # Standard deviation, in shares of a pixel's value.
    "speckle_noise": ((0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    # Standard deviation in px.
    "gaussian_blur": ((0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    # Radius of the disk in px, and the standard deviation that smooths its edge.
    "defocus_blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    # Length of half the trail and its standard deviation, in px.
    "motion_blur": (((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    # End and step of the zoom factors, from 1.
    "zoom_blur": (
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    # What is added to the value of HSV.
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    # What is left of the distance to the channel's mean.
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    # Factor and summand of the saturation of HSV.
    "saturate": (((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    # Displacement, standard deviation that smooths it, and jitter of an affine map's three points, in shares of the short side.
    "elastic_transform": (
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        # Published as shares of 244 px, for images of 224 px.
        tuple(
            tuple(share * 244 / 224 for share in shares)
            for shares in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
        ),
    ),
    # Share of the side that is left.
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    # Quality.
    "jpeg_compression": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}


def corrupted(image: np.ndarray, kind: str, severity: int, generator: np.random.Generator) -> np.ndarray:
    """An image HxWxC (uint8) corrupted with a severity of 1 to 5; levels are cut off to whole ones, as published."""
    constant = CONSTANTS[kind][min(image.shape[:2]) > LARGEST_SMALL][severity - 1]
    levels = FUNCTIONS[kind](image, constant, generator)
    return np.clip(levels, 0, 255).reshape(image.shape).astype(np.uint8)


# Each has an image HxWxC (uint8), the constant, and what random numbers are drawn from; it returns levels of 0 to 255, which may be beyond.


def gaussian_noise(image, constant, generator):
    return 255 * (image / 255 + generator.normal(size=image.shape, scale=constant))


def shot_noise(image, constant, generator):
    return 255 * (generator.poisson(image / 255 * constant) / constant)


def impulse_noise(image, constant, generator):
    hit, white = generator.random(image.shape) <= constant, generator.random(image.shape) <= 0.5
    return np.where(hit, np.where(white, 255, 0), image)


def speckle_noise(image, constant, generator):
    return 255 * (image / 255 * (1 + generator.normal(size=image.shape, scale=constant)))


def gaussian_blur(image, constant, generator):
    from scipy.ndimage import gaussian_filter

    return 255 * gaussian_filter(image / 255, (constant, constant, 0), mode="nearest", truncate=4)


def disk(radius: float, smoothing: float) -> np.ndarray:
    """The kernel of a lens out of focus, with a smoothed edge."""
    import cv2

    reach, side = (8, 3) if radius <= 8 else (radius, 5)
    line = np.arange(-reach, reach + 1)
    inside = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float32)
    return cv2.GaussianBlur(inside / inside.sum(), (side, side), sigmaX=smoothing)


def defocus_blur(image, constant, generator):
    import cv2

    return 255 * cv2.filter2D(image / 255, -1, disk(*constant))


def trail(radius: int, sigma: float, angle: float) -> np.ndarray:
    """The kernel of ImageMagick's motion blur: half a Gaussian along a line (in radians), its pixels rounded to whole places."""
    steps = np.arange(2 * radius + 1)
    rows, columns = (np.ceil(steps * share - 0.5).astype(int) + 2 * radius for share in (np.sin(angle), np.cos(angle)))
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1))
    np.add.at(kernel, (rows, columns), np.exp(-(steps**2) / (2 * sigma**2)))
    return kernel / kernel.sum()


def motion_blur(image, constant, generator):
    import cv2

    kernel = trail(*constant, np.deg2rad(generator.uniform(-45, 45)))
    return np.rint(cv2.filter2D(image.astype(np.float64), -1, kernel, borderType=cv2.BORDER_REPLICATE))


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image HxWxC, enlarged to its size."""
    from scipy.ndimage import zoom

    sides = image.shape[:2]
    cut = [int(np.ceil(side / factor)) for side in sides]
    top, left = ((side - own) // 2 for side, own in zip(sides, cut, strict=True))
    large = zoom(image[top : top + cut[0], left : left + cut[1]], (factor, factor, 1), order=1)
    top, left = ((own - side) // 2 for side, own in zip(sides, large.shape, strict=False))
    return large[top : top + sides[0], left : left + sides[1]]


def zoom_blur(image, constant, generator):
    pixels, factors = (image / 255).astype(np.float32), np.arange(1, *constant)
    return 255 * (pixels + sum(zoomed(pixels, factor) for factor in factors)) / (len(factors) + 1)


def in_hsv(image: np.ndarray, channel: int, factor: float, summand: float) -> np.ndarray:
    """The levels of an RGB image with one channel of its HSV, in [0, 1], scaled and raised."""
    import cv2

    pixels = cv2.cvtColor((image / 255).astype(np.float32), cv2.COLOR_RGB2HSV)
    pixels[..., channel] = np.clip(pixels[..., channel] * factor + summand, 0, 1)
    return 255 * cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB)


def brightness(image, constant, generator):
    return 255 * (image / 255 + constant) if image.shape[2] == 1 else in_hsv(image, 2, 1, constant)


def contrast(image, constant, generator):
    pixels = image / 255
    means = pixels.mean((0, 1), keepdims=True)
    return 255 * ((pixels - means) * constant + means)


def saturate(image, constant, generator):
    return in_hsv(image, 1, *constant)


def elastic_transform(image, constant, generator):
    import cv2
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width, channels = image.shape
    strength, sigma, jitter = (share * min(height, width) for share in constant)
    (x, y), third = np.array([width, height]) // 2, min(height, width) // 3
    corners = np.array([[x + third, y + third], [x + third, y - third], [x - third, y - third]], np.float32)
    moved = corners + generator.uniform(-jitter, jitter, corners.shape).astype(np.float32)
    turned = cv2.warpAffine(
        (image / 255).astype(np.float32), cv2.getAffineTransform(corners, moved), (width, height), borderMode=cv2.BORDER_REFLECT_101
    ).reshape(image.shape)
    columns, rows = (
        strength * gaussian_filter(generator.uniform(-1, 1, (height, width)), sigma, mode="reflect", truncate=3) for _ in range(2)
    )
    places = np.arange(height)[:, None] + rows, np.arange(width) + columns
    return 255 * np.stack([map_coordinates(turned[..., c], places, order=1, mode="reflect") for c in range(channels)], -1)


def pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def pixelate(image, constant, generator):
    height, width = image.shape[:2]
    small = pillow(image).resize((int(width * constant), int(height * constant)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image, constant, generator):
    out = io.BytesIO()
    pillow(image).save(out, "JPEG", quality=constant)
    return np.asarray(Image.open(out))


FUNCTIONS = {
    function.__name__: function
    for function in (
        *(gaussian_noise, shot_noise, impulse_noise, speckle_noise, gaussian_blur, defocus_blur, motion_blur, zoom_blur),
        *(brightness, contrast, saturate, elastic_transform, pixelate, jpeg_compression),
    )
}
