/*
 * match.h - event types, and the patterns that webhooks subscribe by. See
 * match.c. Builds without a server.
 */
#ifndef DMSHOOK_MATCH_H
#define DMSHOOK_MATCH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Types are "entity.what": two or more parts of a-z 0-9 _ (the first char of each a
 * letter), separated by dots, at most 100 bytes. Patterns are types, "entity.*"
 * (also "a.b.*"; all that is below, however deep) and "*"; "*" does not include
 * "webhook.*". A pattern and a type that are matched have been checked before;
 * others match nothing they should not, and read nothing beyond their lengths.
 */
extern bool dmshook_type_valid(const char *type, size_t len);
extern bool dmshook_pattern_valid(const char *pattern, size_t len);
extern bool dmshook_pattern_matches(const char *pattern, size_t plen, const char *type, size_t tlen);

/*
 * Edit distance (Levenshtein with transpositions), for "did you mean"; more
 * than limit: limit + 1. Of texts longer than 255 bytes that are not equal, always that.
 */
extern int	dmshook_edit_distance(const char *a, size_t alen, const char *b, size_t blen, int limit);

/*
 * Index of the candidate that was probably meant by name, or -1: near by edit
 * distance (about a third may be wrong; case does not count), or the only one
 * whose last part it is ("sold": "vehicle.sold"; of several, none). The first of
 * equals.
 */
extern int	dmshook_nearest(const char *name, const char *const *candidates, int n);

#endif							/* DMSHOOK_MATCH_H */
