/* Processes of this machine, as /proc shows them. */
#ifndef HT_PROC_PROCESS_H
#define HT_PROC_PROCESS_H

#include "base/base.h"
#include "base/err.h"

struct proc_process {
    char state;       /* one letter: R, S, D, T (stopped), Z (ended, and its parent has not looked) ... proc(5) */
    uint64_t started; /* in clock ticks since the machine started: two processes of one number differ in it */
};

/* HT_ECLOSED: there is no such process. HT_EIO: /proc does not say. */
int proc_process_look(uint64_t pid, struct proc_process *p) HT_MUST_USE;

/* What differs each time the machine starts; "" when it is not known. Returns `out`. */
#define PROC_BOOT_ID 40
char *proc_boot_id(char out[PROC_BOOT_ID]);

#endif
