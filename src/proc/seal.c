#include "proc/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int write_all(int fd, struct ht_slice bytes) {
    while (bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        bytes = ht_slice_of(bytes.p + n, bytes.n - (size_t)n);
    }
    return 0;
}

int proc_seal(const char *name, struct ht_slice bytes, struct ht_errmsg *err) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && write_all(fd, bytes) == 0 && fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) == 0)
        return fd;
    int e = errno;
    if (fd >= 0)
        close(fd);
    return ht_fail(err, HT_EIO, "memory file %s: %s", name, strerror(e));
}

bool proc_seal_is(int fd) { return fcntl(fd, F_GET_SEALS) >= 0; }

int proc_seal_read(int fd, size_t most, struct ht_buf *out, struct ht_errmsg *err) {
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return ht_fail(err, HT_EINVAL, "it is no memory file");
    if ((seals & SEALS) != SEALS)
        return ht_fail(err, HT_EINVAL, "it is not sealed, so it may still change");
    if (fstat(fd, &st) != 0)
        return ht_fail(err, HT_EIO, "%s", strerror(errno));
    if ((uint64_t)st.st_size > most)
        return ht_fail(err, HT_EINVAL, "it has %llu bytes, and at most %zu are read", (unsigned long long)st.st_size,
                       most);
    size_t size = (size_t)st.st_size, got = 0;
    uint8_t *to = ht_buf_reserve(out, size + 1);
    if (!to)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    while (got < size) {
        ssize_t n = pread(fd, to + got, size - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ht_fail(err, HT_EIO, "%s", n < 0 ? strerror(errno) : "it ends early");
        got += (size_t)n;
    }
    ht_buf_commit(out, size);
    return HT_OK;
}
