/*
 * settings.h - the configuration parameters of dmshook. See settings.c.
 *
 * A setting dmshook.x is the C variable dmshook_x.
 */
#ifndef DMSHOOK_SETTINGS_H
#define DMSHOOK_SETTINGS_H

extern char *dmshook_user;
extern char *dmshook_user_setting;
extern bool dmshook_capture_enabled;	/* dmshook.capture; dmshook_capture() is the trigger */
extern int	dmshook_dispatchers;
extern int	dmshook_max_connections;
extern bool dmshook_allow_http;
extern char *dmshook_allowed_networks;
extern char *dmshook_allowed_ports;
extern char *dmshook_source_address;
extern char *dmshook_proxy;
extern char *dmshook_proxy_password_file;
extern char *dmshook_ca_file;
extern int	dmshook_max_body;	/* bytes */
extern int	dmshook_response_limit; /* bytes */
extern int	dmshook_retention;	/* seconds; so the next two */
extern int	dmshook_dead_letter_retention;
extern int	dmshook_payload_retention;	/* -1: as the events; seconds */
extern int	dmshook_max_wait;
extern char *dmshook_secret_key_file;
extern char *dmshook_smtp_url;
extern char *dmshook_smtp_password_file;
extern char *dmshook_alert_mail_to;
extern char *dmshook_alert_mail_from;
extern int	dmshook_alert_mail_delay;	/* ms */

/* Define them all. Once, from _PG_init(). */
extern void dmshook_settings_init(void);

#endif							/* DMSHOOK_SETTINGS_H */
