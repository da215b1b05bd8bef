"""A second cluster joins one that is running: its controller becomes a gateway to the first one's."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ipython1.kernel import client

first = Path(os.environ["IPYTHONDIR"])
mec = client.MultiEngineClient()
print(len(mec.get_ids()), "engines")

with tempfile.TemporaryDirectory() as second:
    ini = Path(second) / "ipython1.kernel.ini"
    ini.write_text(f"[controller]\nupstream = {first}/security/ipcontroller-engine.furl\n")
    ipcluster = [sys.executable, "-m", "ipython1.kernel.scripts.ipcluster", "-n", "2"]
    cluster = subprocess.Popen([*ipcluster, f"--ipython-dir={second}"], stdout=subprocess.DEVNULL)

    while len(mec.get_ids()) < 6:
        time.sleep(0.1)
    print(len(mec.get_ids()), "engines, two of them behind a gateway")

    tc = client.TaskClient()
    print(sum(tc.map(lambda x: x**2, range(1000))))

    # The second cluster's own clients use its two engines at the same time.
    own = client.MultiEngineClient(f"{second}/security/ipcontroller-mec.furl")
    mec.push({"answer": 42})
    print(own.pull("answer"))

    cluster.terminate()
    cluster.wait()

while len(mec.get_ids()) > 4:
    time.sleep(0.1)
print(len(mec.get_ids()), "engines")
