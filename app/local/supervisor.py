"""Keeps services running: starts dead services again, keeps pids so that a later supervisor can adopt the processes."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from app.errors import IotStreamError
from app.local.hold import is_held
from app.local.layout import Layout
from app.local.restarts import RestartAction, Restarts
from app.local.servers.common import write_private
from app.local.servers.process import ChildProcess


class Service(Protocol):
    """A server or one of our programs."""

    @property
    def process(self) -> ChildProcess:
        """The process of the service, started or not."""

    def start(self) -> None:
        """Start the service unless it runs. Raises PermanentError when it cannot be started."""

    def ready(self) -> bool:
        """Whether the service does its job now."""

    def wait_ready(self, timeout: float = ...) -> None:
        """Return once the service does its job. Raises TransientError after `timeout` seconds, or when it died."""

    def stop(self, deadline: float = ...) -> bool:
        """Stop the service, by SIGKILL after `deadline` seconds. True if it ended by itself."""


class Supervisor:
    """The services that were started, by name. One lock: bring-up, ticks and the stop come from different threads."""

    def __init__(self, layout: Layout, say: Callable[[str], None]) -> None:
        """`say` gets lines for a person."""
        self._layout, self._say = layout, say
        self.services: dict[str, Service] = {}
        self._restarts: dict[str, Restarts] = {}
        self._lock = threading.RLock()
        self._stopping = False

    def adopt(self, services: Mapping[str, Service]) -> set[str]:
        """Take over those of `services` that an earlier supervisor left running; returns the names of all that are
        supervised.
        """
        known = self._layout.read_json(self._layout.processes)
        for name, service in services.items():
            entry = known.get(name)
            if entry and service.process.adopt(int(entry["pid"]), float(entry["created"])):
                self._add(name, service, int(entry["restarts"]))
        return set(self.services)

    def start(self, name: str, service: Service) -> None:
        """Start a service unless it runs, and watch it from now on; nothing is done once `stop` was called. Raises what
        the service's start raises.
        """
        if self._stopping or name in self.services:
            return
        service.start()
        with self._lock:
            if self._stopping:  # asked to stop while the service started
                service.stop()
                return
            self._add(name, service, 0)
            self.save()

    def _add(self, name: str, service: Service, restarts: int) -> None:
        self.services[name] = service
        self._restarts[name] = Restarts(count=restarts, started_at=time.monotonic())

    def tick(self) -> None:
        """Look at every service once, and start again what is due. Blocks only while a worker that a command holds
        finishes its work.
        """
        with self._lock:
            if self._stopping:
                return
            held = {"worker"} if is_held(self._layout) else set()
            looks = {name: self._hold if name in held else self._look_at for name in self.services}
            changed = [name for name, look in looks.items() if look(name)]
            if changed:
                self.save()

    def _look_at(self, name: str) -> bool:
        service, restarts, now = self.services[name], self._restarts[name], time.monotonic()
        match restarts.decide(service.process.alive(), now):
            case RestartAction.NOTHING:
                return False
            case RestartAction.REPORT:
                code = service.process.exit_code
                said = "" if code is None else f" with {f'signal {-code}' if code < 0 else f'exit code {code}'}"
                self._say(f"{name} ended{said}; starting it again in {restarts.wait:g} s ({service.process.log})")
            case RestartAction.START:
                try:
                    service.start()
                except IotStreamError as error:
                    restarts.failed(now)
                    self._say(f"{name}: {error}; next try in {restarts.wait:g} s")
                else:
                    restarts.started(now)
                    self._say(f"{name} started again")
        return True

    def _hold(self, name: str) -> bool:
        """Stop a service, and leave it stopped as long as a command holds it; True when it was running."""
        service = self.services[name]
        if not service.process.alive():
            return False
        self._say(f"{name} is stopped for a command, which holds {self._layout.hold}")
        if not service.stop():
            self._say(f"{name} did not stop in time and was killed")
        self._restarts[name].held()
        return True

    def retry_now(self) -> None:
        """Start dead services at the next tick, whatever their wait."""
        with self._lock:
            for restarts in self._restarts.values():
                restarts.retry_now(time.monotonic())

    def unwell(self) -> list[str]:
        """Names of services that should run and do not, in the order in which they were started."""
        return [name for name, service in list(self.services.items()) if not service.process.alive()]

    def save(self) -> None:
        """Write pids.json and processes.json of what runs, for a later supervisor."""
        alive = {name: service for name, service in self.services.items() if service.process.alive()}
        details = {
            name: {"pid": s.process.pid, "created": s.process.created, "restarts": self._restarts[name].count}
            for name, s in alive.items()
        }
        write_private(self._layout.processes, json.dumps(details, indent=1) + "\n")
        self._layout.write_pids({name: service.process.pid for name, service in alive.items()})

    def stop(self, order: Iterable[str]) -> None:
        """Stop all services named in `order`, one after another, and start nothing any more. A service that does not
        end in time is killed, and the kill is reported.
        """
        self._stopping = True  # before the lock: a bring-up under way must not start the next service
        with self._lock:
            for name in order:
                service = self.services.pop(name, None)
                if service is not None and service.process.alive() and not service.stop():
                    self._say(f"{name} did not stop in time and was killed")
