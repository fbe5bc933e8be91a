/*
 * egress.h - how requests leave this machine: from which address, through which
 * proxy, and what may be asked of that proxy. See egress.c. Builds without a server.
 */
#ifndef DMSHOOK_EGRESS_H
#define DMSHOOK_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* What dmshook.source_address names. */
typedef enum DmshookSource
{
	DMSHOOK_SOURCE_BAD,			/* malformed */
	DMSHOOK_SOURCE_NONE,		/* empty: the system chooses */
	DMSHOOK_SOURCE_IPV4,
	DMSHOOK_SOURCE_IPV6,
	DMSHOOK_SOURCE_INTERFACE
} DmshookSource;

extern DmshookSource dmshook_egress_source(const char *text);

/*
 * dmshook.proxy: "http://host:port", or "host:port"; an IPv6 address in brackets, which host keeps. False:
 * it is malformed, or host has too little room.
 */
extern bool dmshook_egress_proxy(const char *text, char *host, size_t size, int *port);

/* What somebody else may take the host of a URL for. */
typedef enum DmshookHost
{
	DMSHOOK_HOST_NAME,			/* a name, to be looked up */
	DMSHOOK_HOST_ADDRESS,		/* an address, or a name that always means one */
	DMSHOOK_HOST_ODD			/* neither, but some programs read it as an address */
} DmshookHost;

extern DmshookHost dmshook_egress_host(const char *host, struct sockaddr_storage *address);

#endif							/* DMSHOOK_EGRESS_H */
