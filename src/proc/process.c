#include "proc/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The beginning of a file, NUL-terminated; its length, or -1 with errno. */
static ssize_t read_some(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, out, cap - 1);
    int why = errno;
    close(fd);
    errno = why;
    out[n > 0 ? n : 0] = '\0';
    return n;
}

int proc_process_look(uint64_t pid, struct proc_process *p) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    ssize_t n = read_some(path, text, sizeof text);
    if (n < 0) /* without any /proc the directory itself is missing */
        return (errno == ENOENT || errno == ESRCH) && access("/proc/self/stat", F_OK) == 0 ? HT_ECLOSED : HT_EIO;
    /* Behind the name, which may hold anything: the state is field 3, the start field 22. */
    const char *at = strrchr(text, ')');
    if (!at || sscanf(at,
                      ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                      "%" SCNu64,
                      &p->state, &p->started) != 2)
        return HT_EIO;
    return HT_OK;
}

char *proc_boot_id(char out[PROC_BOOT_ID]) {
    if (read_some("/proc/sys/kernel/random/boot_id", out, PROC_BOOT_ID) < 0)
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return out;
}

uint64_t proc_memory_limit(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t all = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0, group;
    char text[64];
    if (read_some("/sys/fs/cgroup/memory.max", text, sizeof text) > 0 && sscanf(text, "%" SCNu64, &group) == 1 &&
        group > 0 && (all == 0 || group < all))
        all = group;
    return all;
}
