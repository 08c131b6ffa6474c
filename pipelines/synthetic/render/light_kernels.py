"""Warp kernels that light points of a head; `shading` describes the model."""

import warp as wp

from pipelines.synthetic.graphics.kernels import OPTIONS, function, kernel

wp.set_module_options(OPTIONS)


@kernel
def illuminate(
    frames: wp.array[wp.int64],
    normals: wp.array2d[float],
    views: wp.array2d[float],
    lit: wp.array[float],
    openness: wp.array[float],
    towards: wp.array3d[float],
    colours: wp.array3d[float],
    sky: wp.array2d[float],
    ground: wp.array2d[float],
    sharpness: float,
    wrap: wp.array[float],
    result: wp.array2d[float],
) -> None:
    """Per point: diffuse light (3), highlight (3), and relative change of diffuse light per slope left and up (2)."""
    point = wp.tid()
    frame, normal, view = int(frames[point]), _vector(normals, point), _vector(views, point)
    ambient = wp.lerp(_vector(ground, frame), _vector(sky, frame), normal[2] * 0.5 + 0.5)
    rim = 1.0 - wp.clamp(wp.dot(normal, view), 0.0, 1.0)
    diffuse = ambient * openness[point]
    highlight = ambient * (0.25 * rim * rim * rim * rim * openness[point])
    key = wp.vec3()
    for light in range(towards.shape[1]):
        direction, colour = _light(towards, frame, light), _light(colours, frame, light)
        cosine = wp.dot(normal, direction)
        shadow = openness[point]
        if light == 0:
            shadow = lit[point]
            key = direction * ((colour[0] + colour[1] + colour[2]) / 3.0 * shadow)
        for channel in range(3):
            whole = 1.0 + wrap[channel]
            diffuse[channel] += colour[channel] * wp.max((cosine + wrap[channel]) / (whole * whole), 0.0) * shadow
        if light < 2 and cosine > 0.0:
            half = wp.normalize(direction + view)
            highlight += colour * (wp.pow(wp.clamp(wp.dot(normal, half), 0.0, 1.0), sharpness) * shadow)
    left = wp.normalize(wp.vec3(-normal[1], normal[0], 0.0))
    mean = wp.max((diffuse[0] + diffuse[1] + diffuse[2]) / 3.0, 0.05)
    for channel in range(3):
        result[point, channel] = diffuse[channel]
        result[point, 3 + channel] = highlight[channel]
    result[point, 6] = wp.dot(key, left) / mean
    result[point, 7] = wp.dot(key, wp.cross(left, normal)) / mean


@kernel
def shade_hair(
    frames: wp.array[wp.int64],
    normals: wp.array2d[float],
    views: wp.array2d[float],
    lit: wp.array[float],
    openness: wp.array[float],
    towards: wp.array3d[float],
    colours: wp.array3d[float],
    sky: wp.array2d[float],
    ground: wp.array2d[float],
    albedo: wp.array2d[float],
    strands: wp.array[float],
    result: wp.array2d[float],
) -> None:
    """Per point: light reflected by strands that run down the head."""
    point = wp.tid()
    frame, normal, view = int(frames[point]), _vector(normals, point), _vector(views, point)
    along = wp.normalize(wp.vec3(0.0, 0.0, -1.0) + normal * normal[2])
    along = wp.normalize(along + normal * (0.06 * strands[point]))
    diffuse = wp.lerp(_vector(ground, frame), _vector(sky, frame), normal[2] * 0.5 + 0.5) * openness[point]
    highlight = wp.vec3()
    for light in range(towards.shape[1]):
        direction, colour = _light(towards, frame, light), _light(colours, frame, light)
        cosine = wp.dot(normal, direction)
        shadow = openness[point]
        if light == 0:
            shadow = lit[point]
        slant = wp.dot(along, direction)
        across = wp.sqrt(wp.max(1.0 - slant * slant, 0.0))
        diffuse += colour * (across * wp.max((cosine + 0.3) / 1.3, 0.0) * shadow)
        tilt = wp.dot(along, wp.normalize(direction + view))
        peak = wp.pow(wp.max(1.0 - tilt * tilt, 0.0), 30.0)
        highlight += colour * (peak * shadow * wp.clamp((cosine + 0.2) / 1.2, 0.0, 1.0))
    for channel in range(3):
        own = albedo[point, channel]
        result[point, channel] = own * diffuse[channel] * 0.85 + (0.25 * own + 0.025) * highlight[channel]


@function
def _vector(values: wp.array2d[float], row: int) -> wp.vec3:
    return wp.vec3(values[row, 0], values[row, 1], values[row, 2])


@function
def _light(values: wp.array3d[float], frame: int, light: int) -> wp.vec3:
    return wp.vec3(values[frame, light, 0], values[frame, light, 1], values[frame, light, 2])
