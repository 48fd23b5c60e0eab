"""A DNS server on 127.0.0.1 whose answers are scripted, and a resolver that asks it alone."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from aiohttp.abc import AbstractResolver, ResolveResult

Answers = Sequence[Sequence[str]]
KINDS = {dns.rdatatype.A: socket.AF_INET, dns.rdatatype.AAAA: socket.AF_INET6}


class DnsServer(asyncio.DatagramProtocol):
    """
    Answers each question for a name with the next of its answers, and from then on with the last.

    An answer is a list of addresses of both families; one that starts with `CNAME ` names another name.
    All have a TTL of 0. Other names do not exist; `SERVFAIL` and `SILENCE` are what they say.
    """

    def __init__(self, names: dict[str, Answers]) -> None:
        self.names = names
        self.asked: Counter[tuple[str, str]] = Counter()
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self.reply(dns.message.from_wire(data))
        if reply is not None:
            self.transport.sendto(reply.to_wire(), addr)

    def reply(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        turn = self.asked[name, kind]
        self.asked[name, kind] += 1
        reply = dns.message.make_response(query)
        answers = self.names.get(name)
        if answers is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return reply
        answer = answers[min(turn, len(answers) - 1)]
        if "SILENCE" in answer:
            return None
        if "SERVFAIL" in answer:
            reply.set_rcode(dns.rcode.SERVFAIL)
            return reply
        for one in answer:
            self.add(reply, question, one)
        return reply

    def add(self, reply: dns.message.Message, question: dns.rrset.RRset, one: str) -> None:
        kind = "CNAME" if one.startswith("CNAME ") else "AAAA" if ":" in one else "A"
        if kind in ("CNAME", dns.rdatatype.to_text(question.rdtype)):
            value = one.removeprefix("CNAME ")
            reply.answer.append(dns.rrset.from_text(question.name, 0, "IN", kind, value))


class DnsResolver(AbstractResolver):
    """Asks a `DnsServer` for both families, anew at every call."""

    def __init__(self, server: DnsServer, *, timeout_seconds: float = 5.0) -> None:
        self.server = server
        self.timeout_seconds = timeout_seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = []
        for kind, wanted in KINDS.items():
            if family in (socket.AF_UNSPEC, wanted):
                found += await self.ask(host, port, kind)
        return found

    async def ask(self, host: str, port: int, kind: dns.rdatatype.RdataType) -> list[ResolveResult]:
        query = dns.message.make_query(host, kind)
        reply = await dns.asyncquery.udp(
            query, "127.0.0.1", port=self.server.port, timeout=self.timeout_seconds
        )
        if reply.rcode() == dns.rcode.NXDOMAIN:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if reply.rcode() != dns.rcode.NOERROR:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        addresses = []
        for rrset in reply.answer:
            if rrset.rdtype == dns.rdatatype.CNAME:
                addresses += await self.ask(rrset[0].target.to_text(omit_final_dot=True), port, kind)
            elif rrset.rdtype == kind:
                addresses += [
                    ResolveResult(
                        hostname=host, host=one.address, port=port, family=KINDS[kind], proto=0, flags=0
                    )
                    for one in rrset
                ]
        return addresses

    async def close(self) -> None:
        pass


@asynccontextmanager
async def dns_server(names: dict[str, Answers]) -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: DnsServer(names), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
