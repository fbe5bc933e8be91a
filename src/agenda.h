/*
 * agenda.h - which webhooks have something to do, and when. See agenda.c.
 *
 * Included by roster.h: a DmshookWebhook holds one DmshookAgenda.
 */
#ifndef DMSHOOK_AGENDA_H
#define DMSHOOK_AGENDA_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

struct DmshookWebhook;

/* Things that are asked for by their time. */
typedef enum DmshookAlarm
{
	DMSHOOK_ALARM_QUEUE,		/* look at its queue rows */
	DMSHOOK_ALARM_GATE			/* it may be allowed to send again */
} DmshookAlarm;
#define DMSHOOK_ALARMS	2

/* Things to be done the next time that somebody does such. */
typedef enum DmshookTodo
{
	DMSHOOK_TODO_GATE,			/* its policy is to be asked whether it may send again */
	DMSHOOK_TODO_DUE,			/* its queue is to be looked at */
	DMSHOOK_TODO_RESIZE,		/* its window follows what it gets done */
	DMSHOOK_TODO_BLOCKED,		/* queue rows are due, it is allowed to send, but has enough under way */
	DMSHOOK_TODO_STATE,			/* its row of webhook_state is to be written */
	DMSHOOK_TODO_COUNTED,		/* its counts are in the current transaction */
	DMSHOOK_TODO_NOTICE,		/* something of it is to be told, or it is to be disabled */
	DMSHOOK_TODO_REPLAY,		/* replays of it are under way */
	DMSHOOK_TODO_ORDER,			/* its queue is being put in order */
	DMSHOOK_TODO_DROPPED		/* it is to leave memory */
} DmshookTodo;
#define DMSHOOK_TODOS	10

typedef struct DmshookAgenda
{
	TimestampTz at[DMSHOOK_ALARMS]; /* DT_NOEND: never; else it is in the heap */
	pairingheap_node alarm[DMSHOOK_ALARMS];
	bool		listed[DMSHOOK_TODOS];
	dlist_node	todo[DMSHOOK_TODOS];
} DmshookAgenda;

/* Dispatcher, once; and for each webhook that is added, and removed. */
extern void dmshook_agenda_init(MemoryContext context);
extern void dmshook_agenda_begin(struct DmshookWebhook *webhook);
extern void dmshook_agenda_forget(struct DmshookWebhook *webhook);

/* Set an alarm; DT_NOEND: none. When is the first due? Whose is it (NULL: none is due by now)? */
extern void dmshook_agenda_set(struct DmshookWebhook *webhook, DmshookAlarm which, TimestampTz at);
extern TimestampTz dmshook_agenda_next(DmshookAlarm which);
extern struct DmshookWebhook *dmshook_agenda_due(DmshookAlarm which, TimestampTz now);

/* Note that there is something to do, or no longer; as often as one likes. */
extern void dmshook_agenda_add(struct DmshookWebhook *webhook, DmshookTodo which);
extern void dmshook_agenda_drop(struct DmshookWebhook *webhook, DmshookTodo which);
extern bool dmshook_agenda_any(DmshookTodo which);

/* Walk them: NULL starts and ends. The one that was returned may be dropped from the list once the next was asked for. */
extern struct DmshookWebhook *dmshook_agenda_iterate(DmshookTodo which, struct DmshookWebhook *previous);

#endif							/* DMSHOOK_AGENDA_H */
