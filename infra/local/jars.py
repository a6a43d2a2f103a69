"""Java archives from Maven Central, by a committed lock: coordinates, sizes and sha256 digests.

`python -m infra.local.jars` rewrites the lock. Each component is resolved alone: resolved together with a logging jar, Kafka came with
clients of another version. Every Kafka jar must have the same version.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import MillraceError, Stop

LOCK = Path(__file__).with_name("jars.lock")
KAFKA = ("org.apache.kafka", "kafka_2.13", "4.3.1")
LOGGING = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4")  # slf4j-api 1.7: -impl, not -slf4j2-impl
REGISTRY = ("io.apicurio", "apicurio-registry-app", "3.3.3")
FLINK = (  # complete archives without dependencies; the connector is built for 2.2 and runs on 2.3
    ("org.apache.flink", "flink-sql-connector-kafka", "5.0.0-2.2"),
    ("org.apache.flink", "flink-sql-avro-confluent-registry", "2.3.0"),
)
CONNECT = ("org.apache.kafka", "connect-runtime", KAFKA[2])
# The file connectors read and write any file of the account that runs the worker, so Kafka removed them from its path. Only tests fetch them.
CONNECT_FILE = ("org.apache.kafka", "connect-file", KAFKA[2])
STACK = ("kafka", "registry")  # every stack needs these; the others belong to optional parts
_PARALLEL = 8


class DownloadFailed(Stop):
    code = "download-failed"


@dataclass(frozen=True)
class Locked:
    component: str
    sha256: str
    bytes: int
    group: str
    artifact: str
    version: str
    classifier: str
    packaging: str

    @property
    def file_name(self) -> str:
        tail = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{tail}.{self.packaging}"

    def line(self) -> str:
        coordinate = ":".join((self.group, self.artifact, self.version, self.classifier, self.packaging))
        return f"{self.component} {self.sha256} {self.bytes} {coordinate}"


def locked(component: str | None = None) -> list[Locked]:
    jars = []
    for line in LOCK.read_text().splitlines():
        name, sha256, size, coordinate = line.split()
        if component in (None, name):
            jars.append(Locked(name, sha256, int(size), *coordinate.split(":")))
    return jars


def missing(folder: Path, components: Sequence[str] = STACK) -> list[Locked]:
    return [jar for name in components for jar in locked(name) if not _is_there(folder, jar)]


def _is_there(folder: Path, jar: Locked) -> bool:
    if jar.component == "registry" and _registry_folder(folder, jar).exists():
        return True
    file = folder / jar.component / jar.file_name
    return file.exists() and file.stat().st_size == jar.bytes


def fetch(folder: Path, progress: Callable[[int], None], components: Sequence[str] = STACK) -> None:
    """Download missing archives in parallel, check each digest, unpack the registry.

    `progress` gets the number of bytes of each finished file. Raises DownloadFailed.
    """
    to_fetch = missing(folder, components)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        futures = [pool.submit(_fetch_jar, folder, jar) for jar in to_fetch]
        for future in as_completed(futures):
            progress(future.result())
    if "registry" in components:
        registry_home(folder)


def _fetch_jar(folder: Path, jar: Locked) -> int:
    target = folder / jar.component / jar.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = _resolve(folder / "maven", jar)
    except Exception as error:  # jgo and requests raise many kinds of errors
        raise DownloadFailed(
            f"{jar.group}:{jar.artifact}:{jar.version} could not be fetched from Maven Central: {error}. "
            "Behind a proxy set HTTPS_PROXY; then run the same command again"
        ) from error
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != jar.sha256:
        file.unlink()
        raise DownloadFailed(
            f"{jar.file_name} has sha256 {digest} instead of {jar.sha256}, so it was deleted: run the command again to fetch it anew"
        )
    file.replace(target)
    return jar.bytes


def _resolve(cache: Path, jar: Locked) -> Path:
    from jgo.maven import MavenContext  # slow to import, so only when something is downloaded

    component = MavenContext(repo_cache=cache).project(jar.group, jar.artifact).at_version(jar.version)
    return Path(component.artifact(classifier=jar.classifier, packaging=jar.packaging).resolve())


def class_path(folder: Path) -> str:
    return str(folder / "kafka" / "*")


def connect_path(folder: Path) -> str:
    """Only files of the lock: the folder may contain files of an earlier version."""
    return ":".join(str(folder / jar.component / jar.file_name) for jar in locked("connect"))


def _registry_folder(folder: Path, archive: Locked) -> Path:
    return folder / "registry" / f"{archive.artifact}-{archive.version}"


def registry_home(folder: Path) -> Path:
    """The folder of the unpacked registry. The archive is deleted after it is completely unpacked."""
    (archive,) = locked("registry")
    home = _registry_folder(folder, archive)
    if not home.exists():
        staging = home.with_suffix(".part")
        file = folder / "registry" / archive.file_name
        with tarfile.open(file) as tar:
            tar.extractall(staging, filter="data")
        staging.rename(home)
        file.unlink()
    return home


# --- writing the lock ---------------------------------------------------------------------------------------------


def _closure(context: Any, gav: tuple[str, str, str]) -> Iterator[tuple[str, str, str]]:
    from jgo.maven import Model

    component = context.project(gav[0], gav[1]).at_version(gav[2])
    yield gav
    for dependency in Model(component.pom(), context).dependencies()[0]:
        if dependency.scope in ("compile", "runtime") and not dependency.optional:
            yield dependency.groupId, dependency.artifactId, dependency.version


def write_lock(cache: Path) -> None:
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache)
    kafka = [*_closure(context, KAFKA), LOGGING]
    wrong = [gav for gav in kafka if gav[0] == "org.apache.kafka" and gav[2] != KAFKA[2]]
    if wrong:
        raise MillraceError(f"Kafka jars of another version: {wrong}")
    entries = [("kafka", *gav, "", "jar") for gav in kafka] + [("registry", *REGISTRY, "all", "tar.gz")]
    entries += [("flink", *gav, "", "jar") for gav in FLINK]
    entries += [("connect", *gav, "", "jar") for gav in _closure(context, CONNECT) if gav not in kafka]
    entries.append(("connect-file", *CONNECT_FILE, "", "jar"))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        lines = pool.map(lambda item: _lock_line(cache, item), entries)
        LOCK.write_text("\n".join(sorted(lines)) + "\n")


def _lock_line(cache: Path, item: Iterable[str]) -> str:
    component, group, artifact, version, classifier, packaging = item
    jar = Locked(component, "", 0, group, artifact, version, classifier, packaging)
    data = _resolve(cache, jar).read_bytes()
    return Locked(component, hashlib.sha256(data).hexdigest(), len(data), group, artifact, version, classifier, packaging).line()


if __name__ == "__main__":
    write_lock(Path(sys.argv[1]))
