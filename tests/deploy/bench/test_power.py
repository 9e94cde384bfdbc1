"""Meters against programs that print what the real ones do."""

import os
from time import perf_counter, sleep

import pytest

from vlseg.deploy.bench import device, power
from vlseg.deploy.bench.power import energy, find_meter, from_smi, from_tegrastats

ORIN = (
    "11-26-2026 10:00:00 RAM 3218/7620MB (lfb 2x4MB) SWAP 0/3810MB CPU [12%@1510,8%@1510,off,off,3%@729,2%@729] "
    "EMC_FREQ 2%@2133 GR3D_FREQ 71%@[611] cpu@48.6C soc2@47.1C gpu@48.2C tj@49.5C soc0@47.9C "
    "VDD_IN 7320mW/6890mW VDD_CPU_GPU_CV 2110mW/1900mW VDD_SOC 1500mW/1480mW"
)


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A PATH with nothing but the shell's own tools, and a folder on it to put programs in."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    return folder


def test_a_line_of_tegrastats():
    reading = from_tegrastats(ORIN)
    assert (reading.watts, reading.mhz, reading.celsius) == (7.32, 611, 49.5)
    assert from_tegrastats("tegrastats: usage") is None


def test_an_older_line_of_tegrastats():
    reading = from_tegrastats("RAM 1/2MB GR3D_FREQ 99%@921 PLL@31C AO@36.5C POM_5V_IN 4560/4410 POM_5V_GPU 1/1")
    assert (reading.watts, reading.mhz, reading.celsius) == (4.56, 921, 36.5)


def test_a_line_of_nvidia_smi():
    reading = from_smi("215.32, 1725, 68, 0x0000000000000004\n")
    assert (reading.watts, reading.mhz, reading.celsius, reading.held_by) == (215.32, 1725, 68, ("power cap",))
    # idle and clocks set by the user hold nothing down
    assert from_smi("30.1, 210, 40, 0x0000000000000003").held_by == ()
    assert from_smi("[N/A], 1410, 55, [N/A]").watts is None
    assert from_smi("Field is not valid") is None


def test_nothing_tells_here(bare):
    assert find_meter() is None and device.own_gpu_mib() is None and device.power_mode() is None
    assert set(device.gpu_clocks().values()) == {None}


def test_energy_is_power_times_time_over_images(bare, monkeypatch):
    program(bare, "tegrastats", "while true; do echo 'VDD_IN 8000mW/8000mW GR3D_FREQ 9%@[600]'; sleep 0.02; done")
    calls = []
    meter = find_meter()
    assert meter.source == "tegrastats"
    with meter:
        sleep(0.1)
        start = perf_counter()
        found = energy(lambda: (calls.append(1), sleep(0.02)), 4, meter, seconds=0.4)
        took = perf_counter() - start
    assert found["watts"] == 8.0
    assert 8000 * 0.4 / (4 * len(calls)) <= found["mj_per_image"] <= 8000 * took / (4 * len(calls))


def test_a_meter_that_says_nothing_gives_nothing(bare):
    program(bare, "nvidia-smi", "echo 'Field is not a valid field'")
    with find_meter() as meter:
        assert energy(lambda: sleep(0.01), 1, meter, seconds=0.05) == {"watts": None, "mj_per_image": None}


def test_rows_carry_watts_where_the_device_tells(bare, toy_bundle, monkeypatch):
    from vlseg.deploy.bench.plan import Plan
    from vlseg.deploy.bench.run import Extras, bench

    program(bare, "tegrastats", "while true; do echo 'VDD_IN 5000mW/5000mW'; sleep 0.02; done")
    monkeypatch.setattr(energy, "__defaults__", (0.2,))
    report = bench([toy_bundle], plan=Plan(repeats=1, warmup=0), extras=Extras(cold=False))
    told = {row["stage"]: row["watts"] for row in report["rows"]}
    assert told["engine"] == told["end_to_end"] == 5.0 and told["image"] is None
    assert all(row["mj_per_image"] > 0 for row in report["rows"] if row["watts"])


def test_gpu_memory_of_this_process(bare):
    program(bare, "nvidia-smi", f"echo '{os.getpid()}, 812'; echo '1, 4000'")
    assert device.own_gpu_mib() == 812


def test_the_power_mode_of_a_jetson(bare):
    program(bare, "nvpmodel", "echo 'NV Power Mode: MAXN_SUPER'; echo 2")
    assert device.power_mode() == "MAXN_SUPER"


def test_clocks_of_the_processor(tmp_path):
    for i, khz in enumerate((1000000, 3000000)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{i}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    state = device.state(tmp_path)
    assert state["cpu_mhz"] == 2000 and state["governor"] == "schedutil"
    assert device.cpu_mhz(tmp_path / "nowhere") is None and device.throttles(tmp_path) is None
    assert power.PERIOD_MS < 1000 * power.SECONDS
