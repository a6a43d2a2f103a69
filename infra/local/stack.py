"""The stack as child processes: `up` starts missing processes, `down` stops the processes that this home started."""

from __future__ import annotations

from collections.abc import Sequence

from infra import console, declared
from infra.local import (
    core_servers,
    feature_servers,
    flink,
    home,
    jars,
    java,
    loop_processes,
    processes,
    run_state,
    web,
)
from infra.local.processes import ProcessFailed
from infra.local.started import Started, of_folder, strays
from infra.provision import Provisioned, provision
from infra.settings import StackSettings
from schemas import catalogue
from schemas.chat_topics import CHAT
from schemas.declared.declarations import Declaration
from schemas.topics import TIMELY, VALIDATE
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry

STOP_LIMIT_S = 15.0


def fetch(settings: StackSettings, *, with_features: bool = False, with_connect: bool = False) -> None:
    """Download Kafka and the registry, on request also Flink and Kafka Connect, if they are missing; build the monitor's
    pages.

    Raises DownloadFailed."""
    components = () if settings.bootstrap and settings.registry else jars.STACK
    if with_features:
        components = (*components, "flink")
    if with_connect:
        components = (*components, "connect")
    missing = jars.missing(settings.jars, components)
    if missing:
        total_bytes = sum(jar.bytes for jar in missing)
        with (
            console.step(f"{' and '.join(components)}, {total_bytes / 1e6:.0f} MB from Maven Central"),
            console.download("download", total_bytes) as progress,
        ):
            jars.fetch(settings.jars, progress, components)
    if components:
        java.share_own_classes()
    if with_features and not flink.is_there(settings.home_folder):
        with console.step("Flink's environment, about 300 MB of packages"):
            flink.make_environment(settings.home_folder)
    web.make(settings)


def up(
    settings: StackSettings,
    *,
    with_features: bool = False,
    with_recommendation: bool = False,
    with_training: bool = False,
    with_connect: bool = False,
    with_chat: bool = False,
) -> run_state.State:
    """Start everything that is not running: all servers at the same time, then all loops at the same time.

    One call at a time per home; a second one waits. Raises ProcessFailed; if only workers of declared tasks do not start, after
    everything else was started."""
    wanted = declared.declared(settings)
    known = catalogue.with_declared(wanted)  # raises before anything starts
    home.mark(settings.home_folder)
    with run_state.locked(settings.run_folder):
        fetch(settings, with_features=with_features, with_connect=with_connect)
        if with_chat:
            core_servers.fetch_model(settings)
        running = run_state.read(settings.run_folder)
        if stopped := _stop_strays(settings, running):
            console.out.print(f"  stopped processes that a killed keeper had left: {', '.join(stopped)}")
        core_servers.kafka_and_registry(settings, running)
        topics(running, known)
        _follow(settings, running, wanted)
        if core_servers.mlflow_server(settings, running):
            loop_processes.start_reconcile(settings, running)
        if with_features:
            feature_servers.servers(settings, running)
        more = [
            *((CHAT.group,) if with_chat else ()),
            *(loop_processes.RECOMMENDATION if with_recommendation else ()),
            *(loop_processes.TRAINING if with_training else ()),
        ]
        failures = _loops(settings, running, with_features, more)
        if with_features:
            feature_servers.jobs(settings, running, loop_processes.process_environment(settings, running))
        if with_recommendation:
            loop_processes.start_shop(settings, running)
        if with_connect:
            core_servers.kafka_connect(settings, running)
        if with_chat:
            core_servers.door(settings, running, loop_processes.process_environment(settings, running))
        if settings.monitor:
            monitor(settings, running)
        if failures:
            raise ProcessFailed("\n".join(failures))
        return running


def _follow(settings: StackSettings, running: run_state.State, wanted: Sequence[Declaration]) -> None:
    """From now on processes follow these declared tasks. Workers of tasks that changed stop, and start again if they are still
    declared."""
    stale = declared.changed(declared.in_force(settings), wanted)
    loop_processes.stop_workers(settings, running, stale)
    if gone := [name for name in stale if name not in [task.name for task in wanted]]:
        console.out.print(f"  no longer declared: {', '.join(gone)}; their topics are kept")
    declared.follow(settings, wanted)


def topics(running: run_state.State, known: catalogue.Catalogue) -> Provisioned:
    """Create missing topics and register missing schemas; print how the broker differs from the catalogue."""
    with console.step("topics and schemas") as remark:
        admin, registry = KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap)), Registry(running.registry)
        done = provision(admin, registry, known.topics, known.consumptions)
        remark(f"{len(done.created_topics)} topics created, {len(done.registered)} schemas registered")
    for difference in done.differences:
        console.err.print(f"  [yellow]![/] {console.escape(difference)}")
    return done


def _loops(settings: StackSettings, running: run_state.State, with_features: bool, more: Sequence[str]) -> list[str]:
    """Start every process first, then wait for each. Returns why workers of declared tasks did not start; what other people declared
    does not keep the rest from running. Raises ProcessFailed for any other process. more: entries beside those of
    MILLRACE_PROCESSES."""
    words = settings.processes.split()
    if with_features:
        words += [f"{VALIDATE.group}+{TIMELY.group}", *feature_servers.LOOPS]
    words += [name for task in catalogue.catalogue().declared for name in declared.processes(task)]
    words += [names for names in more if not loop_processes.named(names, words)]
    waits, failures = [], []
    for names in words:
        for slot in range(loop_processes.copies(settings, names)):
            title = names.replace("+", ", ")
            title = f"{title} {slot}" if slot else title
            waits.append((names, title, loop_processes.start(settings, running, names, slot)))
    for names, title, wait in waits:
        if wait is None:
            continue
        try:
            with console.step(title):
                wait()
        except ProcessFailed as error:
            if not (task := declared.owner(names)):
                raise
            failures.append(f"{error}. Mend its declaration and run `./millrace up`, or run `./millrace tasks remove {task}`")
    return failures


def monitor(settings: StackSettings, running: run_state.State) -> Started:
    """Raises BadSettings if its packages are missing, ProcessFailed if it does not start."""
    with console.step("monitor") as remark:
        environment = {**loop_processes.process_environment(settings, running), "MILLRACE_HOME": settings.home}
        started = web.start(settings, running, environment)
        web.wait(started)
        remark(started.address)
    return started


def down(settings: StackSettings) -> list[str]:
    """Stop the processes that this home started, the last first, and those that killed keepers left; returns their names. Data
    is kept.

    Raises StateUnreadable, but only after it has stopped everything that runs."""
    run = settings.run_folder
    if not run.exists():
        return []
    with run_state.locked(run):
        try:
            running = run_state.read(run)
        except run_state.StateUnreadable:
            processes.stop_all(lambda: of_folder(run), STOP_LIMIT_S)
            raise
        stopped = [process.name for process in running.processes if process.alive()] + _stop_strays(settings, running)
        for process in reversed(running.processes):
            processes.stop(process)
        # Names and addresses stay in the file, so that `up` uses the same ports again.
        return list(dict.fromkeys(stopped))


def _stop_strays(settings: StackSettings, running: run_state.State) -> list[str]:
    """Stop processes of this home that have no keeper any more; returns their names.

    Otherwise two processes of one group would run, one of them perhaps with old code."""
    names = sorted(set(strays(settings.run_folder, running.processes).values()))
    if names:
        processes.stop_all(lambda: strays(settings.run_folder, running.processes), STOP_LIMIT_S)
    return names
