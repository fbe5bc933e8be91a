/*
 * capture_catalogue.h - the catalogue of event types. See capture_emit.c.
 */
#ifndef DMSHOOK_CAPTURE_CATALOGUE_H
#define DMSHOOK_CAPTURE_CATALOGUE_H

#include "postgres.h"

/*
 * The entity of an event type, palloc'd. An error with the nearest type where
 * there is none. Needs a transaction and no right on the catalogue.
 */
extern text * dmshook_catalogue_entity(text * type);

#endif							/* DMSHOOK_CAPTURE_CATALOGUE_H */
