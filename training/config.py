"""Configuration of models and training: frozen, validated, stored as JSON. Defaults follow arXiv 1905.08233."""

from dataclasses import dataclass, field
from typing import Literal

from pipelines.faces.crop import CropRule
from pipelines.faces.landmark_image import RasterConfig

PerceptualNet = Literal["vgg16", "alexnet", "vgg19_vggface"]
ReadOrder = Literal["videos", "shards"]
Precision = Literal["float32", "bfloat16"]
OnlineMotion = Literal["clips", "procedural"]

SUPERSAMPLING = 2
"""Side of a shot to warp, relative to the networks' image size. Factors of 3 and 4 measured no better."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild the networks and to prepare their inputs as in training."""

    image_size: int = 256
    """Height and width of the crop the networks see, pixels."""
    generator_channels: tuple[int, ...] = (64, 128, 256, 512)
    """Output channels of the generator's downsampling blocks; the upsampling part mirrors them."""
    embedder_channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    """Output channels of the downsampling blocks of embedder and discriminator; the last is the size N of e."""
    num_bottleneck_blocks: int = 4
    attention_size_down: int = 32
    """Height of the feature map with self-attention in the downsampling parts, pixels; 0 for none."""
    attention_size_up: int = 64
    """The same in the generator's upsampling part."""
    warp_prior: bool = False
    """Generate a correction of the nearest shot, warped to the target's landmarks."""
    raster: RasterConfig = field(default_factory=RasterConfig)
    crop: CropRule = field(default_factory=CropRule)
    detector: str = "mediapipe"
    """Landmark detector of the training data; others place the points of the jaw differently."""

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
        shot is warped, see `training.warp.apply.warp_with_field`."""
        return self.image_size * (SUPERSAMPLING if self.warp_prior else 1)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms of section 3.2; a field's name is the term's name in code and in MLflow."""

    content: float = 1.5e-1
    """L1 between perceptual activations, on the scale of a network with 0..255 inputs (see
    training.losses.perceptual)."""
    content_face: float = 2.5e-2
    """The same for a network trained on faces, where there is one; see `TrainConfig.perceptual`."""
    adversarial: float = 1.0
    feature_matching: float = 10.0
    embedding_match: float = 10.0
    identity: float = 0.0
    """Distance between generated and true face in a face recogniser (`training.losses.face_identity`): squared distance
    of embeddings plus a third of the L1 between activations. Not computed at 0, the paper's value."""
    pixel: float = 0.0
    """L1 between pixels in [-1, 1], not in the paper. It keeps a network that starts from a warp from trading accuracy
    for sharpness. Not computed at 0."""
    content_mouth: float = 0.0
    """Content loss on a crop of the mouth (`training.losses.loss_networks`), not in the paper. The mouth is only a
    twentieth of a frame (cf. the lip losses of arXiv 2407.03168). Not computed at 0."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes to an episode's frames. The paper uses none."""

    flip: bool = False
    """Mirror frames and landmarks of an episode with probability 1/2. This, `colour` and `affine` change all K + 1
    frames of an episode alike."""
    colour: float = 0.0
    """Largest change of brightness (in half of the value range), contrast and saturation (relative); 0.1 is mild."""
    affine: float = 0.0
    """Largest rotation in radians, and largest relative scale and shift (fraction of the side); 0.05 is mild."""
    camera: float = 0.0
    """Imitate a hand-held camera: scale each frame of an episode by up to exp(±V), shift it by up to V/3 of the side
    and rotate it by up to V/4 radians. Half of the episodes are unchanged, and most of the others change little
    (strength is squared); 0.2 is moderate."""

    def __post_init__(self) -> None:
        for name, most in (("colour", 0.5), ("affine", 0.25), ("camera", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in [0, {most}], not {getattr(self, name)}")


@dataclass(frozen=True)
class ExecutionConfig:
    """How a step is executed; may differ when a run resumes."""

    precision: Precision = "float32"
    """Data type of activations (`bfloat16` is torch's autocast); weights, sums and losses stay in float32."""
    channels_last: bool = False
    """Use the channels-last memory format, which tensor cores prefer."""
    compile: bool | None = None
    """Compile the networks with torch.compile: takes minutes at the start, then steps are faster. None: on CUDA
    devices, if there is a C compiler."""
    micro_batch: int | None = None
    """Episodes per forward pass of a worker; gradients are accumulated. None: the worker's whole share."""

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, not {self.micro_batch}")


@dataclass(frozen=True)
class SyntheticConfig:
    """Synthetic people rendered during training (training.episodes.online), instead of a data set."""

    num_people: int = 100_000
    """Number of people, each with its own identity row; an epoch visits each once."""
    seconds: float = 20.0
    """Length of the motion from which an episode's K + 1 frames are sampled, one from each of K + 1 equal parts."""
    motion: OnlineMotion = "clips"
    """`clips`: recombined motion of real clips and procedural motion; `procedural`: procedural motion only."""

    reuse: int = 4
    """Number of consecutive steps that use the same frames, with another random target and order in each. Rendering
    costs several times as much as a training step."""
    render_size: int | None = None
    """Height and width of rendered frames, pixels. Default: 1.5 times the model's image size, but at most 256 or the
    model's size, whichever is larger; a crop is about nine tenths of the frame."""

    def side(self, image_size: int) -> int:
        """Return the height and width of rendered frames for a model of this image size."""
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
    """The base model whose weights a run starts from."""

    version: str
    """sha256 of its manifest."""
    images_seen: int
    """Target frames it was trained on, including those of the models it started from."""


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a meta-training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    perceptual: PerceptualNet = "vgg16"
    """Network of the content loss. The paper uses `vgg19_vggface` (Caffe weights, which the user supplies); `alexnet`
    is for tests."""
    vgg19_sha256: str | None = None
    """sha256 of the weights of `vgg19_vggface`; their location is not part of the configuration."""
    vggface_sha256: str | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    num_shots: int = 8
    """K: number of frames that the embedder sees, the target not included."""
    episodes_per_step: int = 48
    """Episodes per step, summed over all workers; independent of the number of workers."""
    num_steps: int = 75 * 145_569 // 48
    """Generator updates; default: 75 epochs over VoxCeleb2's 145,569 videos at 48 per step, 227,451."""
    learning_rate: float = 5e-5
    """Learning rate of embedder and generator."""
    learning_rate_discriminator: float = 2e-4
    discriminator_updates: int = 2
    """Discriminator updates per generator update."""
    ema_decay: float = 0.999
    ema_warm_up: bool = True
    """Let the decay grow to `ema_decay` over the first updates, which a short run needs; the paper's decay is
    constant."""
    seed: int = 0
    log_every: int = 10
    sample_every: int = 1000
    checkpoint_every: int = 1000
    max_bad_steps: int = 20
    """Consecutive steps with non-finite gradients after which the run rolls back to its last checkpoint."""
    max_rollbacks: int = 3
    """Consecutive rollbacks, without a new checkpoint in between, after which the run fails."""
    read_order: ReadOrder = "videos"
    """How an epoch is shuffled: all videos, or shards and then videos within a window of shards."""
    window_shards: int = 16
    """Number of shards in a window of the order `shards`."""
    engine: ExecutionConfig = field(default_factory=ExecutionConfig)
    online: SyntheticConfig | None = None
    """Synthetic people to render; None: read a data set."""
    start_from: InitialModel | None = None
    """Initial weights; None: random. The model's location is not part of the configuration."""

    def __post_init__(self) -> None:
        counts = ("num_shots", "episodes_per_step", "num_steps", "log_every", "sample_every", "checkpoint_every")
        for name in (*counts, "window_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.perceptual != "vgg19_vggface" and (self.vgg19_sha256 or self.vggface_sha256):
            raise ValueError(f"weights of VGG19 and VGGFace are not those of {self.perceptual}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
