/*
 * vault.h - secrets at rest: encrypted with the keys of dmshook.secret_key_file. See
 * vault.c.
 *
 * A secret as it is stored is a value and a key id; NULL as key id: the value is the secret
 * itself. Any process, inside or outside a transaction.
 */
#ifndef DMSHOOK_VAULT_H
#define DMSHOOK_VAULT_H

#include "postgres.h"

#include "keyfile.h"

/*
 * Encrypt with the file's first key: the value to store, palloc'd, and the key's id
 * to key_id (DMSHOOK_KEY_ID_LEN + 1). NULL: no key file is set, store it as it is. Raises an error with a hint
 * where one is set and cannot be used: nothing is stored in plain text by accident.
 */
extern char *dmshook_vault_seal(int webhook, const char *kind, const char *secret, char *key_id);

/*
 * The secret of a stored value, palloc'd, to be wiped by the caller. NULL when it cannot be had: then
 * *problem says why (palloc'd) and *hint what to do (a constant). Raises no error but for memory.
 */
extern char *dmshook_vault_open(int webhook, const char *kind, const char *value, const char *key_id,
								char **problem, const char **hint);

/*
 * After SIGHUP, where secrets are kept in memory: read the file again. True when
 * what can be decrypted may have changed. Says in the log what is wrong with the file.
 */
extern bool dmshook_vault_reload(void);

#endif							/* DMSHOOK_VAULT_H */
