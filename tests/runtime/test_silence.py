"""Tests for the absence of side effects: network, files, output, threads, changed settings.

Each test runs a process that does everything that a service does. Beside it, another test shows
that a process with the side effect is detected.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest

from tiny_bundle import make_tiny

WORK = """
import pickle, sys
import numpy as np
import embedrt

with embedrt.Embedder.load(sys.argv[1], verify="sha256") as embedder:
    while not embedder._engine._sessions.loading:  # the graph for all cores is loaded aside
        embedder.encode("one")
    embedder._engine._sessions.loading.result()
    for _ in range(4):  # the first after a pause, and so on one core
        embedder.encode("one")
    documents = embedder.encode_document(["one", "two texts", "", "one"] * 50)
    queries = embedder.encode_query(["one"], precision="float16", truncate_dim=5)
    assert sum(map(len, embedder.embed_stream(str(n) for n in range(300)))) == 300
    embedder.semantic_search(documents[:2], documents)
    embedder.count_tokens(["one"])
    pickle.loads(pickle.dumps(embedder)).encode("one")  # and is never closed
if "digest" in sys.argv:
    print(documents.tobytes().hex()[:64])
"""

# Audit hooks see all Python code, whatever module it comes from. Argument 1 is the bundle.
AUDIT = """
import os, sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "os.utime", "os.setxattr", "tempfile.", "shutil.", "sqlite3.",
    "socket.", "urllib.", "http.", "ftplib.", "smtplib.",
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.",
    "syslog.", "webbrowser.", "os.putenv", "os.unsetenv", "signal.",
)
# Ours are documented; numpy sets its own while it is imported.
NUMPYS = {b"OPENBLAS_MAIN_FREE", b"GOTOBLAS_MAIN_FREE"}
OURS = {b"ORT_DISABLE_TELEMETRY", b"TOKENIZERS_PARALLELISM"}

def watch(event, arguments):
    writes = event == "open" and bool((arguments[2] or 0) & WRITING)
    known = event in ("os.putenv", "os.unsetenv") and arguments[0] in OURS | NUMPYS
    if (writes or event.startswith(CHANGES)) and not known:
        os.write(2, f"forbidden: {event} {arguments}\\n".encode())

sys.addaudithook(watch)
"""

# Settings of the process, after the libraries that embedrt uses have been imported.
SETTINGS = """
import gc, locale, logging, os, random, signal, sys, threading, warnings
import numpy, onnxruntime, tokenizers

def settings():
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    status = open("/proc/self/status").read()
    return {
        # Modules of Python's own make a logger when they are imported; none sets it up.
        "loggers": [
            (logger.name, list(logger.handlers), logger.level, list(logger.filters))
            for logger in loggers
            if getattr(logger, "level", 0) or getattr(logger, "handlers", ())
        ],
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "numpy": numpy.geterr(),
        "chance": [random.getstate(), str(numpy.random.get_state())],
        "locale": locale.setlocale(locale.LC_ALL),
        "hooks": [sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook],
        "streams": [sys.stdout, sys.stderr, sys.stdin],
        "interpreter": [sys.getrecursionlimit(), sys.getswitchinterval(), gc.get_threshold()],
        "affinity": os.sched_getaffinity(0),
        "folder": [os.getcwd(), status.partition("Umask:")[2].split()[0]],
    }

before = settings()
"""
UNCHANGED = """
after = settings()
changed = [name for name in before if before[name] != after[name]]
assert not changed, f"changed: {changed}"
"""

# In a new network namespace without any connection, the kernel counts attempts, also those of
# native code in child processes, until the last process has ended.
COUNT_TRIES = """
"$@" || exit
awk '$1 == "Ip:" && ++row == 1 { for (i = 2; i <= NF; i++) name[i] = $i }
     $1 == "Ip:" && row == 2 { for (i = 3; i <= NF; i++) if ($i + 0 && name[i] != "DefaultTTL")
         print "tried: " name[i] " " $i }' /proc/self/net/snmp
"""

NATIVE_TRY = """
import ctypes, socket, struct

c = ctypes.CDLL(None)
descriptor = c.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4B8x", 80, 192, 0, 2, 1)
c.connect(descriptor, address, len(address))
"""

# All mounts become read-only except the kernel's own, which store nothing.
READ_ONLY = """
mount --make-rprivate / || exit 77
while read -r _ _ _ _ point _; do
    case "$point" in /proc*|/sys*|/dev|/dev/pts*|/dev/mqueue*) continue ;; esac
    mount -o remount,bind,ro "$point" 2>/dev/null
done < /proc/self/mountinfo
for folder in "$PWD" "$HOME" "${TMPDIR:-/tmp}" /dev/shm; do
    if touch "$folder/x" 2>/dev/null; then echo "$folder can be written to"; exit 78; fi
done
exec "$@"
"""

INTERPRETERS = {
    "plain": [],
    "warnings are errors": ["-W", "error"],
    "development mode": ["-X", "dev", "-W", "error"],
    "isolated": ["-I", "-W", "error"],
    "without asserts": ["-OO", "-W", "error"],
    "without asserts or site": ["-I", "-OO", "-X", "dev", "-W", "error"],
}


def environment(home: Path, changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return an environment without the tests' variables and with observable folders.

    None in `changes` removes a variable.
    """
    names = ("PATH", "PYTHONPATH", "EMBEDRT_KERNELS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    settings = {"HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "LC_ALL": "C.UTF-8"}
    quiet = {"PYTHONDONTWRITEBYTECODE": "1"}  # bytecode is written by Python, not by embedrt
    found = {**kept, **settings, **quiet, **changes}
    return {name: setting for name, setting in found.items() if setting is not None}


def run(
    home: Path,
    *command: str | Path,
    wrapper: Sequence[str] = (),
    given: bytes = b"",
    changes: Mapping[str, str | None] = MappingProxyType({}),
) -> subprocess.CompletedProcess[bytes]:
    """Run Python in folders below `home`, with changes to the environment."""
    for name in ("home", "tmp", "here"):
        (home / name).mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [*wrapper, sys.executable, *map(str, command)],
        input=given,
        capture_output=True,
        cwd=home / "here",
        env=environment(home, changes),
        check=False,
        timeout=300,
    )


def silent(process: subprocess.CompletedProcess[bytes]) -> None:
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")


@cache
def unshared(what: str) -> tuple[str, ...]:
    """Return a command that runs a process in a new namespace; skip without the permission to."""
    root = () if os.geteuid() == 0 else ("--map-root-user",)
    command = ("unshare", *root, f"--{what}")
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespaces for us here: {error}")
    return command


def contents(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and modification time of every file and folder below a folder."""
    stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


class TestWords:
    @pytest.mark.parametrize("flags", INTERPRETERS.values(), ids=INTERPRETERS)
    def test_none(self, tiny: Path, tmp_path: Path, flags: list[str]) -> None:
        silent(run(tmp_path, *flags, "-c", WORK, tiny))

    def test_none_in_development_mode_by_the_environment(
        self, minilm: Path, tmp_path: Path
    ) -> None:
        changes = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}
        silent(run(tmp_path, "-c", WORK, minilm, changes=changes))

    def test_none_with_logging_of_everything(self, tiny: Path, tmp_path: Path) -> None:
        everything = "import logging; logging.basicConfig(level=0); logging.captureWarnings(True)\n"
        silent(run(tmp_path, "-c", everything + WORK, tiny))

    def test_the_same_bytes_without_asserts(self, minilm: Path, tmp_path: Path) -> None:
        plain = run(tmp_path, "-c", WORK, minilm, "digest")
        bare = run(tmp_path, "-I", "-OO", "-c", WORK, minilm, "digest")
        assert len(plain.stdout) == 65
        assert (bare.returncode, bare.stdout) == (0, plain.stdout)

    @pytest.mark.parametrize("word", ["import warnings; warnings.warn('a')", "open('x', 'w')"])
    def test_output_is_detected(self, tmp_path: Path, word: str) -> None:
        assert run(tmp_path, "-X", "dev", "-W", "error", "-c", word).stderr


class TestFiles:
    def test_none_are_written(self, tmp_path: Path) -> None:
        bundle = make_tiny(tmp_path / "tiny")
        home = tmp_path / "user"
        run(home, "-c", "")
        before = contents(tmp_path)
        silent(run(home, "-c", AUDIT + WORK, bundle))
        assert contents(tmp_path) == before

    def test_none_are_written_by_native_code(self, minilm: Path, tmp_path: Path) -> None:
        run(tmp_path, "-c", "")
        before = contents(tmp_path), contents(minilm)
        silent(run(tmp_path, "-c", WORK, minilm))
        assert (contents(tmp_path), contents(minilm)) == before

    @pytest.mark.parametrize("command", ["encode", "info", "verify"])
    def test_none_are_written_by_commands(self, tmp_path: Path, command: str) -> None:
        bundle = make_tiny(tmp_path / "tiny")
        home = tmp_path / "user"
        run(home, "-c", "")
        before = contents(tmp_path)
        process = run(home, "-W", "error", "-m", "embedrt", command, bundle, given=b"w1\n")
        assert (process.returncode, process.stderr) == (0, b"")
        assert contents(tmp_path) == before

    def test_encode_writes_its_output_and_nothing_else(self, tmp_path: Path) -> None:
        bundle = make_tiny(tmp_path / "tiny")
        home = tmp_path / "user"
        run(home, "-c", "")
        before = contents(tmp_path)
        silent(run(home, "-m", "embedrt", "encode", bundle, "--output", "x.npy", given=b"w1\n"))
        assert contents(tmp_path).keys() - before.keys() == {"user/here/x.npy"}

    @pytest.mark.parametrize(
        "attempt",
        [
            "open(sys.argv[1] + '/x', 'w')",
            "open(sys.argv[1] + '/x', 'ab')",
            "os.open(sys.argv[1] + '/x', os.O_RDWR | os.O_CREAT)",
            "os.mkdir(sys.argv[1] + '/x')",
            "import tempfile; tempfile.TemporaryFile()",
            "import socket; socket.socket()",
            "import subprocess; subprocess.run(['true'])",
            "os.fork() or os._exit(0)",
            "import os; os.environ['A'] = 'b'",
        ],
    )
    def test_an_attempt_is_detected(self, tmp_path: Path, attempt: str) -> None:
        process = run(tmp_path, "-c", f"{AUDIT}\n{attempt}", tmp_path)
        assert process.returncode == 0
        assert process.stderr.startswith(b"forbidden: ")


class TestNetwork:
    def test_no_attempts(self, minilm: Path, tmp_path: Path) -> None:
        silent(counted(tmp_path, WORK, minilm))

    @pytest.mark.parametrize(
        "attempt",
        [
            "import socket; socket.socket().connect_ex(('192.0.2.1', 80))",
            "import socket; socket.socket().connect_ex(('127.0.0.1', 80))",
            "import socket; socket.socket(type=socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 53))",
            NATIVE_TRY,
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {NATIVE_TRY!r}])",
        ],
    )
    def test_an_attempt_is_counted(self, tmp_path: Path, attempt: str) -> None:
        process = counted(tmp_path, attempt)
        assert (process.returncode, process.stderr) == (0, b"")
        assert process.stdout.startswith(b"tried: OutNoRoutes ")


def counted(home: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run code without a network; stdout contains the number of attempts."""
    wrapper = (*unshared("net"), "sh", "-c", COUNT_TRIES, "sh")
    return run(home, "-c", code, *arguments, wrapper=wrapper)


class TestPlaces:
    def test_read_only(self, minilm: Path, tmp_path: Path) -> None:
        silent(read_only(tmp_path, "-W", "error", "-c", WORK, minilm))

    @pytest.mark.parametrize("command", ["encode", "info", "verify"])
    def test_commands_read_only(self, minilm: Path, tmp_path: Path, command: str) -> None:
        process = read_only(tmp_path, "-m", "embedrt", command, minilm, given=b"one\n")
        assert (process.returncode, process.stderr) == (0, b"")
        assert process.stdout

    def test_read_only_is_read_only(self, tmp_path: Path) -> None:
        process = read_only(tmp_path, "-c", "open('x', 'w')")
        assert b"Read-only file system" in process.stderr

    @pytest.mark.parametrize(
        "changes",
        [
            {"HOME": None},
            {"HOME": "/nonexistent"},
            {"TMPDIR": "/nonexistent"},
            {"PATH": None},
            {"HOME": None, "TMPDIR": "/nonexistent", "PATH": None, "LC_ALL": None},
        ],
        ids=str,
    )
    def test_without_home_or_temporary_folder(
        self, tiny: Path, tmp_path: Path, changes: dict[str, str | None]
    ) -> None:
        silent(run(tmp_path, "-W", "error", "-c", WORK, tiny, changes=changes))

    def test_in_a_deleted_folder(self, tiny: Path, tmp_path: Path) -> None:
        gone = "import os; os.mkdir('x'); os.chdir('x'); os.rmdir('../x')\n"
        silent(run(tmp_path, "-W", "error", "-c", gone + WORK, tiny))
        process = run(tmp_path, "-c", gone + "os.getcwd()")
        assert b"FileNotFoundError" in process.stderr


def read_only(
    home: Path, *command: str | Path, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run Python with all file systems read-only."""
    wrapper = (*unshared("mount"), "sh", "-c", READ_ONLY, "sh")
    process = run(home, *command, wrapper=wrapper, given=given)
    if process.returncode in (77, 78):
        pytest.skip(f"mounts cannot be made read-only: {process.stdout + process.stderr!r}")
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestProcess:
    def test_settings_are_unchanged(self, tiny: Path, tmp_path: Path) -> None:
        silent(run(tmp_path, "-c", SETTINGS + WORK + UNCHANGED, tiny))

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ("logging.basicConfig()", "loggers"),
            ("logging.getLogger('embedrt').setLevel(10)", "loggers"),
            ("warnings.simplefilter('ignore')", "warnings"),
            ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signals"),
            ("numpy.seterr(all='ignore')", "numpy"),
            ("random.random()", "chance"),
            ("numpy.random.rand()", "chance"),
            ("os.umask(0o77)", "folder"),
        ],
    )
    def test_a_change_is_detected(self, tmp_path: Path, change: str, name: str) -> None:
        process = run(tmp_path, "-c", f"{SETTINGS}\n{change}\n{UNCHANGED}")
        assert f"changed: ['{name}']".encode() in process.stderr

    def test_no_thread_remains_after_close(self, minilm: Path, tmp_path: Path) -> None:
        silent(run(tmp_path, "-c", THREADS, minilm))

    def test_a_remaining_thread_is_detected(self, minilm: Path, tmp_path: Path) -> None:
        program = THREADS.replace("embedder.close()", "").replace(
            "monotonic() + 60", "monotonic() + 1"
        )
        process = run(tmp_path, "-c", program, minilm)
        assert b"threads left" in process.stderr


# Native threads, too. The first embedder starts threads that the libraries share and keep.
THREADS = """
import os, sys, threading, time
from embedrt import Embedder

def work():
    embedder = Embedder.load(sys.argv[1], threads=3)
    while not embedder._engine._sessions.loading:  # the graph for all cores is loaded aside
        embedder.encode("one")
    embedder._engine._sessions.loading.result()
    for _ in range(4):  # the first after a pause, and so on one core
        embedder.encode("one")
    embedder.encode([f"text {number}" * number for number in range(99)])
    return embedder

def threads():
    return len(os.listdir("/proc/self/task"))

embedder = work()
embedder.close()
del embedder
while len(threading.enumerate()) > 1:
    time.sleep(0.01)
time.sleep(0.3)  # for native threads, which nothing lists
before = threads()
embedder = work()
embedder.close()
deadline = time.monotonic() + 60
while threads() > before and time.monotonic() < deadline:
    time.sleep(0.01)
left = threads() - before
if left > 0 or len(threading.enumerate()) > 1:
    print(left, "threads left", threading.enumerate(), file=sys.stderr)
embedder.close()
os._exit(0)
"""


LINES = "naïve café\nनमस्ते दुनिया\n你好世界\n👋🏽\n"
ASCII: dict[str, str | None] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class TestLocale:
    """Input and output are UTF-8, whatever the locale."""

    def test_the_locale_is_ascii(self, tmp_path: Path) -> None:
        process = run(tmp_path, "-c", "print('\\u00e9')", changes=ASCII)
        assert b"UnicodeEncodeError" in process.stderr

    @pytest.mark.parametrize("output", [[], ["--output", "väctors.jsonl"]])
    def test_encode(self, minilm: Path, tmp_path: Path, output: list[str]) -> None:
        expected = self.embedrt(tmp_path, "encode", minilm, "-", *output)
        written = tmp_path / "here" / "väctors.jsonl"
        if output:
            expected = written.read_bytes()
            written.unlink()
        found = self.embedrt(tmp_path, "encode", minilm, "-", *output, changes=ASCII)
        if output:
            found = written.read_bytes()
        assert expected.count(b"\n") == 4
        assert found == expected

    @pytest.mark.parametrize("query", ["你好", "naïve", "cafe"])
    def test_search(self, minilm: Path, tmp_path: Path, query: str) -> None:
        arguments = ("search", minilm, "--query", query)
        expected = self.embedrt(tmp_path, *arguments)
        assert "你好世界" in expected.decode()
        assert self.embedrt(tmp_path, *arguments, changes=ASCII) == expected

    def test_prompt(self, minilm: Path, tmp_path: Path) -> None:
        arguments = ("encode", minilm, "--prompt", "запрос: ")
        expected = self.embedrt(tmp_path, *arguments)
        assert self.embedrt(tmp_path, *arguments, changes=ASCII) == expected

    def test_names(self, tmp_path: Path) -> None:
        bundle = make_tiny(tmp_path / "бандл")
        file = tmp_path / "tëxts.txt"
        file.write_bytes(b"w1\nw2\n")
        expected = self.embedrt(tmp_path, "encode", bundle, file)
        assert self.embedrt(tmp_path, "encode", bundle, file, changes=ASCII) == expected

    def test_errors(self, tmp_path: Path) -> None:
        arguments = ("-m", "embedrt", "info", tmp_path / "немає")
        expected = run(tmp_path, *arguments)
        found = run(tmp_path, *arguments, changes=ASCII)
        assert "немає".encode() in expected.stderr
        assert (found.returncode, found.stderr) == (1, expected.stderr)

    def embedrt(
        self,
        home: Path,
        *arguments: str | Path,
        changes: Mapping[str, str | None] = MappingProxyType({}),
    ) -> bytes:
        process = run(home, "-m", "embedrt", *arguments, given=LINES.encode(), changes=changes)
        assert (process.returncode, process.stderr) == (0, b"")
        return process.stdout
