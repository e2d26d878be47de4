"""Load of the machine during a run, under the names that MLflow's own monitor uses."""

import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pynvml

from flows.records.machine import gpu_handles

INTERVAL_SECONDS = 10.0


class SystemMetrics:
    """A thread that reports the machine's load every ten seconds, and once more when it is stopped."""

    def __init__(self, report: Callable[[int, dict[str, float]], None]) -> None:
        """`report` is called with the sample's number and its metrics, from the thread."""
        self._report = report
        self._received, self._sent = self._network()
        self._gpus = gpu_handles()
        self._stopped = threading.Event()
        psutil.cpu_percent()  # the first reading starts the interval and is meaningless
        self._thread = threading.Thread(target=self._sample_until_stopped, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Report a last sample and end the thread."""
        self._stopped.set()
        self._thread.join()

    def _sample_until_stopped(self) -> None:
        number = 0
        while True:
            stopped = self._stopped.wait(INTERVAL_SECONDS)
            self._report(number, self._sample())
            number += 1
            if stopped:
                return

    @staticmethod
    def _network() -> tuple[float, float]:
        counters = psutil.net_io_counters()
        return (counters.bytes_recv / 1e6, counters.bytes_sent / 1e6) if counters else (0.0, 0.0)

    def _sample(self) -> dict[str, float]:
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(Path.cwd()))
        received, sent = self._network()
        sample = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
            "network_receive_megabytes": received - self._received,
            "network_transmit_megabytes": sent - self._sent,
        }
        for number, handle in enumerate(self._gpus):
            sample.update({f"gpu_{number}_{name}": value for name, value in _gpu_sample(handle).items()})
        return {f"system/{name}": value for name, value in sample.items()}


def _gpu_sample(handle: object) -> dict[str, float]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        power = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
        return {
            "memory_usage_percentage": memory.used / memory.total * 100,
            "memory_usage_megabytes": memory.used / 1e6,
            "utilization_percentage": float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "power_usage_watts": power,
            "power_usage_percentage": power / (pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000) * 100,
        }
    except pynvml.NVMLError:  # a partitioned GPU reports no utilisation or power
        return {}
