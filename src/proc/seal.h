/*
 * Bytes in a memory file that nobody can change any more, not even their writer (memfd_create(2), seals of fcntl(2)).
 * Such a descriptor goes to another process, which reads it without having to trust that it stays as it was checked.
 */
#ifndef HT_PROC_SEAL_H
#define HT_PROC_SEAL_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

/* Returns the descriptor, which the caller closes; the name is for people who look at /proc. HT_EIO with *err. */
int proc_seal(const char *name, struct ht_slice bytes, struct ht_errmsg *err) HT_MUST_USE;

/* True when the descriptor is a memory file. */
bool proc_seal_is(int fd);

/* Appends the bytes to `out`. 0, or with *err: HT_EINVAL: it is no memory file, it is not sealed, or it has more than
 * `most` bytes. HT_ENOMEM. HT_EIO. */
int proc_seal_read(int fd, size_t most, struct ht_buf *out, struct ht_errmsg *err) HT_MUST_USE;

#endif
