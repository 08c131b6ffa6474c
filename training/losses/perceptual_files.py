"""Where the weights of the published content loss lie, which no registry carries."""

from dataclasses import dataclass

from pipelines import storage


@dataclass(frozen=True)
class PerceptualFiles:
    """Where the weights lie that no registry carries: paths or URLs, absolute where workers read them."""

    vgg19: str
    vggface: str

    @classmethod
    def named(cls, vgg19: str | None, vggface: str | None) -> "PerceptualFiles | None":
        """Those that two flags name, or None where neither is given.

        Raises:
            ValueError: one of the two alone.
        """
        if vgg19 is None and vggface is None:
            return None
        if vgg19 is None or vggface is None:
            given, missing = ("--vgg19", "--vggface") if vggface is None else ("--vggface", "--vgg19")
            raise ValueError(f"{given} is given without {missing}: the published loss has both networks")
        return cls(storage.absolute(vgg19), storage.absolute(vggface))
