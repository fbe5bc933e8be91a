#!/usr/bin/python3
"""dns.py FILE: a scripted name server at 127.0.0.1 port 53 (udp and tcp), for a network namespace.

FILE is read again at each question; a line is a name, what is answered, and its arguments. A name
may begin with * (any). Names that are not there do not exist.

  a ADDRESS...       these addresses (A; AAAA for those with a colon)
  none               no error, and no address
  nx, servfail, refused, formerr
  silent             no answer
  slow MS ADDRESS    after a while
  noise              bytes that are no answer;   other: the answer to another question;   cut: half an answer
  loop               an alias of itself
  tcp ADDRESS        "too long for udp", and the answer by tcp

Prints "ready", ends when its standard input does.
"""
import ipaddress
import os
import socket
import struct
import sys
import threading
import time

CODES = {"formerr": 1, "servfail": 2, "nx": 3, "refused": 5}


def rule(name):
    with open(sys.argv[1], encoding="ascii") as f:
        for line in f:
            words = line.split()
            if words and (words[0] == name or (words[0][0] == "*" and name.endswith(words[0][1:]))):
                return words[1], words[2:]
    return "nx", []


def answer(query, tcp):
    """Seconds to wait, and the bytes (None: none)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii"))
        at += 1 + query[at]
    question = query[12:at + 5]
    kind = struct.unpack("!H", query[at + 1:at + 3])[0]
    what, more = rule(".".join(labels).lower())
    wait = 0.0
    if what == "slow":
        wait, more = int(more[0]) / 1000, more[1:]
    number, flags, records = query[:2], 0x8180, []
    if what == "silent":
        return wait, None
    if what == "noise":
        return wait, os.urandom(64)
    if what == "tcp" and not tcp:
        return wait, number + struct.pack("!5H", flags | 0x200, 1, 0, 0, 0) + question
    if what == "other":
        number = bytes([query[0] ^ 255, query[1]])
        more = ["127.0.0.1"]
    if what == "loop":
        records.append(struct.pack("!HHHIHH", 0xC00C, 5, 1, 0, 2, 0xC00C))
    for address in more:
        ip = ipaddress.ip_address(address)
        if kind == (1 if ip.version == 4 else 28):
            records.append(struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(ip.packed)) + ip.packed)
    reply = number + struct.pack("!5H", flags | CODES.get(what, 0), 1, len(records), 0, 0) + question + b"".join(records)
    return wait, reply[:len(reply) // 2] if what == "cut" else reply


def over_udp(server, query, peer):
    wait, reply = answer(query, False)
    time.sleep(wait)
    if reply is not None:
        server.sendto(reply, peer)


def over_tcp(connection):
    with connection:
        # A and AAAA are asked for on one connection
        while len(head := connection.recv(2, socket.MSG_WAITALL)) == 2:
            _, reply = answer(connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL), True)
            if reply is not None:
                connection.sendall(struct.pack("!H", len(reply)) + reply)


def serve(what, *args):
    threading.Thread(target=what, args=args, daemon=True).start()


def udp(server):
    while True:
        query, peer = server.recvfrom(4096)
        serve(over_udp, server, query, peer)


def tcp(server):
    while True:
        serve(over_tcp, server.accept()[0])


datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
datagrams.bind(("127.0.0.1", 53))
listener = socket.create_server(("127.0.0.1", 53))
serve(udp, datagrams)
serve(tcp, listener)
print("ready", flush=True)
sys.stdin.read()
