"""Turn ```math blocks, which GitHub draws, into MathML for the website. Browsers draw it without a script."""

from typing import Any

from latex2mathml.converter import convert


def on_config(config: Any) -> Any:
    """Tell superfences how to draw a block of mathematics."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": _draw})
    return config


def _draw(source: str, *_: Any, **__: Any) -> str:
    return convert(source, display="block")
