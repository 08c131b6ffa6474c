"""What a model is and how it is trained: frozen, JSON-able, checked. Defaults are those of arXiv 1905.08233."""

from dataclasses import dataclass, field
from typing import Literal

from pipelines.faces.crop import CropRule
from pipelines.faces.landmark_image import RasterConfig

PerceptualNet = Literal["vgg16", "alexnet", "vgg19_vggface"]
ReadOrder = Literal["videos", "shards"]
Precision = Literal["float32", "bfloat16"]
OnlineMotion = Literal["clips", "procedural"]

SUPERSAMPLING = 2
"""How many times as large as the networks see it a shot is that is warped. Three and four measured no better."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild the networks and to feed them the pictures they were trained on."""

    image_size: int = 256
    """Height and width of the crop the networks see, pixels."""
    generator_channels: tuple[int, ...] = (64, 128, 256, 512)
    """Output channels of the generator's downsampling blocks; the upsampling part mirrors them."""
    embedder_channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    """Output channels of the downsampling blocks of embedder and discriminator; the last is the size N of e."""
    num_bottleneck_blocks: int = 4
    attention_size_down: int = 32
    """Height at which the downsampling parts attend to themselves, pixels; 0 for nowhere."""
    attention_size_up: int = 64
    """The same for the generator's upsampling part."""
    warp_prior: bool = False
    """Start from the nearest shot warped to the target's landmarks, and learn only what a warp cannot do."""
    raster: RasterConfig = field(default_factory=RasterConfig)
    crop: CropRule = field(default_factory=CropRule)
    detector: str = "mediapipe"
    """Landmark detector the training data was marked with; another one draws other jaws."""

    def __post_init__(self) -> None:
        for name, channels in (("generator", self.generator_channels), ("embedder", self.embedder_channels)):
            halvings = 2 ** len(channels)
            if self.image_size % halvings or self.image_size // halvings < 2:
                raise ValueError(f"image_size {self.image_size} cannot be halved {len(channels)} times by the {name}")

    @property
    def embedding_size(self) -> int:
        return self.embedder_channels[-1]

    @property
    def frame_size(self) -> int:
        """Height and width of the pictures that an episode holds, pixels: larger than what the networks see where a
        shot is warped, see `training.warp.warp.warp_at`."""
        return self.image_size * (SUPERSAMPLING if self.warp_prior else 1)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of section 3.2; the field's name is the term's name in code and in MLflow."""

    content: float = 1.5e-1
    """L1 between perceptual activations, in the units of a 0..255 network (see training.losses.perceptual)."""
    content_face: float = 2.5e-2
    """The same for a network trained on faces, where there is one: see `TrainConfig.perceptual`."""
    adversarial: float = 1.0
    feature_matching: float = 10.0
    embedding_match: float = 10.0
    identity: float = 0.0
    """Distance of the generated face from the true one for a recogniser (`training.losses.face_identity`): the squared
    one of their embeddings and a third of the L1 between activations. At 0, the paper's, it is not computed."""
    pixel: float = 0.0
    """L1 between pixels in [-1, 1], which the paper has not: what keeps a network that starts from a warp from moving
    away from the truth to look sharper. At 0 it is not computed."""
    content_mouth: float = 0.0
    """The content loss on the mouth alone (`training.losses.loss_networks`), which the paper has not: of a whole
    picture a mouth is a twentieth (cf. the lips' losses of arXiv 2407.03168). At 0 it is not computed."""


@dataclass(frozen=True)
class Augmentation:
    """How episodes are changed before they are shown. The paper's is none."""

    flip: bool = False
    """Mirror every other episode, landmarks and all; like what follows, all K + 1 frames alike."""
    colour: float = 0.0
    """Brightness, in half-ranges, contrast and saturation change by up to this much: 0.1 is a little."""
    affine: float = 0.0
    """Turned by up to so many radians, scaled and shifted by up to this share of the picture: 0.05 is a little."""
    camera: float = 0.0
    """Each frame of its own is brought nearer or farther by up to this much (natural logarithm of the scale), shifted
    and turned by a third and a quarter of it: a camera in a hand. Half of the episodes get nothing, most others little:
    0.2 is some in a few."""

    def __post_init__(self) -> None:
        for name, most in (("colour", 0.5), ("affine", 0.25), ("camera", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in [0, {most}], not {getattr(self, name)}")


@dataclass(frozen=True)
class ExecutionConfig:
    """How a step is computed on the hardware at hand; it may change when a run resumes."""

    precision: Precision = "float32"
    """Of activations; weights, sums and losses stay in float32 (`bfloat16` is torch's autocast)."""
    channels_last: bool = False
    """Keep channels innermost in memory, as tensor cores want them."""
    compile: bool = False
    """Compile the networks with torch.compile: minutes at the start, faster steps."""
    micro_batch: int | None = None
    """Episodes a worker puts through the networks at once; the gradients of the rest are added up. None: all."""

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, not {self.micro_batch}")


@dataclass(frozen=True)
class SyntheticConfig:
    """People drawn while training (training.episodes.online), instead of a data set."""

    num_people: int = 100_000
    """Each has an identity row, and is met again after all the others."""
    seconds: float = 20.0
    """Length of the motion that an episode's K + 1 frames are taken from, each from its own part of it."""
    motion: OnlineMotion = "clips"
    """`clips`: pieces of real films' motion, recombined, and procedural motion; `procedural`: the latter alone."""

    reuse: int = 4
    """Steps in a row that show the same pictures, in each with a target and an order drawn anew. Drawing people costs
    several times what a training step does."""
    render_size: int | None = None
    """Side of the pictures that crops are cut from, pixels. By default half as much again as the model's image size,
    but no more than 256, or the model's size where that is more: a crop is about nine tenths of the picture."""

    def side(self, image_size: int) -> int:
        """Of the pictures, for a model of this size."""
        return self.render_size or min(image_size * 3 // 2, max(256, image_size))

    def __post_init__(self) -> None:
        if self.render_size is not None and not 32 <= self.render_size <= 2048:
            raise ValueError(f"render_size must lie in [32, 2048], not {self.render_size}")
        for name in ("num_people", "reuse"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 1 <= self.seconds <= 600:
            raise ValueError(f"seconds must lie in [1, 600], not {self.seconds}")


@dataclass(frozen=True)
class InitialModel:
    """The base model whose weights a run begins with."""

    version: str
    """sha256 of its manifest."""
    images_seen: int
    """Target frames that it was trained on, and what it began with before it."""


@dataclass(frozen=True)
class TrainConfig:
    """One meta-training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    perceptual: PerceptualNet = "vgg16"
    """The paper's is `vgg19_vggface`, both of Caffe, whose weights have to be given; `alexnet` is for tests."""
    vgg19_sha256: str | None = None
    """Of the weights of `vgg19_vggface`; where they lie is no part of a configuration, what they are is."""
    vggface_sha256: str | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    num_shots: int = 8
    """K: frames shown to the embedder beside the target."""
    episodes_per_step: int = 48
    """Episodes of one step over all workers together; it does not change with their number."""
    num_steps: int = 75 * 145_569 // 48
    """Generator updates; by default 75 epochs over VoxCeleb2's 145,569 videos, 48 of them a step: 227,451."""
    learning_rate: float = 5e-5
    """Of embedder and generator."""
    learning_rate_discriminator: float = 2e-4
    discriminator_updates: int = 2
    """Discriminator updates per generator update."""
    ema_decay: float = 0.999
    ema_warm_up: bool = True
    """Let the decay grow to `ema_decay` over the first updates, which a short run needs; the paper's is constant."""
    seed: int = 0
    log_every: int = 10
    sample_every: int = 1000
    checkpoint_every: int = 1000
    max_bad_steps: int = 20
    """Consecutive steps with gradients that are not finite before the run goes back to its last checkpoint."""
    max_rollbacks: int = 3
    """Times it goes back there without reaching the next checkpoint before it gives up."""
    read_order: ReadOrder = "videos"
    """How an epoch is shuffled: all videos at once, or shards, and videos within a window of them."""
    window_shards: int = 16
    """Shards of a window of the order `shards`."""
    engine: ExecutionConfig = field(default_factory=ExecutionConfig)
    online: SyntheticConfig | None = None
    """People drawn while training; None reads a data set."""
    start_from: InitialModel | None = None
    """What lies before the first step; None for random weights. Where the model lies is no part of a configuration."""

    def __post_init__(self) -> None:
        counts = ("num_shots", "episodes_per_step", "num_steps", "log_every", "sample_every", "checkpoint_every")
        for name in (*counts, "window_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.perceptual != "vgg19_vggface" and (self.vgg19_sha256 or self.vggface_sha256):
            raise ValueError(f"weights of VGG19 and VGGFace are not those of {self.perceptual}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
