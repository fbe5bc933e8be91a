/*
 * agenda.c - which webhooks have something to do, and when: heaps of times and
 * lists of things to be done.
 *
 * Runs in the dispatcher. The loop asks several times for each delivery what is due and
 * who is to be looked after; beside ten thousand webhooks that sleep, or are dead, it must not
 * ask each of them. Who changes a webhook so that something is to be done notes that here; who does
 * it asks here. Memory only; no transaction, no error but out of memory at start.
 */
#include "postgres.h"

#include "agenda.h"
#include "roster.h"

static pairingheap * alarms[DMSHOOK_ALARMS];
static dlist_head todos[DMSHOOK_TODOS];

static DmshookWebhook *
of_alarm(const pairingheap_node * node, DmshookAlarm which)
{
	return (DmshookWebhook *) ((char *) node - offsetof(DmshookWebhook, agenda.alarm) - sizeof(pairingheap_node) * which);
}

static DmshookWebhook *
of_todo(dlist_node *node, DmshookTodo which)
{
	return (DmshookWebhook *) ((char *) node - offsetof(DmshookWebhook, agenda.todo) - sizeof(dlist_node) * which);
}

/* The least first: a pairing heap has the greatest at its top. arg: which. */
static int
compare(const pairingheap_node * a, const pairingheap_node * b, void *arg)
{
	DmshookAlarm which = *(const DmshookAlarm *) arg;
	TimestampTz left = of_alarm(a, which)->agenda.at[which];
	TimestampTz right = of_alarm(b, which)->agenda.at[which];

	return left < right ? 1 : left > right ? -1 : 0;
}

void
dmshook_agenda_init(MemoryContext context)
{
	static DmshookAlarm number[DMSHOOK_ALARMS] = {DMSHOOK_ALARM_QUEUE, DMSHOOK_ALARM_GATE};
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int i = 0; i < DMSHOOK_ALARMS; i++)
		alarms[i] = pairingheap_allocate(compare, &number[i]);
	for (int i = 0; i < DMSHOOK_TODOS; i++)
		dlist_init(&todos[i]);
	MemoryContextSwitchTo(old);
}

void
dmshook_agenda_begin(DmshookWebhook *webhook)
{
	memset(&webhook->agenda, 0, sizeof(webhook->agenda));
	for (int i = 0; i < DMSHOOK_ALARMS; i++)
		webhook->agenda.at[i] = DT_NOEND;
}

void
dmshook_agenda_forget(DmshookWebhook *webhook)
{
	for (int i = 0; i < DMSHOOK_ALARMS; i++)
		dmshook_agenda_set(webhook, i, DT_NOEND);
	for (int i = 0; i < DMSHOOK_TODOS; i++)
		dmshook_agenda_drop(webhook, i);
}

void
dmshook_agenda_set(DmshookWebhook *webhook, DmshookAlarm which, TimestampTz at)
{
	DmshookAgenda *agenda = &webhook->agenda;

	if (agenda->at[which] == at)
		return;
	if (agenda->at[which] != DT_NOEND)
		pairingheap_remove(alarms[which], &agenda->alarm[which]);
	agenda->at[which] = at;
	if (at != DT_NOEND)
		pairingheap_add(alarms[which], &agenda->alarm[which]);
}

TimestampTz
dmshook_agenda_next(DmshookAlarm which)
{
	return pairingheap_is_empty(alarms[which]) ? DT_NOEND :
		of_alarm(pairingheap_first(alarms[which]), which)->agenda.at[which];
}

DmshookWebhook *
dmshook_agenda_due(DmshookAlarm which, TimestampTz now)
{
	return dmshook_agenda_next(which) <= now && !pairingheap_is_empty(alarms[which]) ?
		of_alarm(pairingheap_first(alarms[which]), which) : NULL;
}

void
dmshook_agenda_add(DmshookWebhook *webhook, DmshookTodo which)
{
	if (webhook->agenda.listed[which])
		return;
	webhook->agenda.listed[which] = true;
	dlist_push_tail(&todos[which], &webhook->agenda.todo[which]);
}

void
dmshook_agenda_drop(DmshookWebhook *webhook, DmshookTodo which)
{
	if (!webhook->agenda.listed[which])
		return;
	webhook->agenda.listed[which] = false;
	dlist_delete(&webhook->agenda.todo[which]);
}

bool
dmshook_agenda_any(DmshookTodo which)
{
	return !dlist_is_empty(&todos[which]);
}

DmshookWebhook *
dmshook_agenda_iterate(DmshookTodo which, DmshookWebhook *previous)
{
	if (previous == NULL)
		return dlist_is_empty(&todos[which]) ? NULL : of_todo(dlist_head_node(&todos[which]), which);
	if (!dlist_has_next(&todos[which], &previous->agenda.todo[which]))
		return NULL;
	return of_todo(dlist_next_node(&todos[which], &previous->agenda.todo[which]), which);
}
