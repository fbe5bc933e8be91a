/*
 * settings.c - all configuration parameters, with their bounds and units.
 *
 * Runs in every process that loads the library. Nothing but the definitions
 * and their checks is here; the README's table of settings must agree with
 * this file (a test compares them).
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "egress.h"
#include "guard.h"
#include "mailtext.h"
#include "settings.h"

char	   *dmshook_user = NULL;
char	   *dmshook_user_setting = NULL;
bool		dmshook_capture_enabled = true;
int			dmshook_dispatchers = 1;
int			dmshook_max_connections = 256;
bool		dmshook_allow_http = false;
char	   *dmshook_allowed_networks = NULL;
char	   *dmshook_allowed_ports = NULL;
char	   *dmshook_source_address = NULL;
char	   *dmshook_proxy = NULL;
char	   *dmshook_proxy_password_file = NULL;
char	   *dmshook_ca_file = NULL;
int			dmshook_max_body = 1024 * 1024;
int			dmshook_response_limit = 16 * 1024;
int			dmshook_retention = 30 * 24 * 3600;
int			dmshook_dead_letter_retention = 90 * 24 * 3600;
int			dmshook_payload_retention = -1;
int			dmshook_max_wait = 30 * 24 * 3600;
char	   *dmshook_secret_key_file = NULL;
char	   *dmshook_smtp_url = NULL;
char	   *dmshook_smtp_password_file = NULL;
char	   *dmshook_alert_mail_to = NULL;
char	   *dmshook_alert_mail_from = NULL;
int			dmshook_alert_mail_delay = 90000;

/* Refuse a list of networks that cannot be parsed. */
static bool
check_networks(char **newval, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	char		bad[64];

	if (*newval == NULL || dmshook_guard_check_networks(*newval, bad, sizeof(bad)))
		return true;
	GUC_check_errdetail("\"%s\" is not a network such as 10.20.0.0/16, 127.0.0.1 or fd00::/8.", bad);
	GUC_check_errhint("Separate networks by commas; no bits may be set to the right of the mask.");
	return false;
}

/* Refuse a list of ports that cannot be parsed, or that permits none. */
static bool
check_ports(char **newval, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	char		bad[64] = "";

	if (*newval != NULL && dmshook_guard_check_ports(*newval, bad, sizeof(bad)))
		return true;
	GUC_check_errdetail("\"%s\" is not a port or a range of ports such as 443, 8000-8999 or 1024-.", bad);
	GUC_check_errhint("Separate them by commas.");
	return false;
}

static bool
check_source(char **newval, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	if (*newval == NULL || dmshook_egress_source(*newval) != DMSHOOK_SOURCE_BAD)
		return true;
	GUC_check_errdetail("It must be an address of this machine, such as 10.0.0.5 or fd00::5, or the name of a network interface.");
	return false;
}

/* Not shown: somebody may write a password into it. */
static bool
check_proxy(char **newval, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	char		host[256];
	int			port;

	if (*newval == NULL || **newval == '\0' || dmshook_egress_proxy(*newval, host, sizeof(host), &port))
		return true;
	GUC_check_errmsg("invalid value for parameter \"%s\"", "dmshook.proxy");
	GUC_check_errdetail("It must be a proxy that knows CONNECT, as http://host:port.");
	GUC_check_errhint("User and password stand in the file that dmshook.proxy_password_file names.");
	return false;
}

static bool
check_smtp_url(char **newval, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	const char *problem;

	if (*newval == NULL || **newval == '\0' || (problem = dmshook_mail_url(*newval, NULL, NULL)) == NULL)
		return true;
	GUC_check_errdetail("%s", problem);
	return false;
}

static bool
check_addresses(char **newval, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	const char *problem;

	if (*newval == NULL || (problem = dmshook_mail_addresses(*newval, NULL)) == NULL)
		return true;
	GUC_check_errdetail("%s", problem);
	return false;
}

static bool
check_address(char **newval, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	if (*newval != NULL && strchr(*newval, ',') != NULL)
	{
		GUC_check_errdetail("A mail is from one address.");
		return false;
	}
	return check_addresses(newval, extra, source);
}

void
dmshook_settings_init(void)
{
	DefineCustomStringVariable("dmshook.user",
							   "Name of the person on whose behalf the session writes; sent as user.name.",
							   "Set it per transaction: SET LOCAL dmshook.\"user\" = 'jane.smith' (the word is reserved, hence the quotes).",
							   &dmshook_user, "", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("dmshook.user_setting",
							   "Name of another setting that holds the name of the person, where the DMS already sets one.",
							   NULL,
							   &dmshook_user_setting, "", PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("dmshook.capture",
							 "Whether rows written in this session raise events.",
							 "Turn it off for bulk repairs and restores.",
							 &dmshook_capture_enabled, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.dispatchers",
							"Number of dispatchers per database; 0 sends nothing, and events wait.",
							NULL,
							&dmshook_dispatchers, 1, 0, 1, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.max_connections",
							"Maximum number of open HTTPS connections per dispatcher.",
							NULL,
							&dmshook_max_connections, 256, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("dmshook.allow_http",
							 "Whether webhooks may have plain http URLs.",
							 "What is sent over http can be read and changed by anybody on its way.",
							 &dmshook_allow_http, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("dmshook.allowed_networks",
							   "Non-public networks that may be reached, such as 10.20.0.0/16,127.0.0.1.",
							   "Everything that is not a public unicast address is refused otherwise.",
							   &dmshook_allowed_networks, "", PGC_SIGHUP, 0, check_networks, NULL, NULL);
	DefineCustomStringVariable("dmshook.allowed_ports",
							   "Ports of receivers that may be reached, such as 443,8443,1024-.",
							   "Below 1024 are services of other kinds: mail, directories, remote shells.",
							   &dmshook_allowed_ports, "443,8443,1024-", PGC_SUSET, 0, check_ports, NULL, NULL);
	DefineCustomStringVariable("dmshook.source_address",
							   "Address or network interface of this machine that requests come from, so that receivers can permit it.",
							   "Empty: the system chooses.",
							   &dmshook_source_address, "", PGC_SIGHUP, 0, check_source, NULL, NULL);
	DefineCustomStringVariable("dmshook.proxy",
							   "Proxy that all requests go through, by CONNECT, such as http://proxy.example.com:3128.",
							   "The proxy looks names up, so it must refuse what is not public.",
							   &dmshook_proxy, "", PGC_SIGHUP, 0, check_proxy, NULL, NULL);
	DefineCustomStringVariable("dmshook.proxy_password_file",
							   "File with the line user:password for the proxy.",
							   "Only the server's user may read it (0600).",
							   &dmshook_proxy_password_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("dmshook.ca_file",
							   "File with the certificates of trusted authorities, in PEM format.",
							   "Empty: the system's bundle.",
							   &dmshook_ca_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("dmshook.secret_key_file",
							   "File with the keys that encrypt secrets at rest; nobody but the server's user may read it.",
							   "A line is a key of 32 bytes in base64 or hex: the first encrypts, all decrypt. Empty: secrets are stored as they are.",
							   &dmshook_secret_key_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.max_body",
							"Largest request body that is sent.",
							NULL,
							&dmshook_max_body, 1024 * 1024, 1024, 512 * 1024 * 1024, PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.response_limit",
							"How much of a response is logged.",
							NULL,
							&dmshook_response_limit, 16 * 1024, 0, 1024 * 1024, PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.retention",
							"How long events and attempts are kept.",
							"What is still to be delivered is never removed.",
							&dmshook_retention, 30 * 24 * 3600, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.dead_letter_retention",
							"How long deliveries that were given up are kept, with their events.",
							NULL,
							&dmshook_dead_letter_retention, 90 * 24 * 3600, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.payload_retention",
							"How long payloads (rows, bodies, responses) are kept; older ones are blanked, and what happened stays.",
							"What waits is never blanked; dead letters are, and cannot be sent again then. -1: as long as the events.",
							&dmshook_payload_retention, -1, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("dmshook.max_wait",
							"How long a delivery may wait; then it is final as expired, with an alert.",
							"For webhooks that were paused and forgotten: what waits for them must not fill the disk.",
							&dmshook_max_wait, 30 * 24 * 3600, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomStringVariable("dmshook.smtp_url",
							   "Mail server for failure notifications, such as smtp://mail.example.com:587 or smtps://mail.example.com.",
							   "With smtp:// the server must offer STARTTLS, unless it is this machine and no password is given. Empty: no mail.",
							   &dmshook_smtp_url, "", PGC_SIGHUP, 0, check_smtp_url, NULL, NULL);
	DefineCustomStringVariable("dmshook.smtp_password_file",
							   "File with a line user:password for the mail server; nobody but the server's user may read it.",
							   NULL,
							   &dmshook_smtp_password_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("dmshook.alert_mail_to",
							   "Addresses that failure notifications are mailed to, separated by commas.",
							   "A webhook's option alert_to replaces them.",
							   &dmshook_alert_mail_to, "", PGC_SIGHUP, 0, check_addresses, NULL, NULL);
	DefineCustomStringVariable("dmshook.alert_mail_from",
							   "Address that failure notifications are mailed from.",
							   "Empty: dmshook at the name of this machine.",
							   &dmshook_alert_mail_from, "", PGC_SIGHUP, 0, check_address, NULL, NULL);
	DefineCustomIntVariable("dmshook.alert_mail_delay",
							"How long failure notifications are gathered before they are mailed together.",
							NULL,
							&dmshook_alert_mail_delay, 90000, 10, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	MarkGUCPrefixReserved("dmshook");
}
