"""Which extra of this package brings a module that is not installed, and the command that installs it."""

import json

from components.errors import UserError

PACKAGE = "cps-pipeline"
# Every module outside the plain installation that is imported here; a test holds this to pyproject.toml.
EXTRAS = {
    **dict.fromkeys(("kfp", "kfp_server_api"), "pipeline"),
    **dict.fromkeys(("mlflow",), "tracking"),
    **dict.fromkeys(("psutil",), "services"),
    **dict.fromkeys(("cv2", "onnx", "onnxruntime", "openvino", "paddle", "paddle2onnx"), "train"),
    **dict.fromkeys(("safetensors", "scipy"), "train"),
}
# Its own requirements name an OpenCV that does not run here; everything else it needs is in the extra `train`.
PADDLESEG = "paddleseg==2.8.0"


def missing_package(error: ModuleNotFoundError) -> UserError | None:
    """Return one line with the command that installs the module, or None for a module that we do not know."""
    module = (error.name or "").partition(".")[0]
    if module == "paddleseg":
        return UserError(f"paddleseg is not installed: pip install --no-deps {PADDLESEG}")
    if module not in EXTRAS:
        return None
    return not_installed(module, EXTRAS[module])


def not_installed(what: str, extra: str) -> UserError:
    """Return the error that names the extra bringing `what`."""
    one, everything = (f"pip install '{_requirement(name)}'" for name in (extra, "all"))
    return UserError(f"{what} is not installed: {one} (or, for everything on one machine: {everything})")


def _requirement(extra: str) -> str:
    """This package with an extra, from where it was installed: an index may have another package of its name."""
    from importlib.metadata import PackageNotFoundError, distribution  # 60 ms that a good start need not wait for

    name = f"{PACKAGE}[{extra}]"
    try:
        origin = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return name
    url = origin.get("url")
    if not isinstance(url, str):
        return name
    version_control = origin.get("vcs_info")
    if isinstance(version_control, dict):
        url = f"{version_control.get('vcs')}+{url}@{version_control.get('commit_id')}"
    return f"{name} @ {url}"
