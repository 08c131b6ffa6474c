"""Draw docs/images/architecture.svg: the way of the data, from videos to rendered ones. `make docs` runs it.

Plain SVG with a background of its own, legible on light and dark pages; no fonts or scripts from elsewhere.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

OUT = Path(__file__).parent / "images" / "architecture.svg"
WIDTH, HEIGHT = 1040, 658
FONT = "system-ui, 'DejaVu Sans', Verdana, sans-serif"

LANE = {"pipelines": "#e8f1ea", "training": "#eaeef8", "serving": "#f8ede4"}
EDGE = {"pipelines": "#4b7f5a", "training": "#47619e", "serving": "#a8642f"}


@dataclass(frozen=True)
class Box:
    """A step (with corners) or data (rounded, white), centred at (x, y)."""

    name: str
    x: int
    y: int
    title: str
    lines: tuple[str, ...] = ()
    lane: str = ""
    width: int = 176

    @property
    def height(self) -> int:
        return 34 + 17 * len(self.lines)

    def covers(self, place: tuple[int, int]) -> bool:
        x, y = place
        return abs(x - self.x) < self.width // 2 and abs(y - self.y) < self.height // 2

    def svg(self) -> str:
        left, top = self.x - self.width // 2, self.y - self.height // 2
        fill, edge = ("#ffffff", EDGE[self.lane]) if self.lane else ("#fffbe8", "#8a7a3a")
        radius = 4 if self.lane else 17
        parts = [
            f'<rect x="{left}" y="{top}" width="{self.width}" height="{self.height}" rx="{radius}" '
            f'fill="{fill}" stroke="{edge}" stroke-width="1.5"/>',
            _text(self.x, top + 22, self.title, 14, "600"),
        ]
        parts += [_text(self.x, top + 40 + 17 * n, line, 12.5, "400", "#444") for n, line in enumerate(self.lines)]
        return "\n".join(parts)


BOXES = (
    Box("videos", 140, 76, "videos", ("folder, VoxCeleb, tar, manifest",), width=216),
    Box("synthesize", 140, 182, "synthesize", ("synthetic people", "pipelines/synthetic"), "pipelines"),
    Box("plan", 365, 76, "plan", ("pipelines/planning",), "pipelines"),
    Box("preprocess", 585, 76, "preprocess", ("decode, detect, crop", "pipelines/preprocess"), "pipelines"),
    Box("shards", 840, 76, "shards", ("Parquet, byte ranges", "pipelines/dataset")),
    Box("curate", 585, 182, "validate, inspect, forget", ("pipelines/curation",), "pipelines", 210),
    Box("episodes", 840, 304, "episodes", ("K shots and a target", "training/episodes"), "training"),
    Box("meta", 585, 304, "meta-train", ("E, G, D on Ray workers", "training/meta_training"), "training"),
    Box("bundle", 365, 304, "base model", ("safetensors, model card", "training/checkpoints"), width=186),
    Box("evaluate", 140, 304, "evaluate", ("against baselines", "training/evaluation"), "training"),
    Box("mlflow", 545, 396, "MLflow", ("metrics, pictures, registry",), width=200),
    Box("driver", 840, 396, "driving video"),
    Box("finetune", 140, 486, "fine-tune", ("portraits → avatar", "training/avatars"), "training"),
    Box("avatar", 365, 486, "avatar", ("weights, portraits, consent",), width=206),
    Box("animate", 610, 486, "animate", ("retarget, warp, refine", "training/animation"), "training"),
    Box("rendered", 840, 486, "rendered videos", ("marked as generated",)),
    Box("batch", 365, 596, "animate, many at once", ("serving/batch",), "serving", 200),
    Box("service", 610, 596, "HTTP service, job queue", ("serving/service",), "serving", 210),
)

LANES = (("pipelines", 16, 218), ("training", 242, 296), ("serving", 546, 96))

# From box to box; points between them where the line bends.
ARROWS: tuple[tuple[str, str, tuple[tuple[int, int], ...]], ...] = (
    ("videos", "plan", ()),
    ("synthesize", "videos", ()),
    ("plan", "preprocess", ()),
    ("preprocess", "shards", ()),
    ("shards", "curate", ((800, 182),)),
    ("shards", "episodes", ()),
    ("episodes", "meta", ()),
    ("meta", "bundle", ()),
    ("meta", "mlflow", ((545, 304),)),
    ("bundle", "evaluate", ()),
    ("bundle", "finetune", ((330, 304), (330, 400), (140, 400))),
    ("finetune", "avatar", ()),
    ("avatar", "animate", ()),
    ("driver", "animate", ((690, 396),)),
    ("animate", "rendered", ()),
    ("batch", "finetune", ((140, 596),)),
    ("batch", "animate", ((430, 545), (560, 545))),
    ("service", "animate", ()),
)


def _text(
    x: float, y: float, text: str, size: float, weight: str, colour: str = "#1a1a1a", anchor: str = "middle"
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>'


def _arrow(begin: Box, end: Box, bends: tuple[tuple[int, int], ...]) -> str:
    places = [(begin.x, begin.y), *bends, (end.x, end.y)]
    # A bend inside a box's width or height moves the line's start or end along that side.
    start, finish = _edge(begin, places[1], gap=0), _edge(end, places[-2], gap=3)
    inner = [place for place in bends if not begin.covers(place)]
    path = " L".join(f"{x},{y}" for x, y in (start, *inner, finish))
    return f'<path d="M{path}" fill="none" stroke="#555" stroke-width="1.6" marker-end="url(#head)"/>'


def _edge(box: Box, towards: tuple[int, int], *, gap: int) -> tuple[int, int]:
    """Where a line from or to `towards` meets the box: on its upper or lower side if that lies above or below."""
    x, y = towards
    half_width, half_height = box.width // 2, box.height // 2
    if box.covers(towards):
        return x, box.y + half_height
    if abs(x - box.x) < half_width:
        return x, box.y + (half_height + gap) * (1 if y > box.y else -1)
    return box.x + (half_width + gap) * (1 if x > box.x else -1), y if abs(y - box.y) < half_height else box.y


def draw() -> str:
    """The picture as SVG, the same every time."""
    boxes = {box.name: box for box in BOXES}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" role="img">',
        "<title>The way of the data: videos, shards, base model, avatar, rendered videos</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff"/>',
    ]
    for name, top, height in LANES:
        parts.append(f'<rect x="8" y="{top}" width="{WIDTH - 16}" height="{height}" rx="8" fill="{LANE[name]}"/>')
        parts.append(_text(WIDTH - 20, top + height - 12, f"{name}/", 15, "700", EDGE[name], "end"))
    parts += [_arrow(boxes[begin], boxes[end], bends) for begin, end, bends in ARROWS]
    parts += [box.svg() for box in BOXES]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8")
