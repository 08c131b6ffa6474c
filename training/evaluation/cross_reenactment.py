"""Driving another person's face, held against the truth: every person of a paired data set does every motion.

A paired data set is what `sfumato preprocess` makes of a corpus in which identity is the person and video the motion,
frame for frame alike, and in which a person's camera, light and background are the same in all motions. Then, with
person i, driver j and motions a and b,

    truth       frames of i doing b
    driver      the same frames of j
    portrait    the most neutral frame of i doing any other motion a
    reference   the frame of j that does what the portrait shows: same number, motion a

exist side by side. Retargeting takes the driver's change since the reference, so that no guess at a neutral frame is
measured along. Everything is drawn in the portrait's crop; the truth is brought there through the crops' places in the
film. What of the portrait's crop lies outside the truth's is not known and not measured: every row has the truth there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from pipelines.dataset.reader import FrameRef, SourceVideo
from pipelines.faces.crop import CropRule, crop, crop_affine, to_crop, to_source
from training.animation.retarget import MotionOptions, find_neutral_frame, retarget
from training.evaluation.evaluate import EvaluationContext, shown_frame_indices, to_webp
from training.evaluation.method_list import STILL
from training.evaluation.methods import TRUE_FRAME, MeanFrame, Method, Shots, StaticPortrait
from training.evaluation.metrics.faces import Faces
from training.evaluation.metrics.frame_metrics import MetricValues, Reference, reconstruction_metrics
from training.evaluation.metrics.landmark_motion import landmark_error
from training.evaluation.protocol import ProtocolConfig, draw_number, interleave, read_faces
from training.evaluation.results import Row, VideoResult

RAW = ", raw landmarks"
"""Behind the name of a method that was given the driver's own face shape."""
LANDMARKS = "landmarks alone"
"""Not a method: how far what a method is asked for lies from the truth."""
SHARED_AREA = "shared_area"
"""Percent of the portrait's crop that the truth's holds; among each row's values."""
_FPS = 25.0  # of no meaning without smoothing
_SHOWN_SHOTS = 8
_NO_FEATURES = np.zeros((0, 0), np.float32)

Affine = Float64[np.ndarray, "2 3"]


@dataclass(frozen=True, eq=False)
class PersonMotion:
    """One person doing one motion."""

    identity: str
    motion: str
    """Video and clip."""
    frames: Mapping[int, FrameRef]
    """By the frame's number in the film: motions are compared by it."""
    affine: Affine
    """Stored crop -> film, pixels."""

    @property
    def name(self) -> str:
        return f"{self.identity}/{self.motion}"


@dataclass(frozen=True)
class PortraitSource:
    """Where a portrait may come from: person and driver doing one other motion."""

    portrait: PersonMotion
    reference: PersonMotion
    numbers: tuple[int, ...]
    """Frames that both have, rising."""


@dataclass(frozen=True)
class CrossPair:
    """Person i driven by person j doing motion b."""

    truth: PersonMotion
    driver: PersonMotion
    numbers: tuple[int, ...]
    """Frames that both have, rising."""
    starts: tuple[PortraitSource, ...]
    """In the order of the motions' names."""

    @property
    def name(self) -> str:
        return f"{self.truth.name} < {self.driver.name}"

    @property
    def num_shots(self) -> int:
        """The most shots that there are of the person, whichever the portrait comes from."""
        return min(len(start.portrait.frames) for start in self.starts)


def list_motions(videos: Sequence[SourceVideo], affines: Mapping[tuple[str, str], Affine]) -> list[PersonMotion]:
    """The clips of a paired data set; `affines` by video id and clip."""
    takes = []
    for video in videos:
        clips: dict[str, dict[int, FrameRef]] = {}
        for frame in video.frames:
            clips.setdefault(frame.clip, {})[frame.frame_index] = frame
        motion = video.video_id.removeprefix(f"{video.identity}/")
        takes += [
            PersonMotion(video.identity, f"{motion}/{clip}", frames, affines[video.video_id, clip])
            for clip, frames in clips.items()
        ]
    return takes


def choose_cross_pairs(takes: Sequence[PersonMotion], config: ProtocolConfig) -> list[CrossPair]:
    """Up to `num_videos` of them, each with a truth of its own: a pure function of seed and names.

    People take turns as whose face is driven. The driver of a truth is drawn among those with frames in common, of
    which `num_frames` at most are taken, evenly.
    """
    people: dict[str, dict[str, PersonMotion]] = {}
    for take in sorted(takes, key=lambda take: take.name):
        people.setdefault(take.identity, {})[take.motion] = take
    chosen = []
    for truth in takes:
        found = [
            crossing
            for name, other in people.items()
            if name != truth.identity and truth.motion in other
            if (crossing := _crossing(truth, people[truth.identity], other, config.num_frames)) is not None
        ]
        if found:
            chosen.append(min(found, key=lambda crossing: draw_number(config.seed, crossing.name)))
    turns = interleave(chosen, lambda each: each.truth.identity, lambda each: each.truth.name, config.seed)
    return turns[: config.num_videos]


def _crossing(
    truth: PersonMotion, own: Mapping[str, PersonMotion], other: Mapping[str, PersonMotion], most: int
) -> CrossPair | None:
    """Of a truth and all takes of its person and of a driver; None where they lack frames in common."""
    driver = other[truth.motion]
    numbers = _in_common(driver, truth)
    starts = tuple(
        PortraitSource(portrait, other[motion], common)
        for motion, portrait in own.items()
        if motion != truth.motion and motion in other and (common := _in_common(portrait, other[motion]))
    )
    if not starts or not numbers:
        return None
    places = sorted({round(place) for place in np.linspace(0, len(numbers) - 1, min(most, len(numbers)))})
    return CrossPair(truth, driver, tuple(numbers[place] for place in places), starts)


def _in_common(one: PersonMotion, other: PersonMotion) -> tuple[int, ...]:
    return tuple(sorted(one.frames.keys() & other.frames.keys()))


def evaluate_cross_pair(bench: EvaluationContext, crossing: CrossPair) -> VideoResult:
    """Every method for every T, with retargeted landmarks, and those that draw with raw ones too."""
    setting = CrossPairFrames.of(bench, crossing)
    judge, truth = bench.metric_networks, setting.truth
    places = shown_frame_indices(len(truth))
    rows = []
    for number in (number for number in bench.config.shots if number <= crossing.num_shots):
        given = setting.shots.first(number)
        reference = Reference.of(judge, truth, given.faces)
        for name, images in {TRUE_FRAME: truth.images, **_drawn(bench.methods, given, setting)}.items():
            shown = setting.within(images)
            values = reconstruction_metrics(judge, shown, reference) | {SHARED_AREA: setting.shared_area}
            rows.append(Row(number, name, values, judge.features(shown), to_webp(shown[places])))
        for suffix, targets in (("", setting.targets), (RAW, setting.raw)):
            error: MetricValues = {"landmark_error": float(landmark_error(targets, truth.landmarks).mean())}
            rows.append(Row(number, LANDMARKS + suffix, error, _NO_FEATURES, ()))
    return VideoResult(
        name=setting.portrait.name,
        driver=crossing.driver.name,
        num_frames=len(truth),
        shots=to_webp(setting.shots.faces.images[:_SHOWN_SHOTS]),
        targets=to_webp(setting.driver.images[places]),
        rows=tuple(rows),
    )


def _drawn(
    methods: Sequence[Method], given: Shots, setting: "CrossPairFrames"
) -> dict[str, UInt8[np.ndarray, "frames size size 3"]]:
    drawn = {}
    for method in methods:
        if method.name == MeanFrame.name:
            continue
        if method.name in (*STILL, StaticPortrait.name):
            drawn[method.name] = method.draw(given, setting.targets)
            continue
        # At once, since a method may be fine-tuned for it.
        both = method.draw(given, np.concatenate([setting.targets, setting.raw]))
        drawn[method.name], drawn[method.name + RAW] = np.split(both, 2)
    return drawn


@dataclass(frozen=True)
class CrossPairFrames:
    """A crossing's frames, read, in pixels of the portrait's crop at the networks' size."""

    portrait: PersonMotion
    shots: Shots
    """The portrait first."""
    driver: Faces
    """In its own crop."""
    truth: Faces
    known: Bool[np.ndarray, "size size"]
    """Pixels that the truth's crop holds."""
    targets: Float[np.ndarray, "frames 68 2"]
    raw: Float[np.ndarray, "frames 68 2"]

    @classmethod
    def of(cls, bench: EvaluationContext, crossing: CrossPair) -> "CrossPairFrames":
        size = bench.size
        start, number = _portrait(bench, crossing)
        portrait = start.portrait
        order = _shot_order(crossing, portrait, number, bench.config)
        shots = Shots(read_faces(bench.dataset, order), size)
        there = _between(portrait.affine, crossing.truth.affine, shots.stored.size, size)
        found = read_faces(bench.dataset, [crossing.truth.frames[each] for each in crossing.numbers])
        truth = Faces(np.stack([crop(image, there, size) for image in found.images]), to_crop(found.landmarks, there))
        moved = [crossing.driver.frames[each] for each in crossing.numbers]
        driver = read_faces(bench.dataset, moved)
        (reference,) = read_faces(bench.dataset, [start.reference.frames[number]]).landmarks
        motion = np.concatenate(
            [to_source(reference[None], start.reference.affine), to_source(driver.landmarks, crossing.driver.affine)]
        )
        own = shots.faces.landmarks[0]
        return cls(
            portrait,
            shots,
            read_faces(bench.dataset, moved, size),
            truth,
            _inside(there, shots.stored.size, size),
            retarget(own, motion, _FPS, MotionOptions(smoothing=0.0, neutral_frame=0))[1:],
            crop_like_portrait(motion, own, bench.dataset.manifest.crop_rule, size)[1:],
        )

    @property
    def shared_area(self) -> float:
        return 100 * float(self.known.mean())

    def within(self, images: UInt8[np.ndarray, "frames size size 3"]) -> UInt8[np.ndarray, "frames size size 3"]:
        """The pictures, with the truth where nobody knows it."""
        shown: np.ndarray = np.where(self.known[:, :, None], images, self.truth.images)
        return shown


def crop_like_portrait(
    motion: Float[np.ndarray, "frames 68 2"], own: Float[np.ndarray, "68 2"], rule: CropRule, size: int
) -> Float[np.ndarray, "frames 68 2"]:
    """Raw landmarks where the portrait's face is: cropped by the rule around the first frame, as its picture is.

    The driver's face shape remains; only place and scale are the portrait's. This is what the original method feeds.
    """
    there, here = crop_affine(motion[:1], rule, size), crop_affine(own[None], rule, size)
    return to_source(to_crop(motion, there), here)


def _portrait(bench: EvaluationContext, crossing: CrossPair) -> tuple[PortraitSource, int]:
    """The most neutral of the person's frames whose number the driver has too: as people choose portraits."""
    pool = [(start, number) for start in crossing.starts for number in start.numbers]
    faces = read_faces(bench.dataset, [start.portrait.frames[number] for start, number in pool])
    return pool[find_neutral_frame(faces.landmarks)]


def _shot_order(crossing: CrossPair, portrait: PersonMotion, first: int, config: ProtocolConfig) -> list[FrameRef]:
    """The portrait, then others of its clip in an order drawn from seed and name; as many as the largest T takes."""
    others = sorted(portrait.frames.keys() - {first})
    random = np.random.default_rng(draw_number(config.seed, crossing.name))
    order = [first, *random.permutation(others).tolist()]
    return [portrait.frames[number] for number in order[: config.shots[-1]]]


def _between(portrait: Affine, truth: Affine, stored: int, size: int) -> Affine:
    """Pixels of the portrait's crop at `size` -> pixels of the truth's crop as it is stored."""
    ratio = stored / size
    scale = portrait[0, 0] / truth[0, 0]
    shift = (portrait[:, 2] - truth[:, 2]) / truth[0, 0]
    origin = scale * (0.5 * ratio - 0.5) + shift
    return np.array([[scale * ratio, 0, origin[0]], [0, scale * ratio, origin[1]]])


def _inside(there: Affine, stored: int, size: int) -> Bool[np.ndarray, "size size"]:
    """Which pixels of the portrait's crop have their middle in the truth's."""
    places = there[0, 0] * np.arange(size)
    across, down = ((place >= -0.5) & (place <= stored - 0.5) for place in (places + there[0, 2], places + there[1, 2]))
    return np.asarray(down[:, None] & across[None])
