"Ctrl-C or SIGTERM to the command alone ends every process that the command started."

import signal, subprocess, sys, time
from pathlib import Path

import psutil
import pytest

POOL = """
import sys, time
from pathlib import Path
from globe.processes import in_processes

def work(folder):
    Path(folder, "started").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        Path(folder, "saved").touch()
        raise

if __name__ == "__main__":
    in_processes(work, sys.argv[1:])
"""
LAUNCHED = """
import sys
from globe.training.launch import _ends_on_sigterm, _exit_code

child = "import sys, time; open(sys.argv[1] + '/started', 'w'); time.sleep(60)"
parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
with _ends_on_sigterm():
    _exit_code([sys.executable, "-c", parent, sys.argv[1]])
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script,folders", [(POOL, ("a", "b")), (LAUNCHED, ("a",))], ids=["pool", "launcher"])
def test_all_processes_end(tmp_path, script, folders, how):
    (tmp_path / "run.py").write_text(script)
    for name in folders:
        (tmp_path / name).mkdir()
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    arguments = [sys.executable, "run.py", *folders]
    run = subprocess.Popen(arguments, cwd=tmp_path, preexec_fn=listen, stderr=subprocess.DEVNULL)
    until = time.time() + 60
    while not all((tmp_path / name / "started").exists() for name in folders):
        assert time.time() < until and run.poll() is None
        time.sleep(0.05)
    started = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(how)
    assert run.wait(timeout=30) != 0
    assert not psutil.wait_procs(started, timeout=10)[1]
    interrupted = script is POOL and how == signal.SIGINT
    assert not interrupted or all(Path(tmp_path, name, "saved").exists() for name in folders)
