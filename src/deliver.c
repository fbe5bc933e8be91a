/*
 * deliver.c - from an open delivery to a request, and from its end to a row of
 * the log.
 *
 * Runs in the dispatcher, outside transactions. The decision when to try again is
 * schedule.c's, taken here the moment a request ends, so that it can be
 * committed together with the attempt. What cannot be built ends at once as an
 * attempt that says why. Nothing here waits.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "deliver.h"
#include "transform.h"
#include "notice.h"
#include "settings.h"

#define SCARCE_PAUSE_US	50000	/* no connection to spare: ask again after that */
#define UNPROVEN_US		5000	/* between two requests of webhooks that fail */

static MemoryContext deliver_context = NULL;
static DmshookFlight *ended_tests = NULL;
static dlist_head flights = DLIST_STATIC_INIT(flights);
static dlist_head prepared = DLIST_STATIC_INIT(prepared);	/* wait for a connection, with body and token */

void
dmshook_deliver_init(MemoryContext parent)
{
	deliver_context = AllocSetContextCreate(parent, "dmshook requests", ALLOCSET_DEFAULT_SIZES);
	ended_tests = NULL;
	dlist_init(&flights);
	dlist_init(&prepared);
}

/* Its leave was not used. */
static void
untake(DmshookWebhook *webhook, const DmshookProfile *profile, bool probe)
{
	dmshook_policy_untake(&profile->options.policy, &webhook->policy, probe);
	dmshook_roster_ask_again(webhook);
}

static DmshookFlight *
make_flight(DmshookWebhook *webhook, DmshookCached *event)
{
	DmshookFlight *flight = MemoryContextAllocZero(deliver_context, sizeof(DmshookFlight));
	DmshookAttempt *a = &flight->attempt;

	dlist_push_tail(&flights, &flight->node);
	flight->webhook = webhook;
	flight->profile = webhook->profile;
	flight->event = event;
	dmshook_profile_keep(flight->profile);
	dmshook_cache_keep(event);
	a->webhook = webhook->id;
	a->event = event->id;
	a->nonce = event->nonce;
	a->version = flight->profile->version;
	a->attempt = 1;
	a->duration_us = a->dns_us = a->connect_us = a->tls_us = a->first_byte_us = -1;
	return flight;
}

void
dmshook_flight_free(DmshookFlight *flight)
{
	if (flight->token)
		dmshook_token_drop(flight->token);
	dmshook_cache_drop(flight->event);
	dmshook_profile_drop(flight->profile);
	dlist_delete(&flight->node);
	if (flight->text)
		pfree(flight->text);
	if (flight->query)
		pfree(flight->query);
	if (flight->body)
		pfree(flight->body);
	pfree(flight);
}

void
dmshook_flight_strip(DmshookFlight *flight)
{
	flight->attempt.response_headers = NULL;
	flight->attempt.response_body = NULL;
	flight->attempt.body = NULL;
}

/* Its event was erased: what came of it is logged without data of the event; an error of ours may quote some. */
static void
forget_data(DmshookFlight *flight)
{
	dmshook_flight_strip(flight);
	if (flight->attempt.outcome == DMSHOOK_INTERNAL_ERROR && flight->attempt.error)
	{
		flight->attempt.error = "erased";
		flight->attempt.hint = NULL;
	}
}

void
dmshook_deliver_erase(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &flights)
	{
		DmshookFlight *flight = dlist_container(DmshookFlight, node, iter.cur);

		/* a test does not say which event it was made of */
		if (flight->entry == NULL)
			flight->event->erased = true;
		if (flight->event->erased)
			forget_data(flight);
	}
}

/* What of an outcome is the receiver's doing; the rest says nothing about it. */
static bool
receivers_fault(DmshookOutcome outcome)
{
	return outcome != DMSHOOK_INTERNAL_ERROR && outcome != DMSHOOK_TOO_LARGE;
}

/* The state and due time of an entry whose request ended, and what follows for its webhook. */
static void
decide(DmshookFlight *flight, int64 retry_after)
{
	DmshookWebhook *webhook = flight->webhook;
	DmshookEntry *entry = flight->entry;
	DmshookAttempt *a = &flight->attempt;
	const DmshookOptions *options = &flight->profile->options;
	DmshookVerdict verdict;
	DmshookEnd	end = {
		.event = a->event,
		.outcome = a->outcome,
		.status = a->status,
		.started = receivers_fault(a->outcome) ? a->at : PG_INT64_MIN,
		.retry_after = retry_after,
		.attempts = a->attempt,
		.quick = entry->quick,
		.probe = flight->probe,
		.notice = flight->event->type.len > 8 && memcmp(flight->event->type.data, "webhook.", 8) == 0,
		.random = {pg_prng_double(&pg_global_prng_state), pg_prng_double(&pg_global_prng_state)}
	};

	dmshook_policy_end(&options->policy, &options->plan, &webhook->policy, GetCurrentTimestamp(), &end, &verdict);
	dmshook_notice_add(webhook, flight, &verdict);
	dmshook_roster_apply(webhook);
	dmshook_roster_ask_again(webhook);

	entry->attempts = a->attempt;
	entry->quick = verdict.quick;
	entry->due = verdict.due;
	dmshook_entry_finish(entry,
						 verdict.further == DMSHOOK_FURTHER_DELIVERED ? DMSHOOK_ENDED_OK :
						 verdict.further == DMSHOOK_FURTHER_RETRY ? DMSHOOK_FAILED : DMSHOOK_DEAD);
}

static void
note_health(DmshookFlight *flight)
{
	DmshookState *state = &flight->webhook->state;
	DmshookAttempt *a = &flight->attempt;
	TimestampTz now = GetCurrentTimestamp();

	dmshook_agenda_add(flight->webhook, DMSHOOK_TODO_STATE);
	if (a->outcome == DMSHOOK_OK)
	{
		flight->webhook->count_ok++;
		state->delivered++;
		state->last_success_at = now;
		return;
	}
	flight->webhook->count_failed++;
	state->failed++;
	state->last_failure_at = now;
	strlcpy(state->last_error, a->error ? a->error : "", sizeof(state->last_error));
	strlcpy(state->last_hint, a->hint ? a->hint : "", sizeof(state->last_hint));
	state->quotes = a->outcome == DMSHOOK_INTERNAL_ERROR;
}

/* Known where this request made its connection: until when the receiver's certificate is valid. */
static void
note_certificate(DmshookFlight *flight, int64 expires)
{
	if (expires == 0 || flight->profile != flight->webhook->profile)
		return;
	flight->webhook->state.certificate_expires_at = time_t_to_timestamptz((pg_time_t) expires);
	dmshook_agenda_add(flight->webhook, DMSHOOK_TODO_STATE);
}

static void
end_flight(DmshookFlight *flight, int64 retry_after)
{
	if (flight->event->erased)
		forget_data(flight);
	if (flight->entry)
	{
		decide(flight, retry_after);
		note_health(flight);
	}
	else
	{
		/* tests say nothing about deliveries, but a good one is worth a probe */
		if (flight->attempt.outcome == DMSHOOK_OK)
			dmshook_policy_nudge(&flight->webhook->policy, GetCurrentTimestamp());
		dmshook_roster_ask_again(flight->webhook);
		flight->next = ended_tests;
		ended_tests = flight;
	}
}

/* No request can be made: an attempt that says why. */
static void
end_without_request(DmshookFlight *flight, DmshookOutcome outcome, const char *error, const char *hint)
{
	DmshookAttempt *a = &flight->attempt;

	a->at = GetCurrentTimestamp();
	a->outcome = outcome;
	flight->text = MemoryContextStrdup(deliver_context, error);
	a->error = flight->text;
	a->hint = hint;
	end_flight(flight, -1);
}

/* Headers of this very request; false: it cannot be signed. */
static bool
set_headers(DmshookFlight *flight, DmshookTransfer *transfer, const void *body, size_t len)
{
	DmshookAttempt *a = &flight->attempt;
	char		id[DMSHOOK_MESSAGE_ID_LEN + 1];
	char		number[MAXINT8LEN + 1];
	int64		seconds = timestamptz_to_time_t(a->at);

	dmshook_message_id(a->event, a->nonce, id);
	dmshook_request_header(transfer, "webhook-id: ", id, DMSHOOK_MESSAGE_ID_LEN);
	dmshook_request_header(transfer, "webhook-timestamp: ", number, pg_lltoa(seconds, number));
	if (!dmshook_keys_sign(&flight->profile->keys, transfer, id, a->at, seconds, body, len))
		return false;
	dmshook_request_header(transfer, "dmshook-event: ", flight->event->type.data, flight->event->type.len);
	dmshook_request_header(transfer, "dmshook-attempt: ", number, pg_ltoa(a->attempt, number));
	if (flight->entry == NULL)
		dmshook_request_header(transfer, "dmshook-test: ", "1", 1);
	return true;
}

/* The webhook's filter could not say whether the event is for it; or said at last that it is not. */
static void
end_filtered(DmshookFlight *flight, const DmshookFault *fault)
{
	DmshookAttempt *a = &flight->attempt;

	if (!fault->rejected)
	{
		end_without_request(flight, DMSHOOK_INTERNAL_ERROR, fault->message,
							"Mend the filter with dmshook.alter_webhook(): what failed is judged by the new one when it is tried again.");
		return;
	}
	/* nothing was sent, so there is no body, also where a transform has made one */
	dmshook_flight_strip(flight);
	a->at = GetCurrentTimestamp();
	a->attempt = flight->entry->attempts;
	flight->text = MemoryContextStrdup(deliver_context, fault->message);
	a->error = flight->text;
	a->kind = flight->entry->kind;
	untake(flight->webhook, flight->profile, flight->probe);
	flight->entry->cancelled = true;
	dmshook_entry_finish(flight->entry, DMSHOOK_FAILED);
}

/* Its filter failed in the helper too, or rests. */
static void
end_unjudged(DmshookFlight *flight, const char *error)
{
	DmshookFault fault = {.message = psprintf("the filter failed: %s", error)};

	end_filtered(flight, &fault);
	pfree(fault.message);
}

/* Can there be a request at all? If not it has ended, as an attempt that says why. */
static bool
ended_before(DmshookFlight *flight, int len)
{
	DmshookProfile *profile = flight->profile;
	DmshookCached *event = flight->event;
	const DmshookFault *fault = flight->entry ? dmshook_cache_fault(event, flight->webhook->id) : NULL;
	DmshookFault erased = {.rejected = true, .message = "the event was erased"};

	if (fault && fault->unjudged)
		fault = NULL;			/* judged by now */
	if (profile->problem)
		end_without_request(flight, DMSHOOK_INTERNAL_ERROR, profile->problem,
							profile->problem_hint ? profile->problem_hint :
							"The webhook's configuration cannot be used: set it again with dmshook.alter_webhook().");
	else if (event->erased && flight->entry)
		end_filtered(flight, &erased);
	else if (fault)
		end_filtered(flight, fault);
	else if (event->problem && (profile->has_body || !event->too_large))
		end_without_request(flight, event->too_large ? DMSHOOK_TOO_LARGE : DMSHOOK_INTERNAL_ERROR, event->problem,
							event->too_large ?
							"Leave large columns out with \"exclude\" in the watch_...() call, or raise dmshook.max_body." :
							"The row cannot be written as UTF-8: correct its text, or leave the column out with \"exclude\" in the watch_...() call.");
	else if (!profile->has_body && event->query == NULL)
		/* it was read before the webhook's method changed; the retry reads it again */
		end_without_request(flight, DMSHOOK_INTERNAL_ERROR, "the query string was not built",
							"Nothing is to be done: it is tried again.");
	else if (len > dmshook_max_body)
		/* only just: as a CloudEvent it is a little longer */
		end_without_request(flight, DMSHOOK_TOO_LARGE, "the body, as the options want it, is larger than dmshook.max_body allows",
							"Leave large columns out with \"exclude\" in the watch_...() call, or raise dmshook.max_body.");
	else
		return false;
	return true;
}

/* Is a helper to say first whether the event is for the webhook? True: it was asked, or the flight has ended. */
static bool
asks_first(DmshookFlight *flight)
{
	const DmshookFault *fault = flight->entry && !flight->judged ? dmshook_cache_fault(flight->event, flight->webhook->id) : NULL;
	char	   *error;

	if (fault == NULL || !fault->unjudged)
		return false;
	if (dmshook_judge_ask(flight->webhook, flight->entry, flight->event, flight, &error))
		return true;
	flight->judged = true;
	if (error == NULL)
		return false;
	end_unjudged(flight, error);
	return true;
}

/* Start the request of a flight. False: no connection is free, nothing was done. */
static bool
start(DmshookFlight *flight)
{
	DmshookProfile *profile = flight->profile;
	DmshookCached *event = flight->event;
	DmshookTransfer *transfer;
	int			len = 0;
	const char *body = profile->has_body ? dmshook_cache_body(event, profile->options.shape, &len) : NULL;

	if (asks_first(flight))
		return true;
	if (flight->body)
	{
		body = flight->body;
		len = flight->body_len;
	}
	if (ended_before(flight, len))
		return true;
	if (profile->options.transform && body && !flight->body)
	{
		/* not yet: dmshook_deliver_prepared() goes on */
		flight->attempt.body = NULL;
		dmshook_transform_ask(flight, flight->webhook->id, flight->webhook->transform_slow, profile->options.transform, profile->transform_role, body, len);
		return true;
	}
	if (profile->oauth && !flight->token && !(flight->token = dmshook_oauth_token(profile->oauth)))
	{
		dmshook_oauth_wait(profile->oauth, &flight->ready, flight->entry == NULL);
		return true;
	}
	transfer = dmshook_transport_get(&profile->endpoint);
	if (transfer == NULL)
		return false;
	transfer->credential = flight->token ? flight->token->line : NULL;
	flight->attempt.at = GetCurrentTimestamp();
	transfer->nheaders = 0;
	if (!set_headers(flight, transfer, body ? body : "", len))
	{
		dmshook_transport_put(transfer);
		end_without_request(flight, DMSHOOK_INTERNAL_ERROR, "the request could not be signed",
							"Look into the server log; memory may be short.");
		return true;
	}
	if (!profile->has_body)
	{
		/* it begins with '?', made for a URL without a query of its own */
		transfer->query = event->query;
		if (profile->url_has_query)
		{
			if (flight->query)
				pfree(flight->query);
			flight->query = MemoryContextStrdup(deliver_context, event->query);
			flight->query[0] = '&';
			transfer->query = flight->query;
		}
	}
	else
		transfer->query = NULL;
	transfer->body = body;
	transfer->body_len = len;
	transfer->owner = flight;
	flight->transfer = transfer;
	dmshook_transport_start(transfer);
	return true;
}

/*
 * Three quarters of the connections are kept for webhooks that work: those that hang must not take them
 * all, however many they are; and each that times out costs the others a TLS handshake.
 */
static bool
connections_scarce(const DmshookWebhook *webhook)
{
	return dmshook_transport_in_flight() >= dmshook_max_connections / 4 &&
		dmshook_consumer_flying(webhook->consumer) > 1 &&
		(webhook->state.last_success_at == 0 ||
		 webhook->state.last_success_at < webhook->state.last_failure_at ||
		 webhook->state.last_success_at < GetCurrentTimestamp() - USECS_PER_SEC);
}

/*
 * What hangs or fails comes to an end many requests at a time, and each of the next ones costs
 * a TLS handshake: two milliseconds, in which nobody else is served. So webhooks that
 * have not had a success since they last failed begin their further requests in turn, one a few
 * milliseconds.
 */
bool
dmshook_deliver_in_turn(const DmshookWebhook *webhook, TimestampTz now)
{
	const DmshookState *state = &webhook->state;

	return dmshook_consumer_flying(webhook->consumer) > 0 &&
		(state->last_success_at == 0 ||
		 (state->last_success_at < state->last_failure_at && state->last_success_at <= now - USECS_PER_SEC));
}

/* Until when must this one wait? 0: it may begin. */
static TimestampTz
turn_of(DmshookWebhook *webhook, TimestampTz now)
{
	static TimestampTz next_turn = 0;

	if (!dmshook_deliver_in_turn(webhook, now))
		return webhook->turn = 0;
	if (webhook->turn == 0)
	{
		next_turn = Max(next_turn, now);
		webhook->turn = next_turn;
		next_turn += UNPROVEN_US;
	}
	if (webhook->turn > now)
		return webhook->turn;
	return webhook->turn = 0;
}

TimestampTz
dmshook_deliver_hold(DmshookWebhook *webhook, TimestampTz now)
{
	if (connections_scarce(webhook))
		return now + SCARCE_PAUSE_US;
	return webhook->turn > now && dmshook_deliver_in_turn(webhook, now) ? webhook->turn : 0;
}

DmshookStart
dmshook_deliver_start(DmshookEntry *entry)
{
	DmshookWebhook *webhook = dmshook_consumer_cookie(entry->consumer);
	const DmshookPolicy *policy = &webhook->profile->options.policy;
	TimestampTz now = GetCurrentTimestamp();
	DmshookFlight *flight;
	DmshookAttempt *a;
	TimestampTz until = connections_scarce(webhook) ? now + SCARCE_PAUSE_US : turn_of(webhook, now);
	bool		probe;

	if (until != 0 || !dmshook_policy_take(policy, &webhook->policy, now, &probe))
	{
		dmshook_roster_gate(webhook, now, until);
		return DMSHOOK_NOT_NOW;
	}
	flight = make_flight(webhook, entry->payload);
	flight->entry = entry;
	flight->probe = probe;
	a = &flight->attempt;
	a->attempt = entry->attempts + 1;
	a->kind = probe ? 'p' : entry->kind;
	a->command = entry->command;
	entry->data = flight;
	if (start(flight))
		return DMSHOOK_STARTED;
	entry->data = NULL;
	untake(webhook, webhook->profile, probe);
	dmshook_flight_free(flight);
	return DMSHOOK_NO_CONNECTION;
}

void
dmshook_deliver_cancelled(DmshookEntry *entry)
{
	DmshookFlight *flight = make_flight(dmshook_consumer_cookie(entry->consumer), entry->payload);
	DmshookAttempt *a = &flight->attempt;

	flight->entry = entry;
	a->at = GetCurrentTimestamp();
	a->attempt = entry->attempts;
	a->kind = entry->kind;
	a->command = entry->command;
	entry->data = flight;
	dmshook_entry_finish(entry, DMSHOOK_FAILED);
}

bool
dmshook_deliver_start_test(DmshookWebhook *webhook, DmshookCached *event, int ticket)
{
	DmshookFlight *flight = make_flight(webhook, event);

	flight->ticket = ticket;
	flight->attempt.kind = 't';
	if (flight->profile->has_body)
	{
		flight->attempt.body = dmshook_cache_body(event, flight->profile->options.shape, &flight->attempt.body_len);
	}
	else if (event->query)
	{
		/* the log shows with it where the test went */
		flight->attempt.body = event->query;
		flight->attempt.body_len = strlen(event->query);
	}
	if (start(flight))
		return true;
	dmshook_flight_free(flight);
	return false;
}

/* A helper has answered: the flight has its body now, or has ended. */
static void
take_body(const DmshookTransformed *result)
{
	DmshookFlight *flight = result->owner;
	DmshookWebhook *webhook = flight->webhook;

	if (webhook->profile == flight->profile)
	{
		webhook->transform_us += (result->duration_us - webhook->transform_us) / 8;
		if (result->timed_out || webhook->transform_us > DMSHOOK_TRANSFORM_SLOW_US)
			webhook->transform_slow = true;
		else if (webhook->transform_us < DMSHOOK_TRANSFORM_SLOW_US / 4)
			webhook->transform_slow = false;
	}
	if (result->body == NULL)
	{
		end_without_request(flight, DMSHOOK_INTERNAL_ERROR, result->error, result->hint);
		return;
	}
	flight->body = MemoryContextAllocHuge(deliver_context, result->len + 1);
	memcpy(flight->body, result->body, result->len + 1);
	flight->body_len = result->len;
	flight->attempt.body = flight->body;
	flight->attempt.body_len = flight->body_len;
	dlist_push_tail(&prepared, &flight->ready);
}

/* A token came for those that waited, or there is none: then they have ended. */
static void
take_token(DmshookTransfer *transfer)
{
	DmshookOauthEnd end;

	dmshook_oauth_finished(transfer, &end);
	while (!dlist_is_empty(&end.waited))
	{
		DmshookFlight *flight = dlist_container(DmshookFlight, ready, dlist_pop_head_node(&end.waited));

		if (end.token == NULL)
		{
			end_without_request(flight, end.outcome, end.error, end.hint);
			continue;
		}
		flight->token = end.token;
		flight->token->refs++;
		dlist_push_tail(&prepared, &flight->ready);
	}
}

/* A helper has judged: the flight goes on, has ended, or has never been. True: that. */
static bool
take_verdict(const DmshookTransformed *result)
{
	DmshookFlight *flight = result->owner;
	DmshookEntry *entry = flight->entry;
	DmshookFault rejected = {.rejected = true, .message = entry->attempts > 0 ? DMSHOOK_REJECTED : "the filter rejects the event"};

	flight->judged = true;
	dmshook_judge_answered(flight->webhook, result->duration_us, result->timed_out);
	if (result->verdict == DMSHOOK_FILTER_ERROR)
		end_unjudged(flight, result->error);
	else if (result->verdict == DMSHOOK_FILTER_TRUE || (entry->origin == DMSHOOK_FROM_QUEUE && entry->kind != 'd'))
		dlist_push_tail(&prepared, &flight->ready);
	else if (entry->origin == DMSHOOK_FROM_QUEUE)
		end_filtered(flight, &rejected);
	else
	{
		untake(flight->webhook, flight->profile, flight->probe);
		entry->data = NULL;
		dmshook_entry_reject(entry);
		dmshook_flight_free(flight);
		return true;
	}
	return false;
}

void
dmshook_deliver_prepared(bool open, bool *rejected)
{
	DmshookTransformed result;

	while (dmshook_transform_finished(&result))
	{
		if (result.filter)
			*rejected |= take_verdict(&result);
		else
			take_body(&result);
	}
	while (open && !dlist_is_empty(&prepared))
	{
		DmshookFlight *flight = dlist_container(DmshookFlight, ready, dlist_pop_head_node(&prepared));

		if (!start(flight))
		{
			dlist_push_head(&prepared, &flight->ready);
			break;				/* all connections are busy */
		}
	}
	dmshook_oauth_run();
}

/* The receiver refused the access token: the request is to be sent again with another, as the same attempt. */
static bool
renews(DmshookFlight *flight, DmshookTransfer *transfer)
{
	int			status = transfer->outcome == DMSHOOK_OK ? 200 : transfer->status;

	if (flight->token == NULL || !dmshook_oauth_refused(flight->profile->oauth, flight->token, status) || flight->renewed)
		return false;
	dmshook_transport_put(transfer);
	dmshook_token_drop(flight->token);
	flight->token = NULL;
	flight->transfer = NULL;
	flight->renewed = true;
	dlist_push_tail(&prepared, &flight->ready);
	return true;
}

/* Room for the strings of a result, in one piece. */
static char *
put_bytes(char **at, const char *bytes, size_t len)
{
	char	   *copy = *at;

	memcpy(copy, bytes, len);
	copy[len] = '\0';
	*at += len + 1;
	return copy;
}

static const char *
put_string(char **at, const char *string)
{
	return string[0] == '\0' ? NULL : put_bytes(at, string, strlen(string));
}

static void
apply_mask(DmshookAttempt *a, const DmshookMask *mask)
{
	if (a->response_headers)
		a->response_headers_len = dmshook_mask_apply(mask, unconstify(char *, a->response_headers), a->response_headers_len);
	if (a->response_body)
		a->response_body_len = dmshook_mask_apply(mask, unconstify(char *, a->response_body), a->response_body_len);
	/* a redirect is told */
	if (a->error)
		dmshook_mask_apply(mask, unconstify(char *, a->error), strlen(a->error));
}

/* What the receiver sent back of our own secrets. The strings are our copies, made just now. */
static void
mask_secrets(DmshookFlight *flight)
{
	if (flight->profile->mask)
		apply_mask(&flight->attempt, flight->profile->mask);
	if (flight->token)
	{
		DmshookMask mask = {0};
		const char *token = flight->token->line + strlen(DMSHOOK_TOKEN_HEADER);

		dmshook_mask_add(&mask, token, strlen(token));
		apply_mask(&flight->attempt, &mask);
	}
}

/* What came of a request, out of libcurl's hands. */
static void
copy_result(DmshookFlight *flight, DmshookTransfer *transfer)
{
	DmshookAttempt *a = &flight->attempt;
	Size		size = strlen(transfer->tls_version) + strlen(transfer->local_address) +
	strlen(transfer->remote_address) + strlen(transfer->error) + strlen(transfer->hint) +
	transfer->response_headers_len + transfer->response_body_len + 7;
	char	   *at = flight->text = MemoryContextAlloc(deliver_context, size);

	a->outcome = transfer->outcome;
	a->status = transfer->status;
	a->http_version = transfer->http_version;
	a->duration_us = transfer->duration_us;
	a->dns_us = transfer->dns_us;
	a->connect_us = transfer->connect_us;
	a->tls_us = transfer->tls_us;
	a->first_byte_us = transfer->first_byte_us;
	a->tls_cipher = transfer->tls_cipher;
	note_certificate(flight, transfer->certificate_expires);
	a->tls_version = put_string(&at, transfer->tls_version);
	a->local_address = put_string(&at, transfer->local_address);
	a->remote_address = put_string(&at, transfer->remote_address);
	a->error = put_string(&at, transfer->error);
	a->hint = put_string(&at, transfer->hint);
	if (transfer->response_headers)
	{
		a->response_headers = put_bytes(&at, transfer->response_headers, transfer->response_headers_len);
		a->response_headers_len = transfer->response_headers_len;
	}
	if (transfer->response_body)
	{
		a->response_body = put_bytes(&at, transfer->response_body, transfer->response_body_len);
		a->response_body_len = transfer->response_body_len;
	}
	mask_secrets(flight);
}

void
dmshook_deliver_finished(DmshookTransfer *transfer)
{
	DmshookFlight *flight = transfer->owner;
	int64		retry_after;

	if (transfer->token)
	{
		take_token(transfer);
		return;
	}
	if (renews(flight, transfer))
		return;
	copy_result(flight, transfer);
	if (flight->renewed && transfer->status == 401)
		flight->attempt.hint = "The receiver refuses a new access token, too: check scope and audience in auth, and what it says in response_body.";
	flight->transfer = NULL;
	retry_after = transfer->retry_after_ms;
	dmshook_transport_put(transfer);
	end_flight(flight, retry_after);
}

DmshookFlight *
dmshook_deliver_take_tests(void)
{
	DmshookFlight *tests = ended_tests;

	ended_tests = NULL;
	return tests;
}

bool
dmshook_deliver_has_tests(void)
{
	return ended_tests != NULL;
}

bool
dmshook_deliver_busy(const DmshookWebhook *webhook)
{
	dlist_iter	iter;

	dlist_foreach(iter, &flights)
	{
		if (dlist_container(DmshookFlight, node, iter.cur)->webhook == webhook)
			return true;
	}
	return false;
}

bool
dmshook_deliver_busy_since(const DmshookWebhook *webhook, TimestampTz before)
{
	dlist_iter	iter;

	dlist_foreach(iter, &flights)
	{
		DmshookFlight *flight = dlist_container(DmshookFlight, node, iter.cur);

		if (flight->webhook == webhook && flight->entry && flight->attempt.at < before)
			return true;
	}
	return false;
}
