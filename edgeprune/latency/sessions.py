"""Several networks, each timed in some of several sessions: one latency for each.

In one session, networks of similar cost compare to a fraction of a per cent, whatever the machine does, because they
take turns every few milliseconds. Their ratio to a network of quite another cost, such as the dense one, is less stable
from session to session: what disturbs does not slow both alike. So a session's networks share an error, which the other
sessions tell from the networks' own times.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

ALONE = 0.007
"""Relative error of one network's time within a session ..."""

SHARED = 0.03
"""... and of all the session's times together, as a prior; only how these two compare matters."""

K = TypeVar("K", bound=Hashable)


def reconciled(sessions: Sequence[Mapping[K, float]]) -> dict[K, float]:
    """Return each network's latency, in ms, from sessions of network -> ms.

    Least squares on logarithms: time = network + session, the sessions' errors small and of mean zero.
    """
    networks = list(dict.fromkeys(name for session in sessions for name in session))
    rows, right = [], []
    for number, session in enumerate(sessions):
        for name, ms in session.items():
            row = np.zeros(len(networks) + len(sessions))
            row[networks.index(name)] = row[len(networks) + number] = 1 / ALONE
            rows.append(row)
            right.append(np.log(ms) / ALONE)
        prior = np.zeros(len(networks) + len(sessions))
        prior[len(networks) + number] = 1 / SHARED
        rows.append(prior)
        right.append(0.0)
    solution = np.linalg.lstsq(np.array(rows), np.array(right))[0]
    return {name: float(np.exp(solution[at])) for at, name in enumerate(networks)}
