import subprocess
import sys

from vlseg.deploy.facts import peak_rss_mib


def test_the_peak_is_of_this_process_and_not_of_its_parent():
    held = bytearray(400 << 20)
    held[::4096] = b"x" * len(held[::4096])
    words = "from vlseg.deploy.facts import peak_rss_mib; print(peak_rss_mib())"
    said = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert float(said.stdout) < 200 < 400 < (peak_rss_mib() or 0)
