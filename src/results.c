/*
 * results.c - what a turn writes: attempts, queue rows, positions, health; and
 * what memory makes of it when that has committed.
 *
 * Runs in the dispatcher, inside the transactions of dispatch.c. The order of the
 * statements is consumer.h's (DmshookCommit). A batch that cannot be written is
 * tried again in halves; a single row that cannot is written without
 * what the peer sent, and if even that fails it is set aside and tried alone. Once
 * another one was written and it still fails, the row is at fault and not the log:
 * it is tried again now and then, and stops nobody else.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "deliver.h"
#include "feed.h"
#include "log.h"
#include "results.h"
#include "roster.h"
#include "wake.h"

#define BATCH_MAX 2000
#define ASIDE_MAX 64
#define ASIDE_PAUSE_US (10 * USECS_PER_SEC)
#define ON_TRIAL_MAX 4			/* more results that fail alone: it is the log */

static int	batch = BATCH_MAX;
static uint64 successes = 0;	/* commits with results */

/* Results that failed alone, out of the consumers' line. */
typedef struct Aside
{
	DmshookEntry *entry;
	uint64		successes;		/* when it failed last */
	bool		at_fault;		/* others were written since */
	TimestampTz due;
} Aside;

static Aside aside[ASIDE_MAX];
static int	naside = 0;
static int	trying = -1;		/* which of them the current transaction holds, and nothing else */
static DmshookEntry *failed_entry = NULL;	/* the last that failed alone.. */
static int	failed_alone = 0;	/* ..so many times */
static const DmshookCommit *current = NULL;
static DmshookFlight *tests = NULL; /* in the current transaction, or left over from one that failed */

static char
final_of(DmshookFate fate)
{
	switch (fate)
	{
		case DMSHOOK_FATE_DELIVERED:
			return 'd';
		case DMSHOOK_FATE_EXHAUSTED:
			return 'x';
		case DMSHOOK_FATE_CANCELLED:
			return 'c';
		case DMSHOOK_FATE_RETRY:
			return 0;
	}
	return 0;
}

static void
write_attempts(void)
{
	int			n = current ? current->nresults : 0;
	int			i = 0;
	DmshookAttempt *attempts;

	for (DmshookFlight *test = tests; test; test = test->next)
		n++;
	if (n == 0)
		return;
	attempts = palloc(sizeof(DmshookAttempt) * n);
	for (; current && i < current->nresults; i++)
	{
		DmshookEntry *entry = current->results[i];
		DmshookFlight *flight = entry->data;

		attempts[i] = flight->attempt;
		attempts[i].final = final_of(entry->fate);
	}
	for (DmshookFlight *test = tests; test; test = test->next)
		attempts[i++] = test->attempt;
	dmshook_log_attempts(attempts, n);
	i = current ? current->nresults : 0;
	for (DmshookFlight *test = tests; test; test = test->next)
		test->attempt.id = attempts[i++].id;
}

static void
put_row(DmshookQueueRow *row, const DmshookEntry *entry, TimestampTz due_at)
{
	row->event = entry->id;
	row->webhook = dmshook_consumer_webhook(entry->consumer);
	row->due_at = due_at;
	row->attempts = entry->attempts;
	row->kind = entry->kind;
	row->command = entry->command;
	row->entity = entry->entity;
	row->quick = entry->quick;
}

static void
write_queue(void)
{
	DmshookQueueRow *put = palloc(sizeof(DmshookQueueRow) * (current->nresults + current->nparks + 1));
	DmshookQueueRow *gone = palloc(sizeof(DmshookQueueRow) * (current->nresults + 1));
	int			nput = 0;
	int			ngone = 0;

	for (int i = 0; i < current->nresults; i++)
	{
		DmshookEntry *entry = current->results[i];

		if (entry->fate == DMSHOOK_FATE_RETRY)
			put_row(&put[nput++], entry, entry->due);
		else if (entry->origin == DMSHOOK_FROM_QUEUE)
			put_row(&gone[ngone++], entry, 0);
	}
	for (int i = 0; i < current->nparks; i++)
		put_row(&put[nput++], current->parks[i], DT_NOEND);
	if (ngone > 0)
		dmshook_store_queue_remove(gone, ngone);
	if (nput > 0)
		dmshook_store_queue_put(put, nput);
	for (int i = 0; i < current->npromotes; i++)
	{
		DmshookWebhook *webhook = dmshook_consumer_cookie(current->promotes[i].consumer);
		TimestampTz now = GetCurrentTimestamp();

		if (dmshook_store_queue_promote(webhook->id, current->promotes[i].entity, now))
		{
			/* read it again at once, also should this transaction fail */
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);
			webhook->due_from = Min(webhook->due_from, now);
		}
	}
}

/* Queue rows whose event is no longer in the log are given up. */
static void
write_orphans(List *orphans)
{
	int			n = list_length(orphans);
	DmshookAttempt *attempts = palloc0(sizeof(DmshookAttempt) * n);
	DmshookQueueRow *rows = palloc(sizeof(DmshookQueueRow) * n);

	for (int i = 0; i < n; i++)
	{
		DmshookQueueRow *row = list_nth(orphans, i);
		DmshookAttempt *a = &attempts[i];

		rows[i] = *row;
		a->webhook = row->webhook;
		a->event = row->event;
		a->at = GetCurrentTimestamp();
		a->version = dmshook_roster_find(row->webhook)->row->version;
		a->attempt = row->attempts + 1;
		a->kind = row->kind;
		a->command = row->command;
		a->outcome = DMSHOOK_INTERNAL_ERROR;
		a->final = 'x';
		a->duration_us = a->dns_us = a->connect_us = a->tls_us = a->first_byte_us = -1;
		a->error = "the event is no longer in the log";
		a->hint = "It was removed while the delivery waited; it cannot be sent again.";
	}
	dmshook_log_attempts(attempts, n);
	dmshook_store_queue_remove(rows, n);
}

TimestampTz
dmshook_results_due(void)
{
	TimestampTz due = DT_NOEND;

	for (int i = 0; i < naside; i++)
		due = Min(due, aside[i].at_fault ? aside[i].due : DT_NOBEGIN);
	return due;
}

bool
dmshook_results_on_trial(const DmshookConsumers *set)
{
	int			n = 0;

	for (int i = 0; i < naside; i++)
		n += !aside[i].at_fault;
	return n > 0 && n <= ON_TRIAL_MAX && !dmshook_consumers_dirty(set) && dmshook_consumers_flying(set) == 0;
}

/* One of those set aside that is to be tried now, alone; -1: none. */
static int
to_try(DmshookConsumers *set)
{
	int			found = -1;

	if (naside == 0 || tests != NULL || dmshook_deliver_has_tests() || dmshook_feed_has_orphans())
		return -1;
	for (int i = 0; i < naside; i++)
	{
		bool		due = aside[i].at_fault ? aside[i].due <= GetCurrentTimestamp() :
		aside[i].successes < successes || !dmshook_consumers_dirty(set);

		/* in turn */
		if (due && (found < 0 || aside[i].due < aside[found].due))
			found = i;
	}
	return found;
}

void
dmshook_results_write(DmshookConsumers *set)
{
	List	   *orphans = NIL;
	DmshookFlight *more = NULL;

	trying = to_try(set);
	if (trying >= 0)
		dmshook_entry_take_back(aside[trying].entry);
	else
	{
		orphans = dmshook_feed_take_orphans();
		more = dmshook_deliver_take_tests();
	}
	while (more)
	{
		DmshookFlight *test = more;

		more = test->next;
		test->next = tests;
		tests = test;
	}
	current = dmshook_commit_begin(set, trying >= 0 ? 1 : batch);
	write_attempts();
	if (current)
		write_queue();
	if (orphans != NIL)
		write_orphans(orphans);
}

static void
committed(void)
{
	DmshookStats *stats = dmshook_wake_my_stats();

	for (int i = 0; current && i < current->nresults; i++)
	{
		DmshookEntry *entry = current->results[i];
		DmshookFlight *flight = entry->data;
		DmshookWebhook *webhook = flight->webhook;

		webhook->in_commit++;
		if (entry->fate == DMSHOOK_FATE_RETRY)
		{
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, Min(webhook->agenda.at[DMSHOOK_ALARM_QUEUE], entry->due));
			webhook->due_from = Min(webhook->due_from, entry->due);
		}
		stats->deliveries++;
	}
	for (int i = 0; current && i < current->nresults; i++)
	{
		DmshookFlight *flight = current->results[i]->data;
		DmshookWebhook *webhook = flight->webhook;

		/* a webhook's window follows what it gets done between two commits */
		if (webhook->in_commit > 0)
		{
			webhook->committed = Max(webhook->committed - webhook->committed / 8, webhook->in_commit);
			webhook->in_commit = 0;
			dmshook_agenda_add(webhook, DMSHOOK_TODO_RESIZE);
		}
		current->results[i]->data = NULL;
		dmshook_flight_free(flight);
	}
	while (tests)
	{
		DmshookFlight *test = tests;

		tests = test->next;
		dmshook_wake_answer_test(test->ticket, DMSHOOK_TEST_DONE, test->attempt.id);
		dmshook_flight_free(test);
		stats->deliveries++;
	}
	if (current && current->nresults > 0)
		successes++;
	if (trying >= 0)
		aside[trying] = aside[--naside];
	else
		batch = Min(batch * 2, BATCH_MAX);
	failed_entry = NULL;
}

/* The one that was tried alone failed again. True: it is at fault, for others were written meanwhile. */
static bool
still_fails(Aside *row, const char *failure)
{
	const DmshookFlight *flight = row->entry->data;

	if (!row->at_fault && row->successes < successes)
	{
		row->at_fault = true;
		ereport(WARNING,
				(errmsg("the result of a delivery could not be logged: %s", failure),
				 errdetail("Event " INT64_FORMAT ", webhook " "\"%s\".", row->entry->id, flight->webhook->row->name),
				 errhint("Others can be; this one is tried again every ten seconds.")));
	}
	row->successes = successes;
	row->due = GetCurrentTimestamp() + ASIDE_PAUSE_US;
	return row->at_fault;
}

/*
 * Not written: fewer the next time, down to one, and that one without what may be at fault.
 * True: it is known that it is this one.
 */
static bool
not_committed(const char *failure, DmshookEntry **out)
{
	int			n = current ? current->nresults : 0;

	*out = NULL;
	for (DmshookFlight *test = tests; test; test = test->next)
		dmshook_flight_strip(test);
	if (trying >= 0)
	{
		*out = aside[trying].entry;
		return still_fails(&aside[trying], failure);
	}
	batch = Max(1, Min(n, batch) / 2);
	if (n != 1)
		return false;
	dmshook_flight_strip(current->results[0]->data);
	if (failed_entry != current->results[0])
		failed_alone = 0;
	failed_entry = current->results[0];
	if (++failed_alone >= 2 && naside < ASIDE_MAX)
	{
		aside[naside++] = (Aside)
		{
			.entry = failed_entry, .successes = successes, .due = GetCurrentTimestamp()
		};
		*out = failed_entry;
	}
	return false;
}

bool
dmshook_results_end(DmshookConsumers *set, const char *failure)
{
	DmshookEntry *out = NULL;
	DmshookEntry *postpone = NULL;
	DmshookWebhook *webhook;
	bool		fine = true;

	if (failure == NULL)
		committed();
	else
	{
		fine = not_committed(failure, &out);
		if (out == NULL && failed_entry && failed_alone >= 2)
			postpone = failed_entry;
	}
	if (current)
		dmshook_commit_end(set, failure == NULL);
	current = NULL;
	trying = -1;
	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_RESIZE, NULL)) != NULL)
	{
		dmshook_agenda_drop(webhook, DMSHOOK_TODO_RESIZE);
		dmshook_roster_apply(webhook);
	}
	if (out)
		dmshook_entry_set_aside(out);
	else if (postpone)
		dmshook_entry_postpone(postpone);
	if (out || postpone)
		failed_entry = NULL;
	return fine;
}

/* ------------------------------------------------------ positions and health */

void
dmshook_results_positions(const DmshookPersist *persist, DmshookStoredPlace *reader, bool force)
{
	if (persist == NULL || !persist->low_changed)
	{
		if (force)
			dmshook_store_place(reader, reader->low);
	}
	else
		dmshook_store_place(reader, persist->low);
	for (int i = 0; persist && i < persist->nplaces; i++)
	{
		const DmshookPlace *place = &persist->places[i];
		DmshookWebhook *webhook = dmshook_consumer_cookie(place->consumer);

		dmshook_store_place(&webhook->place, place->store && !webhook->dropped ? place->low : -1);
	}
}

/* What the policy stands at, also where no request but an admin changed it. */
static void
take_policy(DmshookState *state, const DmshookPolicyStored *stored)
{
	state->failures = stored->failures;
	state->failing_since = stored->failing_since;
	state->circuit_open_since = stored->circuit_open_since;
	state->next_probe_at = stored->next_probe_at;
	state->probes = stored->probes;
}

void
dmshook_results_health(void)
{
	DmshookWebhook *webhook;
	TimestampTz now = GetCurrentTimestamp();

	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_STATE, NULL)) != NULL)
	{
		dmshook_agenda_drop(webhook, DMSHOOK_TODO_STATE);
		if (webhook->dropped)
			continue;
		take_policy(&webhook->state, &webhook->policy.stored);
		dmshook_store_state(&webhook->state);
		dmshook_agenda_add(webhook, DMSHOOK_TODO_COUNTED);
		webhook->count_ok_written = webhook->count_ok;
		webhook->count_failed_written = webhook->count_failed;
		if (webhook->count_ok + webhook->count_failed > 0)
			dmshook_store_count(webhook->id, now, webhook->count_ok, webhook->count_failed);
	}
}

void
dmshook_results_health_end(bool committed)
{
	DmshookWebhook *webhook;

	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_COUNTED, NULL)) != NULL)
	{
		dmshook_agenda_drop(webhook, DMSHOOK_TODO_COUNTED);
		if (committed)
		{
			webhook->count_ok -= webhook->count_ok_written;
			webhook->count_failed -= webhook->count_failed_written;
		}
		webhook->count_ok_written = webhook->count_failed_written = 0;
	}
}

void
dmshook_results_forget(void)
{
	DmshookWebhook *webhook = NULL;

	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
	{
		ItemPointerSetInvalid(&webhook->place.tid);
		ItemPointerSetInvalid(&webhook->state.tid);
		dmshook_agenda_add(webhook, DMSHOOK_TODO_STATE);
	}
}
