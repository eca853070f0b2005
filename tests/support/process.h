#ifndef HT_SUPPORT_PROCESS_H
#define HT_SUPPORT_PROCESS_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

/* The process has ended, or waits for somebody to take note of its end: that is not ours to do for a grandchild. */
static inline bool is_gone(pid_t pid) {
    char path[32], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    bool gone = !f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1 || state == 'Z';
    if (f)
        fclose(f);
    return gone;
}

#endif
