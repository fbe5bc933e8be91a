/*
 * guard.h - which addresses and ports may be reached. See guard.c.
 * Builds without a server.
 */
#ifndef DMSHOOK_GUARD_H
#define DMSHOOK_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * Is it a public unicast address? If not, *why names the block it is in
 * ("loopback, RFC 1122"), a constant string. IPv4 inside IPv6 (mapped,
 * compatible, NAT64, 6to4, Teredo) is never public.
 */
extern bool dmshook_guard_public(const struct sockaddr *address, const char **why);

/* Is the address inside one of these comma-separated networks? An IPv4-mapped
 * IPv6 address also counts as its IPv4 address. Bad entries match nothing. */
extern bool dmshook_guard_in_networks(const struct sockaddr *address, const char *networks);

/* Are all entries well-formed (host bits zero)? If not, the first bad one goes to bad. */
extern bool dmshook_guard_check_networks(const char *networks, char *bad, size_t size);

/* Public, or inside networks. The one question that transport.c asks. */
extern bool dmshook_guard_allows(const struct sockaddr *address, const char *networks, const char **why);

/* Is the port in this list ("443,8443,1024-2000,8000-")? Bad entries match nothing. */
extern bool dmshook_guard_port(int port, const char *ports);

/* Are all entries well-formed, and is there one at least? If not, the first bad one goes to bad. */
extern bool dmshook_guard_check_ports(const char *ports, char *bad, size_t size);

#endif							/* DMSHOOK_GUARD_H */
