#!/usr/bin/env python3
"""A client of a Sinew listener, written from docs/protocol/shm.md with the standard library alone.

It declines the features EXPRESS, MEMBARRIER and EPOLL_BELL, and messages in memory of their own.

    shm_client.py PATH COUNT LEAST DEPTH

sends COUNT messages of at least LEAST bytes to an echo server, DEPTH of them at a time, and checks what comes
back.
"""

import array
import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct
import sys

MAGIC = b"SINEWSHM"
VERSION = 2
HELLO, ACCEPT, READY, REJECT, OPEN = 1, 2, 3, 4, 5
SHAPE = 1 | 0 << 16 | 3 << 32  # A duplex channel, in both directions, with payloads aligned to 2^3.
REASONS = {1: "version", 2: "policy", 3: "busy", 5: "resources", 6: "features", 7: "kind", 8: "payload"}

CONTROL, DATA = 4096, 4096  # Bytes of this end's memory.
MAX_MESSAGE = 1 << 20
# Words of the control memory, counted in eight bytes (states have four, and zeros after them).
PUBLISHED, SENDER_WAIT, SENDER_STATE = 0, 16, 17
RELEASED, RECEIVER_WAIT, RECEIVER_STATE = 32, 48, 49
OPEN_STATE, CLOSED, ABORTED, DROPPED = 0, 1, 2, 3
DATA_FRAME, SKIPPABLE, BELL = 1, 1 << 31, b"\x01"

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEAL, SHRINK, GROW, WRITE, FUTURE_WRITE = 1, 2, 4, 8, 16
FIXED = SEAL | SHRINK | GROW


class Violation(Exception):
    """The peer broke the protocol."""


LIBC = ctypes.CDLL(None, use_errno=True)


def fence():
    """Executes a full memory barrier: membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)."""
    number = {"x86_64": 324, "aarch64": 283}[os.uname().machine]
    if LIBC.syscall(number, 2, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "membarrier")


def words(memory):
    """The memory as words, each of which is loaded and stored at once."""
    assert sys.byteorder == "little"
    return memoryview(memory).cast("Q")


class Channel:
    """A connected end: send, recv, close."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.control, control_fd = self.create("control", CONTROL, FIXED)
        self.data, data_fd = self.create("data", DATA, FIXED | FUTURE_WRITE)
        self.ours = words(self.control)
        self.published = self.consumed = 0  # What our own control words say, which are never read.
        self.their_published = self.their_released = 0
        self.rung = {SENDER_WAIT: 0, RECEIVER_WAIT: 0}
        self.hung_up = False
        self.handshake(control_fd, data_fd)
        self.socket.setblocking(False)
        os.close(control_fd)
        os.close(data_fd)

    @staticmethod
    def create(name, size, seals):
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.posix_fallocate(fd, 0, size)
        memory = mmap.mmap(fd, size)  # Before the seal, after which nobody maps it for writing.
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
        return memory, fd

    # The handshake.

    def packet(self, kind, *rest):
        head = [kind | VERSION << 32 | (VERSION << 48 if kind == HELLO else 0), 0, 0, SHAPE, 0]
        return (MAGIC + struct.pack(f"<{5 + len(rest)}Q", *head, *rest)).ljust(128, b"\0")

    def answer(self, expected):
        packet, fds = self.receive(128)
        if len(packet) != 128 or packet[:8] != MAGIC:
            raise Violation(f"a packet of {len(packet)} bytes")
        fields = struct.unpack("<15Q", packet[8:])
        kind = fields[0] & 0xFFFFFFFF
        if kind == REJECT:
            raise ConnectionRefusedError(REASONS.get(fields[1], "protocol"))
        if kind != expected:
            raise Violation(f"a packet of kind {kind}, not {expected}")
        return fields, fds

    def receive(self, size):
        """A packet and its descriptors; no bytes at the end."""
        space = socket.CMSG_SPACE(4 * 8)
        while True:
            try:
                packet, control, flags, _ = self.socket.recvmsg(size + 1, space, socket.MSG_CMSG_CLOEXEC)
                break
            except ConnectionResetError:
                pass  # The peer has left something unread; what it sent is still there.
        fds = array.array("i")
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Violation("an overlong packet")
        return packet, fds

    def say(self, packet, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([packet], ancillary)
        except BrokenPipeError:
            pass  # The answer, if there is one, says why.

    def handshake(self, control_fd, data_fd):
        self.say(self.packet(HELLO))
        fields, fds = self.answer(ACCEPT)
        if fields[0] >> 32 != VERSION or fields[1:5] != (0, 0, SHAPE, 0) or len(fds) != 2:
            raise Violation(f"an accept of {fields} with {len(fds)} descriptors")
        self.their_control_size, self.their_size, self.their_max = fields[5:8]
        self.check(fds[0], self.their_control_size, FIXED, WRITE | FUTURE_WRITE)
        self.check(fds[1], self.their_size, FIXED | FUTURE_WRITE, WRITE)
        self.their_control = mmap.mmap(fds[0], self.their_control_size)
        self.their_data = mmap.mmap(fds[1], self.their_size, prot=mmap.PROT_READ)
        self.theirs = words(self.their_control)
        for fd in fds:
            os.close(fd)
        self.say(self.packet(READY, CONTROL, DATA, MAX_MESSAGE), (control_fd, data_fd))
        self.answer(OPEN)

    @staticmethod
    def check(fd, size, needed, excluded):
        seals = fcntl.fcntl(fd, F_GET_SEALS)
        stat = os.fstat(fd)
        if seals & needed != needed or seals & excluded or stat.st_size != size:
            raise Violation(f"memory with seals {seals:#x} and {stat.st_size} bytes")
        if stat.st_blocks * 512 < size:
            raise Violation("memory that is not allocated")

    # Cursors, states and rings.

    def look(self):
        """Loads the other end's cursors, and checks them."""
        published, released = self.theirs[PUBLISHED], self.theirs[RELEASED]
        if published & 7 or not self.their_published <= published <= self.consumed + self.their_size:
            raise Violation(f"published {published:#x}")
        if released & 7 or not self.their_released <= released <= self.published:
            raise Violation(f"released {released:#x}")
        self.their_published, self.their_released = published, released

    def state(self, word):
        state = self.theirs[word] & 0xFFFFFFFF
        if state not in (OPEN_STATE, CLOSED, DROPPED):
            raise Violation(f"the peer's state is {state}")
        return state

    def store(self, word, value, wait, passed):
        """Stores a cursor or a state, and rings if the other end waits for it."""
        fence()  # Orders the bytes before the cursor, where the processor does not.
        self.ours[word] = value
        fence()
        armed = self.theirs[wait]
        if armed & 1 and armed != self.rung[wait] and passed(armed - 1):
            self.rung[wait] = armed
            try:
                self.socket.send(BELL)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass  # The other end has rings enough, or is gone.

    def drain(self):
        """Takes the rings out of the socket."""
        while not self.hung_up:
            try:
                packet, fds = self.receive(1)
            except BlockingIOError:
                return
            if packet == b"":
                self.hung_up = True
            elif packet != BELL or fds:
                raise Violation("a packet that is no ring")

    def wait(self, word, cursor, ready):
        """Sleeps until `ready`, or until the other end has hung up."""
        while True:
            self.drain()
            self.ours[word] = cursor | 1
            fence()
            self.look()
            self.drain()
            if ready() or self.hung_up:
                break
            select.select([self.socket], [], [])
        self.ours[word] = 0
        self.look()

    # Messages.

    def send(self, message):
        frame = struct.pack("<II", len(message), DATA_FRAME) + message
        frame = frame.ljust(-(-len(frame) // 8) * 8, b"\0")
        if len(message) > self.their_max or len(frame) > DATA:
            raise ValueError(f"a message of {len(message)} bytes")
        self.look()
        need = self.published + len(frame) - DATA
        if self.their_released < need:
            gone = lambda: self.state(RECEIVER_STATE) != OPEN_STATE
            self.wait(SENDER_WAIT, need, lambda: self.their_released >= need or gone())
        if self.state(RECEIVER_STATE) != OPEN_STATE or self.their_released < need:
            raise BrokenPipeError("the peer receives no more")
        at = self.published % DATA
        first = min(len(frame), DATA - at)
        self.data[at : at + first] = frame[:first]
        self.data[: len(frame) - first] = frame[first:]
        self.published += len(frame)
        published = self.published
        self.store(PUBLISHED, published, RECEIVER_WAIT, lambda cursor: published >= cursor)

    def recv(self):
        """The next message; None at the end."""
        while True:
            self.look()
            if self.their_published == self.consumed:
                ended = lambda: self.state(SENDER_STATE) != OPEN_STATE
                more = lambda: self.their_published > self.consumed
                self.wait(RECEIVER_WAIT, self.consumed + 8, lambda: more() or ended())
                if not more():
                    if self.state(SENDER_STATE) == CLOSED:
                        return None
                    raise ConnectionResetError("the peer died")
            length, kind = struct.unpack("<II", self.read(self.consumed, 8))
            size = 8 + -(-length // 8) * 8
            if size > self.their_published - self.consumed:
                raise Violation(f"a frame of {length} bytes")
            if length > MAX_MESSAGE or kind != DATA_FRAME and not kind & SKIPPABLE:
                raise Violation(f"a frame of kind {kind:#x} and {length} bytes")
            message = self.read(self.consumed + 8, length)
            self.consumed += size
            released = self.consumed
            self.store(RELEASED, released, SENDER_WAIT, lambda cursor: released >= cursor)
            if kind == DATA_FRAME:
                return message

    def read(self, position, length):
        at = position % self.their_size
        first = self.their_data[at : at + length]
        return first + self.their_data[: length - len(first)]

    def close(self):
        self.store(SENDER_STATE, CLOSED, RECEIVER_WAIT, lambda cursor: True)

    def hang_up(self):
        self.store(RECEIVER_STATE, CLOSED, SENDER_WAIT, lambda cursor: True)
        self.socket.close()


def main(path, count, least, depth):
    channel = Channel(path)
    under_way = []
    for number in range(count):
        # Up to the whole ring, so that it wraps at all places.
        size = least + number * 677 % (DATA - 8 - least + 1)
        message = bytes((number + index) % 251 for index in range(size))
        channel.send(message)
        under_way.append(message)
        if len(under_way) == depth:
            assert channel.recv() == under_way.pop(0), f"message {number}"
    for message in under_way:
        assert channel.recv() == message
    channel.close()
    assert channel.recv() is None
    channel.hang_up()
    print(f"{count} messages came back")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
