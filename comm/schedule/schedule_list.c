/* The schedules. A new one: one file plus one line in each half. */
#include <stddef.h>

#include "schedule.h"

extern const struct schedule_ops schedule_size, schedule_none, schedule_model, schedule_mgwfbp;

const struct schedule_ops *const schedule_list[] = {
	&schedule_size,
	&schedule_none,
	&schedule_model,
	&schedule_mgwfbp,
	NULL,
};
