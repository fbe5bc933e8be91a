"""A mail server for tests: aiosmtpd on 127.0.0.1. It ends when its standard input does.

mail.py PORT FILE [--cert PEM --key PEM] [--auth USER:PASSWORD] [--refuse ADDRESS] [--mute COMMAND] [--smtps yes]

With a certificate it offers STARTTLS and wants it (with --smtps it speaks TLS from the beginning); with --auth it takes no mail without. Each mail is a line of JSON
in FILE. --mute: that command is never answered.
"""
import argparse
import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

parser = argparse.ArgumentParser()
parser.add_argument('port', type=int)
parser.add_argument('file')
for option in 'cert', 'key', 'auth', 'refuse', 'mute', 'smtps':
    parser.add_argument('--' + option)
args = parser.parse_args()
logging.disable(logging.CRITICAL)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == args.refuse:
            return '550 no such user'
        envelope.rcpt_tos.append(address)
        return '250 OK'

    async def handle_DATA(self, server, session, envelope):
        raw = envelope.content
        message = email.message_from_bytes(raw, policy=email.policy.default)
        line = json.dumps({
            'from': envelope.mail_from, 'rcpt': envelope.rcpt_tos, 'helo': session.host_name, 'tls': server.transport.get_extra_info('sslcontext') is not None,
            'user': session.auth_data, 'header': {k: str(v) for k, v in message.items()}, 'body': message.get_content(),
            'raw': raw.decode('latin-1'), 'defects': len(message.defects) + sum(len(v.defects) for v in message.values()),
        })
        with open(args.file, 'a') as f:
            f.write(line + '\n')
        return '250 taken'


def authenticate(server, session, envelope, mechanism, data):
    if isinstance(data, LoginPassword) and data.login + b':' + data.password == args.auth.encode():
        return AuthResult(success=True, auth_data=data.login.decode())
    return AuthResult(success=False, handled=False)


class Server(SMTP):
    async def smtp_QUIT(self, arg):
        if args.mute == 'QUIT':
            await asyncio.sleep(3600)
        await super().smtp_QUIT(arg)


async def main():
    context = None
    if args.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.cert, args.key)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Server(
        Handler(), hostname='mail.example.com', loop=loop, tls_context=None if args.smtps else context, require_starttls=bool(context and not args.smtps),
        authenticator=authenticate if args.auth else None, auth_required=bool(args.auth), auth_require_tls=bool(context and not args.smtps),
        enable_SMTPUTF8=False), '127.0.0.1', args.port,
        ssl=context if args.smtps else None)
    print('ready', flush=True)
    await loop.run_in_executor(None, sys.stdin.read)

asyncio.run(main())
