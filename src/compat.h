/*
 * compat.h - what PostgreSQL 15 to 19 call differently. Included by the .c files
 * that use one of these, after postgres.h. The oldest name is ours here, so that code reads
 * the same for every major; what only one file needs stands in that file (pg_attribute_noreturn(): the Makefile).
 */
#ifndef DMSHOOK_COMPAT_H
#define DMSHOOK_COMPAT_H

/* 16 made one function of those per catalogue; they want catalog/pg_class.h, pg_proc.h, pg_database.h */
#if PG_VERSION_NUM >= 160000
#define pg_class_ownercheck(oid, role) object_ownercheck(RelationRelationId, oid, role)
#define pg_database_ownercheck(oid, role) object_ownercheck(DatabaseRelationId, oid, role)
#define pg_proc_aclcheck(oid, role, mode) object_aclcheck(ProcedureRelationId, oid, role, mode)
#endif

/* the index entries of a new row; 16 can leave out all but BRIN's, 19 takes flags */
#if PG_VERSION_NUM >= 190000
#define dmshook_insert_index_entries(rri, slot, estate) ExecInsertIndexTuples(rri, estate, 0, slot, NIL, NULL)
#elif PG_VERSION_NUM >= 160000
#define dmshook_insert_index_entries(rri, slot, estate) ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, false)
#else
#define dmshook_insert_index_entries(rri, slot, estate) ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL)
#endif

/* 18 counts index searches for EXPLAIN; 19 takes flags */
#if PG_VERSION_NUM >= 190000
#define dmshook_beginscan(rel, snapshot) table_beginscan(rel, snapshot, 0, NULL, SO_NONE)
#define dmshook_index_beginscan(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, NULL, nkeys, 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define dmshook_beginscan(rel, snapshot) table_beginscan(rel, snapshot, 0, NULL)
#define dmshook_index_beginscan(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define dmshook_beginscan(rel, snapshot) table_beginscan(rel, snapshot, 0, NULL)
#define dmshook_index_beginscan(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/* 18 may return a deferrable one, too */
#if PG_VERSION_NUM >= 180000
#define dmshook_primary_key(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define dmshook_primary_key(rel) RelationGetPrimaryKeyIndex(rel)
#endif

#endif							/* DMSHOOK_COMPAT_H */
