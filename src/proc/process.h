/* Processes of this machine, read from /proc. */
#ifndef HT_PROC_PROCESS_H
#define HT_PROC_PROCESS_H

#include "base/base.h"
#include "base/err.h"

struct proc_process {
    char state;       /* one letter of proc(5): R, S, D, T (stopped), Z (ended, and not waited for), ... */
    uint64_t started; /* clock ticks since the machine started; it tells processes with the same number apart */
};

/* 0, or: HT_ECLOSED: there is no such process. HT_EIO: /proc cannot be read. */
int proc_process_look(uint64_t pid, struct proc_process *p) HT_MUST_USE;

/* Writes the id of the present boot, which changes each time the machine starts; "": not known. Returns `out`. */
#define PROC_BOOT_ID 40
char *proc_boot_id(char out[PROC_BOOT_ID]);

/* Bytes of memory that this process may come to: the least of what the machine has and what its control group allows
 * (memory.max of the unified hierarchy). 0 when that is not known. */
uint64_t proc_memory_limit(void);

#endif
