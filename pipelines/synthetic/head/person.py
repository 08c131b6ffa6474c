"""One synthetic identity, drawn from a seed: shape, skin, hair, teeth and glasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from pipelines.synthetic.head.head_model import AXES

# Standard deviation of the local changes of the face; 1 is MakeHuman's extreme. Both sides of a pair get nearly
# the same value.
_FEATURE_STD = {
    "cheek-trans": 0.3, "cheek-volume": 0.35, "cheek-inner": 0.3, "cheek-bones": 0.35,
    "chin-jaw-drop": 0.25, "chin-height": 0.3, "chin-prominent": 0.3, "chin-bones": 0.35, "chin-width": 0.35,
    "chin-cleft": 0.3, "chin-prognathism": 0.15,
    "ear-lobe": 0.4, "ear-shape-round": 0.3, "ear-rot": 0.25, "ear-trans-up": 0.2, "ear-scale-incr": 0.25,
    "ear-wing": 0.35, "ear-flap": 0.3,
    "eyebrows-angle": 0.4, "eyebrows-trans-up": 0.3, "eyebrows-trans-forward": 0.4,
    "eye-corner1": 0.35, "eye-height1": 0.3, "eye-scale": 0.25, "eye-push1": 0.3, "eye-eyefold-up": 0.35,
    "eye-height3": 0.3, "eye-height2": 0.25, "eye-bag-incr": 0.3, "eye-push2": 0.3, "eye-trans-up": 0.15,
    "eye-epicanthus": 0.3, "eye-eyefold-angle": 0.3, "eye-bag-out": 0.3, "eye-corner2": 0.35, "eye-trans-out": 0.25,
    "forehead-temple": 0.35, "forehead-trans": 0.35, "forehead-scale-vert": 0.35, "forehead-nubian": 0.3,
    "head-scale-vert": 0.25, "head-fat": 0.3, "head-back-scale": 0.2, "head-age": 0.15, "head-scale-depth": 0.2,
    "head-scale-horiz": 0.25,
    "mouth-lowerlip-height": 0.3, "mouth-scale-horiz": 0.35, "mouth-cupidsbow-incr": 0.35, "mouth-laugh-lines": 0.3,
    "mouth-scale-depth": 0.2, "mouth-lowerlip-volume": 0.35, "mouth-angles": 0.25, "mouth-lowerlip-width": 0.3,
    "mouth-upperlip-width": 0.3, "mouth-dimples": 0.25, "mouth-upperlip-height": 0.3, "mouth-upperlip-volume": 0.35,
    "mouth-cupidsbow-width": 0.3, "mouth-trans-up": 0.25, "mouth-philtrum": 0.3,
    "neck-double": 0.25, "neck-scale-horiz": 0.3, "neck-scale-depth": 0.25, "neck-scale-vert": 0.2,
    "nose-nostrils-angle": 0.35, "nose-flaring": 0.35, "nose-curve": 0.35, "nose-scale-depth": 0.3,
    "nose-scale-vert": 0.35, "nose-point-width": 0.35, "nose-scale-horiz": 0.35, "nose-width1": 0.4,
    "nose-trans-up": 0.2, "nose-hump": 0.35, "nose-nostrils-width": 0.35, "nose-greek": 0.3, "nose-point-up": 0.35,
    "nose-width2": 0.4, "nose-width3": 0.4, "nose-septumangle": 0.3, "nose-base-up": 0.3, "nose-compression": 0.25,
    "nose-volume": 0.35, "measure-shoulder-dist": 0.3,
}  # fmt: skip
_MAX_FEATURE = 0.85  # of MakeHuman's extreme; meshes fold beyond
_ASYMMETRY = 0.15  # of a feature's standard deviation

_TONES = np.array(
    [(246, 214, 196), (234, 190, 164), (214, 164, 132), (184, 130, 98), (142, 94, 68), (104, 66, 47), (72, 46, 35)]
)  # sRGB, fair to dark
_HAIR = np.array(
    [(24, 18, 15), (48, 32, 23), (84, 55, 36), (122, 84, 52), (170, 128, 80), (206, 172, 116), (128, 56, 28)]
)
_EYES = np.array([(52, 30, 18), (84, 52, 28), (112, 84, 44), (92, 106, 66), (84, 112, 138), (128, 148, 160)])
_GREY = np.array((186, 184, 180))

# Visible millimetres of the upper and lower incisors with parted lips at rest, at 13 and 60 years, of women and men,
# and their standard deviation at one age. da Motta et al., Display of the incisors as functions of age and gender,
# Australian Orthodontic Journal 26, 2010.
_TEETH_YEARS = (13.0, 60.0)
_UPPER_MM = ((4.45, 1.32), (3.35, 0.57))
_LOWER_MM = ((0.47, 2.22), (0.61, 3.05))
_TEETH_STD_MM = 1.2
_YEARS = (25.0, 90.0)  # MakeHuman's ages `young` and `old`

STYLES = ("bald", "buzz", "short", "side", "curly", "bob", "long", "bun", "afro", "fringe")
"""Hair styles."""


@dataclass(frozen=True)
class Hair:
    """How the hair of the head is cut. Lengths in metres."""

    style: str
    colour: Float32[np.ndarray, 3]  # sRGB, 0..1
    thickness: float
    hairline: float  # height above the average
    parting: float  # -1 (the person's right) to 1
    fall: float  # length below the middle of the ears
    fringe: float  # length over the forehead
    frame: float  # 0 behind the ears, 1 beside the eyes, where it is long
    curl: float  # 0 straight, 1 frizzy
    grey: float


@dataclass(frozen=True)
class Skin:
    """Colours and textures of the skin. Amounts are in 0..1."""

    tone: Float32[np.ndarray, 3]  # sRGB, 0..1
    red: float
    freckles: float
    pores: float
    wrinkles: float
    gloss: float
    lips: Float32[np.ndarray, 3]  # tint of the lips relative to the skin
    brow: float  # thickness
    brow_arch: float
    lashes: float
    shadow: Float32[np.ndarray, 3]  # tint of the upper lids
    stubble: float
    beard: float
    moustache: float


@dataclass(frozen=True)
class Person:
    """One identity."""

    seed: tuple[int, int]
    phenotype: Float32[np.ndarray, " axes"]
    """Weights of `head_model.AXES`."""
    features: dict[str, float]
    """Local changes by the prefix of their names, -1 to 1."""
    skin: Skin
    hair: Hair
    iris: Float32[np.ndarray, 3]
    glasses: float
    """Height of the lenses in metres; 0 for none."""
    glasses_round: float
    glasses_colour: Float32[np.ndarray, 3]
    teeth: tuple[float, float]
    """Metres by which the upper and lower incisors extend beyond the lips' edges at rest; negative: hidden."""

    @classmethod
    def draw(cls, seed: int, identity: int) -> Person:
        """Draw a person: a pure function of both numbers. Another order of random draws needs a new corpus version."""
        rng = generator(seed, identity, "person")
        woman, age = float(rng.random() < 0.5), float(rng.beta(1.3, 1.8))
        race = rng.dirichlet([0.35, 0.35, 0.35])
        phenotype = _phenotype(rng, race, woman, age)
        melanin = float(np.clip(race @ (0.78, 0.34, 0.2) + rng.normal(0, 0.1), 0, 1))
        features = {name: _bounded(rng, spread) for name, spread in _FEATURE_STD.items()}
        hair = _hair(rng, woman, age, melanin)
        return cls(
            (seed, identity),
            phenotype,
            features | {f"{name}|tilt": _bounded(rng, spread * _ASYMMETRY) for name, spread in _FEATURE_STD.items()},
            _skin(rng, woman, age, melanin),
            hair,
            _colour(rng, _EYES, float(rng.uniform(0, 1.2 if melanin > 0.45 else 5)), 0.06),
            float(rng.uniform(0.028, 0.044)) * (rng.random() < 0.1 + 0.15 * age),
            float(rng.uniform(0, 1)),
            _colour(
                rng, np.array([(20, 20, 22), (70, 42, 26), (120, 120, 126), (40, 30, 70)]), rng.uniform(0, 3), 0.05
            ),
            _teeth(rng, woman, age),
        )

    def local(self, labels: list[str]) -> Float32[np.ndarray, " labels"]:
        """Return the value of each of the head model's local changes."""
        values = np.zeros(len(labels), np.float32)
        for index, label in enumerate(labels):
            side, plain = (label[0], label[2:]) if label[:2] in ("l-", "r-") else ("", label)
            for name in _FEATURE_STD:
                if plain.startswith(name):
                    tilt = self.features[f"{name}|tilt"] * {"l": 1, "r": -1, "": 0}[side]
                    values[index] = np.clip(self.features[name] + tilt, -_MAX_FEATURE, _MAX_FEATURE)
        return values


def generator(*words: int | str) -> np.random.Generator:
    """Return a random generator that is seeded by these words alone."""
    return np.random.default_rng([word if isinstance(word, int) else int.from_bytes(word.encode()) for word in words])


def _phenotype(rng: np.random.Generator, race: np.ndarray, woman: float, age: float) -> np.ndarray:
    weights = dict.fromkeys(AXES, 0.0)
    weights.update(zip(AXES[:3], race, strict=True))
    female = float(np.clip(woman + rng.normal(0, 0.12) * (1 - 2 * woman), 0, 1))
    weights.update(male=1 - female, female=female, young=1 - age, old=age)
    for name, value in (("muscle", rng.uniform(0.2, 0.85)), ("weight", rng.beta(2, 2.4))):
        weights[f"min{name}"], weights[f"max{name}"] = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
        weights[f"average{name}"] = 1 - abs(2 * value - 1)
    return np.array([weights[name] for name in AXES], np.float32)


def _teeth(rng: np.random.Generator, woman: float, age: float) -> tuple[float, float]:
    years = _YEARS[0] + (_YEARS[1] - _YEARS[0]) * age
    upper, lower = (
        np.interp(years, _TEETH_YEARS, by_sex[0 if woman else 1]) + rng.normal(0, _TEETH_STD_MM)
        for by_sex in (_UPPER_MM, _LOWER_MM)
    )
    return float(upper) / 1000, float(lower) / 1000


def _hair(rng: np.random.Generator, woman: float, age: float, melanin: float) -> Hair:
    men = np.array([0.06 + 0.2 * age, 0.16, 0.34, 0.22, 0.08, 0.02, 0.03, 0.01, 0.02, 0.06])
    women = np.array([0.005, 0.02, 0.1, 0.08, 0.09, 0.2, 0.28, 0.12, 0.03, 0.1])
    odds = women if woman else men
    odds = odds * np.where(np.isin(STYLES, ("afro", "curly", "buzz")), 0.4 + 2.2 * melanin, 1)
    style = str(rng.choice(STYLES, p=odds / odds.sum()))
    shade = rng.uniform(0, 0.9) if melanin > 0.5 else rng.choice([rng.uniform(0, 3), rng.uniform(2, 6)], p=[0.6, 0.4])
    grey = float(np.clip((age - 0.45) * 2.2 + rng.normal(0, 0.25), 0, 1)) if rng.random() < 0.7 else 0.0
    colour = _colour(rng, _HAIR, float(shade), 0.05)
    fall = {"bob": (0.05, 0.1), "long": (0.14, 0.24), "curly": (0.0, 0.08), "afro": (0.0, 0.03)}.get(style, (0.0, 0.0))
    thick = {"bald": 0.0, "buzz": 0.003, "afro": 0.05, "curly": 0.026, "bun": 0.007}.get(style, 0.015)
    fringe = {"fringe": (0.022, 0.042), "bob": (0.0, 0.035), "curly": (0.0, 0.02)}.get(style, (0.0, 0.008))
    return Hair(
        style,
        (colour * (1 - grey) + grey * _GREY / 255).astype(np.float32),
        thick * float(rng.uniform(0.7, 1.4)),
        float(rng.normal(0, 0.004) + (0 if woman else 0.016 * age * rng.random())),
        float(rng.choice([-1, 1]) * rng.uniform(0, 0.8)),
        float(rng.uniform(*fall)),
        float(rng.uniform(*fringe)),
        float(rng.random()),
        {"curly": 0.8, "afro": 1.0}.get(style, float(rng.uniform(0, 0.45))),
        grey,
    )


def _skin(rng: np.random.Generator, woman: float, age: float, melanin: float) -> Skin:
    tone = _colour(rng, _TONES, melanin * (len(_TONES) - 1), 0.03)
    made_up = woman * float(rng.random() < 0.5)
    lips = np.array([0.94, 0.72, 0.72]) + rng.normal(0, 0.04, 3)
    lipstick = np.array([(0.9, 0.38, 0.42), (0.75, 0.3, 0.4), (0.95, 0.5, 0.45), (0.6, 0.28, 0.3)])[rng.integers(4)]
    beards = (1 - woman) * rng.random() * np.array([1.0, rng.random() < 0.28, rng.random() < 0.3])
    return Skin(
        tone,
        float(rng.beta(2, 3)),
        float(rng.beta(1, 2.5) * (melanin < 0.4) * (rng.random() < 0.45)),
        float(rng.beta(2, 2.5)),
        float(np.clip(age * 1.1 + rng.normal(0, 0.12), 0, 1)),
        float(rng.beta(2, 3)),
        (lips * (1 - made_up * 0.7) + lipstick * made_up * 0.7).astype(np.float32),
        float(rng.uniform(0.25, 0.75) if woman else rng.uniform(0.45, 1.0)),
        float(rng.uniform(0, 1)),
        float(rng.uniform(0.3, 0.6) + 0.4 * made_up),
        (1 - made_up * rng.uniform(0.1, 0.55, 3) * rng.random()).astype(np.float32),
        float(beards[0]),
        float(beards[1]),
        float(beards[2]),
    )


def _colour(rng: np.random.Generator, scale: np.ndarray, at: float, spread: float) -> np.ndarray:
    """Interpolate a colour on the scale and add noise."""
    channels = [np.interp(at, np.arange(len(scale)), scale[:, channel]) for channel in range(3)]
    colour = np.array(channels) / 255 * (1 + rng.normal(0, spread)) + rng.normal(0, spread / 3, 3)
    return np.clip(colour, 0.02, 1).astype(np.float32)


def _bounded(rng: np.random.Generator, spread: float) -> float:
    return float(np.clip(rng.normal(0, spread), -_MAX_FEATURE, _MAX_FEATURE))
