"""A forward proxy for tests: CONNECT on 127.0.0.1 and nothing else. It ends when its standard input does.

proxy.py FILE [--auth USER:PASSWORD] [--answer STATUS] [--mute]

Prints "port: N". Each request is a line of JSON in FILE: method, target, header (names in lower case), user, answer. It looks
names up itself, as proxies do; "receiver.test" is 127.0.0.1. --answer: with that status, always. --mute: it takes the request and says nothing.
"""
import argparse
import asyncio
import base64
import json
import sys

parser = argparse.ArgumentParser()
parser.add_argument('file')
parser.add_argument('--auth')
parser.add_argument('--answer', type=int)
parser.add_argument('--mute', action='store_true')
args = parser.parse_args()


async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


def decide(method, header):
    user = None
    if header.get('proxy-authorization', '').startswith('Basic '):
        user = base64.b64decode(header['proxy-authorization'][6:]).decode()
    if args.answer:
        return user, args.answer
    if args.auth and user != args.auth:
        return user, 407
    return user, 200 if method == 'CONNECT' else 405


async def serve(reader, writer):
    try:
        head = (await reader.readuntil(b'\r\n\r\n')).decode('latin-1').split('\r\n')
    except (asyncio.IncompleteReadError, OSError):
        writer.close()
        return
    method, target = head[0].split(' ')[:2]
    header = {line.split(':', 1)[0].lower(): line.split(':', 1)[1].strip() for line in head[1:] if ':' in line}
    user, answer = decide(method, header)
    upstream = None
    if answer == 200 and not args.mute:
        host, port = target.rsplit(':', 1)
        try:
            upstream = await asyncio.open_connection('127.0.0.1' if host == 'receiver.test' else host.strip('[]'), int(port))
        except OSError:
            answer = 502
    with open(args.file, 'a') as f:
        f.write(json.dumps({'method': method, 'target': target, 'header': header, 'user': user, 'answer': answer}) + '\n')
    if args.mute:
        # held until the client goes: a writer that nobody holds is closed by newer Pythons
        await reader.read()
        writer.close()
        return
    writer.write(f'HTTP/1.1 {answer} Answer\r\nX-Proxy: yes\r\n{"Proxy-Authenticate: Basic realm=x" if answer == 407 else "X: y"}\r\n\r\n'.encode())
    if upstream is None:
        writer.close()
        return
    await asyncio.gather(pipe(reader, upstream[1]), pipe(upstream[0], writer))


async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    print(f'port: {server.sockets[0].getsockname()[1]}', flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
