/* The clock of the machine. */
#ifndef HT_PROC_CLOCK_H
#define HT_PROC_CLOCK_H

#include "base/base.h"

/* Whether something keeps it right, as the kernel knows from a time service. False too when that cannot be asked. */
bool proc_clock_synchronized(void);

#endif
