/* What parameter servers have seen (topology/ps.h), for the report: how old the models were that the workers' steps began with. */
#ifndef COCOD_SERVED_H
#define COCOD_SERVED_H

#include "../comm/topology/ps.h"
#include "json.h"

void served_add(struct ps_record *sum, const struct ps_record *);
/* These two say nothing if no model was read from a server. The record is the sum of what so many servers have seen of each step. */
void served_print(const struct ps_record *);
void served_json(const struct ps_record *, int servers, struct json *);

#endif
