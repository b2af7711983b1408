"""What this machine has: versions, processor, devices, caches. What a report of a problem, or of a result, quotes."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NEEDED = ("torch", "torchvision", "timm", "safetensors", "huggingface-hub", "numpy", "pillow", "opencv-python")
#: Packages that some formats need.
OPTIONAL = ("pycocotools", "supervision")
#: What decides the speed of a processor here, as Linux calls it.
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")
CPU_LISTING = Path("/proc/cpuinfo")


def environment() -> dict[str, Any]:
    """The report, ready for JSON: versions, system, cpu, devices, cache, models, problems (sentences)."""
    problems: list[str] = []
    versions = _versions(problems)
    devices = _devices(versions, problems)
    return {
        "versions": versions,
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cpu": _processor(),
        "devices": devices,
        "cache": _cache(problems),
        "models": _models(problems),
        "problems": problems,
    }


def _versions(problems: list[str]) -> dict[str, str | None]:
    """Versions by package, None where it is not installed; of torch and the rest nothing is loaded for it."""
    versions: dict[str, str | None] = {"fscs-sdk": version("fscs-sdk"), "python": platform.python_version()}
    for package in (*NEEDED, *OPTIONAL):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = _other_opencv() if package == "opencv-python" else None
        if package in NEEDED and versions[package] is None:
            problems.append(f"{package} is not installed: pip install --force-reinstall fscs-sdk")
    return versions


def _other_opencv() -> str | None:
    """The version of OpenCV under one of its other names."""
    for package in ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"):
        try:
            return f"{version(package)} ({package})"
        except PackageNotFoundError:
            continue
    return None


def _processor() -> dict[str, Any]:
    """Model, cores and, where the system tells, the instruction sets that matter."""
    listed: dict[str, str] = {}
    if CPU_LISTING.is_file():
        pairs = (line.split(":", 1) for line in CPU_LISTING.read_text(errors="replace").splitlines() if ":" in line)
        listed = {key.strip(): value.strip() for key, value in pairs}
    flags = f"{listed.get('flags', '')} {listed.get('Features', '')}".split()
    return {
        "model": listed.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "features": [feature for feature in CPU_FEATURES if feature in flags],
    }


def _devices(versions: dict[str, str | None], problems: list[str]) -> list[dict[str, Any]]:
    """What models can run on, the one that ``auto`` takes first; the CPU is the last."""
    try:
        import torch
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be loaded: {error}; reinstall it for this system (https://pytorch.org)")
        return []
    versions["torch"] = torch.__version__  # with its build, such as +cpu, which the installer does not know
    devices: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            devices.append({"name": f"cuda:{index}", "model": properties.name, "memory": properties.total_memory})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "model": "Apple GPU"})
    capability = torch.backends.cpu.get_cpu_capability()
    return [*devices, {"name": "cpu", "threads": torch.get_num_threads(), "kernels": capability}]


def _cache(problems: list[str]) -> dict[str, Any]:
    """The folder of downloaded weights, whether it can be written to, and the free bytes of its disk."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    if not writable:
        problems.append(f"the cache folder '{folder}' cannot be written to; set HF_HOME to a folder that can")
    return {
        "folder": str(folder),
        "exists": folder.is_dir(),
        "writable": writable,
        "free": shutil.disk_usage(there).free,
    }


def _models(problems: list[str]) -> dict[str, str]:
    """Where each model of the manifest is."""
    from fscs_sdk.weights import list_models, place

    try:
        return {name: place(name) for name in list_models()}
    except (ValueError, OSError) as error:
        problems.append(str(error))
        return {}
