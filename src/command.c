/*
 * command.c - what admins asked for: reload, drop, cancel, send again.
 *
 * Runs in the dispatcher. A command's statements and its done_at are one
 * transaction, and memory follows only after that has committed, so a
 * crash at any point leaves a command either done or to be done. What a command
 * means for a delivery in memory is consumer.c's rule; what it means in the tables is here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "command.h"
#include "deliver.h"
#include "erase.h"
#include "log.h"
#include "replay.h"
#include "roster.h"

/* What memory has still to hear of a command. */
typedef struct Effect
{
	DmshookWebhook *webhook;
	bool		drop;
	bool		cancel_all;
	bool		keep_replays;	/* with cancel_all */
	int64		upto;			/* cancel_all */
	int64		event;			/* cancel; 0: not */
	const DmshookCommand *replay;	/* to begin; NULL: none */
	bool		reorder;		/* ordering was switched */
	List	   *entities;		/* switched on: rows of the queue, counted */
	bool		look;			/* there are new rows in the queue */
	List	   *removed;		/* queue rows that are gone: DmshookQueueRow */
} Effect;

void
dmshook_commands_reload(DmshookConsumers *set, List *commands)
{
	ListCell   *cell;

	foreach(cell, commands)
	{
		DmshookCommand *command = lfirst(cell);
		DmshookWebhook *webhook;

		if (strcmp(command->kind, "erase") == 0)
			dmshook_erase_mark(command);
		if (strcmp(command->kind, "reload") != 0)
			continue;
		dmshook_roster_load(set, command->webhook, false, 0);
		webhook = dmshook_roster_find(command->webhook);
		if (webhook == NULL)
			continue;			/* dropped meanwhile */
		dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);

		/*
		 * upto: a new subscription version begins there. It was committed
		 * later than it says; events since are judged again, by it.
		 */
		if (command->upto > 0 && dmshook_consumer_next(webhook->consumer) >= command->upto)
			dmshook_consumer_rewind(webhook->consumer, command->upto - 1);
	}
}

/* consumer.c is told of each queue row of an ordered webhook. */
static void
count_rows(DmshookWebhook *webhook, List *entities)
{
	ListCell   *cell;

	foreach(cell, entities)
	{
		DmshookQueueRow *row = lfirst(cell);

		for (int i = 0; i < row->attempts; i++)
		{
			if (!dmshook_consumer_row_added(webhook->consumer, row->entity))
				ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		}
	}
}

/*
 * The queue in the order that a webhook wants now: of each entity only the
 * least row is due; or, not ordered, all are.
 */
static List *
order_queue(DmshookWebhook *webhook)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!webhook->profile->options.ordered)
	{
		dmshook_store_queue_promote_all(webhook->id, now, true);
		return NIL;
	}
	dmshook_store_queue_park(webhook->id);
	dmshook_store_queue_promote_all(webhook->id, now, false);
	return dmshook_store_queue_entities(webhook->id);
}

/* Ends without a request: final attempts of what was cancelled. */
static void
log_ended(DmshookWebhook *webhook, int webhook_id, List *rows, char final)
{
	int			n = list_length(rows);
	DmshookAttempt *attempts = palloc0(sizeof(DmshookAttempt) * Max(n, 1));
	ListCell   *cell;
	int			i = 0;

	foreach(cell, rows)
	{
		DmshookQueueRow *row = lfirst(cell);
		DmshookAttempt *a = &attempts[i++];

		a->webhook = webhook_id;
		a->event = row->event;
		a->nonce = row->nonce;
		a->at = GetCurrentTimestamp();
		a->version = webhook ? webhook->row->version : 0;
		a->attempt = row->attempts;
		a->kind = row->kind;
		a->command = row->command;
		a->final = final;
		a->duration_us = a->dns_us = a->connect_us = a->tls_us = a->first_byte_us = -1;
	}
	if (n > 0)
		dmshook_log_attempts(attempts, n);
	pfree(attempts);
}

/* The queue rows that memory holds: their requests may be under way. */
static int64 *
picked_rows(DmshookWebhook *webhook, int *npicked)
{
	int64	   *picked = NULL;

	*npicked = 0;
	if (webhook && (*npicked = dmshook_consumer_picked(webhook->consumer, NULL, 0)) > 0)
	{
		picked = palloc(sizeof(int64) * *npicked);
		dmshook_consumer_picked(webhook->consumer, (int64_t *) picked, *npicked);
	}
	return picked;
}

/* Queue rows of a webhook, all up to an event or just that one; those that memory holds are marked. */
static List *
cancel_rows(DmshookWebhook *webhook, int webhook_id, int64 upto, bool event_only, char final)
{
	int			npicked;
	int64	   *picked = picked_rows(webhook, &npicked);
	List	   *rows;

	rows = dmshook_store_queue_cancel(webhook_id, upto, event_only, picked, npicked);
	log_ended(webhook, webhook_id, rows, final);
	if (rows != NIL && webhook && webhook->ordered)
		dmshook_store_queue_promote_all(webhook_id, GetCurrentTimestamp(), false);
	return rows;
}

static void
run_cancel_all(DmshookWebhook *webhook, const DmshookCommand *command, Effect *effect)
{
	bool		drop = strcmp(command->kind, "drop") == 0;

	effect->drop = drop;
	if (drop && webhook)
	{
		webhook->dropped = true;	/* at once: its place is not written any more */
		dmshook_agenda_add(webhook, DMSHOOK_TODO_DROPPED);
	}
	effect->cancel_all = true;
	effect->upto = drop ? PG_INT64_MAX : Min(command->upto, dmshook_store_last_value());
	dmshook_store_skip(command->webhook, effect->upto, drop ? "dropped" : "cancelled");
	effect->removed = cancel_rows(webhook, command->webhook, effect->upto, false, 'c');
	dmshook_replays_cancel(command->webhook);
	if (drop)
	{
		DmshookStoredPlace place = {.webhook = command->webhook};

		dmshook_store_place(&place, -1);
	}
}

void *
dmshook_commands_expire(DmshookWebhook *webhook, int64 upto, List **rows)
{
	Effect	   *effect = palloc0(sizeof(Effect));

	effect->webhook = webhook;
	effect->cancel_all = effect->keep_replays = true;
	effect->upto = upto;
	dmshook_store_skip(webhook->id, upto, "expired");
	*rows = effect->removed = cancel_rows(webhook, webhook->id, upto, false, 'e');
	return effect;
}

void *
dmshook_commands_expire_queue(DmshookWebhook *webhook, TimestampTz than, int limit, List **rows)
{
	Effect	   *effect = palloc0(sizeof(Effect));
	int			npicked;
	int64	   *picked = picked_rows(webhook, &npicked);

	effect->webhook = webhook;
	*rows = effect->removed = dmshook_store_queue_expire(webhook->id, than, picked, npicked, limit);
	log_ended(webhook, webhook->id, effect->removed, 'e');
	if (effect->removed != NIL && webhook->ordered)
		dmshook_store_queue_promote_all(webhook->id, GetCurrentTimestamp(), false);
	return effect;
}

static void
run_cancel(DmshookWebhook *webhook, const DmshookCommand *command, Effect *effect)
{
	DmshookEntry *entry = NULL;
	DmshookHeld held = DMSHOOK_HELD_NOT;
	DmshookQueueRow row = {.event = command->event, .webhook = command->webhook, .kind = 'd'};

	if (webhook)
		held = dmshook_consumer_held(webhook->consumer, command->event, &entry);
	effect->event = command->event;
	effect->removed = cancel_rows(webhook, command->webhook, command->event, true, 'c');
	if (effect->removed != NIL || held == DMSHOOK_HELD_PICKED)
		return;
	if (held != DMSHOOK_HELD_NOT && entry->origin == DMSHOOK_FROM_REPLAY)
	{
		row.kind = 'y';
		row.command = entry->command;
	}
	else if (dmshook_store_final(command->event, command->webhook))
		return;
	if (dmshook_store_nonce(command->event, &row.nonce))
		log_ended(webhook, command->webhook, list_make1(&row), 'c');
}

/* False: not now, it is in flight; the command stays undone. */
static bool
run_redeliver(DmshookWebhook *webhook, const DmshookCommand *command, Effect *effect)
{
	effect->look = true;
	if (command->event != 0)
	{
		if (dmshook_consumer_held(webhook->consumer, command->event, NULL) != DMSHOOK_HELD_NOT)
			return false;
		dmshook_store_redeliver(webhook->id, command->event, command->id, NULL, GetCurrentTimestamp());
	}
	else
		dmshook_store_redeliver(webhook->id, 0, command->id, command->args, GetCurrentTimestamp());
	return true;
}

/* One command for one webhook; webhook NULL: it is dropped and not in memory. */
static bool
run_for(DmshookWebhook *webhook, const DmshookCommand *command, Effect *effect)
{
	effect->webhook = webhook;
	if (strcmp(command->kind, "drop") == 0 || strcmp(command->kind, "cancel_all") == 0)
		run_cancel_all(webhook, command, effect);
	else if (strcmp(command->kind, "cancel") == 0)
		run_cancel(webhook, command, effect);
	else if (strcmp(command->kind, "redeliver") == 0 || strcmp(command->kind, "redeliver_dead") == 0)
		return webhook == NULL || run_redeliver(webhook, command, effect);
	else if (strcmp(command->kind, "replay") == 0)
	{
		if (webhook == NULL)
			return true;
		dmshook_replay_write(webhook, command);
		effect->replay = command;
	}
	else if (strcmp(command->kind, "reload") == 0)
	{
		if (webhook && webhook->ordered != webhook->profile->options.ordered)
		{
			effect->reorder = effect->look = true;
			effect->entities = order_queue(webhook);
		}
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("unknown command \"%s\"", command->kind)));
	return true;
}

/* One command, with its done_at; effects are appended. */
static void
run_command(const DmshookCommand *command, List **effects)
{
	DmshookWebhook *webhook = NULL;

	if (strcmp(command->kind, "erase") == 0)
	{
		if (!dmshook_erase_command(command))
			return;
	}
	else if (command->webhook != 0)
	{
		Effect	   *effect = palloc0(sizeof(Effect));

		webhook = dmshook_roster_find(command->webhook);
		if (!run_for(webhook, command, effect))
			return;
		*effects = lappend(*effects, effect);
	}
	else
	{
		while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
		{
			Effect	   *effect = palloc0(sizeof(Effect));

			if (run_for(webhook, command, effect))
				*effects = lappend(*effects, effect);
		}
	}
	dmshook_store_command_done(command->id);
}

void
dmshook_commands_start(void)
{
	DmshookWebhook *webhook = NULL;

	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
	{
		List	   *cancelled = dmshook_store_queue_cancelled(webhook->id);

		log_ended(webhook, webhook->id, cancelled, 'c');
		count_rows(webhook, order_queue(webhook));
	}
}

void
dmshook_commands_reorder(void)
{
	DmshookWebhook *webhook;
	DmshookWebhook *next;

	for (webhook = dmshook_agenda_iterate(DMSHOOK_TODO_ORDER, NULL); webhook; webhook = next)
	{
		next = dmshook_agenda_iterate(DMSHOOK_TODO_ORDER, webhook);
		if (webhook->dropped)
			continue;
		/* before the look: what ends after it is put in order the next time */
		if (!dmshook_deliver_busy_since(webhook, webhook->ordered_at))
			dmshook_agenda_drop(webhook, DMSHOOK_TODO_ORDER);
		dmshook_store_queue_park(webhook->id);
		dmshook_store_queue_promote_all(webhook->id, GetCurrentTimestamp(), false);
		webhook->due_from = DT_NOBEGIN;
		dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);
	}
}

/* Its effects; if it failed, NIL, and *error says why. */
static List *
run_alone(DmshookCommand *command, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	List	   *volatile effects = NIL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		List	   *some = NIL;

		run_command(command, &some);
		effects = some;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return effects;
}

List *
dmshook_commands_run(DmshookConsumers *set pg_attribute_unused(), List *commands)
{
	List	   *effects = NIL;
	ListCell   *cell;

	foreach(cell, commands)
	{
		DmshookCommand *command = lfirst(cell);
		ErrorData  *error = NULL;
		List	   *mine = run_alone(command, &error);

		if (error)
		{
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("command " INT64_FORMAT " (%s) could not be carried out: %s",
							command->id, command->kind, error->message),
					 errhint("It was set aside; call the function again once the cause is gone.")));
			dmshook_store_notice(command->webhook, "command_failed", "{}");
			dmshook_store_command_done(command->id);
		}
		effects = list_concat(effects, mine);
	}
	return effects;
}

void
dmshook_commands_committed(List *effects)
{
	ListCell   *cell;

	foreach(cell, effects)
	{
		Effect	   *effect = lfirst(cell);
		DmshookWebhook *webhook = effect->webhook;
		ListCell   *row;

		if (webhook == NULL)
			continue;
		if (effect->drop)
			dmshook_roster_apply(webhook);
		if (effect->reorder)
		{
			webhook->ordered = webhook->profile->options.ordered;
			webhook->ordered_at = GetCurrentTimestamp();
			if (webhook->ordered)
				dmshook_agenda_add(webhook, DMSHOOK_TODO_ORDER);
			else
				dmshook_agenda_drop(webhook, DMSHOOK_TODO_ORDER);
			dmshook_roster_apply(webhook);
			count_rows(webhook, effect->entities);
		}
		if (effect->cancel_all)
			dmshook_consumer_cancel_all(webhook->consumer, effect->upto, !effect->keep_replays);
		if (effect->event != 0)
			dmshook_consumer_cancel(webhook->consumer, effect->event);
		if (effect->replay)
			dmshook_replay_command_done(webhook, effect->replay);
		foreach(row, effect->removed)
			dmshook_consumer_row_removed(webhook->consumer, ((DmshookQueueRow *) lfirst(row))->entity);
		if (effect->look || effect->removed != NIL)
		{
			webhook->due_from = DT_NOBEGIN;
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);
		}
	}
}
