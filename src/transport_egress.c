/*
 * transport_egress.c - dmshook.source_address and dmshook.proxy, as they are in force, and what
 * they mean to a curl handle.
 *
 * Runs in the dispatcher, at its start and after SIGHUP (copies of the settings, the password
 * file), and where a handle is set up: nothing here costs anything per request. The
 * copies are malloc'ed and live until the next change; the password is wiped then.
 *
 * Kept connections: curl uses one again only where proxy and source are the same, but takes any for a
 * handle that asks for no source at all. So after a change of the source, connections of
 * before are told apart by what they trust (transport_settings.c: a longer way to the same file of
 * authorities; here: line breaks behind a webhook's own), and those without TLS are closed (transport.c).
 *
 * Behind a proxy open_socket() sees the proxy's address, which the superuser chose, so it is not
 * looked at. What is looked at is the URL: an address in it, or what a proxy may take for
 * one, is refused as it would be without (barred). Names are the proxy's to look up and to judge.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "egress.h"
#include "guard.h"
#include "private_file.h"
#include "settings.h"
#include "transport_private.h"

TransportEgress transport_egress;

static char *source_setting = NULL;
static char *proxy_setting = NULL;
static char *file_setting = NULL;
static struct stat file_seen;

static char *copy_of(const char *text);
static void forget_secret(char **text);
static void read_source(void);
static void read_proxy(void);
static void read_password(void);

static bool
differs(const char *copy, const char *setting)
{
	return copy == NULL || strcmp(copy, setting) != 0;
}

static bool
file_changed(void)
{
	struct stat now = {0};

	if (dmshook_proxy_password_file[0] == '\0')
		return false;
	(void) stat(dmshook_proxy_password_file, &now);
	return now.st_dev != file_seen.st_dev || now.st_ino != file_seen.st_ino || now.st_size != file_seen.st_size ||
		now.st_mode != file_seen.st_mode || now.st_uid != file_seen.st_uid ||
		now.st_mtim.tv_sec != file_seen.st_mtim.tv_sec || now.st_mtim.tv_nsec != file_seen.st_mtim.tv_nsec;
}

bool
transport_egress_changed(void)
{
	return differs(source_setting, dmshook_source_address) || differs(proxy_setting, dmshook_proxy) ||
		differs(file_setting, dmshook_proxy_password_file) || file_changed();
}

bool
transport_egress_load(void)
{
	bool		other_source = source_setting != NULL && strcmp(source_setting, dmshook_source_address) != 0;

	free(source_setting);
	free(proxy_setting);
	free(file_setting);
	source_setting = copy_of(dmshook_source_address);
	proxy_setting = copy_of(dmshook_proxy);
	file_setting = copy_of(dmshook_proxy_password_file);
	read_source();
	read_proxy();
	if (other_source)
		transport_egress.epoch++;
	return other_source;
}

static char *
copy_of(const char *text)
{
	char	   *copy = strdup(text);

	if (copy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	return copy;
}

static void
forget_secret(char **text)
{
	if (*text == NULL)
		return;
	explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

/* To curl an address and an interface are told apart by a prefix; the address' family is asked of names, too. */
static void
read_source(void)
{
	DmshookSource is = dmshook_egress_source(source_setting);
	char		interface[INET6_ADDRSTRLEN + 8];

	free(transport_egress.interface);
	transport_egress.interface = NULL;
	transport_egress.family = is == DMSHOOK_SOURCE_IPV4 ? CURL_IPRESOLVE_V4 : is == DMSHOOK_SOURCE_IPV6 ? CURL_IPRESOLVE_V6 : CURL_IPRESOLVE_WHATEVER;
	if (is == DMSHOOK_SOURCE_NONE || is == DMSHOOK_SOURCE_BAD)
		return;					/* a malformed one is refused where it is set */
	snprintf(interface, sizeof(interface), "%s!%s", is == DMSHOOK_SOURCE_INTERFACE ? "if" : "host", source_setting);
	transport_egress.interface = copy_of(interface);
}

static void
read_proxy(void)
{
	TransportEgress *e = &transport_egress;
	char		url[TRANSPORT_HOST_SIZE + 32];

	free(e->proxy);
	free(e->problem);
	e->proxy = e->problem = NULL;
	forget_secret(&e->user);
	forget_secret(&e->password);
	memset(&file_seen, 0, sizeof(file_seen));
	if (!dmshook_egress_proxy(proxy_setting, e->proxy_host, sizeof(e->proxy_host), &e->proxy_port))
		return;					/* empty, for a malformed one is refused where it is set */
	snprintf(url, sizeof(url), "http://%s:%d", e->proxy_host, e->proxy_port);
	e->proxy = copy_of(url);
	if (file_setting[0] != '\0')
		read_password();
	if (e->problem != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("nothing can be sent through dmshook.proxy"),
				 errdetail("%s", e->problem),
				 errhint("Mend the file that dmshook.proxy_password_file names, then reload the configuration.")));
}

/* A line user:password. */
static void
read_password(void)
{
	TransportEgress *e = &transport_egress;
	char		line[1024];
	size_t		len;
	char	   *problem = dmshook_private_file_read(file_setting, "proxy password file", line, sizeof(line), &len, NULL);
	char	   *password;

	(void) stat(file_setting, &file_seen);
	if (problem != NULL)
	{
		e->problem = copy_of(problem);
		pfree(problem);
		return;
	}
	line[strcspn(line, "\r\n")] = '\0';
	password = strchr(line, ':');
	if (password == NULL || password == line)
		e->problem = copy_of("the proxy password file has no line user:password");
	else
	{
		*password++ = '\0';
		e->user = copy_of(line);
		e->password = copy_of(password);
	}
	explicit_bzero(line, sizeof(line));
}

#define SET(option, value) \
	do { \
		if (curl_easy_setopt(handle->easy, option, value) != CURLE_OK) \
			return false; \
	} while (0)

bool
transport_egress_setup(TransportHandle *handle)
{
	TransportEgress *e = &transport_egress;

	handle->proxied = e->proxy != NULL;
	SET(CURLOPT_INTERFACE, e->interface);
	SET(CURLOPT_IPRESOLVE, e->family);
	SET(CURLOPT_PROXY, handle->proxied ? e->proxy : "");
	SET(CURLOPT_NOPROXY, "");	/* or the environment says who is reached without */
	if (!handle->proxied)
		return true;
	/* a tunnel, for plain http too: the proxy sees host and port, and none of our headers */
	SET(CURLOPT_PROXYTYPE, (long) CURLPROXY_HTTP);
	SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE);
	if (e->user != NULL)
	{
		SET(CURLOPT_PROXYAUTH, (long) CURLAUTH_BASIC);
		SET(CURLOPT_PROXYUSERNAME, e->user);
		SET(CURLOPT_PROXYPASSWORD, e->password);
	}
	return true;
}

void
transport_egress_bar(TransportHandle *handle, const DmshookEndpoint *endpoint)
{
	const struct sockaddr *address = (const struct sockaddr *) &handle->blocked;
	const char *only = endpoint->allowed_addresses;

	handle->barred = TRANSPORT_NOT_REFUSED;
	if (!handle->proxied)
		return;					/* open_socket() sees where it goes */
	switch (dmshook_egress_host(handle->host, &handle->blocked))
	{
		case DMSHOOK_HOST_ODD:
			handle->barred = TRANSPORT_ODD_HOST;
			break;
		case DMSHOOK_HOST_NAME:
			if (only != NULL)
				handle->barred = TRANSPORT_NOT_KNOWN;
			break;
		case DMSHOOK_HOST_ADDRESS:
			if (!dmshook_guard_allows(address, transport_settings.allowed_networks, &handle->blocked_why))
				handle->barred = TRANSPORT_NOT_PUBLIC;
			else if (only != NULL && !dmshook_guard_in_networks(address, only))
				handle->barred = TRANSPORT_NOT_ALLOWED;
			break;
	}
	if (handle->barred == TRANSPORT_NOT_REFUSED && !dmshook_guard_port(handle->port, transport_settings.allowed_ports))
		handle->barred = TRANSPORT_BAD_PORT;
}
