"""A link with a delay, in user space, for kernels without netem: what enters one TUN device leaves the other later.

usage: delay-line.py NEAR FAR DELAY_MS FORGET_S

Makes the TUN devices NEAR and FAR in the network namespace it runs in, says "ready", and delays every IPv4 packet by
DELAY_MS on its way in either direction, in order, none lost. With FORGET_S above 0 it is also a NAT that forgets: a TCP
connection on which nothing has passed for that long is dropped silently from then on; only a SYN gets a new entry.

Writes a line for each new connection attempt seen from the near side ("syn SECONDS", CLOCK_MONOTONIC; a repeated SYN
is not written again) and for the first packet of each connection that it drops ("forgot SECONDS").
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
TCP, SYN, ACK = 6, 0x02, 0x10


def open_tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def say(word):
    print(word, "%.6f" % time.monotonic(), flush=True)


class Nat:
    """Which TCP connections are known, and since when nothing has passed on them."""

    def __init__(self, forget_s):
        self.forget_s = forget_s
        self.seen = {}
        self.attempts = set()
        self.forgotten = set()

    def passes(self, packet, from_near, now):
        if packet[0] >> 4 != 4:
            return False
        if packet[9] != TCP:
            return True
        header = (packet[0] & 15) * 4
        ports, sequence = packet[header : header + 4], packet[header + 4 : header + 8]
        flags = packet[header + 13]
        near, far = (packet[12:16] + ports[:2], packet[16:20] + ports[2:])
        flow = (near, far) if from_near else (far, near)
        opens = flags & (SYN | ACK) == SYN
        if opens and from_near and (flow, sequence) not in self.attempts:
            self.attempts.add((flow, sequence))
            say("syn")
        if self.forget_s > 0:
            seen = self.seen.get(flow)
            if not opens and (seen is None or now - seen > self.forget_s):
                self.seen.pop(flow, None)
                if flow not in self.forgotten:
                    self.forgotten.add(flow)
                    say("forgot")
                return False
            if opens:
                self.forgotten.discard(flow)
            self.seen[flow] = now
        return True


def main(near_name, far_name, delay_ms, forget_s):
    delay_s = float(delay_ms) / 1000
    nat = Nat(float(forget_s))
    try:
        # What runs beside it must not make the link slower.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        pass
    near, far = open_tun(near_name), open_tun(far_name)
    out = {near: far, far: near}
    # The delay is the same for all, so the first to come is the first to go.
    waiting = collections.deque()
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, device, packet = waiting.popleft()
            try:
                os.write(device, packet)
            except OSError:
                pass  # The device is down: nobody is there.
        timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select((near, far), (), (), timeout)
        for device in readable:
            while True:
                try:
                    packet = os.read(device, 65536)
                except OSError:
                    break  # Nothing more to read.
                now = time.monotonic()
                if nat.passes(packet, device == near, now):
                    waiting.append((now + delay_s, out[device], packet))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
