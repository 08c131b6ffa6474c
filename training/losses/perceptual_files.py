"""Locations of the weights of the published content loss, which the user supplies. Needs no torch."""

from dataclasses import dataclass

from pipelines import storage


@dataclass(frozen=True)
class PerceptualFiles:
    """Paths (absolute: workers have other working directories) or URLs of the weights of both networks."""

    vgg19: str
    vggface: str

    @classmethod
    def named(cls, vgg19: str | None, vggface: str | None) -> "PerceptualFiles | None":
        """Return the files that the two flags name, or None if neither is given.

        Raises:
            ValueError: only one of the two is given.
        """
        if vgg19 is None and vggface is None:
            return None
        if vgg19 is None or vggface is None:
            given, missing = ("--vgg19", "--vggface") if vggface is None else ("--vggface", "--vgg19")
            raise ValueError(f"{given} is given without {missing}: the published loss has both networks")
        return cls(storage.absolute(vgg19), storage.absolute(vggface))
