"""The loops over triangles and pixels, as Warp kernels: the same source runs on CPU cores and on a GPU.

Products and sums are not fused, so that CPU and GPU round alike.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import warp as wp
from torch import Tensor

from pipelines.native_logs import quiet_native_logs

wp.config.log_level = wp.LOG_ERROR
with quiet_native_logs():  # hides warnings about a missing CUDA driver
    wp.init()
OPTIONS = {"enable_backward": False, "fuse_fp": False}
"""Warp options of every module with kernels."""
wp.set_module_options(OPTIONS)

NO_TRIANGLE = torch.iinfo(torch.int64).max
"""Key of pixels that no triangle covers."""
_STEPS = 1 << 30  # resolution of depth
_MIN_DOUBLE_AREA = 1e-6  # square pixels; thinner triangles are not drawn


def kernel(source: Callable[..., None]) -> Any:
    """Make a Warp kernel of the unwrapped function; Warp would compile the source of the tests' type checker."""
    return wp.kernel(inspect.unwrap(source))


def function(source: Callable[..., Any]) -> Any:
    """Make a Warp function, which kernels can call."""
    return wp.func(inspect.unwrap(source))


def launch(kernel: Any, shape: int | tuple[int, ...], *arguments: Tensor | int | float) -> None:
    """Run a kernel over `shape` on the device of its tensors."""
    device = next(value.device for value in arguments if isinstance(value, Tensor))
    values = [wp.from_torch(value, return_ctype=True) if isinstance(value, Tensor) else value for value in arguments]
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    wp.launch(kernel, shape, values, device=wp.device_from_torch(device), stream=stream)


@kernel
def z_buffer(
    corners: wp.array3d[float],
    faces: wp.array2d[wp.int64],
    two_sided: bool,
    height: int,
    width: int,
    nearest: wp.array[wp.int64],
) -> None:
    """Per frame and triangle: store the minimum of (depth, triangle index) in each pixel whose centre it covers."""
    frame, triangle = wp.tid()  # type: ignore[misc]
    a, b, c = int(faces[triangle, 0]), int(faces[triangle, 1]), int(faces[triangle, 2])
    x0, y0, d0 = corners[frame, a, 0], corners[frame, a, 1], corners[frame, a, 2]
    x1, y1, d1 = corners[frame, b, 0], corners[frame, b, 1], corners[frame, b, 2]
    x2, y2, d2 = corners[frame, c, 0], corners[frame, c, 1], corners[frame, c, 2]
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if d0 <= 0.0 or d1 <= 0.0 or d2 <= 0.0 or wp.abs(area) <= _MIN_DOUBLE_AREA or (area > 0.0 and not two_sided):
        return
    left = int(wp.ceil(wp.clamp(wp.min(x0, wp.min(x1, x2)), 0.0, float(width)) - 0.5))
    right = int(wp.floor(wp.clamp(wp.max(x0, wp.max(x1, x2)), 0.0, float(width)) - 0.5))
    top = int(wp.ceil(wp.clamp(wp.min(y0, wp.min(y1, y2)), 0.0, float(height)) - 0.5))
    bottom = int(wp.floor(wp.clamp(wp.max(y0, wp.max(y1, y2)), 0.0, float(height)) - 0.5))
    for row in range(top, bottom + 1):
        y = float(row) + 0.5 - y0
        for column in range(left, right + 1):
            x = float(column) + 0.5 - x0
            first = (x * (y2 - y0) - y * (x2 - x0)) / area  # weight of the second corner
            second = (y * (x1 - x0) - x * (y1 - y0)) / area  # weight of the third
            if first >= 0.0 and second >= 0.0 and first + second <= 1.0:
                depth = d0 + first * (d1 - d0) + second * (d2 - d0)
                steps = wp.int64(_STEPS) - wp.int64(wp.clamp(depth, 0.0, 1.0) * float(_STEPS))
                key = (steps << wp.int64(32)) | wp.int64(triangle)
                wp.atomic_min(nearest, (frame * height + row) * width + column, key)


@kernel
def barycentric_weights(
    pixels: wp.array[wp.int64],
    triangles: wp.array[wp.int64],
    corners: wp.array3d[float],
    faces: wp.array2d[wp.int64],
    height: int,
    width: int,
    weights: wp.array2d[float],
    inverse_depth: wp.array[float],
) -> None:
    """Per fragment: perspective-correct barycentric weights of its triangle's corners, and 1 / depth."""
    fragment = wp.tid()
    pixel, triangle = int(pixels[fragment]), int(triangles[fragment])
    frame = pixel // (height * width)
    x, y = float(pixel % width) + 0.5, float((pixel // width) % height) + 0.5
    a, b, c = int(faces[triangle, 0]), int(faces[triangle, 1]), int(faces[triangle, 2])
    x0, y0 = corners[frame, a, 0] - x, corners[frame, a, 1] - y
    x1, y1 = corners[frame, b, 0] - x, corners[frame, b, 1] - y
    x2, y2 = corners[frame, c, 0] - x, corners[frame, c, 1] - y
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    first = wp.clamp((x1 * y2 - x2 * y1) / area, 0.0, 1.0) * corners[frame, a, 2]
    second = wp.clamp((x2 * y0 - x0 * y2) / area, 0.0, 1.0) * corners[frame, b, 2]
    third = wp.clamp((x0 * y1 - x1 * y0) / area, 0.0, 1.0) * corners[frame, c, 2]
    total = first + second + third
    inverse_depth[fragment] = total
    weights[fragment, 0] = first / total
    weights[fragment, 1] = second / total
    weights[fragment, 2] = third / total


@function
def interpolate_vertices(
    table: wp.array3d[float], faces: wp.array2d[wp.int64], triangle: int, frame: int, shares: wp.vec3, channel: int
) -> float:
    """Interpolate one channel of the vertices within a triangle."""
    total = float(0.0)  # noqa: UP018 (a variable, for Warp)
    for corner in range(3):
        total = total + table[frame, int(faces[triangle, corner]), channel] * shares[corner]
    return total


@kernel
def interpolate(
    pixels: wp.array[wp.int64],
    triangles: wp.array[wp.int64],
    weights: wp.array2d[float],
    faces: wp.array2d[wp.int64],
    values: wp.array3d[float],
    pixels_per_frame: int,
    result: wp.array2d[float],
) -> None:
    """Per fragment: interpolate all channels of the vertices."""
    fragment = wp.tid()
    triangle = int(triangles[fragment])
    frame = int(pixels[fragment]) // pixels_per_frame
    shares = wp.vec3(weights[fragment, 0], weights[fragment, 1], weights[fragment, 2])
    for channel in range(values.shape[2]):
        result[fragment, channel] = interpolate_vertices(values, faces, triangle, frame, shares, channel)


@function
def bilinear(pictures: wp.array4d[float], row: int, x: float, y: float, channel: int) -> float:
    """Bilinear look-up at texel (x, y); see `texel_coordinate`."""
    left, top = int(x), int(y)
    upper = wp.lerp(pictures[row, top, left, channel], pictures[row, top, left + 1, channel], x - float(left))
    lower = wp.lerp(pictures[row, top + 1, left, channel], pictures[row, top + 1, left + 1, channel], x - float(left))
    return float(wp.lerp(upper, lower, y - float(top)))


@function
def texel_coordinate(share: float, texels: int) -> float:
    """Return the texel coordinate of a position in 0..1, clamped to the picture."""
    return float(wp.clamp(share * float(texels) - 0.5, 0.0, float(texels) - 1.001))


@kernel
def sample(
    pictures: wp.array4d[float],
    rows: wp.array[wp.int64],
    u: wp.array[float],
    v: wp.array[float],
    result: wp.array2d[float],
) -> None:
    """Per point: bilinear look-up in one of the pictures at (u, v) in 0..1; outside, the edge is repeated."""
    point = wp.tid()
    row = int(rows[point])
    x, y = texel_coordinate(u[point], pictures.shape[2]), texel_coordinate(v[point], pictures.shape[1])
    for channel in range(pictures.shape[3]):
        result[point, channel] = bilinear(pictures, row, x, y, channel)


@kernel
def light_visibility(
    depth: wp.array3d[float],
    seen: wp.array3d[float],
    limit: wp.array2d[float],
    taps: wp.array2d[float],
    spread: wp.array[float],
    result: wp.array2d[float],
) -> None:
    """Per frame and vertex: the share of samples around its position `seen` in a shadow map, within `spread` pixels, at
    which nothing is nearer to the light than `limit` (percentage-closer filtering)."""
    frame, vertex = wp.tid()  # type: ignore[misc]
    free = float(0.0)  # noqa: UP018 (a variable, for Warp)
    for tap in range(taps.shape[0]):
        x = int(seen[frame, vertex, 0] + spread[frame] * taps[tap, 0])
        y = int(seen[frame, vertex, 1] + spread[frame] * taps[tap, 1])
        if depth[frame, wp.clamp(y, 0, depth.shape[1] - 1), wp.clamp(x, 0, depth.shape[2] - 1)] < limit[frame, vertex]:
            free = free + 1.0
    result[frame, vertex] = free / float(taps.shape[0])


@kernel
def area_downsample(
    fine: wp.array2d[float], starts: wp.array[wp.int64], ends: wp.array[wp.int64], side: int, result: wp.array2d[float]
) -> None:
    """Per frame and row: means over pixels `starts` to `ends` in both directions of a square picture of width `side`.

    The result is channel-first: rows of the first frame's red, its green, its blue, then the next frame's red.
    """
    frame, row = wp.tid()  # type: ignore[misc]
    size = starts.shape[0]
    top, bottom = int(starts[row]), int(ends[row])
    for column in range(size):
        left, right = int(starts[column]), int(ends[column])
        red, green, blue = float(0.0), float(0.0), float(0.0)  # noqa: UP018 (variables, for Warp)
        for y in range(top, bottom):
            first = (frame * side + y) * side
            for pixel in range(first + left, first + right):
                red = red + fine[pixel, 0]
                green = green + fine[pixel, 1]
                blue = blue + fine[pixel, 2]
        share = 1.0 / float((bottom - top) * (right - left))
        result[frame * 3 * size + row, column] = red * share
        result[(frame * 3 + 1) * size + row, column] = green * share
        result[(frame * 3 + 2) * size + row, column] = blue * share
