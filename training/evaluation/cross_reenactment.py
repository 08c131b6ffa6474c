"""Cross-reenactment with a truth: drive one person with another, on a data set in which every person does every motion.

Such a paired data set is what `sfumato preprocess` makes of a corpus in which the identity is the person and the video
is the motion, frames of equal numbers show the same moment of it, and a person's camera, light and background are the
same in all motions. For person i, driver j and motions a and b it has

    truth       frames of i doing b
    driver      the same frames of j
    portrait    the most neutral frame of i doing any other motion a
    reference   the frame of j with the portrait's number in motion a

Retargeting uses the driver's change since the reference, so that the choice of a neutral frame does not affect the
result. Frames are generated in the portrait's crop; the truth is transformed to it by way of the positions of both
crops in the video. Where the portrait's crop extends beyond the truth's, the truth is unknown; every row shows the
truth's padding there, so that it does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from pipelines.dataset.reader import FrameRef, SourceVideo
from pipelines.faces.crop import CropRule, crop, crop_affine, to_crop, to_source
from pipelines.faces.head_pose import find_neutral_frame
from training.animation.motion.fit_actions import without_expression
from training.animation.retarget import MotionOptions, retarget
from training.evaluation.evaluate import EvaluationContext, features_and_detections, shown_frame_indices, to_webp
from training.evaluation.method_list import STILL
from training.evaluation.methods import TRUE_FRAME, Method, Shots
from training.evaluation.metrics.faces import Faces
from training.evaluation.metrics.frame_metrics import MetricValues, Reference, reconstruction_metrics
from training.evaluation.metrics.landmark_motion import landmark_error
from training.evaluation.protocol import ProtocolConfig, draw_number, interleave, read_faces
from training.evaluation.results import Row, VideoResult
from training.evaluation.still_methods import MeanFrame, StaticPortrait

RAW = ", raw landmarks"
"""Suffix of a method's name for the driver's landmarks without retargeting."""
LANDMARKS = "landmarks alone"
"""Name of the row that measures the target landmarks themselves instead of a method."""
SHARED_AREA = "shared_area"
"""Key of the percentage of the portrait's crop that the truth's crop covers."""
_FPS = 25.0  # has no effect without smoothing
_SHOWN_SHOTS = 8
_NO_FEATURES = np.zeros((0, 0), np.float32)

Affine = Float64[np.ndarray, "2 3"]


@dataclass(frozen=True, eq=False)
class PersonMotion:
    """One person doing one motion: a clip of a paired data set."""

    identity: str
    motion: str
    """Video and clip."""
    frames: Mapping[int, FrameRef]
    """By the frame's number in the video, which identifies the moment of the motion."""
    affine: Affine
    """Stored crop -> video, pixels."""

    @property
    def name(self) -> str:
        return f"{self.identity}/{self.motion}"


@dataclass(frozen=True)
class PortraitSource:
    """A clip that the portrait may be taken from, and the driver's clip of the same motion."""

    portrait: PersonMotion
    reference: PersonMotion
    numbers: tuple[int, ...]
    """Numbers of frames that both have, ascending."""


@dataclass(frozen=True)
class CrossPair:
    """Person i driven by person j doing motion b."""

    truth: PersonMotion
    driver: PersonMotion
    numbers: tuple[int, ...]
    """Numbers of frames that both have, ascending."""
    starts: tuple[PortraitSource, ...]
    """Sorted by the motion's name."""

    @property
    def name(self) -> str:
        return f"{self.truth.name} < {self.driver.name}"

    @property
    def num_shots(self) -> int:
        """Number of shots that every possible portrait clip has."""
        return min(len(start.portrait.frames) for start in self.starts)


def list_motions(videos: Sequence[SourceVideo], affines: Mapping[tuple[str, str], Affine]) -> list[PersonMotion]:
    """List the clips of a paired data set; `affines` is keyed by video id and clip."""
    person_motions = []
    for video in videos:
        clips: dict[str, dict[int, FrameRef]] = {}
        for frame in video.frames:
            clips.setdefault(frame.clip, {})[frame.frame_index] = frame
        motion = video.video_id.removeprefix(f"{video.identity}/")
        person_motions += [
            PersonMotion(video.identity, f"{motion}/{clip}", frames, affines[video.video_id, clip])
            for clip, frames in clips.items()
        ]
    return person_motions


def choose_cross_pairs(person_motions: Sequence[PersonMotion], config: ProtocolConfig) -> list[CrossPair]:
    """Choose up to `num_videos` pairs, each with a different truth, by seed and names.

    Persons alternate. The driver is drawn among those with frames in common with the truth, of which at most
    `num_frames`, evenly spaced, are used.
    """
    people: dict[str, dict[str, PersonMotion]] = {}
    for person_motion in sorted(person_motions, key=lambda each: each.name):
        people.setdefault(person_motion.identity, {})[person_motion.motion] = person_motion
    chosen = []
    for truth in person_motions:
        found = [
            cross_pair
            for name, other in people.items()
            if name != truth.identity and truth.motion in other
            if (cross_pair := _find_cross_pair(truth, people[truth.identity], other, config.num_frames)) is not None
        ]
        if found:
            chosen.append(min(found, key=lambda cross_pair: draw_number(config.seed, cross_pair.name)))
    ordered = interleave(chosen, lambda each: each.truth.identity, lambda each: each.truth.name, config.seed)
    return ordered[: config.num_videos]


def _find_cross_pair(
    truth: PersonMotion, own: Mapping[str, PersonMotion], other: Mapping[str, PersonMotion], most: int
) -> CrossPair | None:
    """Pair a truth with a driver, given all motions of both persons; None without frames in common."""
    driver = other[truth.motion]
    numbers = _common_frames(driver, truth)
    starts = tuple(
        PortraitSource(portrait, other[motion], common)
        for motion, portrait in own.items()
        if motion != truth.motion and motion in other and (common := _common_frames(portrait, other[motion]))
    )
    if not starts or not numbers:
        return None
    places = sorted({round(place) for place in np.linspace(0, len(numbers) - 1, min(most, len(numbers)))})
    return CrossPair(truth, driver, tuple(numbers[place] for place in places), starts)


def _common_frames(one: PersonMotion, other: PersonMotion) -> tuple[int, ...]:
    return tuple(sorted(one.frames.keys() & other.frames.keys()))


def evaluate_cross_pair(context: EvaluationContext, cross_pair: CrossPair) -> VideoResult:
    """Measure every method for every T with retargeted landmarks, and generative methods also with raw ones."""
    frames = CrossPairFrames.of(context, cross_pair)
    networks, truth = context.metric_networks, frames.truth
    places = shown_frame_indices(len(truth))
    rows = []
    for number in (number for number in context.config.shots if number <= cross_pair.num_shots):
        given = frames.shots.first(number)
        reference = Reference.of(networks, truth, given.faces)
        drawn = {TRUE_FRAME: truth.images, **_drawn(context.methods, given, frames)}
        shown = {name: frames.within(images) for name, images in drawn.items()}
        features = features_and_detections(networks, shown)
        for name, images in shown.items():
            values = reconstruction_metrics(networks, images, reference) | {SHARED_AREA: frames.shared_area}
            rows.append(Row(number, name, values, features[name], to_webp(images[places])))
        for suffix, targets in (("", frames.targets), (RAW, frames.raw)):
            error: MetricValues = {"landmark_error": float(landmark_error(targets, truth.landmarks).mean())}
            rows.append(Row(number, LANDMARKS + suffix, error, _NO_FEATURES, ()))
    return VideoResult(
        name=frames.portrait.name,
        driver=cross_pair.driver.name,
        num_frames=len(truth),
        shots=to_webp(frames.shots.faces.images[:_SHOWN_SHOTS]),
        targets=to_webp(frames.driver.images[places]),
        rows=tuple(rows),
    )


def _drawn(
    methods: Sequence[Method], given: Shots, frames: "CrossPairFrames"
) -> dict[str, UInt8[np.ndarray, "frames size size 3"]]:
    drawn = {}
    for method in methods:
        if method.name == MeanFrame.name:
            continue
        if method.name in (*STILL, StaticPortrait.name):
            drawn[method.name] = method.draw(given, frames.targets)
            continue
        # In one call, since a method may fine-tune in it.
        both = method.draw(given, np.concatenate([frames.targets, frames.raw]))
        drawn[method.name], drawn[method.name + RAW] = np.split(both, 2)
    return drawn


@dataclass(frozen=True)
class CrossPairFrames:
    """The frames of a pair, in pixels of the portrait's crop at the size that is measured."""

    portrait: PersonMotion
    shots: Shots
    """The portrait is the first."""
    driver: Faces
    """In the driver's own crop."""
    truth: Faces
    known: Bool[np.ndarray, "size size"]
    """Pixels that the truth's crop covers."""
    targets: Float[np.ndarray, "frames 68 2"]
    raw: Float[np.ndarray, "frames 68 2"]

    @classmethod
    def of(cls, context: EvaluationContext, cross_pair: CrossPair) -> "CrossPairFrames":
        size = context.size
        start, number = _portrait(context, cross_pair)
        portrait = start.portrait
        order = _shot_order(cross_pair, portrait, number, context.config)
        shots = Shots(read_faces(context.dataset, order), size)
        to_truth = _between(portrait.affine, cross_pair.truth.affine, shots.stored.size, size)
        found = read_faces(context.dataset, [cross_pair.truth.frames[each] for each in cross_pair.numbers])
        truth = Faces(
            np.stack([crop(image, to_truth, size) for image in found.images]), to_crop(found.landmarks, to_truth)
        )
        moved = [cross_pair.driver.frames[each] for each in cross_pair.numbers]
        driver = read_faces(context.dataset, moved)
        (reference,) = read_faces(context.dataset, [start.reference.frames[number]]).landmarks
        motion = np.concatenate(
            [to_source(reference[None], start.reference.affine), to_source(driver.landmarks, cross_pair.driver.affine)]
        )
        own = shots.faces.landmarks[0]
        return cls(
            portrait,
            shots,
            read_faces(context.dataset, moved, size),
            truth,
            _covered(to_truth, shots.stored.size, size),
            retarget(
                own,
                motion,
                _FPS,
                MotionOptions(smoothing=0.0, neutral_frame=0),
                source_rest=without_expression(own),
            )[1:],
            crop_like_portrait(motion, own, context.dataset.manifest.crop_rule, size)[1:],
        )

    @property
    def shared_area(self) -> float:
        return 100 * float(self.known.mean())

    def within(self, images: UInt8[np.ndarray, "frames size size 3"]) -> UInt8[np.ndarray, "frames size size 3"]:
        """Replace pixels outside the truth's crop by the truth's padding, so that they do not count."""
        shown: np.ndarray = np.where(self.known[:, :, None], images, self.truth.images)
        return shown


def crop_like_portrait(
    motion: Float[np.ndarray, "frames 68 2"], own: Float[np.ndarray, "68 2"], rule: CropRule, size: int
) -> Float[np.ndarray, "frames 68 2"]:
    """Place raw landmarks at the portrait's face: by the crop rule around the first frame, as for its picture.

    Only position and scale are the portrait's; the driver's face shape remains, as in the original method.
    """
    driver_crop, portrait_crop = crop_affine(motion[:1], rule, size), crop_affine(own[None], rule, size)
    return to_source(to_crop(motion, driver_crop), portrait_crop)


def _portrait(context: EvaluationContext, cross_pair: CrossPair) -> tuple[PortraitSource, int]:
    """Return the person's most neutral frame whose number the driver has too, as users choose portraits."""
    pool = [(start, number) for start in cross_pair.starts for number in start.numbers]
    faces = read_faces(context.dataset, [start.portrait.frames[number] for start, number in pool])
    return pool[find_neutral_frame(faces.landmarks)]


def _shot_order(cross_pair: CrossPair, portrait: PersonMotion, first: int, config: ProtocolConfig) -> list[FrameRef]:
    """Return the portrait, then frames of its clip in random order, as many as the largest T needs."""
    others = sorted(portrait.frames.keys() - {first})
    random = np.random.default_rng(draw_number(config.seed, cross_pair.name))
    order = [first, *random.permutation(others).tolist()]
    return [portrait.frames[number] for number in order[: config.shots[-1]]]


def _between(portrait: Affine, truth: Affine, stored: int, size: int) -> Affine:
    """Return the transform from the portrait's crop at `size` to the truth's stored crop, in pixels."""
    ratio = stored / size
    scale = portrait[0, 0] / truth[0, 0]
    shift = (portrait[:, 2] - truth[:, 2]) / truth[0, 0]
    origin = scale * (0.5 * ratio - 0.5) + shift
    return np.array([[scale * ratio, 0, origin[0]], [0, scale * ratio, origin[1]]])


def _covered(to_truth: Affine, stored: int, size: int) -> Bool[np.ndarray, "size size"]:
    """Return which pixels of the portrait's crop have their centre in the truth's."""
    offsets = to_truth[0, 0] * np.arange(size)
    across, down = (
        (place >= -0.5) & (place <= stored - 0.5) for place in (offsets + to_truth[0, 2], offsets + to_truth[1, 2])
    )
    return np.asarray(down[:, None] & across[None])
