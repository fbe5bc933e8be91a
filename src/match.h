/*
 * match.h - event types, and the patterns that webhooks subscribe by. See
 * match.c. Builds without a server.
 */
#ifndef DMSHOOK_MATCH_H
#define DMSHOOK_MATCH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Types are "entity.what": two or more parts of a-z 0-9 _ (the first char a letter),
 * separated by dots, at most 100 bytes. Patterns are types, "entity.*"
 * (also "a.b.*") and "*"; "*" does not include "webhook.*".
 */
extern bool dmshook_type_valid(const char *type, size_t len);
extern bool dmshook_pattern_valid(const char *pattern, size_t len);
extern bool dmshook_pattern_matches(const char *pattern, size_t plen, const char *type, size_t tlen);

/*
 * Edit distance (Levenshtein with transpositions), for "did you mean"; more
 * than limit: limit + 1.
 */
extern int	dmshook_edit_distance(const char *a, size_t alen, const char *b, size_t blen, int limit);

#endif							/* DMSHOOK_MATCH_H */
