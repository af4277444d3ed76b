"""Where the device can't be reached: what it was, so that its earlier table is there to plan by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from edgeprune.errors import MissingError
from edgeprune.latency.bench import Bench, settings_of
from edgeprune.latency.store import TableStore
from edgeprune.runtimes.base import SessionSettings
from edgeprune.targets.device import Answer
from edgeprune.targets.target import Fingerprint, Target, find_target


class AbsentDevice:
    """A device that can't be reached: every call raises why. See `targets.device.Device`."""

    def __init__(self, name: str, why: MissingError) -> None:
        self.name = name
        self.why = why

    def call(
        self, function: str, arguments: Mapping[str, Any], files: Mapping[str, bytes | Path], timeout_s: float
    ) -> Answer:
        """Raise `MissingError`, as every method that needs the device."""
        self._refuse()

    def clean(self) -> int:
        """See `call`."""
        self._refuse()

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> AbsentDevice:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _refuse(self) -> NoReturn:
        raise self.why


def absence_of(bench: Bench) -> MissingError | None:
    """Return why a bench's device can't be reached; None where it was there when it was opened."""
    return bench.device.why if isinstance(bench.device, AbsentDevice) else None


def remember(store: TableStore, bench: Bench) -> None:
    """Keep which fingerprint a device has, for when it can't be reached."""
    store.seen(bench.device.name, _request(bench.target, bench.settings), bench.fingerprint())


def absent_bench(
    target_name: str, device: str, precision: str | None, threads: int | None, store: TableStore, why: MissingError
) -> Bench:
    """Return a bench of a device that can't be reached, with the fingerprint that it had.

    That is the one that this device had last with these settings. A device that was never seen from here, because its
    table came from elsewhere, has that of the only table that the settings fit and that is of no other device.

    Raises:
        MissingError: no table fits, or several do; or what this machine needs for the precision is not there.
    """
    target = find_target(target_name)
    settings = settings_of(target, precision, threads)
    request = _request(target, settings)
    found = store.last_seen(device, request)
    if found is None:
        fitting = [one for one in store.fingerprints() if _fits(one, request) and not store.is_of_another(one, device)]
        if len(fitting) > 1:
            raise MissingError(
                f"{why.message}; {len(fitting)} earlier tables fit these settings, and which of them is this device's"
                " is not known",
                remedy=why.remedy,
            ) from why
        if not fitting:
            raise why
        (found,) = fitting
    return Bench(target, AbsentDevice(device, why), settings, fingerprint=found)


def _request(target: Target, settings: SessionSettings) -> dict[str, str]:
    """Return what was asked for, in the words of a fingerprint."""
    return {"runtime": target.runtime, "precision": settings.precision, "threads": str(settings.threads)}


def _fits(fingerprint: Fingerprint, request: Mapping[str, str]) -> bool:
    every_core = request["threads"] == "0"
    return all(
        fingerprint.get(name) == value for name, value in request.items() if not (name == "threads" and every_core)
    )
