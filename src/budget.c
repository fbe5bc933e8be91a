/*
 * budget.c - how much of the dispatcher's time a webhook's filter may take.
 *
 * A bucket: what an evaluation takes beyond a tenth of a millisecond fills it, time
 * empties it. When it runs over, the dispatcher evaluates that filter no more for a
 * pause, which grows while the filter does not behave in between: the helper does (judge.c).
 * So a filter that is slow takes a bucket for each pause, which is nothing, and one
 * that is quick is never sent away, however many events there are.
 *
 * Pure, as budget.h says.
 */
#include "budget.h"

bool
dmshook_budget_may(const DmshookBudget *budget, int64_t now)
{
	return now >= budget->until;
}

void
dmshook_budget_spend(DmshookBudget *budget, int64_t now, int64_t us, bool over)
{
	int64_t		drained = now > budget->at ? (now - budget->at) / DMSHOOK_BUDGET_SHARE : 0;

	budget->spent = budget->spent > drained ? budget->spent - drained : 0;
	budget->at = now;
	if (us > DMSHOOK_BUDGET_FREE_US)
		budget->spent += us - DMSHOOK_BUDGET_FREE_US;
	if (!over && budget->spent <= DMSHOOK_BUDGET_ONCE_US)
		return;

	/* it has behaved for as long as it was away: that is forgotten */
	if (budget->until == 0 || now - budget->until >= budget->pause)
		budget->pause = DMSHOOK_BUDGET_PAUSE_US;
	else
		budget->pause = budget->pause < DMSHOOK_BUDGET_PAUSE_MAX_US / 2 ? budget->pause * 2 : DMSHOOK_BUDGET_PAUSE_MAX_US;
	budget->until = now + budget->pause;
}
