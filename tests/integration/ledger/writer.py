"""A process of four writers that race for a budget: one JSON question a line, one answer a line.

Question: {uri, names, kill}. Each name is a charge that one thread tries to reserve. `kill` ends
the process by SIGKILL after a write was taken and before its answer is seen.
"""

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from palimpsest.ledger import Denied, Journal
from palimpsest.storage import S3Store, StoreConfig
from unit.ledger.folder_store import subject, task, training

NOISE, STEPS = "0.65", 30


class FatalStore(S3Store):
    """Dies between a write and its answer."""

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        if super().put_if_absent(uri, data):
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def reserve(store: S3Store, uri: str, name: str) -> bool:
    try:
        Journal(store, uri).reserve(subject(name), task(), training(NOISE, STEPS))
    except Denied:
        return False
    return True


def main() -> None:
    endpoint, access, secret = os.environ["STORE"].split("|")
    config = StoreConfig(endpoint, "us-east-1", True, None, access, secret)
    stores = {False: S3Store(config), True: FatalStore(config)}
    print("ready", flush=True)
    with ThreadPoolExecutor(4) as threads:
        for line in sys.stdin:
            question = json.loads(line)
            store = stores[question["kill"]]
            jobs = {
                name: threads.submit(reserve, store, question["uri"], name)
                for name in question["names"]
            }
            granted = [name for name, job in jobs.items() if job.result()]
            print(json.dumps(granted), flush=True)


if __name__ == "__main__":
    main()
