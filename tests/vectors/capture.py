#!/usr/bin/env python3
"""Captures the vectors beside this file from the servers of this machine:

    tests/vectors/capture.py [NAME...]

Each NAME is one of the files without its .txt; all of them without a NAME. It
needs qemu-nbd, nbdkit and nbd-server, a file system with holes for TMPDIR, and
nothing but Python's own library. Everything happens on loopback, on a disk of
256 KiB that is made for it.

It is no NBD client: it sends what it is told to, and knows of replies only how
long they are. What they mean is said by hand in tests/vectors.rs, which sends
the same in the same order, and no server is needed to run that.

The form, also for vectors written by hand:

    # a comment
    [NAME]                 a conversation: one connection's handshake
    [NAME transmission]    and what follows it on the same connection
    > HEX ...              one message of the client
    < HEX ...              one message of the server
      HEX ...              and how either goes on
"""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KIB = 1024
SIZE = 256 * KIB

LIST, INFO, GO, ABORT, STRUCTURED, LIST_CONTEXTS, SET_CONTEXTS, EXTENDED = (
    3, 6, 7, 2, 8, 9, 10, 11)
OPTIONS = {3: "LIST", 6: "INFO", 7: "GO", 2: "ABORT", 8: "STRUCTURED_REPLY",
           9: "LIST_META_CONTEXT", 10: "SET_META_CONTEXT", 11: "EXTENDED_HEADERS"}
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
COMMANDS = ("READ", "WRITE", "DISC", "FLUSH", "TRIM", "CACHE", "WRITE_ZEROES",
            "BLOCK_STATUS")
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << bit for bit in range(6))
SEND_DF, SEND_CACHE, STATUS_PAYLOAD = 1 << 7, 1 << 10, 1 << 12


def disk_byte(i):
    """What stands at an offset where the disk has data: never 0."""
    return (i * 31 + (i >> 8)) % 255 + 1


def make_disk(path):
    """Data, a hole, data, a hole; 64 KiB each."""
    with open(path, "wb") as disk:
        for start in (0, 128 * KIB):
            disk.seek(start)
            disk.write(bytes(disk_byte(i) for i in range(start, start + 64 * KIB)))
        disk.truncate(SIZE)


# --- the connection, and what is written down of it ---------------------------


class Recorder:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.lines = []

    def note(self, line):
        self.lines.append(line)

    def message(self, mark, fields, comment):
        """Fields apart; those that are long, in lines of 32 bytes."""
        self.note(f"# {comment}")
        lines = [""]
        for field in fields:
            for start in range(0, len(field), 32):
                piece = field[start:start + 32].hex()
                if len(lines[-1]) + len(piece) > 76:
                    lines.append("")
                lines[-1] += " " + piece
        self.note(mark + lines[0])
        self.lines += [" " + line for line in lines[1:]]

    def send(self, messages):
        """All in one write."""
        self.socket.sendall(b"".join(b"".join(fields) for fields, _ in messages))
        for fields, comment in messages:
            self.message(">", fields, comment)

    def get(self, length):
        got = b""
        while len(got) < length:
            piece = self.socket.recv(length - len(got))
            if not piece:
                raise EOFError(f"the server hung up, {length - len(got)} bytes early")
            got += piece
        return got

    def expect_end(self):
        try:
            rest = self.socket.recv(100)
        except ConnectionResetError:
            rest = b""
        assert rest == b"", rest
        self.socket.close()


def number(bytes_):
    return int.from_bytes(bytes_, "big")


def string(text):
    return struct.pack(">I", len(text)) + text.encode()


# --- the handshake --------------------------------------------------------------


def greet(to):
    fields = [to.get(8), to.get(8), to.get(2)]
    to.message("<", fields, "greeting")
    to.send([([struct.pack(">I", number(fields[2]) & 3)], "client flags")])


def option(to, code, data=b""):
    """Asks, and takes down the replies until the last; (succeeded, infos)."""
    head = [b"IHAVEOPT", struct.pack(">I", code), struct.pack(">I", len(data))]
    to.send([(head + [data], f"NBD_OPT_{OPTIONS[code]}")])
    infos = []
    while True:
        try:
            head = [to.get(8), to.get(4), to.get(4), to.get(4)]
        except (EOFError, ConnectionResetError):
            assert code == ABORT, f"no answer to option {code}"
            to.note("# The server hangs up without an answer.")
            return False, infos
        payload = to.get(number(head[3]))
        kind = number(head[2])
        to.message("<", head + [payload], f"reply type {kind:#x}")
        if kind == 1 or kind >> 31:
            return kind == 1, infos
        infos.append(payload)


def info_data(export, infos):
    return string(export) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def context_data(export, queries):
    return (string(export) + struct.pack(">I", len(queries))
            + b"".join(string(query) for query in queries))


def go(to, export):
    """The transmission flags, or None where it is refused."""
    granted, infos = option(to, GO, info_data(export, [3]))
    for info in infos:
        if number(info[:2]) == 0:
            flags = number(info[10:12])
    return flags if granted else None


# --- transmission ---------------------------------------------------------------


class Session:
    def __init__(self, to, style):
        self.to, self.style = to, style
        self.cookie = 0
        self.owed = {}

    def request(self, command, offset=0, length=0, flags=0, payload=b""):
        self.cookie += 1
        if self.style == "extended" and payload:
            flags |= PAYLOAD_LEN
        magic, last = (0x21E41C71, ">Q") if self.style == "extended" else (0x25609513, ">I")
        if command != DISC:
            self.owed[self.cookie] = length if command == READ else 0
        fields = [struct.pack(">I", magic), struct.pack(">HH", flags, command),
                  struct.pack(">Q", self.cookie), struct.pack(">Q", offset),
                  struct.pack(last, length), payload]
        return fields, f"{self.cookie}: {COMMANDS[command]} at {offset}, {length} bytes"

    def exchange(self, *requests):
        """Sends them in one write and takes down all their replies."""
        self.to.send(requests)
        while self.owed:
            self.reply()

    def reply(self):
        to = self.to
        magic = to.get(4)
        if magic == bytes.fromhex("67446698"):
            error, cookie = to.get(4), to.get(8)
            length = self.owed.pop(number(cookie))
            fields = [magic, error, cookie]
            if number(error) == 0:
                fields.append(to.get(length))
            to.message("<", fields, f"{number(cookie)}: simple, error {number(error)}")
            return
        flags, kind, cookie = to.get(2), to.get(2), to.get(8)
        if magic == bytes.fromhex("668e33ef"):
            rest = [to.get(4)]
        else:
            assert magic == bytes.fromhex("6e8a278c"), magic
            rest = [to.get(8), to.get(8)]
        payload = to.get(number(rest[-1]))
        split = {1: 8, 2: 8, 5: 4, 6: 4}.get(number(kind), 0)
        to.message("<", [magic, flags + kind, cookie, *rest, payload[:split], payload[split:]],
                   f"{number(cookie)}: chunk type {number(kind):#x}, flags {number(flags)}")
        if number(flags) & 1:
            del self.owed[number(cookie)]

    def end(self):
        self.to.send([self.request(DISC)])
        self.to.expect_end()


def transmission(session, flags):
    """The requests of `script` in tests/vectors.rs."""
    ask, exchange = session.request, session.exchange
    chunks = session.style != "simple"
    payload = bytes(range(1, 101))
    exchange(ask(READ, 1000, 300))
    exchange(ask(READ, 64 * KIB - 256, 512))
    if chunks and flags & SEND_DF:
        exchange(ask(READ, 64 * KIB - 256, 512, DF))
    if chunks:
        exchange(ask(STATUS, 0, SIZE))
        exchange(ask(STATUS, 32 * KIB, 64 * KIB, REQ_ONE))
    if flags & STATUS_PAYLOAD and session.style == "extended":
        body = struct.pack(">QI", 96 * KIB, session.last_context)
        exchange(ask(STATUS, 4096, len(body), 0, body))
    exchange(ask(WRITE, 4096, len(payload), FUA, payload))
    exchange(ask(READ, 4000, 300))
    exchange(ask(FLUSH))
    exchange(ask(TRIM, 128 * KIB, 4096))
    exchange(ask(ZEROES, 132 * KIB, 4096, NO_HOLE))
    exchange(ask(READ, 136 * KIB - 100, 200))
    if flags & SEND_CACHE:
        exchange(ask(CACHE, 0, 4096))
    exchange(ask(READ, SIZE - 128, 256))
    exchange(ask(WRITE, SIZE - 50, len(payload), 0, payload))
    # Interleaved: whoever is ready first answers first.
    exchange(ask(READ, 0, 200), ask(READ, 200 * KIB, 200),
             ask(WRITE, 8192, len(payload), 0, payload), ask(FLUSH), ask(READ, 150 * KIB, 200))
    session.end()


# --- the conversations ------------------------------------------------------------


def styles(to, style, backwards=False):
    wanted = {"simple": [], "structured": [STRUCTURED],
              "extended": [STRUCTURED, EXTENDED]}[style]
    for code in reversed(wanted) if backwards else wanted:
        option(to, code)
    return style != "simple"


def questions(port, style, contexts):
    to = Recorder(port)
    to.note("[questions]")
    greet(to)
    chunks = styles(to, style, backwards=True)
    option(to, LIST)
    option(to, INFO, info_data("vm1", [1, 2, 3]))
    option(to, INFO, info_data("nope", [1, 2, 3]))
    if chunks:
        option(to, LIST_CONTEXTS, context_data("vm1", []))
        option(to, LIST_CONTEXTS, context_data("nope", []))
        option(to, SET_CONTEXTS, context_data("vm1", ["x-nobody:knows"]))
    option(to, ABORT)
    to.expect_end()
    return to.lines


def more_is_refused(port):
    """Styles that the server does not have."""
    to = Recorder(port)
    to.note("[styles]")
    greet(to)
    option(to, STRUCTURED)
    option(to, EXTENDED)
    option(to, ABORT)
    to.expect_end()
    return to.lines


def refused(port):
    to = Recorder(port)
    to.note("[refused]")
    greet(to)
    assert go(to, "nope") is None
    option(to, ABORT)
    return to.lines


def session(port, style, contexts):
    to = Recorder(port)
    to.note("[session]")
    greet(to)
    replies = Session(to, style)
    if styles(to, style):
        _, infos = option(to, SET_CONTEXTS, context_data("vm1", contexts))
        replies.last_context = number(infos[-1][:4])
    flags = go(to, "vm1")
    to.note("[session transmission]")
    transmission(replies, flags)
    return to.lines


def read_only(port, style, export):
    to = Recorder(port)
    to.note("[read-only]")
    greet(to)
    styles(to, style)
    go(to, export)
    to.note("[read-only transmission]")
    replies = Session(to, style)
    replies.exchange(replies.request(READ, 0, 16))
    replies.exchange(replies.request(WRITE, 0, 4, 0, b"oops"))
    replies.end()
    return to.lines


# --- the servers -------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command):
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()
            if command[0] == "nbd-server":
                # A daemon.
                with open(command[-1]) as pid:
                    os.kill(int(pid.read()), signal.SIGTERM)


def wait_for(port):
    for _ in range(100):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    sys.exit(f"no server on port {port}")


def qemu(disk, port, more):
    return ["qemu-nbd", "--persistent", "--shared=4", "--bind=127.0.0.1", f"--port={port}",
            "--format=raw", "--export-name=vm1", "--description=the first",
            "--allocation-depth", "--discard=unmap", *more, disk]


def nbdkit(disk, port, more):
    return ["nbdkit", "--foreground", "--ipaddr=127.0.0.1", f"--port={port}", *more,
            "--filter=exportname", "--filter=delay", "file", disk, "delay-read=50ms",
            "exportname=vm1", "exportname-strict=true", "exportname-list=explicit",
            "exportdesc=fixed:the first"]


def nbd_server(disk, port, more):
    config = f"{disk}.conf"
    with open(config, "w") as file:
        file.write(f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\nallowlist = true\n"
                   f"[vm1]\nexportname = {disk}\nflush = true\nfua = true\ntrim = true\n"
                   f"[ro]\nexportname = {disk}\nreadonly = true\n")
    # Its -d would serve one client only.
    return ["nbd-server", "-C", config, "-p", f"{disk}.pid", *more]


ALLOCATION = ["base:allocation"]
DEPTH = ["base:allocation", "qemu:allocation-depth"]
VECTORS = {
    "qemu-nbd-extended": (qemu, "extended", DEPTH, ["--read-only"]),
    "qemu-nbd-structured": (qemu, "structured", ALLOCATION, ["--read-only"]),
    "qemu-nbd-simple": (qemu, "simple", [], ["--read-only"]),
    "nbdkit-structured": (nbdkit, "structured", ALLOCATION, ["--readonly"]),
    "nbdkit-simple": (nbdkit, "simple", [], ["--readonly"]),
    "nbd-server-simple": (nbd_server, "simple", [], None),
}


def version(command):
    """What the server calls itself, and its version."""
    flag = "-V" if command == "nbd-server" else "--version"
    out = subprocess.run([command, flag], capture_output=True, text=True, check=False)
    line = (out.stdout + out.stderr).splitlines()[0]
    return line.replace("This is nbd-server version", "nbd-server")


def capture(name, folder):
    server, style, contexts, only_read = VECTORS[name]
    disk = os.path.join(folder, "disk")
    make_disk(disk)
    port = free_port()
    command = server(disk, port, [])
    lines = [f"# {version(command[0])}, {style} replies; captured by tests/vectors/capture.py.",
             "# " + " ".join(command).replace(folder, "TMP").replace(str(port), "PORT"), ""]
    with running(command):
        wait_for(port)
        lines += questions(port, style, contexts) + [""]
        if style == "simple":
            lines += more_is_refused(port) + [""]
        lines += refused(port) + [""]
        if only_read is None:
            lines += read_only(port, style, "ro") + [""]
        lines += session(port, style, contexts)
    if only_read is not None:
        make_disk(disk)
        port = free_port()
        with running(server(disk, port, only_read)):
            wait_for(port)
            lines += [""] + read_only(port, style, "vm1")
    with open(os.path.join(HERE, f"{name}.txt"), "w") as file:
        file.write("\n".join(lines) + "\n")


def main():
    for name in sys.argv[1:] or VECTORS:
        folder = tempfile.mkdtemp()
        try:
            capture(name, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
