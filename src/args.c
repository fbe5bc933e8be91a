/*
 * args.c - members of a JSON object, with defaults: the args of a command.
 *
 * Runs anywhere in the server. What has another type counts as absent: the
 * functions that write commands have checked it.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"

static JsonbValue *
jsonb_member(Jsonb *object, const char *key)
{
	JsonbValue *value;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	value = getKeyJsonValueFromContainer(&object->root, key, strlen(key), NULL);
	return value && value->type != jbvNull ? value : NULL;
}

bool
dmshook_arg_bool(Jsonb *object, const char *key)
{
	JsonbValue *value = jsonb_member(object, key);

	return value && value->type == jbvBool && value->val.boolean;
}

int64
dmshook_arg_int8(Jsonb *object, const char *key, int64 otherwise)
{
	JsonbValue *value = jsonb_member(object, key);

	if (value == NULL || value->type != jbvNumeric)
		return otherwise;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}

TimestampTz
dmshook_arg_time(Jsonb *object, const char *key, TimestampTz otherwise)
{
	JsonbValue *value = jsonb_member(object, key);

	if (value == NULL || value->type != jbvString)
		return otherwise;
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(pnstrdup(value->val.string.val, value->val.string.len)),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

char	  **
dmshook_arg_texts(Jsonb *object, const char *key, int *n)
{
	JsonbValue *value = jsonb_member(object, key);
	char	  **result = NULL;

	*n = 0;
	if (value == NULL || value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return NULL;
	result = palloc(sizeof(char *) * (JsonContainerSize(value->val.binary.data) + 1));
	for (uint32 i = 0; i < JsonContainerSize(value->val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(value->val.binary.data, i);

		if (element && element->type == jbvString)
			result[(*n)++] = pnstrdup(element->val.string.val, element->val.string.len);
	}
	return result;
}
