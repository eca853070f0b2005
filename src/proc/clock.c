#include "proc/clock.h"

#include <sys/timex.h>

bool proc_clock_synchronized(void) {
    struct timex t = {.modes = 0};
    int state = adjtimex(&t);
    return state != -1 && state != TIME_ERROR && !(t.status & STA_UNSYNC);
}
