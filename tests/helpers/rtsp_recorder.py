"""A small RTSP server that accepts a stream (ANNOUNCE, SETUP, RECORD over TCP). Run it as a process.

    python rtsp_recorder.py [--port 8554] [--password WORD]

It prints ``READY PORT``, then for each frame ``FRAME KEY``, where KEY is 1 for a keyframe.
"""

from __future__ import annotations

import argparse
import socket
import struct
import threading


def kinds(payload: bytes) -> set[int]:
    """The types of the NAL units in an RTP payload, RFC 6184: 5 is an IDR slice."""
    kind = payload[0] & 31
    if kind == 28:  # FU-A: a part of one
        return {payload[1] & 31}
    if kind != 24:
        return {kind}
    found, at = set(), 1  # STAP-A: several
    while at + 2 < len(payload):
        found.add(payload[at + 2] & 31)
        at += 2 + struct.unpack_from(">H", payload, at)[0]
    return found


def serve(client: socket.socket, password: str) -> None:
    """Answer requests and print frames until the client leaves."""
    with client, client.makefile("rb") as stream:
        is_key = False
        while first := stream.read(1):
            if first == b"$":
                channel, length = struct.unpack(">BH", stream.read(3))
                packet = stream.read(length)
                if channel == 0:
                    is_key |= 5 in kinds(packet[12:])
                    if packet[1] & 0x80:
                        print("FRAME", int(is_key), flush=True)
                        is_key = False
                continue
            request = (first + stream.readline()).decode("latin-1").split()
            fields = {}
            while line := stream.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            stream.read(int(fields.get("content-length", 0)))
            status, extra = "200 OK", ""
            if password and "authorization" not in fields and request[0] != "OPTIONS":
                status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="test"\r\n'
            elif request[0] == "OPTIONS":
                extra = "Public: OPTIONS, ANNOUNCE, SETUP, RECORD, TEARDOWN\r\n"
            elif request[0] == "SETUP":
                extra = f"Transport: {fields['transport']}\r\nSession: 1\r\n"
            client.sendall(f"RTSP/1.0 {status}\r\nCSeq: {fields.get('cseq', 0)}\r\n{extra}\r\n".encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--password", default="")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        print("READY", listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, options.password), daemon=True).start()


if __name__ == "__main__":
    main()
