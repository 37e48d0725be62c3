"""Models whose answer to one text depends on which others they are given: none reads private ones.

A record that moves others' gradients, or votes, moves the released sum by more than the clipping
norm or one vote, and the noise is calibrated to no more. What is known by construction is refused
here; gradients.py and embed.py look for the rest on public dummies, where it need not show.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from palimpsest_stage.errors import ModelUnsuitable


def check_company(model: Any, longest: int) -> None:
    """Raises ModelUnsuitable for a model that answers by company, of sequences of `longest` tokens.

    Experts: rows that are sent to the same one are multiplied together, and change each other's
    last bits. Dynamic positions (rope_type dynamic): beyond the model's own length its frequencies
    are those of the longest sequence since the last short one.
    """
    if any(_tells_of_experts(*setting) for setting in _settings(model.config.to_dict())):
        raise ModelUnsuitable(
            "a mixture of experts: texts that are sent to the same expert change each other's last "
            "bits, so that none is protected alone; take a dense model for private stages"
        )
    config = model.config.get_text_config()
    stated = getattr(config, "max_position_embeddings", None)
    turned = getattr(config, "rope_parameters", None) or {}
    kinds = {str(value) for name, value in _settings(turned) if name in ("rope_type", "type")}
    if any("dynamic" in kind for kind in kinds) and (stated is None or longest > stated):
        raise ModelUnsuitable(
            f"dynamic positions: beyond {stated} tokens this model remembers the longest text it "
            "was given, so that none is protected alone; lower training.maxLength to that, or take "
            "a model with other positions for private stages"
        )


def _tells_of_experts(name: str, value: Any) -> bool:
    return "expert" in name and isinstance(value, int) and value > 1


def _settings(config: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Every name and value, whatever it lies within."""
    for name, value in config.items():
        yield str(name), value
        if isinstance(value, Mapping):
            yield from _settings(value)
