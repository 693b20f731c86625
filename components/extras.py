"""Map a missing module to the extra of this package that provides it, and to the command that installs it."""

import json

from components.errors import UserError

PACKAGE = "cps-pipeline"
# Every imported module that the base installation lacks. A test compares this with pyproject.toml.
EXTRAS = {
    **dict.fromkeys(("kfp", "kfp_server_api", "kubernetes"), "pipeline"),
    **dict.fromkeys(("mlflow",), "tracking"),
    **dict.fromkeys(("pycocotools",), "annotations"),
    **dict.fromkeys(("pillow_heif",), "heic"),
    **dict.fromkeys(("psutil",), "services"),
    **dict.fromkeys(("cv2", "onnx", "onnxruntime", "openvino", "paddle", "paddle2onnx"), "train"),
    **dict.fromkeys(("safetensors", "scipy", "threadpoolctl"), "train"),
}
# Installed without its dependencies, because it pins an OpenCV that does not work here; `train` has the others.
PADDLESEG = "paddleseg==2.8.0"


def missing_package(error: ModuleNotFoundError) -> UserError | None:
    """Return an error with the command that installs the module, or None for an unknown module."""
    module = (error.name or "").partition(".")[0]
    if module == "paddleseg":
        return UserError(f"paddleseg is not installed: pip install --no-deps {PADDLESEG}")
    if module not in EXTRAS:
        return None
    return not_installed(module, EXTRAS[module])


def not_installed(what: str, extra: str) -> UserError:
    """Return the error that names the extra which provides `what`."""
    one, everything = map(install_command, (extra, "all"))
    return UserError(f"{what} is not installed: {one} (or, for everything on one machine: {everything})")


def install_command(extra: str) -> str:
    return f"pip install '{_requirement(extra)}'"


def _requirement(extra: str) -> str:
    """Return this package with an extra, at the URL it was installed from: an index may have another of that name."""
    from importlib.metadata import PackageNotFoundError, distribution  # takes 60 ms, so import it only on failure

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
